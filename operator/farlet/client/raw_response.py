"""One request to an API server on a connection of its own, for logs that are followed and upgrades.

`cluster` cannot serve them with its pool of connections and whole answers: logs may be followed for
hours, and after an upgrade the connection carries another protocol. The connection uses the CA,
client certificate and proxy of the login. Nothing is retried or decided here.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Sequence
from urllib.parse import SplitResult, unquote, urlsplit

import h11

from farlet.client import tls_stream, write_guard
from farlet.client.credentials import Login

CONNECT_SECONDS = 15.0
"""To the end of the TLS handshake, the proxy's answer included."""

HEAD_BYTES = 64 * 1024

ANYTHING = "*/*"
"""The `Accept` of a request whose answer is passed on unread."""

Headers = Sequence[tuple[str, str]]


class RawResponse:
    """A request that was answered. Always end it with `close` or `abort`."""

    def __init__(
        self,
        channel: tls_stream.TLSStream,
        http: h11.Connection,
        answer: h11.Response | h11.InformationalResponse,
    ) -> None:
        self.channel = channel
        self._http = http
        self.status = answer.status_code
        self._headers = [(name.decode(), value.decode("latin-1")) for name, value in answer.headers]

    @property
    def switched(self) -> bool:
        """Whether the answer is 101: the channel carries another protocol from here on."""
        return self.status == 101

    @property
    def early(self) -> bytes:
        """The bytes received after the head of a 101."""
        return self._http.trailing_data[0]

    def headers(self, name: str) -> list[str]:
        """All values of the header of that name (in lower case), in their order."""
        return [value for key, value in self._headers if key == name]

    async def body(self) -> AsyncIterator[bytes]:
        """Pieces of the body as they arrive. Raises `OSError` if the connection breaks."""
        while True:
            event = await _event(self.channel, self._http)
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return

    async def text(self, limit: int) -> bytes:
        """The beginning of the body. Raises `OSError` if the connection breaks before `limit`."""
        read = b""
        async for piece in self.body():
            read += piece
            if len(read) >= limit:
                break
        return read[:limit]

    async def close(self) -> None:
        await self.channel.close()

    def abort(self) -> None:
        self.channel.abort()


async def open_raw(
    login: Login,
    method: str,
    path: str,
    headers: Headers,
    *,
    scratch: bytearray,
    guard: write_guard.Guard,
) -> RawResponse:
    """Send a request without a body and read the head of its answer; `path` contains the query.

    `headers` are all headers except `Host`. Waits for the answer without a limit: a followed log
    may be silent. Raises `OSError`, `TimeoutError` if no connection was made in time, and what
    `guard` raises, which is called once the connection stands.
    """
    channel = await connect(login, scratch)
    try:
        server = urlsplit(login.server)
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
        sent = [("Host", server.netloc), *headers]
        wire = [(name.encode(), value.encode("latin-1")) for name, value in sent]
        request = h11.Request(method=method, target=server.path + path, headers=wire)
        guard()
        answer = await _request(channel, http, request)
    except BaseException:
        channel.abort()
        raise
    return RawResponse(channel, http, answer)


async def connect(login: Login, scratch: bytearray, *, http2: bool = False) -> tls_stream.TLSStream:
    """A connection to the API server, through the proxy if there is one, with TLS.

    `http2`: it offers HTTP/2; `TLSStream.protocol` says whether the server accepts that. Raises
    `OSError`; `TimeoutError` is one.
    """
    context = login.http2_context if http2 else login.context
    async with asyncio.timeout(CONNECT_SECONDS):
        return await _connect(login, urlsplit(login.server), scratch, context)


async def _connect(
    login: Login, server: SplitResult, scratch: bytearray, context: ssl.SSLContext
) -> tls_stream.TLSStream:
    if server.hostname is None:
        raise OSError(f"{login.server!r} contains no host")
    port = server.port or (443 if server.scheme == "https" else 80)
    if login.proxy is None:
        channel = await tls_stream.connect(server.hostname, port, scratch)
    else:
        channel = await tunnel(urlsplit(login.proxy), server.hostname, port, scratch)
    try:
        if server.scheme == "https":
            name = login.server_hostname or server.hostname
            await channel.secure(context, server_side=False, server_hostname=name)
    except BaseException:
        channel.abort()
        raise
    return channel


async def tunnel(
    proxy: SplitResult, host: str, port: int, scratch: bytearray
) -> tls_stream.TLSStream:
    """A connection that a proxy made for us (CONNECT, RFC 9110 section 9.3.6). Raises `OSError`."""
    if proxy.scheme != "http" or proxy.hostname is None:
        raise OSError(
            f"the proxy {proxy.scheme}://{proxy.hostname} cannot carry streams: set a "
            "proxy with the scheme http"
        )
    channel = await tls_stream.connect(proxy.hostname, proxy.port or 80, scratch)
    try:
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        headers = [("Host", where)]
        if proxy.username is not None:
            user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
            headers.append(
                ("Proxy-Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
            )
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
        request = h11.Request(method="CONNECT", target=where, headers=headers)
        answer = await _request(channel, http, request)
        if not 200 <= answer.status_code < 300:
            raise OSError(f"the proxy {proxy.hostname} answered {answer.status_code} to CONNECT")
        if http.trailing_data[0]:
            raise OSError(f"the proxy {proxy.hostname} sent unexpected bytes")
    except BaseException:
        channel.abort()
        raise
    return channel


async def _request(
    channel: tls_stream.TLSStream, http: h11.Connection, request: h11.Request
) -> h11.Response | h11.InformationalResponse:
    """The head of the answer: 101 is one, other 1xx are skipped."""
    head, end = http.send(request), http.send(h11.EndOfMessage())
    await channel.write((head or b"") + (end or b""))
    while True:
        event = await _event(channel, http)
        if isinstance(event, h11.Response):
            return event
        if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
            return event


async def _event(channel: tls_stream.TLSStream, http: h11.Connection) -> h11.Event:
    """What the server sends next. Raises `OSError` for invalid HTTP."""
    while True:
        try:
            event = http.next_event()
        except h11.RemoteProtocolError as err:
            raise ConnectionAbortedError(f"invalid HTTP: {err}") from err
        if event is h11.NEED_DATA:
            http.receive_data(await channel.read())
        elif isinstance(event, h11.Event) and not isinstance(event, h11.ConnectionClosed):
            return event
        else:
            raise ConnectionResetError("the server closed the connection")
