"""What an API server's answer means: the JSON of a success, or the error that it stands for.

Not everything that answers is an API server. A balancer, a proxy or a captive portal answers as
well, and what it says of an object is not known to be true: it counts as no answer at all.
Nothing here asks anything, and no body reaches an error text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import orjson

from farlet import errors
from farlet.constants import JSON

RETRY_AFTER_SECONDS = 30.0
"""The longest that a server, or what stands before it, can make us wait."""

STRANGER = "HTTP {} that is no answer of an API server"

_KINDS: dict[int, type[errors.ApiError]] = {
    400: errors.Invalid,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    410: errors.Gone,
    422: errors.Invalid,
    429: errors.Throttled,
}


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[T]):
    """One event of a watch; `kind` is ADDED, MODIFIED, DELETED or BOOKMARK."""

    kind: str
    object: T


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """Who was asked for what: `request` is the method and the path without its query."""

    cluster: str
    request: str

    def unreachable(self, why: BaseException | str) -> errors.Unreachable:
        """The error for "no answer came"."""
        cause = "timed out" if isinstance(why, TimeoutError) else str(why) or type(why).__name__
        return errors.Unreachable(cluster=self.cluster, request=self.request, cause=cause)


def read(asked: RequestInfo, code: int, raw: bytes, retry_after: str | None = None) -> JSON:
    """The object in an answer 2xx. Raises a kind of `ApiError` for another, else `Unreachable`.

    `retry_after` is the header of that name.
    """
    try:
        answer: JSON = orjson.loads(raw)
    except orjson.JSONDecodeError:
        answer = {}
    status = answer.get("object", answer) if isinstance(answer, dict) else {}
    if not isinstance(status, dict):
        status = {}
    # Of what farlet asks for, only `/version` answers with an object that has no kind.
    if 200 <= code < 300 and ("kind" in status or "gitVersion" in status):
        return answer
    if status.get("kind") != "Status":
        raise asked.unreachable(STRANGER.format(code))
    raise _refusal(asked, code, status, retry_after)


def _refusal(
    asked: RequestInfo, code: int, status: JSON, retry_after: str | None
) -> errors.ApiError | errors.Unreachable:
    kind = _KINDS.get(code, errors.ApiError)
    if code == 503 and retry_after is not None:
        kind = errors.Throttled
    if kind is errors.ApiError and code >= 500:
        # A server on its way down or up answers 500 to 504; the write may have run.
        return asked.unreachable(f"HTTP {code}: {status.get('message')}")
    error = kind(
        cluster=asked.cluster,
        request=asked.request,
        code=code,
        status_reason=str(status.get("reason", "")),
        message=str(status.get("message", "no message")),
    )
    if isinstance(error, errors.Throttled) and retry_after is not None:
        seconds = float(retry_after) if retry_after.isdigit() else 1.0
        error.retry_after = min(seconds, RETRY_AFTER_SECONDS)
    return error


def event(asked: RequestInfo, line: bytes) -> WatchEvent[JSON]:
    """One line of a watch. Raises what an ERROR event says, `Unreachable` for no event."""
    try:
        found = orjson.loads(line)
        kind, obj = found["type"], found["object"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as err:
        raise asked.unreachable("a line that is no event of a watch") from err
    if kind == "ERROR" or not isinstance(obj, dict):
        code = obj.get("code") if isinstance(obj, dict) else None
        read(asked, code if isinstance(code, int) else 500, line)
    return WatchEvent(kind, obj)
