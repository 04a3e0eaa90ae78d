"""exec, attach and portForward: requests the same upgrade in the foreign cluster, relays bytes.

The bytes behind the two request heads are not interpreted. So any protocol that the two API servers
agree on (SPDY/3.1, WebSocket or a later one) keeps its exit codes, resizes, ends of input and
resets.

Three security rules hold here:
- Of the caller's headers only those of the upgrade are sent to the foreign cluster, and never a
  credential.
- farlet's own credentials are never sent back to the caller.
- Bytes that the caller sent behind its request head reach the foreign server only after that server
  answered 101; it would read them as a further request with farlet's permissions. So nothing is
  sent there before, and after any other answer both connections are closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from urllib.parse import quote, urlencode

from farlet.client import raw_response, resources, tls_stream
from farlet.client.api_client import ApiClient
from farlet.kubelet import foreign_errors
from farlet.kubelet.pod_target import PodTarget
from farlet.kubelet.responder import Responder
from farlet.kubelet.responses import Refusal
from farlet.kubelet.routes import Endpoint, Request

ANSWER_SECONDS = 60.0
"""Until the foreign API server, which involves its kubelet, accepts an upgrade."""

SILENCE_SECONDS = 30.0
"""After one side has ended its direction, the other may be silent for this long."""

OUTPUT_FIRST_SECONDS = 2.0
"""For how long a caller's input waits until the caller has read pending output."""

FINAL_READ_SECONDS = 120.0
"""For a slow reader to read the last bytes, which may be megabytes in the kernel's buffers."""

_PORT_DIGITS = 5
_SUBPROTOCOLS = "sec-websocket-protocol"
_EXTENSIONS = "sec-websocket-extensions"
_VERSION = "x-stream-protocol-version"
_FORWARDED = (_VERSION, "sec-websocket-key", "sec-websocket-version", _EXTENSIONS)
_RETURNED = ("upgrade", _VERSION, "sec-websocket-accept", _SUBPROTOCOLS, _EXTENSIONS)

_BEARER = "base64url.bearer.authorization.k8s.io."
"""Subprotocols with this prefix are tokens
(`k8s.io/apiserver/pkg/authentication/request/websocket`)."""

_TUNNEL = "SPDY/3.1+"
"""Prefix of subprotocols that tunnel SPDY through a WebSocket (KEP-4006)."""

_FURTHER_REQUESTS = frozenset({"h2c", "http", "tls"})
"""Upgrades after which the connection would carry further requests."""

_STREAMS = (("input", "stdin"), ("output", "stdout"), ("error", "stderr"), ("tty", "tty"))
"""Parameters of the kubelet API, each with that of the API server (`PodExecOptions`)."""

_SUBRESOURCES = {
    Endpoint.EXEC: resources.POD_EXEC,
    Endpoint.ATTACH: resources.POD_ATTACH,
    Endpoint.PORT_FORWARD: resources.POD_PORT_FORWARD,
}


async def serve(
    responder: Responder, endpoint: Endpoint, target: PodTarget, foreign: ApiClient
) -> None:
    """Relay one stream until it ends.

    Raises `Refusal` if it cannot be opened, `OSError` if a connection breaks.
    """
    request = responder.request
    headers = upgrade_headers(request)
    parameters = query(endpoint, request, target)
    # API servers accept WebSockets by GET only, SPDY by both. POST needs fewer permissions.
    method = "GET" if _is_websocket(request) else "POST"
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            response = await responder.cancel_on_disconnect(
                foreign.open_stream(
                    method,
                    _SUBRESOURCES[endpoint],
                    target.pod,
                    namespace=target.namespace,
                    query=parameters,
                    headers=headers,
                )
            )
    except TimeoutError:
        raise Refusal(
            504,
            f"the foreign API server did not accept the stream within {ANSWER_SECONDS:.0f} s; try "
            "again, or check the foreign API server and the node of the mirror pod",
        ) from None
    try:
        if not response.switched:
            raise await foreign_errors.refusal(response, target)
        early = await responder.upgrade(_upgraded_headers(response, request))
        await relay(
            responder.channel,
            response.channel,
            to_caller=response.early,
            to_server=early,
        )
    finally:
        response.abort()


def upgrade_headers(request: Request) -> raw_response.Headers:
    """The headers that request the same upgrade. Raises `Refusal` if the caller requests none."""
    protocol = request.header("upgrade")
    tokens = (request.header("connection") or "").lower().split(",")
    if not protocol or "upgrade" not in (token.strip() for token in tokens):
        raise Refusal(400, "Upgrade request required")
    if protocol.lower().partition("/")[0] in _FURTHER_REQUESTS or "," in protocol:
        raise Refusal(400, f"unable to upgrade: {protocol} carries further requests")
    kept = [(name, value) for name, value in request.headers if name in _FORWARDED]
    offers = [offer for offer in _subprotocols(request) if not offer.startswith(_BEARER)]
    if offers:
        kept.append((_SUBPROTOCOLS, ", ".join(offers)))
    return [("Connection", "Upgrade"), ("Upgrade", protocol), *kept]


