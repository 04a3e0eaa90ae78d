"""Many GET requests at once on one TLS connection, with HTTP/2.

For watches of single objects: a connection of its own for each would cost 256 KiB of TLS buffer.
h2 implements the protocol; here bytes are exchanged, and each stream gets its part of the answers.
docs/decisions/0017-watches-of-single-objects.md compares the libraries.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlsplit

from h2 import config, connection, errors, events, exceptions, settings

from farlet.client import raw_response, tls_stream
from farlet.client.credentials import Login

PROTOCOL = "h2"

STREAMS = 100
"""Streams on one connection, at most: what API servers allow by default (`MaxConcurrentStreams` in
`k8s.io/apiserver/pkg/server/secure_serving.go`)."""


START_SECONDS = 10.0
"""A server sends its settings first."""

_STATUS = re.compile(r"[1-5][0-9]{2}")


class Stream:
    """The answer to one request. Created by `Connection.get`."""

    def __init__(self, owner: Connection, number: int) -> None:
        self._owner = owner
        self.number = number
        self.headers: dict[str, str] = {}
        self._chunks: list[bytes] = []
        self._news = asyncio.Event()
        self._ended = False
        self._error: OSError | None = None

    @property
    def status(self) -> int:
        return int(self.headers[":status"])

    @property
    def content_type(self) -> str:
        """Without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip()

    async def head(self) -> None:
        """Wait for the status and the headers. Raises `OSError`."""
        while not self.headers:
            await self._more()

    async def chunks(self, *, silence: float) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises `TimeoutError` after `silence` seconds without a byte."""
        while True:
            if self._chunks:
                arrived, self._chunks = self._chunks, []
                data = b"".join(arrived)
                await self._owner.consumed(self, len(data))
                yield data
            elif self._ended:
                return
            else:
                async with asyncio.timeout(silence):
                    await self._more()

    async def _more(self) -> None:
        if self._error is not None:
            raise self._error
        if self._ended:
            raise ConnectionResetError("the server ended the stream before its answer")
        self._news.clear()
        await self._news.wait()

    def abort(self) -> None:
        """Its reader gets an error instead of what else arrives."""
        self.end(ConnectionAbortedError("the watch is of another server"))

    # --- called by the connection --------------------------------------------------------------

    def received(self, data: bytes) -> None:
        self._chunks.append(data)
        self._news.set()

    def answered(self, headers: dict[str, str]) -> None:
        self.headers = headers
        self._news.set()

    def end(self, error: OSError | None = None) -> None:
        """Nothing more arrives; `error` says why, unless the answer is complete."""
        self._ended = self._ended or error is None
        self._error = self._error or error
        self._news.set()


class _Http(connection.H2Connection):
    """h2 remembers closed streams for frames that arrive late: by default 65,536, which take 7 MiB
    after some days of watches.
    """

    MAX_CLOSED_STREAMS = 10 * STREAMS


class Connection:
    """One connection. `run` receives until it is closed or cancelled."""

    def __init__(self, channel: tls_stream.TLSStream, login: Login) -> None:
        self.login = login
        self._channel = channel
        self._http = _Http(config.H2Configuration(header_encoding="utf-8"))
        self._streams: dict[int, Stream] = {}
        self._writing = asyncio.Lock()
        self._closed = False

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def has_free_stream(self) -> bool:
        """Whether another stream can be opened now."""
        allowed = min(STREAMS, self._http.remote_settings.max_concurrent_streams)
        return not self._closed and len(self._streams) < allowed

    async def start(self) -> None:
        """Exchange settings: the server's say how many streams it allows. Raises `OSError`."""
        self._http.local_settings = settings.Settings(
            client=True, initial_values={settings.SettingCodes.ENABLE_PUSH: 0}
        )
        self._http.initiate_connection()
        await self._flush()
        known = False
        while not known:
            for event in await self._receive():
                known = known or isinstance(event, events.RemoteSettingsChanged)

    async def get(self, path: str, headers: Mapping[str, str]) -> Stream:
        """Request `path`. Raises `OSError`."""
        try:
            number = self._http.get_next_available_stream_id()
            stream = self._streams[number] = Stream(self, number)
            server = urlsplit(self.login.server)
            pseudo = [
                (":method", "GET"),
                (":scheme", server.scheme),
                (":authority", server.netloc),
                (":path", server.path + path),
            ]
            sent = [(name.lower(), value) for name, value in headers.items()]
            self._http.send_headers(number, pseudo + sent, end_stream=True)
        except exceptions.H2Error as err:
            raise ConnectionAbortedError(f"invalid HTTP/2: {err}") from err
        await self._flush()
        return stream

    async def close(self, stream: Stream) -> None:
        """No more of this answer is wanted. Raises `OSError`."""
        if self._streams.pop(stream.number, None) is None or self._closed:
            return
        try:
            self._http.reset_stream(stream.number, errors.ErrorCodes.CANCEL)
        except exceptions.H2Error:
            return  # it has ended
        await self._flush()

    async def consumed(self, stream: Stream, size: int) -> None:
        """`size` bytes of a body were read: the server can send as many more."""
        if self._closed or not size:
            return
        try:
            self._http.acknowledge_received_data(size, stream.number)
        except exceptions.H2Error:
            return
        await self._flush()

    async def run(self) -> None:
        """Receive until the connection ends. Raises only cancellation."""
        error: OSError | None = None
        try:
            while not self._closed:
                for event in await self._receive():
                    self._handle(event)
                await self._flush()
        except OSError as err:
            error = err
        finally:
            self._closed = True
            self._channel.abort()
            for stream in self._streams.values():
                stream.end(error)
            self._streams.clear()

    async def _receive(self) -> list[events.Event]:
        """What the server sends next. Raises `OSError`."""
        data = await self._channel.read()
        if not data:
            raise ConnectionResetError("the server closed the connection")
        try:
            received = self._http.receive_data(data)
        except exceptions.H2Error as err:
            raise ConnectionAbortedError(f"invalid HTTP/2: {err}") from err
        except UnicodeDecodeError as err:
            raise ConnectionAbortedError("invalid HTTP/2: a header that is not UTF-8") from err
        await self._flush()
        return received

    def _handle(self, event: events.Event) -> None:
        if isinstance(event, events.ConnectionTerminated):
            # h2 reads no streams after it. A server that stops, or one that spreads its clients,
            # sends it without an error: its watches have ended.
            self._closed = True
            if event.error_code:
                raise ConnectionResetError(f"the server ended HTTP/2 (error {event.error_code})")
            return
        number = getattr(event, "stream_id", None)
        stream = self._streams.get(number or 0)
        if stream is None:
            if isinstance(event, events.DataReceived):
                # Bytes of a stream that was closed count for the connection, too.
                self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            return
        match event:
            case events.ResponseReceived():
                headers = {str(k): str(v) for k, v in event.headers or ()}
                if _STATUS.fullmatch(headers.get(":status", "")) is None:
                    raise ConnectionAbortedError("invalid HTTP/2: the answer has no status")
                stream.answered(headers)
            case events.DataReceived():
                padding = event.flow_controlled_length - len(event.data or b"")
                if padding:
                    self._http.acknowledge_received_data(padding, event.stream_id)
                stream.received(event.data or b"")
            case events.StreamEnded():
                self._streams.pop(stream.number, None)
                stream.end()
            case events.StreamReset():
                self._streams.pop(stream.number, None)
                stream.end(ConnectionResetError("the server reset the stream"))

    async def _flush(self) -> None:
        async with self._writing:
            while data := self._http.data_to_send(tls_stream.CHUNK):
                await self._channel.write(data)


async def connect(login: Login, scratch: bytearray) -> Connection | None:
    """A connection with HTTP/2; `None` if the server does not offer that. Raises `OSError`."""
    channel = await raw_response.connect(login, scratch, http2=True)
    if channel.protocol != PROTOCOL:
        channel.abort()
        return None
    made = Connection(channel, login)
    try:
        async with asyncio.timeout(START_SECONDS):
            await made.start()
    except BaseException:
        channel.abort()
        raise
    return made
