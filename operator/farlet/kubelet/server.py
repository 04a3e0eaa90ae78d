"""The TLS listener of the kubelet API: connections, request heads, limits and shutdown.

Anyone who reaches the port can open connections. So a new connection gets only a few seconds for
the handshake and a request head of bounded size, and until its caller was authorized it is dropped
for a newer one when the limit is reached. The handler authenticates, authorizes and answers.

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
from farlet.listeners.listener import Limits, Listener
from farlet.settings import loading
from farlet.settings.values import Address

HEAD_SECONDS = 10.0
"""For the TLS handshake and the first request's head; for each later head from its first byte."""

IDLE_SECONDS = 90.0
"""Between two requests, as a kubelet's server."""

FINAL_READ_SECONDS = 60.0
"""For the caller to read the end of an answer after which the connection is closed."""

MAX_HEAD_BYTES = 64 * 1024
"""The head contains the command of a `kubectl exec`."""

Handler = Callable[[Responder], Awaitable[None]]

log = structlog.get_logger()


class KubeletServer:
    """Listens while its context lasts; then open streams get `grace` seconds to end.

    From the beginning of that period no new connection is accepted. `immediate` ends it.
    `contexts` is called for each new connection, so a new certificate is served from then on.
    Entering raises `StartError` if the address cannot be used.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        at: Address,
        contexts: Callable[[], ssl.SSLContext],
        grace: float,
        immediate: asyncio.Event,
        limits: Limits,
    ) -> None:
        self._handler = handler
        self._at = at
        self._contexts = contexts
        self._grace = grace
        self._immediate = immediate
        self._scratch = bytearray(tls_stream.CHUNK)
        self._listener = Listener(
            lambda: tls_stream.TLSStream(self._scratch, opened=self._opened), limits
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: set[tls_stream.TLSStream] = set()
        """Connections between two requests."""
        self._stopping = False

    @property
    def port(self) -> int:
        return self._listener.port

    async def __aenter__(self) -> Self:
        try:
            await self._listener.bind(self._at)
            self._listener.listen()
        except OSError as err:
            raise StartError(
                f"{loading.flag_name('kubelet_bind_address')} "
                f"({loading.env_name('kubelet_bind_address')}) {self._at}: cannot listen: "
                f"{err.strerror or err}. Choose another address, or 0 to disable the kubelet API"
            ) from err
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping = True
        self._listener.close()
        self._listener.abort()
        for channel in self._idle:
            channel.abort()
        await asyncio.sleep(0)  # the tasks of these connections end
        if self._tasks and error is None:
            await self._wait_for_streams()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            log.info("cut off kubelet streams", count=len(self._tasks))
            await asyncio.wait(self._tasks)

    async def _wait_for_streams(self) -> None:
        log.info(
            "waiting for open streams",
            streams=len(self._tasks),
            seconds=self._grace,
            to_end_now="send a second signal (Ctrl-C)",
        )
        immediate = asyncio.ensure_future(self._immediate.wait())
        ended = asyncio.ensure_future(asyncio.wait(self._tasks, timeout=self._grace))
        try:
            await asyncio.wait((immediate, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            immediate.cancel()
            ended.cancel()

    # --- connections --------------------------------------------------------------------------

    def _opened(self, channel: tls_stream.TLSStream) -> None:
        if self._stopping:
            channel.abort()
            return
        task = asyncio.get_running_loop().create_task(self._connection(channel))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (err := task.exception()) is not None:
            # A bug of farlet; the caller's connection is cut.
            log.error("kubelet request failed", exc_info=err)

    async def _connection(self, channel: tls_stream.TLSStream) -> None:
        try:
            await channel.close(seconds=await self._serve(channel))
        except OSError as err:  # TimeoutError is one
            log.debug("kubelet connection ended", err=str(err) or type(err).__name__)
        finally:
            channel.abort()

    async def _serve(self, channel: tls_stream.TLSStream) -> float:
        """Serve the requests of one connection, one after the other. Raises `OSError`.

        Returns for how many seconds the caller may read the end of the last answer.
        """
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        async with asyncio.timeout(HEAD_SECONDS):
            await channel.secure(self._contexts(), server_side=True)
            request = await self._head(channel, http)
        while request is not None:
            status = await self._request(request, channel, http)
            if http.our_state is not h11.DONE or http.their_state is not h11.DONE or self._stopping:
                return FINAL_READ_SECONDS if status < 400 else tls_stream.CLOSE_SECONDS
            self._idle.add(channel)
            try:
                request = await self._next(channel, http)
            finally:
                self._idle.discard(channel)
        return tls_stream.CLOSE_SECONDS

    async def _next(
        self, channel: tls_stream.TLSStream, http: h11.Connection
    ) -> h11.Request | None:
        """The head of the next request; `None` if none arrives."""
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
        """The head of a request; `None` if the caller closed, or sent an invalid one (refused)."""
        while True:
            try:
                event = http.next_event()
            except h11.RemoteProtocolError as err:
                refusal = text_response(err.error_status_hint, f"{err.error_status_hint}: {err}")
                await Responder(_UNPARSED, channel, http).refuse(refusal)
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
        """Answer one request; return the answer's status."""
        try:
            responder = Responder(
                _request(head, http), channel, http, keep=lambda: self._listener.keep(channel)
            )
        except Refusal as err:
            await Responder(_UNPARSED, channel, http).refuse(err.response)
            return err.response.status
        await self._handler(responder)
        if responder.status is None or http.our_state is h11.SEND_BODY:
            raise ConnectionAbortedError("the answer was cut off")
        return responder.status


_UNPARSED = routes.Request("", "")
"""Stands for a request that could not be parsed."""


def _request(head: h11.Request, http: h11.Connection) -> routes.Request:
    """The parsed request. Raises `Refusal` if it is ambiguous or has a body."""
    try:
        complete = isinstance(http.next_event(), h11.EndOfMessage)
    except h11.RemoteProtocolError:
        complete = False
    if not complete:
        raise Refusal(413, "413: requests to the kubelet API must not have a body")
    headers = tuple((name.decode(), value.decode("latin-1")) for name, value in head.headers)
    return routes.parse(head.method.decode(), head.target.decode(), headers)