def query(endpoint: Endpoint, request: Request, target: PodTarget) -> str:
    """Translates the query of the kubelet API into that of an API server.

    Raises `Refusal` for a query that a kubelet refuses.
    """
    if endpoint is Endpoint.PORT_FORWARD:
        return urlencode([("ports", str(port)) for port in _ports(request)])
    enabled = {name: request.parameter(name) == "1" for name, _ in _STREAMS}
    if enabled["tty"]:
        enabled["error"] = False  # a terminal has one stream of output, as in `NewOptions`
    if not (enabled["input"] or enabled["output"] or enabled["error"]):
        raise Refusal(400, "you must specify at least 1 of stdin, stdout, stderr")
    fields = [("container", target.container)]
    fields += [(api, "true" if enabled[kubelet] else "false") for kubelet, api in _STREAMS]
    if endpoint is Endpoint.EXEC:
        fields += [("command", word) for word in request.parameters("command")]
    return urlencode(fields, quote_via=quote, safe="", errors="surrogateescape")


async def relay(
    caller: tls_stream.TLSStream,
    server: tls_stream.TLSStream,
    *,
    to_caller: bytes,
    to_server: bytes,
) -> None:
    """Relay bytes in both directions until both sides have ended, the given ones first.

    The end of one side is passed on as the end of that direction. Bytes that a side sent before
    its connection broke are still delivered: programs close connections while their last output is
    in transit, and a caller that sees the exit code does not notice that output is missing.
    """
    progress = asyncio.Event()
    broken: set[tls_stream.TLSStream] = set()
    output = _OutputFirst(server)

    async def pump(source: tls_stream.TLSStream, sink: tls_stream.TLSStream, early: bytes) -> None:
        data = early or await _read(source, broken)
        while data:
            progress.set()
            if source is caller:
                await output.wait()
            try:
                await sink.write(data)
            except OSError:
                broken.add(sink)
                return
            data = await _read(source, broken)
        if data is not None:
            sink.end()

    # By destination.
    pumps = {
        server: asyncio.ensure_future(pump(caller, server, to_server)),
        caller: asyncio.ensure_future(pump(server, caller, to_caller)),
    }
    try:
        pending = set(pumps.values())
        await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        while pending := {task for task in pending if not task.done()}:
            for sink in broken:
                pumps[sink].cancel()  # nothing can be delivered there any more
            progress.clear()
            done, _ = await asyncio.wait(pending, timeout=SILENCE_SECONDS)
            if not done and not progress.is_set():
                break
    finally:
        for task in pumps.values():
            task.cancel()
        await asyncio.gather(*pumps.values(), return_exceptions=True)
    for task in pumps.values():
        if not task.cancelled():
            task.result()  # raises if there is a bug
    for side in broken:
        side.abort()
    await asyncio.gather(*(side.finish(seconds=FINAL_READ_SECONDS) for side in pumps))


class _OutputFirst:
    """Delivers pending output of the server before further input of the caller.

    A server closes its connection once it has written everything. The kernel then delivers the
    rest, unless bytes arrive on that connection: in that case it drops the rest and resets. API
    servers ping every five seconds, so a ping that overtakes megabytes of output loses their end.
    """

    def __init__(self, server: tls_stream.TLSStream) -> None:
        self._server = server
        self._waits = True

    async def wait(self) -> None:
        """Return when pending output has been delivered, or after `OUTPUT_FIRST_SECONDS`."""
        if self._server.drained:
            self._waits = True
        elif self._waits:
            try:
                async with asyncio.timeout(OUTPUT_FIRST_SECONDS):
                    await self._server.until_drained()
            except TimeoutError:
                # The caller reads slowly, or writes everything before it reads.
                self._waits = False


async def _read(source: tls_stream.TLSStream, broken: set[tls_stream.TLSStream]) -> bytes | None:
    """The next bytes, empty at the end; `None` if the connection is broken."""
    try:
        return await source.read()
    except OSError:
        broken.add(source)
        return None


def _upgraded_headers(
    response: raw_response.RawResponse, request: Request
) -> list[tuple[str, str]]:
    """The headers of the 101. Raises `Refusal` for a protocol that the caller did not request."""
    upgraded = ",".join(response.headers("upgrade"))
    if upgraded.lower() != (request.header("upgrade") or "").lower():
        raise Refusal(
            502, f"the foreign API server upgraded to {upgraded!r}, which was not requested"
        )
    returned = [(name, value) for name in _RETURNED for value in response.headers(name)]
    return [("Connection", "Upgrade"), *returned]


def _is_websocket(request: Request) -> bool:
    return (request.header("upgrade") or "").lower() == "websocket"


def _subprotocols(request: Request) -> list[str]:
    listed = [value for name, value in request.headers if name == _SUBPROTOCOLS]
    return [offer.strip() for value in listed for offer in value.split(",")]


def _ports(request: Request) -> Iterator[int]:
    """Ports in the query of a WebSocket (`NewV4Options`); SPDY sends them later, per stream."""
    listed = request.parameters("port")
    tunnels = any(offer.startswith(_TUNNEL) for offer in _subprotocols(request))
    if not listed and _is_websocket(request) and not tunnels:
        raise Refusal(400, 'query parameter "port" is required')
    for value in listed:
        for text in value.split(","):
            number = _port(text)
            if number is None:
                raise Refusal(400, f'unable to parse "{value}" as a port')
            yield number


def _port(text: str) -> int | None:
    digits = text.lstrip("0")
    # Python refuses to convert thousands of digits.
    if not (text.isascii() and text.isdigit() and 0 < len(digits) <= _PORT_DIGITS):
        return None
    return number if (number := int(digits)) <= 65535 else None
