"""Decode an API server's answer: the JSON of a success, or the error that it stands for.

Not everything that answers is an API server. A load balancer, a proxy or a captive portal answers
as well, and its statement about an object is not reliable: it counts as no answer.
No request is sent from here, and no body reaches an error text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import orjson

from farlet import errors
from farlet.client import connection_errors
from farlet.constants import JSON

RETRY_AFTER_SECONDS = 30.0
"""The longest pause that a server, or a proxy before it, can demand."""

NOT_KUBERNETES = "HTTP {} from something that is not an API server"

_UNKNOWN_PATH = b"404 page not found"
"""`http.NotFound` of Go, which `k8s.io/apiserver` uses for paths that nothing serves."""

_KINDS: dict[int, type[errors.ApiError]] = {
    400: errors.Invalid,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    410: errors.Gone,
    413: errors.Invalid,
    422: errors.Invalid,
    429: errors.Throttled,
}

_TOO_LARGE = ("etcdserver: request is too large", "trying to send message larger than max")
"""In the 500 for an object that etcd does not store (`isTooLargeError` in
`k8s.io/apiserver/pkg/endpoints/handlers/rest.go`)."""

T = TypeVar("T")

EVENT_KINDS = frozenset({"ADDED", "MODIFIED", "DELETED", "BOOKMARK"})


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[T]):
    """One event of a watch; `kind` is ADDED, MODIFIED, DELETED or BOOKMARK."""

    kind: str
    object: T


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """What an error names: `request` is the method and the path without its query."""

    cluster: str
    request: str

    def unreachable(self, why: BaseException | str) -> errors.Unreachable:
        """The error for a request without an answer."""
        cause = why if isinstance(why, str) else connection_errors.cause(why)
        return errors.Unreachable(cluster=self.cluster, request=self.request, cause=cause)

    def too_large(self, most: int) -> errors.AnswerTooLarge:
        """The error for an answer of more than `most` bytes."""
        cause = f"an answer of more than {most >> 20} MiB"
        return errors.AnswerTooLarge(cluster=self.cluster, request=self.request, cause=cause)


def read(info: RequestInfo, code: int, raw: bytes, retry_after: str | None = None) -> JSON:
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
    # Of all that farlet requests, only `/version` answers with an object that has no kind.
    if 200 <= code < 300 and ("kind" in status or "gitVersion" in status):
        return answer
    if status.get("kind") != "Status":
        if code == 404 and raw.strip() == _UNKNOWN_PATH:
            raise errors.UnknownPath(
                cluster=info.cluster, request=info.request, cause=NOT_KUBERNETES.format(code)
            )
        raise info.unreachable(NOT_KUBERNETES.format(code))
    raise _refusal(info, code, status, retry_after)


def _refusal(
    info: RequestInfo, code: int, status: JSON, retry_after: str | None
) -> errors.ApiError | errors.Unreachable:
    kind = _KINDS.get(code, errors.ApiError)
    message = str(status.get("message", "no message"))
    if code == 500 and any(text in message for text in _TOO_LARGE):
        kind = errors.Invalid
    if code == 503 and retry_after is not None:
        kind = errors.Throttled
    if kind is errors.ApiError and code >= 500:
        # A server that starts or stops answers 500 to 504; the write may have been applied.
        return info.unreachable(f"HTTP {code}: {message}")
    error = kind(
        cluster=info.cluster,
        request=info.request,
        code=code,
        status_reason=str(status.get("reason", "")),
        message=message,
    )
    if isinstance(error, errors.Throttled) and retry_after is not None:
        error.retry_after = _pause(retry_after)
    return error


def _pause(retry_after: str) -> float:
    """Seconds, at most `RETRY_AFTER_SECONDS`; one second for a date or another text."""
    if not (retry_after.isascii() and retry_after.isdigit()):
        return 1.0
    digits = retry_after.lstrip("0")
    # Python refuses to convert thousands of digits.
    return RETRY_AFTER_SECONDS if len(digits) > 2 else min(float(digits or 0), RETRY_AFTER_SECONDS)


def event(info: RequestInfo, line: bytes) -> WatchEvent[JSON]:
    """One line of a watch. Raises the error of an ERROR event, `Unreachable` if it is invalid."""
    try:
        found = orjson.loads(line)
        kind, obj = str(found["type"]), found["object"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as err:
        raise info.unreachable("a line that is not a watch event") from err
    if kind not in EVENT_KINDS or not isinstance(obj, dict):
        code = obj.get("code") if isinstance(obj, dict) else None
        read(info, code if isinstance(code, int) else 500, line)
        raise info.unreachable("a watch event of an unknown kind")
    return WatchEvent(kind, obj)
