"""One API server: single requests, single watches, single streams.

Requests are raw JSON, since typed models cost more than all the rest of the hot path. Nothing here
retries, decides or stores objects: a caller that gets `Unreachable` does not know whether its write
was applied and must read again. `guard` decides at the last moment whether a write may be sent.

Bodies and answers never reach an error text or a log: some of them contain tokens.
"""

from __future__ import annotations

import asyncio
import copy
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    contextmanager,
    nullcontext,
)

import aiohttp
import orjson
import yarl

from farlet import __version__, errors
from farlet.client import credentials, decode, raw_response, sessions, tls_stream, write_guard
from farlet.client.api_client import ApiClient
from farlet.client.credential_sources import ClusterSource
from farlet.client.request_slots import RequestSlots
from farlet.client.resources import JSON_BODY
from farlet.constants import JSON
from farlet.telemetry.metrics import ClientMetrics

USER_AGENT = f"farlet/{__version__}"

REQUEST_SECONDS = 30.0
REQUESTS_AT_ONCE = 16
"""Requests in flight to one API server. Each connection keeps 256 KiB of TLS buffer
(`asyncio.sslproto`), and more requests at once do not make a server faster. Watches are not
counted."""
WATCH_SILENCE_SECONDS = 80.0
"""API servers send a bookmark every minute; a longer silence is a dead connection."""
WATCH_SECONDS = 300
SILENT_WATCH_SECONDS = WATCH_SECONDS + 30.0
"""Limit of the silence in a watch without bookmarks: the server ends it before that."""
MAX_BODY_BYTES = 8 << 20
"""Limit of one answer, decompressed: a page of 500 objects with 16 KiB each. Parsing is one call,
during which the event loop does nothing else. Pages of larger objects have fewer of them."""
MAX_AGGREGATED_BYTES = 2 * MAX_BODY_BYTES
"""The same for metrics of all pods of a namespace, which have no pages."""
MAX_EVENT_BYTES = 8 << 20
"""Limit of one watch event. etcd stores objects of 1.5 MiB."""


