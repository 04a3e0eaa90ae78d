"""An API server whose watches share connections: HTTP/2 streams in place of connections.

For thousands of watches of single objects. Everything else is sent as `Cluster` sends it. A server
that does not offer HTTP/2 gets one connection for each watch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import structlog

from farlet.client import cluster as clusters
from farlet.client import credentials, decode, http2, raw_response, resources, tls_stream
from farlet.client.api_client import ApiClient
from farlet.client.resources import JSON_BODY
from farlet.constants import JSON
from farlet.telemetry.metrics import ClientMetrics

MAX_BODY_BYTES = 1 << 20
"""Limit of an answer that refuses a watch."""

log = structlog.get_logger()


class WatchStreams(ApiClient):
    """As the given cluster, but `watch_path` opens streams. Use as an async context manager."""

    def __init__(self, cluster: clusters.Cluster, *, metrics: ClientMetrics) -> None:
        self._cluster = cluster
        self._metrics = metrics
        self._scratch = bytearray(tls_stream.CHUNK)
        self._connections: dict[http2.Connection, asyncio.Task[None]] = {}
        self._connecting = asyncio.Lock()
        self._without_http2: object = None
        """`Login.connecting` of a server that did not offer HTTP/2."""

    async def __aenter__(self) -> WatchStreams:
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = list(self._connections.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def name(self) -> str:
        """`home` or `foreign`."""
        return self._cluster.name

    @property
    def connection(self) -> object:
        """Like `Cluster.connection`."""
        return self._cluster.connection

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = resources.JSON_BODY,
        accept: str | None = None,
    ) -> JSON:
        return await self._cluster.call(
            method, path, body=body, content_type=content_type, accept=accept
        )

    async def call_unqueued(
        self, method: str, path: str, *, body: object = None, seconds: float
    ) -> JSON:
        return await self._cluster.call_unqueued(method, path, body=body, seconds=seconds)

    async def call_aggregated(self, path: str) -> tuple[int, bytes]:
        return await self._cluster.call_aggregated(path)

    async def open_path(
        self, method: str, path: str, headers: raw_response.Headers
    ) -> raw_response.RawResponse:
        return await self._cluster.open_path(method, path, headers)

    async def watch_path(
        self,
        path: str,
        *,
        accept: str | None = None,
        bookmarks: bool = True,
        opened: Callable[[], None],
    ) -> AsyncIterator[decode.WatchEvent[JSON]]:
        """Like `Cluster.watch_path`."""
        login = await self._cluster.login()
        target = clusters.watch_target(path)
        info = decode.RequestInfo(self.name, f"WATCH {path.partition('?')[0]}")
        code: int | None = None
        connection = stream = None
        try:
            connection = await self._connection(login)
            if connection is not None:
                stream = await connection.get(target, clusters.headers_of(login, accept))
                async with asyncio.timeout(clusters.REQUEST_SECONDS):
                    await stream.head()
                code = stream.status
                body = stream.chunks(
                    silence=clusters.WATCH_SILENCE_SECONDS
                    if bookmarks
                    else clusters.SILENT_WATCH_SECONDS
                )
                if code != 200:
                    await self._raise_refused(login, info, code, body)
                if stream.content_type != JSON_BODY:
                    raise info.unreachable(decode.NOT_KUBERNETES.format(code))
                with self._cluster.watching(stream.abort, login):
                    opened()
                    async for line in clusters.lines(body, info):
                        yield decode.event(info, line)
        except OSError as err:  # `TimeoutError` is one
            raise info.unreachable(err) from err
        finally:
            if connection is not None:
                self._metrics.answered("WATCH", code)
                await self._leave(connection, stream)
        if connection is None:
            async for event in self._cluster.watch_path(
                path, accept=accept, bookmarks=bookmarks, opened=opened
            ):
                yield event

    async def _raise_refused(
        self,
        login: credentials.Login,
        info: decode.RequestInfo,
        code: int,
        body: AsyncIterator[bytes],
    ) -> None:
        raw = bytearray()
        async for chunk in body:
            raw += chunk
            if len(raw) > MAX_BODY_BYTES:
                break
        if code == 401:
            await self._cluster.refused(login)
        decode.read(info, code, bytes(raw))
        raise info.unreachable(decode.NOT_KUBERNETES.format(code))

    async def _connection(self, login: credentials.Login) -> http2.Connection | None:
        """One with a free stream; `None` if the server does not offer HTTP/2."""
        async with self._connecting:
            if self._without_http2 == login.connecting:
                return None
            for connection in self._connections:
                if connection.has_free_stream and connection.login.connecting == login.connecting:
                    return connection
            made = await http2.connect(login, self._scratch)
            if made is None:
                log.warning(
                    "server does not offer HTTP/2, opening one connection per watch",
                    cluster=self.name,
                )
                self._without_http2 = login.connecting
                return None
            task = asyncio.create_task(made.run(), name="HTTP/2")
            self._connections[made] = task
            task.add_done_callback(lambda _: self._connections.pop(made, None))
            return made

    async def _leave(self, connection: http2.Connection, stream: http2.Stream | None) -> None:
        if stream is not None:
            try:
                await connection.close(stream)
            except OSError:
                return  # the connection is gone
        if not len(connection) and (task := self._connections.pop(connection, None)) is not None:
            task.cancel()
