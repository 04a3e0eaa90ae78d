"""exec, attach and portForward: an upgrade asked for at home becomes one abroad, and then bytes.

No byte behind the two heads is interpreted, so whatever the two API servers upgrade to (SPDY/3.1,
WebSocket, or what comes after them) keeps its exit codes, resizes, ends of input and resets.

Three things may never happen here. A credential or any other header of the caller's but those of
the upgrade itself must not go abroad; farlet's own must not come back. And nothing that the caller
sent behind his request's head may reach the foreign server unless it answered 101: it would be read
as a further request, with farlet's rights. So nothing is sent there before, and after any other
answer both connections end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from urllib.parse import quote, urlencode

from farlet.client import raw_response, resources, tls_stream
from farlet.client.api_client import ApiClient
from farlet.kubelet import foreign_api
from farlet.kubelet.pod_target import PodTarget
from farlet.kubelet.responder import Responder
from farlet.kubelet.responses import Refusal
from farlet.kubelet.routes import Endpoint, Request

ANSWER_SECONDS = 60.0
"""For the foreign API server, which asks the kubelet there, to accept an upgrade."""

SILENCE_SECONDS = 30.0
"""When one side has ended its direction, the other goes on for as long as bytes come."""

TURN_SECONDS = 2.0
"""The longest that what a caller sends waits for him to take output."""

TAKING_SECONDS = 120.0
"""For a slow reader to take the last bytes, which may be megabytes in the buffers of the kernel."""

_SUBPROTOCOLS = "sec-websocket-protocol"
_EXTENSIONS = "sec-websocket-extensions"
_VERSION = "x-stream-protocol-version"
_CARRIED = (_VERSION, "sec-websocket-key", "sec-websocket-version", _EXTENSIONS)
_RETURNED = ("upgrade", _VERSION, "sec-websocket-accept", _SUBPROTOCOLS, _EXTENSIONS)

_BEARER = "base64url.bearer.authorization.k8s.io."
"""A subprotocol that is a token (`k8s.io/apiserver/pkg/authentication/request/websocket`)."""

_TUNNEL = "SPDY/3.1+"
"""Subprotocols that carry SPDY within a WebSocket (KEP-4006)."""

_HTTP_AGAIN = frozenset({"h2c", "http", "tls"})
"""Upgrades after which the connection would carry requests once more."""

_STREAMS = (("input", "stdin"), ("output", "stdout"), ("error", "stderr"), ("tty", "tty"))
"""Parameters of a kubelet, and those of an API server (`PodExecOptions`)."""

_SUBRESOURCES = {
    Endpoint.EXEC: resources.POD_EXEC,
    Endpoint.ATTACH: resources.POD_ATTACH,
    Endpoint.PORT_FORWARD: resources.POD_PORT_FORWARD,
}


async def serve(
    caller: Responder, endpoint: Endpoint, target: PodTarget, foreign: ApiClient
) -> None:
    """Carry one stream to its end.

    Raises `Refusal` where it does not come about, `OSError` when either side breaks off.
    """
    request = caller.request
    headers = upgrade(request)
    asked = query(endpoint, request, target)
    # The API servers take WebSockets by GET only, and SPDY by both: POST needs fewer rights.
    method = "GET" if _is_websocket(request) else "POST"
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            exchange = await caller.cancel_on_disconnect(
                foreign.open_stream(
                    method,
                    _SUBRESOURCES[endpoint],
                    target.pod,
                    namespace=target.namespace,
                    query=asked,
                    headers=headers,
                )
            )
    except TimeoutError:
        raise Refusal(504, "the foreign API server did not accept the stream in time") from None
    try:
        if not exchange.switched:
            raise await foreign_api.refusal(exchange)
        early = await caller.switch(_answered(exchange, request))
        await splice(caller.channel, exchange.channel, to_left=exchange.early, to_right=early)
    finally:
        exchange.abort()


def upgrade(request: Request) -> raw_response.Headers:
    """The headers that ask for the same upgrade. Raises `Refusal` where none is asked for."""
    protocol = request.header("upgrade")
    tokens = (request.header("connection") or "").lower().split(",")
    if not protocol or "upgrade" not in (token.strip() for token in tokens):
        raise Refusal(400, "Upgrade request required")
    if protocol.lower().partition("/")[0] in _HTTP_AGAIN or "," in protocol:
        raise Refusal(400, f"unable to upgrade: {protocol} carries further requests")
    kept = [(name, value) for name, value in request.headers if name in _CARRIED]
    offers = [offer for offer in _subprotocols(request) if not offer.startswith(_BEARER)]
    if offers:
        kept.append((_SUBPROTOCOLS, ", ".join(offers)))
    return [("Connection", "Upgrade"), ("Upgrade", protocol), *kept]


def query(endpoint: Endpoint, request: Request, target: PodTarget) -> str:
    """The API server's query for that of a kubelet. Raises `Refusal` for what a kubelet refuses."""
    if endpoint is Endpoint.PORT_FORWARD:
        return urlencode([("ports", str(port)) for port in _ports(request)])
    wanted = {name: request.parameter(name) == "1" for name, _ in _STREAMS}
    if wanted["tty"]:
        wanted["error"] = False  # there is one stream of output, as `NewOptions` has it
    if not (wanted["input"] or wanted["output"] or wanted["error"]):
        raise Refusal(400, "you must specify at least 1 of stdin, stdout, stderr")
    fields = [("container", target.container)]
    fields += [(theirs, "true" if wanted[ours] else "false") for ours, theirs in _STREAMS]
    if endpoint is Endpoint.EXEC:
        fields += [("command", word) for word in request.parameters("command")]
    return urlencode(fields, quote_via=quote, safe="", errors="surrogateescape")