class Cluster(ApiClient):
    """A connection to one API server. Use as an async context manager."""

    def __init__(
        self,
        name: credentials.Name,
        source: ClusterSource,
        *,
        metrics: ClientMetrics,
        guard: write_guard.Guard = write_guard.unguarded,
        node: str = errors.NODE,
    ) -> None:
        """`guard` is called for every write of `call` when its connection stands and its bytes
        would be sent next. `node`: the virtual node that the credentials are for.
        """
        self._name = name
        self._sessions = sessions.Sessions(name, source)
        self._metrics = metrics
        self._slots = RequestSlots(REQUESTS_AT_ONCE)
        self._scratch = bytearray(tls_stream.CHUNK)
        self._guard = guard
        self._node = node
        self.problem: str | None = None
        """Why the last request was not served: no answer came, or the credentials were rejected.
        `None` after any other answer, even an error."""
        self.credentials_rejected = False
        """Whether `problem` is a 401."""

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
    def logged_in(self) -> bool:
        """Whether credentials were loaded once."""
        return self._sessions.connecting is not None

    @property
    def credentials_expire(self) -> float | None:
        """When the credentials expire, in epoch seconds; `None`: never, or not known."""
        return self._sessions.login.valid_until if self.logged_in else None

    def credentials_remaining(self) -> float:
        """Seconds until the credentials expire; infinite: never, or not known."""
        return math.inf if (end := self.credentials_expire) is None else end - time.time()

    @property
    def connection(self) -> object:
        """What connections are made with now: server, CA and client certificate."""
        return self._sessions.connecting

    def watching(
        self, end: Callable[[], None], login: credentials.Login
    ) -> AbstractContextManager[None]:
        """While a watch is read: call `end` once the server is another than that of `login`."""
        return self._sessions.watching(end, login)

    @property
    def ca_file(self) -> str | None:
        """The CA bundle that verifies this server; `None` for the system's CAs."""
        return self._sessions.login.ca_file

    @property
    def proxy(self) -> str | None:
        """The URL of the proxy to this server, if there is one."""
        return self._sessions.login.proxy

    @property
    def certificate_names(self) -> tuple[str, ...]:
        """The names (SANs) in the certificates with which this server was verified so far.

        Empty before the first connection, and where the kubeconfig disables the verification.
        """
        return self._sessions.certificate_names

    async def read_certificate(self) -> None:
        """Make a TLS connection and close it, for `certificate_names`. Raises `OSError`.

        Behind a load balancer each connection can meet another replica of the server.
        """
        channel = await raw_response.connect(await self.login(), self._scratch)
        channel.abort()

    def lane(self, slots: int) -> Cluster:
        """The same connections, with request slots of its own: no other request waits for it.

        Its failures do not show in `problem`.
        """
        beside = copy.copy(self)
        beside._slots = RequestSlots(slots)
        return beside

    async def login(self) -> credentials.Login:
        """The current login; new connections use it.

        Raises `StartError` naming the file, the first time only.
        """
        return await self._sessions.current()

    async def refused(self, login: credentials.Login) -> bool:
        """After a 401 for `login`: whether there is another one to retry with."""
        return await self._sessions.refused(login)

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = JSON_BODY,
        accept: str | None = None,
    ) -> JSON:
        """One request; `path` contains the query. Returns the JSON of the answer.

        Raises a kind of `ApiError` for an answer other than 2xx, `Unreachable` for none, and
        `NotLeading` for a write that was not sent.
        """
        write = None
        if method != "GET":
            data = b"" if body is None else orjson.dumps(body)
            write = write_guard.Body(data, content_type, guard=self._guard)
        info = _request_info(self._name, method, path)
        with self._errors_of(info):
            raw = await self._request(info, method, path, body=write, accept=accept)
            answer = decode.read(info, *raw)
        self._served()
        return answer

    async def call_unqueued(
        self, method: str, path: str, *, body: object = None, seconds: float
    ) -> JSON:
        """Like `call`, but waits for no other request, asks no guard, and ends after `seconds`.

        For Leases and logins: all other requests depend on them.
        """
        write = None
        if body is not None:
            write = write_guard.Body(orjson.dumps(body), JSON_BODY, guard=write_guard.unguarded)
        info = _request_info(self._name, method, path)
        with self._errors_of(info):
            async with asyncio.timeout(seconds):
                raw = await self._request(info, method, path, body=write, slots=nullcontext())
            answer = decode.read(info, *raw)
        self._served()
        return answer

    async def call_aggregated(self, path: str) -> tuple[int, bytes]:
        """Status and body of a GET that the API server passes on to another server.

        The answer is not interpreted: a missing or broken aggregated API says nothing about the API
        server, which answers 404 and 503 as plain text then. Raises `Unreachable`.
        """
        info = _request_info(self._name, "GET", path)
        with self._errors_of(info):
            code, raw, _ = await self._request(info, "GET", path, most=MAX_AGGREGATED_BYTES)
        if code != 401:  # which either of the two servers may have answered
            self._served()
        return code, raw

    async def _request(
        self,
        info: decode.RequestInfo,
        method: str,
        path: str,
        *,
        body: write_guard.Body | None = None,
        accept: str | None = None,
        slots: AbstractAsyncContextManager[None] | None = None,
        most: int | None = None,
    ) -> tuple[int, bytes, str | None]:
        """Status, body and Retry-After. After a 401, retried once with new credentials."""
        for attempt in (1, 2):
            async with slots or self._slots:
                login = await self.login()
                code, raw, retry_after = await self._send(
                    info,
                    login,
                    method,
                    path,
                    body=body,
                    headers=headers_of(login, accept),
                    most=most,
                )
            if code == 401 and attempt == 1 and await self._sessions.refused(login):
                continue
            return code, raw, retry_after
        raise AssertionError("the loop returns or raises")

    async def _send(
        self,
        info: decode.RequestInfo,
        login: credentials.Login,
        method: str,
        path: str,
        *,
        body: write_guard.Body | None,
        headers: dict[str, str],
        most: int | None,
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
                raw = await _body(response, info, most)
                code = response.status
                return code, raw, response.headers.get("Retry-After")
        finally:
            self._metrics.answered(method, code)
            self._metrics.took(method, time.monotonic() - started)

    async def watch_path(
        self,
        path: str,
        *,
        accept: str | None = None,
        bookmarks: bool = True,
        opened: Callable[[], None],
    ) -> AsyncIterator[decode.WatchEvent[JSON]]:
        """Events of one watch request until the server ends it; `path` contains the query.

        `bookmarks` False: the server sends none, so a silent connection can be alive.
        `opened` is called once the server has accepted the watch. Raises `Gone` when the
        resourceVersion is too old, other `ApiError`s, and `Unreachable`.
        """
        path = watch_target(path)
        info = _request_info(self._name, "WATCH", path)
        code: int | None = None
        login = await self.login()
        try:
            with self._errors_of(info):
                async with self._sessions.session.get(
                    _url(login, path),
                    headers=headers_of(login, accept),
                    proxy=login.proxy,
                    server_hostname=login.server_hostname,
                    timeout=_WATCH_TIMEOUT if bookmarks else _SILENT_WATCH_TIMEOUT,
                    allow_redirects=False,
                ) as response:
                    code = response.status
                    if code != 200:
                        if code == 401:
                            await self._sessions.refused(login)
                        decode.read(info, code, await _body(response, info))
                    if response.content_type != JSON_BODY:
                        raise info.unreachable(decode.NOT_KUBERNETES.format(code))
                    self._served()
                    with self.watching(response.close, login):
                        opened()
                        async for line in lines(response.content.iter_any(), info):
                            yield decode.event(info, line)
        finally:
            self._metrics.answered("WATCH", code)

    async def open_path(
        self, method: str, path: str, headers: raw_response.Headers
    ) -> raw_response.RawResponse:
        """One request on a connection of its own, for streams; any status is returned.

        Our credentials are added to `headers`. Waits for the answer without a limit.
        Raises `Unreachable`, and `NotLeading` for another method than GET.
        """
        info = _request_info(self._name, method, path)
        for attempt in (1, 2):
            login = await self.login()
            code: int | None = None
            headers_of_login = headers_of(login, raw_response.ANYTHING)
            try:
                with self._errors_of(info):
                    exchange = await raw_response.open_raw(
                        login,
                        method,
                        path,
                        [*headers_of_login.items(), *headers],
                        scratch=self._scratch,
                        guard=write_guard.unguarded if method == "GET" else self._guard,
                    )
                code = exchange.status
            finally:
                self._metrics.answered(method, code)
            if code == 401 and attempt == 1 and await self._sessions.refused(login):
                exchange.abort()
                continue
            if code == 401:
                text = errors.credentials_rejected(self._name, "Unauthorized", node=self._node)
                self._rejected(text)
            else:
                self._served()
            return exchange
        raise AssertionError("the loop returns or raises")

    @contextmanager
    def _errors_of(self, info: decode.RequestInfo) -> Iterator[None]:
        """Raise what fails within as a `FarletError`, and set `problem` to it."""
        try:
            yield
        except (aiohttp.ClientError, TimeoutError, OSError) as err:
            if isinstance(err.__cause__, errors.NotLeading | errors.Refused):
                raise err.__cause__ from None
            error = info.unreachable(err)
            self._unreachable(error.cause)
            raise error from err
        except errors.AnswerTooLarge:
            self._served()
            raise
        except errors.Unreachable as err:
            self._unreachable(err.cause)
            raise
        except errors.Unauthorized as err:
            err.node = self._node
            self._rejected(err.advice)
            raise
        except errors.ApiError:
            self._served()
            raise

    def _served(self) -> None:
        self.problem, self.credentials_rejected = None, False

    def _unreachable(self, problem: str) -> None:
        self.problem, self.credentials_rejected = problem, False

    def _rejected(self, problem: str) -> None:
        self.problem, self.credentials_rejected = problem, True


def _request_info(cluster: str, method: str, path: str) -> decode.RequestInfo:
    return decode.RequestInfo(cluster, f"{method} {path.partition('?')[0]}")


async def _body(
    response: aiohttp.ClientResponse, info: decode.RequestInfo, most: int | None = None
) -> bytes:
    """The whole body, decompressed. Raises `AnswerTooLarge`; `most` replaces `MAX_BODY_BYTES`."""
    most = MAX_BODY_BYTES if most is None else most
    pieces: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        pieces.append(chunk)
        size += len(chunk)
        if size > most:
            raise info.too_large(most)
    return b"".join(pieces)


async def lines(chunks: AsyncIterator[bytes], info: decode.RequestInfo) -> AsyncIterator[bytes]:
    """Lines as they arrive; each byte is copied once, however long its line is."""
    pieces: list[bytes] = []
    size = 0
    async for chunk in chunks:
        first, newline, rest = chunk.partition(b"\n")
        pieces.append(first)
        size += len(first)
        if size > MAX_EVENT_BYTES:
            raise info.unreachable(f"a watch event of more than {MAX_EVENT_BYTES >> 20} MiB")
        if newline:
            yield b"".join(pieces)
            *lines, last = rest.split(b"\n")
            for line in lines:
                yield line
            pieces, size = [last], len(last)
    if size:
        raise info.unreachable("the watch ended within an event")


def _url(login: credentials.Login, path: str) -> yarl.URL:
    return yarl.URL(login.server + path, encoded=True)


def watch_target(path: str) -> str:
    """A path with a query, as the path of one watch."""
    return f"{path}&watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}"


def headers_of(login: credentials.Login, accept: str | None) -> dict[str, str]:
    """The headers of every request with `login`."""
    headers = {"User-Agent": USER_AGENT, "Accept": accept or JSON_BODY}
    if login.authorization:
        headers["Authorization"] = login.authorization
    return headers


_TIMEOUT = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=10)
_WATCH_TIMEOUT = aiohttp.ClientTimeout(sock_connect=10, sock_read=WATCH_SILENCE_SECONDS)
_SILENT_WATCH_TIMEOUT = aiohttp.ClientTimeout(sock_connect=10, sock_read=SILENT_WATCH_SECONDS)
