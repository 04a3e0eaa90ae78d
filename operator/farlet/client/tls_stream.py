"""Bytes to and from one peer, over TCP or TLS, with little memory and in both directions alone.

The streams of asyncio keep 256 KiB of TLS buffer for each connection, which is too much for a
door that hundreds of people may hold open, and cannot end one direction without the other, which
is how a program at the far end is told that its input is over. So this room drives TLS itself,
by the public parts of `ssl` (`MemoryBIO`, `SSLObject`): what has arrived is decrypted when it is
asked for, nothing is read ahead beyond one chunk, and what waits to be sent is bounded.

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

CHUNK = 16 * 1024
"""Bytes of one read, and of one TLS record."""

BACKLOG = 64 * 1024
"""Bytes not taken by the peer yet, above which `write` waits."""

CLOSE_SECONDS = 2.0
"""How long a peer who owes us nothing is waited for to take our last bytes."""

_KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
"""A peer that has vanished is noticed after two minutes. A stream may be silent for longer."""


class TLSStream(asyncio.BufferedProtocol):
    """One connection. Begins in plain text; `secure` makes it TLS.

    One task may read while another writes. Every method that sends or receives raises `OSError`
    (`ssl.SSLError` is one) when the connection is broken or TLS is violated, as by an end of the
    connection that TLS did not announce.
    """

    def __init__(
        self, scratch: bytearray, *, opened: Callable[[TLSStream], None] = lambda _: None
    ) -> None:
        """`scratch`: at least `CHUNK` bytes that all channels of a loop may share."""
        self._scratch = memoryview(scratch)[:CHUNK]
        self._opened = opened
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._taken: list[bytes] = []
        """Decrypted, but not asked for yet."""
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = False
        self._ended = False
        """Nothing comes any more, not even the end of TLS."""
        self._silent = False
        """The peer has said that nothing comes any more."""
        self._closing = False
        self._hungry = asyncio.Event()
        """A reader waits, and has had all that came; or nothing comes any more."""
        self._lost = asyncio.Event()
        self._why: Exception | None = None

    # --- what asyncio calls -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=BACKLOG, low=CHUNK)
        keep_alive(transport.get_extra_info("socket"))
        self._opened(self)

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Where the next bytes go; `buffer_updated` follows before anything else runs."""
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have arrived."""
        if self._closing:
            return
        self._hungry.clear()
        self._incoming.write(self._scratch[:nbytes])
        if self._incoming.pending >= CHUNK and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._arrived.set()

    def eof_received(self) -> bool:
        """The peer sends no more; we still may."""
        self._ended = True
        self._incoming.write_eof()
        self._arrived.set()
        return True

    def pause_writing(self) -> None:
        """The peer does not take what we send."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It does again."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing goes either way any more."""
        self._why = exc
        self._incoming.write_eof()
        self._ended = True
        self._lost.set()
        self._hungry.set()
        self._arrived.set()
        self._writable.set()

    # --- what we call -------------------------------------------------------------------------

    @property
    def certificate(self) -> bytes | None:
        """The peer's certificate (DER) as TLS verified it; `None` where it showed none."""
        return None if self._tls is None else self._tls.getpeercert(binary_form=True)

    async def secure(
        self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None
    ) -> None:
        """Make it TLS. `server_hostname`: whom the peer must prove to be."""
        # Some releases of Python 3.11, Debian's among them, take a cut connection for an end.
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
                self._send_records()  # tells the peer why
                raise
            else:
                self._tls = tls
                self._send_records()
                return

    async def read(self) -> bytes:
        """The next bytes, `CHUNK` at most; empty once the peer has ended its direction.

        May be cancelled without losing any.
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
        """Send; returns when no more than `BACKLOG` waits to be taken by the peer."""
        view = memoryview(data)
        for start in range(0, len(view), CHUNK):
            self._check()
            piece = view[start : start + CHUNK]
            if self._tls is None:
                self._transport.write(piece)
            else:
                self._tls.write(piece)
                self._send_records()
            await self._writable.wait()
        self._check()

    def end(self) -> None:
        """Send no more. What the peer sends can still be read."""
        if self._closing or self._lost.is_set():
            return
        if self._tls is None:
            self._transport.write_eof()
            return
        # The peer has not ended yet (SSLWantReadError), or has broken off.
        with contextlib.suppress(ssl.SSLError):
            # `unwrap` also looks for the peer's end, and would throw away data that it meets.
            while data := self._take():
                self._taken.append(data)
            self._tls.unwrap()
        self._send_records()

    async def close(self, *, seconds: float = CLOSE_SECONDS) -> None:
        """End our direction, then as `finish`."""
        self.end()
        await self.finish(seconds=seconds)

    async def finish(self, *, seconds: float) -> None:
        """Close once the peer has taken what was sent and has ended as well, or after `seconds`.

        What he still sends is dropped. TLS calls it a break where `end` was not called before.
        """
        self._closing = True
        if self._lost.is_set():
            return
        try:
            async with asyncio.timeout(seconds):
                # To close over bytes that were not read, or before the peer has read ours, resets
                # the connection, and he loses what the kernel has not delivered yet.
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
        """All that has come so far has been read; or nothing comes any more."""
        if self._ended or self._silent:
            return True
        return self._hungry.is_set() and not _unread(self._transport.get_extra_info("socket"))

    async def until_drained(self) -> None:
        """Wait until `drained`."""
        while not self.drained:
            await self._hungry.wait()
            await asyncio.sleep(0)  # what has come since is taken now

    async def lost(self) -> None:
        """Wait until the connection is gone for good, without reading."""
        await self._lost.wait()

    def abort(self) -> None:
        """Drop the connection, and what was not sent yet."""
        self._closing = True
        if not self._lost.is_set():
            self._transport.abort()

    def hand_over(self, protocol: asyncio.Protocol) -> None:
        """Give the connection, in plain text and with nothing unread, to another protocol."""
        self._closing = True
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)

    # --- inside -------------------------------------------------------------------------------

    def _take(self) -> bytes | None:
        """What has arrived, decrypted; empty at the end; `None` if nothing is there yet."""
        if self._tls is None:
            if data := self._incoming.read(CHUNK):
                return data
            if self._why is not None:
                raise self._why
            return b"" if self._ended else None
        try:
            return self._tls.read(CHUNK)
        except ssl.SSLZeroReturnError:  # where both sides have ended; else `read` is empty
            return b""
        except ssl.SSLWantReadError:
            self._send_records()  # an answer of TLS itself, as to a change of keys
            return None

    async def _more(self) -> None:
        """Wait until something has arrived."""
        self._arrived.clear()
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if self._ended:
            raise self._why or ConnectionResetError("the connection was cut")
        self._hungry.set()
        await self._arrived.wait()

    def _send_records(self) -> None:
        while records := self._outgoing.read():
            self._transport.write(records)

    def _check(self) -> None:
        if self._closing or self._transport.is_closing():
            raise self._why or ConnectionResetError("the connection was cut")


async def connect(host: str, port: int, scratch: bytearray) -> TLSStream:
    """A connection to `host`. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    _, channel = await loop.create_connection(
        lambda: TLSStream(scratch), host, port, happy_eyeballs_delay=0.25
    )
    return channel


def _unread(sock: socket.socket) -> int:
    """Bytes that the kernel has received and nobody has read."""
    size = fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4))
    return int.from_bytes(size, sys.byteorder)


def keep_alive(sock: socket.socket) -> None:
    """Have the kernel notice within two minutes that the peer has vanished."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):  # by these names on Linux
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
