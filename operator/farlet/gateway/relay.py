"""One TCP connection and the SSH channel that carries it, at either end of a link.

Each direction ends alone (half-close), a broken side breaks the other with a reset, and neither is
read faster than the other takes: what waits is bounded by the channel's window.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

import asyncssh

from farlet.client import tls_stream

WINDOW = 1024 * 1024
"""Bytes that one connection may have under way in one direction, and so the most that waits for a
reader who does not read."""

PACKET = 64 * 1024
"""Bytes in one SSH packet at most. Python's work is per packet."""

WAITING = 64 * 1024
"""Bytes for the TCP side above which no more is taken from the channel."""


class Relay:
    """The TCP side comes first, with the protocol `plain`; a `ChannelSide` brings the channel."""

    def __init__(self) -> None:
        self.plain = TCPSide(self)
        self.made: Callable[[Relay], None] = _nobody
        """Called when the TCP side is there."""
        self.over: Callable[[Relay], None] = _nobody
        """Called once, when neither side is left."""
        self._transport: asyncio.Transport | None = None
        self._channel: asyncssh.SSHTCPChannel[bytes] | None = None
        self._plain_ended = self._channel_ended = False
        self._channel_full = self._link_full = False
        self._done = False

    @property
    def peer(self) -> tuple[str, int]:
        """Address and port at the other end of the TCP side."""
        assert self._transport is not None
        host, port, *_ = self._transport.get_extra_info("peername") or ("", 0)
        return str(host), int(port)

    @property
    def waiting(self) -> int:
        """Bytes that wait for the channel."""
        return 0 if self._channel is None else self._channel.get_write_buffer_size()

    @property
    def done(self) -> bool:
        """It has ended, in order or not."""
        return self._done

    def abort(self) -> None:
        """Drop both sides; the peer of the TCP side sees a reset."""
        if self._channel is not None:
            self._channel.abort()
        if self._transport is not None:
            _reset(self._transport)
        self._finish()

    def hold(self, *, full: bool) -> None:
        """The link has no room for more, or has room again."""
        self._link_full = full
        self._read_or_not()

    # --- the TCP side -------------------------------------------------------------------------

    def plain_made(self, transport: asyncio.Transport) -> None:
        """It stands; it is not read before there is a channel."""
        self._transport = transport
        transport.pause_reading()
        transport.set_write_buffer_limits(high=WAITING)
        _prepare(transport.get_extra_info("socket"))
        self.made(self)

    def plain_data(self, data: bytes) -> None:
        """Bytes for the channel."""
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write(data)

    def plain_eof(self) -> None:
        """Its peer sends no more."""
        self._plain_ended = True
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write_eof()
        self._close_if_ended()

    def plain_lost(self) -> None:
        """It is gone."""
        if self._channel is not None and not (self._plain_ended and self._channel_ended):
            self._channel.abort()
        self._finish()

    def plain_full(self, *, full: bool) -> None:
        """Its peer does not take what it is sent, or does again."""
        assert self._channel is not None
        if full:
            self._channel.pause_reading()
        else:
            self._channel.resume_reading()

    # --- the channel --------------------------------------------------------------------------

    def channel_made(self, channel: asyncssh.SSHTCPChannel[bytes]) -> None:
        """It is open."""
        self._channel = channel
        self._read_or_not()

    def channel_data(self, data: bytes) -> None:
        """Bytes for the TCP side."""
        if self._transport is not None:
            self._transport.write(data)

    def channel_eof(self) -> None:
        """The far side sends no more."""
        self._channel_ended = True
        if self._transport is not None and not self._transport.is_closing():
            # A peer that is gone already is told of by `plain_lost`; what is raised here would
            # end the whole link.
            with contextlib.suppress(OSError):
                self._transport.write_eof()
        self._close_if_ended()

    def channel_lost(self) -> None:
        """It is gone, and perhaps the whole link."""
        if self._transport is not None and not (self._plain_ended and self._channel_ended):
            _reset(self._transport)
        self._finish()

    def channel_full(self, *, full: bool) -> None:
        """Its window is used up, or there is room again."""
        self._channel_full = full
        self._read_or_not()

    # ------------------------------------------------------------------------------------------

    def _read_or_not(self) -> None:
        if self._transport is None:
            return
        if self._channel is None or self._channel_full or self._link_full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _close_if_ended(self) -> None:
        if self._plain_ended and self._channel_ended:
            assert self._channel is not None
            assert self._transport is not None
            self._channel.close()
            self._transport.close()

    def _finish(self) -> None:
        if not self._done:
            self._done = True
            self.over(self)


class TCPSide(asyncio.Protocol):
    """What asyncio calls."""

    def __init__(self, splice: Relay) -> None:
        self._splice = splice

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands; nothing is read from it before there is a channel."""
        assert isinstance(transport, asyncio.Transport)
        self._splice.plain_made(transport)

    def data_received(self, data: bytes) -> None:
        """Bytes for the channel."""
        self._splice.plain_data(data)

    def eof_received(self) -> bool:
        """The peer sends no more, and may still read."""
        self._splice.plain_eof()
        return True

    def pause_writing(self) -> None:
        """The peer does not take what it is sent."""
        self._splice.plain_full(full=True)

    def resume_writing(self) -> None:
        """It does again."""
        self._splice.plain_full(full=False)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Nothing goes either way any more."""
        self._splice.plain_lost()


class ChannelSide(asyncssh.SSHTCPSession[bytes]):
    """What asyncssh calls. To ask for a channel is one try; a splice may need several."""

    def __init__(self, splice: Relay) -> None:
        self._splice: Relay | None = splice

    def give_up(self) -> None:
        """Whatever comes of this try is not wanted any more."""
        self._splice = None

    def connection_made(self, chan: asyncssh.SSHTCPChannel[bytes]) -> None:
        """The channel is open."""
        if self._splice is None or self._splice.done:
            chan.abort()
        else:
            self._splice.channel_made(chan)

    def data_received(self, data: bytes, datatype: int | None) -> None:  # noqa: ARG002
        """Bytes for the TCP side."""
        if self._splice is not None:
            self._splice.channel_data(data)

    def eof_received(self) -> bool:
        """The far side sends no more, and may still read."""
        if self._splice is not None:
            self._splice.channel_eof()
        return True

    def pause_writing(self) -> None:
        """The channel's window is used up."""
        if self._splice is not None:
            self._splice.channel_full(full=True)

    def resume_writing(self) -> None:
        """There is room again."""
        if self._splice is not None:
            self._splice.channel_full(full=False)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The channel is gone, and perhaps the whole link."""
        if self._splice is not None:
            self._splice.channel_lost()


def _nobody(_splice: Relay) -> None:
    """Nobody is told."""


def _prepare(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    tls_stream.keep_alive(sock)


def _reset(transport: asyncio.Transport) -> None:
    """End with a reset, so that nobody takes what came so far for all there was."""
    if not transport.is_closing():
        sock: socket.socket = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # gone already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
