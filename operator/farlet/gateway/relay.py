"""One TCP connection and the SSH channel that carries it, the same at both ends of a link.

Each direction closes separately (half-close). An error on one side resets the other. Neither side
is read faster than the other accepts data: the channel's window bounds what is buffered.

A channel that is closed before its end of data was delivered counts as reset, and asyncssh delivers
no end of data after a close. So of the two ends only the one that opened the channel closes it, and
not before its own end of data was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

import asyncssh

from farlet.client import tls_stream
from farlet.gateway.relay_budget import READ_BYTES, RelayBudget

WINDOW = 1024 * 1024
"""Bytes that one connection can have in flight in one direction, and so the most that is buffered
for a peer that does not read. 50 MiB/s at 20 ms between the clusters."""

PACKET = 64 * 1024
"""The largest SSH packet in bytes. Python's work is per packet."""

BUFFER = 16 * 1024
"""Bytes buffered for one side, above which the other is not read."""

SEND_BUFFER, RECEIVE_BUFFER = 32 * 1024, 128 * 1024
"""Buffers of the kernel for the TCP side. They count as memory of the container, and without a
limit they grow to megabytes for a peer that does not read. The kernel doubles these numbers."""


class Relay:
    """The TCP side connects first, with the protocol `tcp`. A `ChannelSide` adds the channel."""

    def __init__(
        self, budget: RelayBudget, *, on_connected: Callable[[Relay], None] | None = None
    ) -> None:
        """`on_connected` is called when the TCP side is connected; with it, this end opens the
        channel.
        """
        self._budget = budget
        self.tcp = TCPSide(self, budget.scratch)
        self._on_connected = on_connected
        self._on_finished: Callable[[Relay], None] | None = None
        self._transport: asyncio.Transport | None = None
        self._channel: asyncssh.SSHTCPChannel[bytes] | None = None
        self._tcp_ended = self._channel_ended = False
        self._tcp_full = self._channel_full = self._link_full = False
        self._finished = False

    @property
    def peer(self) -> tuple[str, int]:
        """Address and port of the peer of the TCP side."""
        assert self._transport is not None
        host, port, *_ = self._transport.get_extra_info("peername") or ("", 0)
        return str(host), int(port)

    @property
    def buffered(self) -> int:
        """Bytes that wait to be sent on the channel."""
        return 0 if self._channel is None else self._channel.get_write_buffer_size()

    @property
    def finished(self) -> bool:
        return self._finished

    def attach(self, *, on_finished: Callable[[Relay], None], paused: bool) -> None:
        """A link carries the relay from now on. `on_finished` is called once, when both sides are
        closed.
        """
        self._on_finished = on_finished
        self._budget.add(self)
        self.pause(paused=paused)

    def abort(self) -> None:
        """Close both sides; the peer of the TCP side gets a reset."""
        if self._channel is not None:
            self._channel.abort()
        if self._transport is not None:
            _reset(self._transport)
        self._finish()

    def pause(self, *, paused: bool) -> None:
        """Stop reading the TCP side while the link is full."""
        self._link_full = paused
        self._update_reading()

    # --- the TCP side -------------------------------------------------------------------------

    def tcp_connected(self, transport: asyncio.Transport) -> None:
        """Reading starts when there is a channel."""
        self._transport = transport
        transport.pause_reading()
        transport.set_write_buffer_limits(high=BUFFER)
        _set_options(transport.get_extra_info("socket"))
        if self._on_connected is not None:
            self._on_connected(self)

    def tcp_data(self, data: bytes) -> None:
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write(data)

    def tcp_eof(self) -> None:
        """The peer sends no more data."""
        self._tcp_ended = True
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write_eof()
        self._close_if_ended()

    def tcp_lost(self) -> None:
        if self._channel is None:
            self._finish()
        elif not self._has_ended:
            self._channel.abort()
            self._finish()

    def tcp_full(self, *, full: bool) -> None:
        """Stop reading the channel while the TCP side is full."""
        assert self._channel is not None
        self._tcp_full = full
        if full:
            self._channel.pause_reading()
        else:
            self._channel.resume_reading()
        self._update_budget()

    # --- the channel --------------------------------------------------------------------------

    def channel_opened(self, channel: asyncssh.SSHTCPChannel[bytes]) -> None:
        """Reading of the TCP side starts."""
        self._channel = channel
        channel.set_write_buffer_limits(high=BUFFER)
        self._update_reading()

    def channel_data(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def channel_eof(self) -> None:
        """The other end sends no more data."""
        self._channel_ended = True
        if self._transport is not None and not self._transport.is_closing():
            # `tcp_lost` handles a peer that is gone already. An error raised here would end the
            # whole link.
            with contextlib.suppress(OSError):
                self._transport.write_eof()
        self._close_if_ended()

    def channel_lost(self) -> None:
        """The channel is closed, possibly with the whole link."""
        if self._transport is not None and not self._has_ended:
            _reset(self._transport)
        self._finish()

    def channel_full(self, *, full: bool) -> None:
        """Stop reading the TCP side while the channel's window is used up."""
        self._channel_full = full
        self._update_reading()
        self._update_budget()
        if not full and self._has_ended:
            # asyncssh sends the end of data after this call.
            asyncio.get_running_loop().call_soon(self._close_if_ended)

    # ------------------------------------------------------------------------------------------

    def _update_reading(self) -> None:
        if self._transport is None:
            return
        if self._channel is None or self._channel_full or self._link_full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _update_budget(self) -> None:
        if self._finished:
            return
        from_channel = WINDOW + PACKET + BUFFER if self._tcp_full else 0
        from_tcp = READ_BYTES + BUFFER if self._channel_full else 0
        self._budget.stalls(self, from_channel + from_tcp)

    @property
    def _has_ended(self) -> bool:
        return self._tcp_ended and self._channel_ended

    def _close_if_ended(self) -> None:
        if not self._has_ended:
            return
        assert self._channel is not None
        assert self._transport is not None
        self._transport.close()
        if self._on_connected is None:
            return
        if self._channel.get_write_buffer_size():
            self._channel.set_write_buffer_limits(high=0)  # `channel_full` follows when it is empty
        else:
            self._channel.close()

    def _finish(self) -> None:
        if not self._finished:
            self._finished = True
            self._budget.remove(self)
            if self._on_finished is not None:
                self._on_finished(self)


class TCPSide(asyncio.BufferedProtocol):
    """The protocol of the TCP connection, called by asyncio."""

    def __init__(self, relay: Relay, scratch: bytearray) -> None:
        self._relay = relay
        self._scratch = memoryview(scratch)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Reading starts when there is a channel."""
        assert isinstance(transport, asyncio.Transport)
        self._relay.tcp_connected(transport)

    def get_buffer(self, _sizehint: int) -> memoryview:
        """The buffer for the next bytes; `buffer_updated` follows before anything else runs."""
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        self._relay.tcp_data(bytes(self._scratch[:nbytes]))

    def eof_received(self) -> bool:
        """Keep the transport open: the peer can still read."""
        self._relay.tcp_eof()
        return True

    def pause_writing(self) -> None:
        self._relay.tcp_full(full=True)

    def resume_writing(self) -> None:
        """The write buffer has space again."""
        self._relay.tcp_full(full=False)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._relay.tcp_lost()


class ChannelSide(asyncssh.SSHTCPSession[bytes]):
    """The session of the channel, called by asyncssh. It is one attempt to open a channel; a relay
    can need several.
    """

    def __init__(self, relay: Relay) -> None:
        self._relay: Relay | None = relay

    def give_up(self) -> None:
        """Ignore what this attempt still leads to."""
        self._relay = None

    def connection_made(self, chan: asyncssh.SSHTCPChannel[bytes]) -> None:
        if self._relay is None or self._relay.finished:
            chan.abort()
        else:
            self._relay.channel_opened(chan)

    def data_received(self, data: bytes, datatype: int | None) -> None:  # noqa: ARG002
        if self._relay is not None:
            self._relay.channel_data(data)

    def eof_received(self) -> bool:
        """Keep the channel open: the other end can still read."""
        if self._relay is not None:
            self._relay.channel_eof()
        return True

    def pause_writing(self) -> None:
        """The channel's window is used up."""
        if self._relay is not None:
            self._relay.channel_full(full=True)

    def resume_writing(self) -> None:
        """The channel's window has space again."""
        if self._relay is not None:
            self._relay.channel_full(full=False)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The channel is closed, possibly with the whole link."""
        if self._relay is not None:
            self._relay.channel_lost()


def _set_options(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    tls_stream.keep_alive(sock)


def _reset(transport: asyncio.Transport) -> None:
    """Close with a reset, so that the peer does not take what it got for the complete data."""
    if not transport.is_closing():
        sock: socket.socket = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # closed already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
