"""containerLogs: passes the logs of the mirror's container to the caller.

The options are validated as by a kubelet and passed to the foreign API server, which selects and
follows the lines. farlet buffers nothing: a slow caller slows down the foreign server, and when the
caller disconnects, farlet closes its connection to the foreign server.
"""

from __future__ import annotations

import re
from urllib.parse import urlencode

from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.forge import timestamps
from farlet.kubelet import foreign_errors
from farlet.kubelet.pod_target import PodTarget
from farlet.kubelet.responder import Responder
from farlet.kubelet.responses import TEXT, Refusal
from farlet.kubelet.routes import Request

_FLAGS = ("follow", "previous", "timestamps")
_NUMBERS = {"sinceSeconds": 1, "tailLines": 0, "limitBytes": 1}
"""Each with the minimum."""
_STREAMS = frozenset({"All", "Stdout", "Stderr"})
_INT64 = re.compile(r"[+-]?[0-9]{1,19}")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


async def serve(
    responder: Responder, target: PodTarget, options: dict[str, str], foreign: ApiClient
) -> None:
    """Send the logs until they end or the caller disconnects.

    Raises `Refusal` if there are none, `OSError` if a connection breaks.
    """
    await responder.cancel_on_disconnect(_serve(responder, target, options, foreign))


def options(request: Request) -> dict[str, str]:
    """The options for the API server, without those that have their default.

    Raises `Refusal`: 400 for a value that cannot be parsed, 422 for options that exclude each other
    (`getContainerLogs` in `server.go`, `ValidatePodLogOptions`).
    """
    found = {name: "true" for name in _FLAGS if _flag(request.parameter(name))}
    for name in _NUMBERS:
        text = request.parameter(name)
        if name == "tailLines" and (old := request.parameter("tail")):
            text = None if old == "all" else old
        if text is not None:
            found[name] = _number(text)
    if since := request.parameter("sinceTime"):
        found["sinceTime"] = _time(since)
    stream = request.parameter("stream")
    if stream is not None and stream != "All":
        found["stream"] = stream
    if (
        any(int(found[name]) < minimum for name, minimum in _NUMBERS.items() if name in found)
        or ("sinceSeconds" in found and "sinceTime" in found)
        or (stream is not None and stream not in _STREAMS)
        or ("stream" in found and "tailLines" in found)
    ):
        raise Refusal(422, '{"message": "Invalid request."}')
    return found


async def _serve(
    responder: Responder, target: PodTarget, options: dict[str, str], foreign: ApiClient
) -> None:
    query = urlencode({"container": target.container, **options})
    response = await foreign.open_stream(
        "GET", resources.POD_LOGS, target.pod, namespace=target.namespace, query=query
    )
    try:
        if response.status != 200:
            raise await foreign_errors.refusal(response, target)
        await responder.begin(200, [("Content-Type", TEXT)])
        async for piece in response.body():
            await responder.send(piece)
        await responder.end()
    finally:
        response.abort()


def _flag(text: str | None) -> bool:
    """As `Convert_Slice_string_To_bool` of apimachinery: all but these two mean true."""
    return text is not None and text != "0" and text.lower() != "false"


def _number(text: str) -> str:
    if not _INT64.fullmatch(text) or not -(2**63) <= int(text) < 2**63:
        raise _undecodable()
    return str(int(text))


def _time(text: str) -> str:
    if timestamps.parse(text) is None or not _RFC3339.fullmatch(text):
        raise _undecodable()
    return text


def _undecodable() -> Refusal:
    return Refusal(400, '{"message": "Unable to decode query."}')
