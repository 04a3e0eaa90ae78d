"""Bytes to and from one peer, over TCP or TLS, with little memory and half-closed connections.

The streams of asyncio keep 256 KiB of TLS buffer for each connection, which is too much for a
server with hundreds of open connections. They also cannot close one direction alone, which is how a
program learns that its input has ended. So this module drives TLS with the public parts of `ssl`
(`MemoryBIO`, `SSLObject`): received bytes are decrypted on demand, nothing is read ahead beyond one
chunk, and the bytes that wait to be sent are bounded.

Nothing here knows HTTP. docs/decisions/0009-kubelet-streams.md says what was measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import ssl
import sys
import termios
from collections.abc import Callable

from farlet.client import tcp

RECORD = 16 * 1024
"""Bytes in one record of TLS, at most (RFC 8446, section 5.1)."""

CHUNK = 32 * 1024
"""Bytes of one read."""

BACKLOG = 64 * 1024
"""`write` waits while the peer has not accepted more bytes than this."""

CLOSE_SECONDS = 2.0
"""How long to wait for a peer to accept our last bytes."""

_KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
"""A vanished peer is detected after two minutes. A live stream may be silent for longer."""


class TLSStream(asyncio.BufferedProtocol):
    """One connection. It begins in plain text; `secure` starts TLS.

    One task may read while another writes. Every method that sends or receives raises `OSError`
    (`ssl.SSLError` is one) when the connection is broken or TLS is violated, as by an end of the
    connection that TLS did not announce.
    """

    def __init__(
        self, scratch: bytearray, *, opened: Callable[[TLSStream], None] = lambda _: None
    ) -> None:
        """`scratch`: at least `CHUNK` bytes, shared by all streams of a loop."""
        self._scratch = memoryview(scratch)[:CHUNK]
        self._opened = opened
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._taken: list[bytes] = []
        """Decrypted, but not read yet."""
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = False
        self._ended = False
        """The peer sends nothing more, not even the end of TLS."""
        self._silent = False
        """The peer has ended its direction."""
        self._closing = False
        self._hungry = asyncio.Event()
        """A reader waits and has read everything received; or nothing more will arrive."""
        self._lost = asyncio.Event()
        self._why: Exception | None = None

    # --- called by asyncio ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=BACKLOG, low=CHUNK)
        keep_alive(transport.get_extra_info("socket"))
        self._opened(self)

    def get_buffer(self, _sizehint: int) -> memoryview:
        """The buffer for the next bytes; `buffer_updated` follows before anything else runs."""
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        """`nbytes` bytes have arrived in the buffer."""
        if self._closing:
            return
        self._hungry.clear()
        self._incoming.write(self._scratch[:nbytes])
        if self._incoming.pending >= CHUNK and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._arrived.set()

    def eof_received(self) -> bool:
        """The peer sends no more. Our direction stays open."""
        self._ended = True
        self._incoming.write_eof()
        self._arrived.set()
        return True

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        """The send buffer has space again."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed in both directions."""
        self._why = exc
        self._incoming.write_eof()
        self._ended = True
        self._lost.set()
        self._hungry.set()
        self._arrived.set()
        self._writable.set()

    # --- called by users -------------------------------------------------------------------------

    @property
    def certificate(self) -> bytes | None:
        """The peer's certificate (DER) that TLS verified; `None` if it sent none."""
        return None if self._tls is None else self._tls.getpeercert(binary_form=True)

    @property
    def protocol(self) -> str | None:
        """What both sides chose by ALPN; `None` for nothing, and in plain text."""
        return None if self._tls is None else self._tls.selected_alpn_protocol()

    async def secure(
        self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None
    ) -> None:
        """Start TLS. `server_hostname`: the name that the peer's certificate must contain."""
        # Some releases of Python 3.11, Debian's among them, treat a cut connection as a proper end.
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=server_hostname,
        )
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._send_records()
                await self._more()
            except ssl.SSLError:
                self._send_records()  # an alert with the reason
                raise
            else:
                self._tls = tls
                self._send_records()
                return

    async def read(self) -> bytes:
        """The next bytes, `CHUNK` at most; empty once the peer has ended its direction.

        Cancelling it loses no bytes.
        """
        while True:
            data = self._taken.pop(0) if self._taken else self._take()
            if data is not None:
                if not data:
                    self._silent = True
                    self._hungry.set()
                return data
            await self._more()

    async def write(self, data: bytes) -> None:
        """Send. Returns when no more than `BACKLOG` bytes wait for the peer."""
        view = memoryview(data)
        for start in range(0, len(view), BACKLOG):
            self._check()
            self._send(view[start : start + BACKLOG])
            await self._writable.wait()
        self._check()

    def end(self) -> None:
        """End our direction. What the peer sends can still be read."""
        if self._closing or self._lost.is_set():
            return
        if self._tls is None:
            self._transport.write_eof()
            return
        # The peer has not ended yet (SSLWantReadError), or the connection is broken.
        with contextlib.suppress(ssl.SSLError):
            # `unwrap` also reads up to the peer's end, and would discard data before it.
            while data := self._take():
                self._taken.append(data)
            self._tls.unwrap()
        self._send_records()

    async def close(self, *, seconds: float = CLOSE_SECONDS) -> None:
        """End our direction, then as `finish`."""
        self.end()
        await self.finish(seconds=seconds)

    async def finish(self, *, seconds: float) -> None:
        """Close once the peer has accepted what was sent and has ended, too, or after `seconds`.

        What the peer still sends is dropped. Call `end` before, or TLS reports a truncation.
        """
        self._closing = True
        if self._lost.is_set():
            return
        try:
            async with asyncio.timeout(seconds):
                # Closing with unread bytes, or before the peer has read ours, resets the
                # connection, and the peer loses what its kernel has not delivered yet.
                self._transport.write_eof()
                if self._paused:
                    self._paused = False
                    self._transport.resume_reading()
                while not (self._ended or self._silent):
                    self._arrived.clear()
                    await self._arrived.wait()
                self._transport.close()
                await self._lost.wait()
        except TimeoutError:
            self.abort()

    @property
    def drained(self) -> bool:
        """Whether all received bytes were read, or no more can arrive."""
        if self._ended or self._silent:
            return True
        return self._hungry.is_set() and not _unread(self._transport.get_extra_info("socket"))

    async def until_drained(self) -> None:
        while not self.drained:
            await self._hungry.wait()
            await asyncio.sleep(0)  # bytes that arrived meanwhile are received now

    async def lost(self) -> None:
        """Wait until the connection is closed, without reading."""
        await self._lost.wait()

    def abort(self) -> None:
        """Drop the connection and what was not sent yet."""
        self._closing = True
        if not self._lost.is_set():
            self._transport.abort()

    def hand_over(self, protocol: asyncio.BaseProtocol) -> None:
        """Pass the connection, in plain text and with nothing unread, to another protocol."""
        self._closing = True
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)

    # --- inside -------------------------------------------------------------------------------

    def _take(self) -> bytes | None:
        """Received bytes, decrypted; empty at the end; `None` if there are none yet."""
        if self._tls is None:
            if data := self._incoming.read(CHUNK):
                return data
            if self._why is not None:
                raise self._why
            return b"" if self._ended else None
        data = b""
        try:
            while len(data) < CHUNK and (more := self._tls.read(CHUNK - len(data))):
                data += more
        except ssl.SSLZeroReturnError:  # when both sides have ended; else `read` is empty
            return data
        except ssl.SSLWantReadError:
            self._send_records()  # an answer of TLS, such as to a key update
            return data or None
        except ssl.SSLError:
            if not data:
                raise  # also the next time
        return data

    async def _more(self) -> None:
        self._arrived.clear()
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if self._ended:
            raise self._why or ConnectionResetError("the connection was cut")
        self._hungry.set()
        await self._arrived.wait()

    def _send(self, data: memoryview) -> None:
        """Send all records together: each call of the kernel costs more than encrypting one.

        They leave the `MemoryBIO` one by one, since its buffer never shrinks.
        """
        if self._tls is None:
            self._transport.write(data)
            return
        records = bytearray()
        for start in range(0, len(data), RECORD):
            self._tls.write(data[start : start + RECORD])
            records += self._outgoing.read()
        self._transport.write(records)

    def _send_records(self) -> None:
        while records := self._outgoing.read():
            self._transport.write(records)

    def _check(self) -> None:
        if self._closing or self._transport.is_closing():
            raise self._why or ConnectionResetError("the connection was cut")


async def connect(host: str, port: int, scratch: bytearray) -> TLSStream:
    """A connection to `host`. Raises `OSError`."""
    _, channel = await tcp.connect(lambda: TLSStream(scratch), host, port)
    return channel


def _unread(sock: socket.socket) -> int:
    """The number of bytes that the kernel has received and that were not read."""
    size = fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4))
    return int.from_bytes(size, sys.byteorder)


def keep_alive(sock: socket.socket) -> None:
    """Have the kernel notice within two minutes that the peer has vanished."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):  # by these names on Linux
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
