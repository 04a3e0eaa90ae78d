"""The TLS listener of the kubelet API: connections, request heads, limits, and the end.

Whoever can reach the port can open connections, so until a caller is known he gets little: a few
seconds for a handshake and a request head of bounded size, and his place goes to the next one
when places are short. What a request means, and who may ask it, is decided by the handler.

HTTP is parsed by h11. A request with a body is refused: no endpoint reads one.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import h11
import structlog

from farlet.client import tls_stream
from farlet.errors import StartError
from farlet.kubelet import routes
from farlet.kubelet.responder import Responder
from farlet.kubelet.responses import Refusal, text_response
from farlet.settings import loading
from farlet.settings.values import Address

HEAD_SECONDS = 10.0
"""For the TLS handshake and the first request's head; for each later head from its first byte."""

IDLE_SECONDS = 90.0
"""Between two requests, as a kubelet's server."""

TAKING_SECONDS = 60.0
"""For the caller to take the end of what he asked for, where the connection ends with it."""

HEAD_BYTES = 64 * 1024
"""A command of `kubectl exec` stands in it."""

MOST_CONNECTIONS = 2048
"""Each takes 20 to 90 KiB (docs/decisions/0009-kubelet-streams.md)."""

Handler = Callable[[Responder], Awaitable[None]]

log = structlog.get_logger()


class KubeletServer:
    """Listens while its context lasts; then streams get `grace` seconds to end, less in a `hurry`.

    `contexts` is asked for each new connection, so a new certificate is served from then on.
    Entering raises `StartError` when the address cannot be had.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        at: Address,
        contexts: Callable[[], ssl.SSLContext],
        grace: float,
        hurry: asyncio.Event,
    ) -> None:
        self._handler = handler
        self._at = at
        self._contexts = contexts
        self._grace = grace
        self._hurry = hurry
        self._scratch = bytearray(tls_stream.CHUNK)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._unknown: dict[tls_stream.TLSStream, None] = {}
        """Connections that have not sent a first request yet, the oldest first."""
        self._idle: set[tls_stream.TLSStream] = set()
        """Those between two requests."""
        self._stopping = False

    @property
    def port(self) -> int:
        """Where it listens."""
        if self._server is None:
            raise RuntimeError("the server does not listen yet")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: tls_stream.TLSStream(self._scratch, opened=self._opened),
                self._at.host or None,
                self._at.port,
                backlog=256,
            )
        except OSError as err:
            raise StartError(
                f"{loading.flag_name('kubelet_bind_address')} "
                f"({loading.env_name('kubelet_bind_address')}) {self._at}: "
                f"{err.strerror or err}. Choose another address, or 0 to turn it off"
            ) from err
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping = True
        if self._server is not None:
            self._server.close()
        for channel in (*self._unknown, *self._idle):
            channel.abort()
        if self._tasks and error is None:
            await self._let_end()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            log.info("kubelet streams were cut off", count=len(self._tasks))
            await asyncio.wait(self._tasks)

    async def _let_end(self) -> None:
        hurried = asyncio.ensure_future(self._hurry.wait())
        ended = asyncio.ensure_future(asyncio.wait(self._tasks, timeout=self._grace))
        try:
            await asyncio.wait((hurried, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurried.cancel()
            ended.cancel()

    # --- connections --------------------------------------------------------------------------

    def _opened(self, channel: tls_stream.TLSStream) -> None:
        if self._stopping or not self._place():
            channel.abort()
            return
        self._unknown[channel] = None
        task = asyncio.get_running_loop().create_task(self._connection(channel))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _place(self) -> bool:
        """Whether there is room for one more, made by dropping who has not said anything yet."""
        if len(self._tasks) < MOST_CONNECTIONS:
            return True
        if not self._unknown:
            return False
        eldest = next(iter(self._unknown))
        del self._unknown[eldest]
        eldest.abort()
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (err := task.exception()) is not None:
            # A bug of ours; the caller sees his connection cut.
            log.error("kubelet request failed", exc_info=err)

    async def _connection(self, channel: tls_stream.TLSStream) -> None:
        try:
            await channel.close(seconds=await self._serve(channel))
        except OSError as err:  # TimeoutError is one
            log.debug("kubelet connection ended", err=str(err) or type(err).__name__)
        finally:
            self._unknown.pop(channel, None)
            channel.abort()

    async def _serve(self, channel: tls_stream.TLSStream) -> float:
        """Requests of one connection, one after the other. Raises `OSError`.

        Returns how many seconds the caller is given to take the end of the last answer.
        """
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        async with asyncio.timeout(HEAD_SECONDS):
            await channel.secure(self._contexts(), server_side=True)
            request = await self._head(channel, http)
        while request is not None:
            self._unknown.pop(channel, None)
            status = await self._request(request, channel, http)
            if http.our_state is not h11.DONE or http.their_state is not h11.DONE or self._stopping:
                return TAKING_SECONDS if status < 400 else tls_stream.CLOSE_SECONDS
            self._idle.add(channel)
            try:
                request = await self._next(channel, http)
            finally:
                self._idle.discard(channel)
        return tls_stream.CLOSE_SECONDS

    async def _next(
        self, channel: tls_stream.TLSStream, http: h11.Connection
    ) -> h11.Request | None:
        """The head of a further request; `None` where none comes."""
        http.start_next_cycle()
        if not http.trailing_data[0]:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    http.receive_data(await channel.read())
            except TimeoutError:
                return None
        async with asyncio.timeout(HEAD_SECONDS):
            return await self._head(channel, http)

    async def _head(
        self, channel: tls_stream.TLSStream, http: h11.Connection
    ) -> h11.Request | None:
        """The head of a request; `None` when the caller ended, or was told that it is wrong."""
        while True:
            try:
                event = http.next_event()
            except h11.RemoteProtocolError as err:
                refusal = text_response(err.error_status_hint, f"{err.error_status_hint}: {err}")
                await Responder(_NOTHING, channel, http).refuse(refusal)
                return None
            if event is h11.NEED_DATA:
                http.receive_data(await channel.read())
            elif isinstance(event, h11.Request):
                return event
            else:
                return None

    async def _request(
        self, head: h11.Request, channel: tls_stream.TLSStream, http: h11.Connection
    ) -> int:
        """Answer one request; the answer's status."""
        try:
            caller = Responder(_request(head, http), channel, http)
        except Refusal as err:
            await Responder(_NOTHING, channel, http).refuse(err.response)
            return err.response.status
        await self._handler(caller)
        if caller.status is None or http.our_state is h11.SEND_BODY:
            raise ConnectionAbortedError("the answer broke off")
        return caller.status


_NOTHING = routes.Request("", "")
"""What was not understood."""


def _request(head: h11.Request, http: h11.Connection) -> routes.Request:
    """The request as a whole. Raises `Refusal` for one that is unclear or has a body."""
    try:
        whole = isinstance(http.next_event(), h11.EndOfMessage)
    except h11.RemoteProtocolError:
        whole = False
    if not whole:
        raise Refusal(413, "413: a request to a kubelet has no body")
    headers = tuple((name.decode(), value.decode("latin-1")) for name, value in head.headers)
    return routes.parse(head.method.decode(), head.target.decode(), headers)
