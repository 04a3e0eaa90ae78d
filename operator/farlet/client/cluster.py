"""One API server: single requests, single watches, single streams.

Requests carry raw JSON, since typed models cost more than all the rest of the hot path.
Nothing here retries, decides or remembers objects: a caller that gets `Unreachable` does not
know whether its write was applied and must look again. Who may write at all is asked of `guard`,
at the last moment.

Bodies and answers never reach an error text or a log: some of them hold tokens.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext

import aiohttp
import orjson
import yarl

from farlet import __version__, errors
from farlet.client import credentials, decode, raw_response, sessions, tls_stream, write_guard
from farlet.client.api_client import ApiClient
from farlet.client.credential_sources import ClusterSource
from farlet.client.resources import JSON_BODY
from farlet.constants import JSON
from farlet.telemetry.metrics import ClientMetrics

USER_AGENT = f"farlet/{__version__}"

REQUEST_SECONDS = 30.0
REQUESTS_AT_ONCE = 16
"""To one API server. Each connection keeps 256 KiB of TLS buffer (`asyncio.sslproto`), and no
server answers faster because more are asked of it. Watches are not counted."""
WATCH_SILENCE_SECONDS = 80.0
"""API servers send a bookmark every minute; a longer silence is a dead connection."""
WATCH_SECONDS = 300


class Cluster(ApiClient):
    """A connection to one API server. Use as an async context manager."""

    def __init__(
        self,
        name: credentials.Name,
        source: ClusterSource,
        *,
        metrics: ClientMetrics,
        guard: write_guard.Guard = write_guard.anybody,
    ) -> None:
        """`guard` is asked for every write of `call` when its connection stands and its bytes
        would be sent next."""
        self._name = name
        self._sessions = sessions.Sessions(name, source)
        self._metrics = metrics
        self._slots = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self._scratch = bytearray(tls_stream.CHUNK)
        self._guard = guard
        self.problem: str | None = None
        """Why the last request got no answer; `None` when it got one, whatever it said."""

    async def __aenter__(self) -> Cluster:
        await self.login()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._sessions.close()

    @property
    def name(self) -> credentials.Name:
        """`home` or `foreign`."""
        return self._name

    @property
    def server(self) -> str:
        """Base URL of the API server."""
        return self._sessions.login.server

    @property
    def ca_file(self) -> str | None:
        """The CA bundle that verifies this server; `None` where the system's CAs do."""
        return self._sessions.login.ca_file

    @property
    def proxy(self) -> str | None:
        """The proxy by which it is reached, if there is one."""
        return self._sessions.login.proxy

    async def login(self) -> credentials.Login:
        """Who we are to this server now; new connections are made with it.

        Raises `StartError` naming the file, the first time only.
        """
        return await self._sessions.current()

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = JSON_BODY,
        accept: str | None = None,
    ) -> JSON:
        """One request; `path` holds the query. Returns the JSON of the answer.

        Raises a kind of `ApiError` for an answer other than 2xx, `Unreachable` for none, and
        `NotLeading` for a write that was not sent.
        """
        write = None
        if method != "GET":
            data = b"" if body is None else orjson.dumps(body)
            write = write_guard.Body(data, content_type, guard=self._guard)
        asked = _asked(self._name, method, path)
        answer = await self._ask(asked, method, path, body=write, accept=accept)
        return self._read(asked, *answer)

    async def call_unqueued(
        self, method: str, path: str, *, body: object = None, seconds: float
    ) -> JSON:
        """As `call`, but it waits for no other request, asks no guard, and ends after `seconds`.

        For Leases: whether the others may go on depends on them.
        """
        write = None
        if body is not None:
            write = write_guard.Body(orjson.dumps(body), JSON_BODY, guard=write_guard.anybody)
        asked = _asked(self._name, method, path)
        with self._asking(asked):
            async with asyncio.timeout(seconds):
                answer = await self._ask(asked, method, path, body=write, slots=nullcontext())
        return self._read(asked, *answer)

    async def call_aggregated(self, path: str) -> tuple[int, bytes]:
        """Status and body of a GET that the API server passes on to another server.

        Unjudged: that an aggregated API is missing or broken says nothing of the API server, which
        itself answers 404 and 503 as plain text then. Raises `Unreachable`.
        """
        asked = _asked(self._name, "GET", path)
        code, raw, _ = await self._ask(asked, "GET", path)
        self.problem = None
        return code, raw

    async def _ask(
        self,
        asked: decode.RequestInfo,
        method: str,
        path: str,
        *,
        body: write_guard.Body | None = None,
        accept: str | None = None,
        slots: AbstractAsyncContextManager[None] | None = None,
    ) -> tuple[int, bytes, str | None]:
        """Status, body and Retry-After; asked again with new credentials if ours were refused."""
        for attempt in (1, 2):
            async with slots or self._slots:
                login = await self.login()
                with self._asking(asked):
                    code, raw, retry_after = await self._send(
                        login, method, path, body=body, headers=_headers(login, accept)
                    )
            if code == 401 and attempt == 1 and await self._sessions.refused(login):
                continue
            return code, raw, retry_after
        raise AssertionError("the loop returns or raises")

    async def _send(
        self,
        login: credentials.Login,
        method: str,
        path: str,
        *,
        body: write_guard.Body | None,
        headers: dict[str, str],
    ) -> tuple[int, bytes, str | None]:
        """Status, body and Retry-After of the answer to one request."""
        started = time.monotonic()
        code: int | None = None
        try:
            async with self._sessions.session.request(
                method,
                _url(login, path),
                data=body,
                headers=headers,
                proxy=login.proxy,
                server_hostname=login.server_hostname,
                timeout=_TIMEOUT,
                allow_redirects=False,
            ) as response:
                raw = await response.read()
                code = response.status
                return code, raw, response.headers.get("Retry-After")
        finally:
            self._metrics.answered(method, code)
            self._metrics.took(method, time.monotonic() - started)

    async def watch_path(
        self, path: str, *, accept: str | None = None, opened: Callable[[], None]
    ) -> AsyncIterator[decode.WatchEvent[JSON]]:
        """Events of one watch request until the server ends it; `path` holds the query.

        `opened` is called once the server has accepted the watch. Raises `Gone` when the
        resourceVersion is too old, other `ApiError`s, and `Unreachable`.
        """
        path = f"{path}&watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}"
        asked = _asked(self._name, "WATCH", path)
        code: int | None = None
        login = await self.login()
        try:
            with self._asking(asked):
                async with self._sessions.session.get(
                    _url(login, path),
                    headers=_headers(login, accept),
                    proxy=login.proxy,
                    server_hostname=login.server_hostname,
                    timeout=_WATCH_TIMEOUT,
                    allow_redirects=False,
                ) as response:
                    code = response.status
                    if code != 200:
                        if code == 401:
                            await self._sessions.refused(login)
                        decode.read(asked, code, await response.read())
                    if response.content_type != JSON_BODY:
                        raise asked.unreachable(decode.STRANGER.format(code))
                    self.problem = None
                    opened()
                    rest = b""
                    async for chunk in response.content.iter_any():
                        *lines, rest = (
                            (rest + chunk).split(b"\n") if b"\n" in chunk else (rest + chunk,)
                        )
                        for line in lines:
                            yield decode.event(asked, line)
                    if rest:
                        raise asked.unreachable("the watch broke off within an event")
        finally:
            self._metrics.answered("WATCH", code)

    async def open_path(
        self, method: str, path: str, headers: raw_response.Headers
    ) -> raw_response.RawResponse:
        """One request on a connection of its own, for streams; whatever the status, it is given.

        Asked as us: who we are is added to `headers`. Waits for the answer as long as it takes.
        Raises `Unreachable`, and `NotLeading` for another method than GET.
        """
        asked = _asked(self._name, method, path)
        for attempt in (1, 2):
            login = await self.login()
            code: int | None = None
            ours = _headers(login, raw_response.ANYTHING)
            try:
                with self._asking(asked):
                    exchange = await raw_response.open_raw(
                        login,
                        method,
                        path,
                        [*ours.items(), *headers],
                        scratch=self._scratch,
                        guard=write_guard.anybody if method == "GET" else self._guard,
                    )
                code = exchange.status
            finally:
                self._metrics.answered(method, code)
            if code == 401 and attempt == 1 and await self._sessions.refused(login):
                exchange.abort()
                continue
            self.problem = None
            return exchange
        raise AssertionError("the loop returns or raises")

    def _read(
        self, asked: decode.RequestInfo, code: int, raw: bytes, retry_after: str | None
    ) -> JSON:
        with self._asking(asked):
            answer = decode.read(asked, code, raw, retry_after)
        self.problem = None
        return answer

    @contextmanager
    def _asking(self, asked: decode.RequestInfo) -> Iterator[None]:
        """What goes wrong within is raised as one of ours; `problem` follows."""
        try:
            yield
        except (aiohttp.ClientError, TimeoutError, OSError) as err:
            if isinstance(err.__cause__, errors.NotLeading):
                raise err.__cause__ from None
            error = asked.unreachable(err)
            self.problem = error.cause
            raise error from err
        except errors.Unreachable as err:
            self.problem = err.cause
            raise
        except errors.ApiError:
            self.problem = None
            raise


def _asked(cluster: str, method: str, path: str) -> decode.RequestInfo:
    return decode.RequestInfo(cluster, f"{method} {path.partition('?')[0]}")


def _url(login: credentials.Login, path: str) -> yarl.URL:
    return yarl.URL(login.server + path, encoded=True)


def _headers(login: credentials.Login, accept: str | None) -> dict[str, str]:
    headers = {"User-Agent": USER_AGENT, "Accept": accept or JSON_BODY}
    if login.authorization:
        headers["Authorization"] = login.authorization
    return headers


_TIMEOUT = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=10)
_WATCH_TIMEOUT = aiohttp.ClientTimeout(sock_connect=10, sock_read=WATCH_SILENCE_SECONDS)