async def splice(
    left: tls_stream.TLSStream, right: tls_stream.TLSStream, *, to_left: bytes, to_right: bytes
) -> None:
    """Carry bytes both ways until both sides have ended; those given come first.

    A side that ends ends the same direction beyond. What a side sent before it broke off still
    arrives: programs close connections while their last output is on its way, and a read that
    lacks the end is no error to those who see the exit code.
    """
    moved = asyncio.Event()
    broken: set[tls_stream.TLSStream] = set()
    turns = _Turns(right)

    async def pump(source: tls_stream.TLSStream, sink: tls_stream.TLSStream, early: bytes) -> None:
        data = early or await _read(source, broken)
        while data:
            moved.set()
            if source is left:
                await turns.wait()
            try:
                await sink.write(data)
            except OSError:
                broken.add(sink)
                return
            data = await _read(source, broken)
        if data is not None:
            sink.end()

    # By where they lead.
    pumps = {
        right: asyncio.ensure_future(pump(left, right, to_right)),
        left: asyncio.ensure_future(pump(right, left, to_left)),
    }
    try:
        going = set(pumps.values())
        await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
        while going := {task for task in going if not task.done()}:
            for sink in broken:
                pumps[sink].cancel()  # what it carries can arrive no more
            moved.clear()
            done, _ = await asyncio.wait(going, timeout=SILENCE_SECONDS)
            if not done and not moved.is_set():
                break
    finally:
        for task in pumps.values():
            task.cancel()
        await asyncio.gather(*pumps.values(), return_exceptions=True)
    for task in pumps.values():
        if not task.cancelled():
            task.result()  # raises what is a bug
    for side in broken:
        side.abort()
    await asyncio.gather(*(side.finish(seconds=TAKING_SECONDS) for side in pumps))


class _Turns:
    """What comes from the server goes to the caller before what he sends goes on.

    A server closes its connection once it has written everything, and the kernel delivers the rest,
    unless something comes in on that connection: then it drops the rest and resets. API servers
    ping every five seconds, so a ping that overtakes megabytes of output costs the end of them.
    """

    def __init__(self, server: tls_stream.TLSStream) -> None:
        self._server = server
        self._patient = True

    async def wait(self) -> None:
        """Return when all that has come so far has been passed on, or is waited for in vain."""
        if self._server.drained:
            self._patient = True
        elif self._patient:
            try:
                async with asyncio.timeout(TURN_SECONDS):
                    await self._server.until_drained()
            except TimeoutError:
                # The caller reads slowly, or not before he has written.
                self._patient = False


async def _read(source: tls_stream.TLSStream, broken: set[tls_stream.TLSStream]) -> bytes | None:
    """What comes next; `None` if the side has broken off."""
    try:
        return await source.read()
    except OSError:
        broken.add(source)
        return None


def _answered(exchange: raw_response.RawResponse, request: Request) -> list[tuple[str, str]]:
    """The headers of the 101. Raises `Refusal` for one to a protocol that nobody asked for."""
    upgraded = ",".join(exchange.headers("upgrade"))
    if upgraded.lower() != (request.header("upgrade") or "").lower():
        raise Refusal(502, f"the foreign API server upgraded to {upgraded!r}, unasked")
    carried = [(name, value) for name in _RETURNED for value in exchange.headers(name)]
    return [("Connection", "Upgrade"), *carried]


def _is_websocket(request: Request) -> bool:
    return (request.header("upgrade") or "").lower() == "websocket"


def _subprotocols(request: Request) -> list[str]:
    listed = [value for name, value in request.headers if name == _SUBPROTOCOLS]
    return [offer.strip() for value in listed for offer in value.split(",")]


def _ports(request: Request) -> Iterator[int]:
    """Ports that a WebSocket names (`NewV4Options`); SPDY names them later, by stream."""
    listed = request.parameters("port")
    tunnels = any(offer.startswith(_TUNNEL) for offer in _subprotocols(request))
    if not listed and _is_websocket(request) and not tunnels:
        raise Refusal(400, 'query parameter "port" is required')
    for value in listed:
        for text in value.split(","):
            if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
                raise Refusal(400, f'unable to parse "{value}" as a port')
            yield int(text)
