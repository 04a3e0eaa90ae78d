"""One SSH connection between gateway and farlet, the same at both ends.

A link carries the connections of pods as SSH channels. It keeps a set of their relays: while its
own transport is full, it reads from none of them, and when it ends, they end with it. SSH
keepalives detect a silent peer, since neither port-forwards nor NAT report one that has vanished.

`server` and `tunnel` decide what the other end is allowed to request.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from farlet.client import connection_errors
from farlet.gateway.relay import BUFFER, Relay
from farlet.gateway.relay_budget import READ_BYTES, STALLED_BYTES

DESTINATION = ("home-api", 443)
"""The only destination that a gateway requests. farlet replaces it by the home API server."""

PORT = 8022
"""Where a gateway listens for farlet, on the loopback interface of its pod."""

KEEPALIVE_SECONDS = 2.0
KEEPALIVES = 3
"""A peer that does not answer this many keepalives counts as gone, after 8 s."""

HANDSHAKE_SECONDS = 10.0

BACKLOG = 256 * 1024
"""Bytes in the write buffer of the transport, above which no relay is read."""

MAX_UNREAD = 4 * 1024 * 1024
"""Bytes in the write buffer, beside those of its relays, above which the link is dropped."""

MAX_TEXT = 200
"""Characters of an error text that the other end sent."""

_CIPHERS = ("aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com")

OPTIONS: dict[str, Any] = {
    "config": None,  # not ~/.ssh/config
    "encryption_algs": _CIPHERS,  # authenticated; most CPUs implement the first in hardware
    "compression_algs": None,
    "signature_algs": ("ssh-ed25519",),
    "gss_host": None,
    "keepalive_interval": KEEPALIVE_SECONDS,
    "keepalive_count_max": KEEPALIVES,
    "login_timeout": HANDSHAKE_SECONDS,
}
"""Options of asyncssh for both ends."""

_Connection = TypeVar("_Connection")


class Link(asyncio.Protocol):
    """The transport below one SSH connection, and the relays above it."""

    def __init__(self, *, on_connected: Callable[[Link], None] | None = None) -> None:
        """`on_connected` is called when the transport is connected."""
        self.lost = asyncio.Event()
        """Set when the transport is closed."""
        self._on_connected = on_connected
        self._error: Exception | None = None
        self._relays: set[Relay] = set()
        self._transport: asyncio.Transport | None = None
        self._ssh: asyncio.Protocol | None = None
        self._early = b""
        """Data that came before asyncssh had the transport."""
        self._full = False

    @property
    def load(self) -> int:
        return len(self._relays)

    def carry(self, relay: Relay) -> None:
        """The relay ends with this link and is read only while the link is not full."""
        self._relays.add(relay)
        relay.attach(on_finished=self._relays.discard, paused=self._full)

    def release(self, relay: Relay) -> None:
        """Another link can carry the relay."""
        self._relays.discard(relay)

    @property
    def buffered(self) -> int:
        """Bytes that wait to be sent to the other end."""
        own = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return own + sum(relay.buffered for relay in self._relays)

    @property
    def reason(self) -> str:
        """Why the link was lost, in one short line."""
        return summary(self._error) if self._error else "the connection was closed"

    def ssh_ended(self, err: Exception | None) -> None:
        """asyncssh reports why SSH ended; `None` for an orderly end."""
        self._error = err

    def abort(self) -> None:
        """Close the connection and all relays."""
        if self._transport is not None:
            self._transport.abort()

    async def start_ssh(
        self, connect: Callable[..., Awaitable[_Connection]], options: object
    ) -> _Connection:
        """Run `asyncssh.connect` or `connect_reverse` over this transport.

        Raises `asyncssh.Error`, `OSError` and `TimeoutError`.
        """
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                return await connect(DESTINATION[0], tunnel=self, config=None, options=options)
        except BaseException:
            self.abort()
            raise

    # --- called by asyncssh, for which this is a tunnel ---------------------------------------

    async def create_connection(
        self, session_factory: Callable[[], object], _host: str, _port: int
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Hand the transport over to asyncssh."""
        if self._transport is None or self.lost.is_set():
            raise ConnectionAbortedError("the connection was closed before the SSH handshake")
        self._ssh = cast("asyncio.Protocol", session_factory())
        self._ssh.connection_made(self._transport)
        if self._early:
            self._ssh.data_received(self._early)
        self._transport.resume_reading()
        return self._transport, self._ssh

    # --- called by asyncio --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Reading starts when asyncssh has the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.pause_reading()
        transport.set_write_buffer_limits(high=BACKLOG)
        if self._on_connected is not None:
            self._on_connected(self)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if self._ssh is None:
            # Some releases of Python 3.11 read once although `connection_made` paused reading.
            self._early += data
            self._transport.resume_reading()
            self._transport.pause_reading()
            return
        self._ssh.data_received(data)
        # asyncssh answers every request, whether the answers are read or not, and every request
        # counts as a sign of life.
        of_relays = min(self.load * (READ_BYTES + BUFFER), STALLED_BYTES)
        if self._transport.get_write_buffer_size() > MAX_UNREAD + of_relays:
            self._error = ConnectionError("the other end sends requests and does not read answers")
            self.abort()

    def eof_received(self) -> bool | None:
        """SSH has no half-close of its own: the other end is gone."""
        return None if self._ssh is None else self._ssh.eof_received()

    def pause_writing(self) -> None:
        self._pause(paused=True)

    def resume_writing(self) -> None:
        """The write buffer has space again."""
        self._pause(paused=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """All relays end with the transport."""
        if self._ssh is not None:
            self._ssh.connection_lost(exc or self._error)
        self.lost.set()
        for relay in tuple(self._relays):
            relay.abort()

    def _pause(self, *, paused: bool) -> None:
        self._full = paused
        for relay in tuple(self._relays):
            relay.pause(paused=paused)


async def from_socket(sock: socket.socket) -> Link:
    """A link over a connected socket, which the link closes."""
    _, link = await asyncio.get_running_loop().create_connection(Link, sock=sock)
    return link


def summary(err: Exception) -> str:
    """An error in one short printable line: the text can come from the other end."""
    text = connection_errors.cause(err)[:MAX_TEXT]
    return "".join(char if char.isprintable() else " " for char in text)
