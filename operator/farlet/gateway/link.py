"""One SSH connection between gateway and farlet, as both ends have it.

A link carries the connections of pods as channels. It knows them all: when its own transport takes
no more, none of them is read further, and when it ends they end with it. A silent peer is noticed
by questions of SSH's own, since neither port-forwards nor NAT tell of one that has vanished.

What may be asked of the other end is decided in `door` and `tunnel`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from farlet.gateway.relay import WINDOW, Relay

DESTINATION = ("home-api", 443)
"""All that a gateway asks for. What it is at home, farlet knows."""

PORT = 8022
"""Where a gateway waits for farlet, on the loopback of its pod."""

QUESTION_SECONDS = 2.0
QUESTIONS = 3
"""So often, and so many without an answer: 8 s until a peer that says nothing is given up."""

HANDSHAKE_SECONDS = 10.0

BACKLOG = 256 * 1024
"""Bytes that wait for the transport, above which no connection of a pod is read further."""

UNREAD = 4 * 1024 * 1024
"""Bytes that may wait for the transport beside what its connections of pods have under way."""

MOST_SPLICES = 4000
"""Connections of pods in one link."""

MOST_WORDS = 200
"""Characters of what the other end says of itself."""

_CIPHERS = ("aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com")

OPTIONS: dict[str, Any] = {
    "config": None,  # not ~/.ssh/config
    "encryption_algs": _CIPHERS,  # authenticated; the first is in hardware nearly everywhere
    "compression_algs": None,
    "signature_algs": ("ssh-ed25519",),
    "gss_host": None,
    "keepalive_interval": QUESTION_SECONDS,
    "keepalive_count_max": QUESTIONS,
    "login_timeout": HANDSHAKE_SECONDS,
}
"""Of asyncssh, for both ends."""

_Connection = TypeVar("_Connection")


class Link(asyncio.Protocol):
    """The transport below one SSH connection, and the connections of pods above it."""

    def __init__(self, *, made: Callable[[Link], None] | None = None) -> None:
        """`made` is called when the transport stands."""
        self.lost = asyncio.Event()
        """Set when nothing goes either way any more."""
        self.why: Exception | None = None
        """Why SSH ended, if it did so itself or we ended it; also set by whoever asyncssh tells."""
        self._made = made
        self._splices: set[Relay] = set()
        self._transport: asyncio.Transport | None = None
        self._ssh: asyncio.Protocol | None = None
        self._early = b""
        self._full = False

    @property
    def load(self) -> int:
        """How many connections of pods it carries."""
        return len(self._splices)

    def carry(self, splice: Relay) -> None:
        """Have a connection of a pod end with this link, and read as fast as it allows."""
        self._splices.add(splice)
        splice.over = self._splices.discard
        splice.hold(full=self._full)

    def let_go(self, splice: Relay) -> None:
        """It is not carried by this link after all."""
        self._splices.discard(splice)

    @property
    def waiting(self) -> int:
        """Bytes that wait to be sent to the other end."""
        own = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return own + sum(one.waiting for one in self._splices)

    @property
    def reason(self) -> str:
        """Why it was lost, in a few words."""
        return told(self.why) if self.why else "the connection broke"

    def abort(self) -> None:
        """Drop the connection and all that it carries."""
        if self._transport is not None:
            self._transport.abort()

    async def connected(
        self, connect: Callable[..., Awaitable[_Connection]], options: object
    ) -> _Connection:
        """Let `asyncssh.connect` or `connect_reverse` make its connection of this transport.

        Raises `asyncssh.Error`, `OSError` and `TimeoutError`.
        """
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                return await connect(DESTINATION[0], tunnel=self, config=None, options=options)
        except BaseException:
            self.abort()
            raise

    # --- what asyncssh asks of a tunnel -------------------------------------------------------

    async def create_connection(
        self, session_factory: Callable[[], object], _host: str, _port: int
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Give the transport to the connection that asyncssh makes."""
        if self._transport is None or self.lost.is_set():
            raise ConnectionAbortedError("the connection broke before SSH began")
        self._ssh = cast("asyncio.Protocol", session_factory())
        self._ssh.connection_made(self._transport)
        if self._early:
            self._ssh.data_received(self._early)
        self._transport.resume_reading()
        return self._transport, self._ssh

    # --- what asyncio calls -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport stands; it is not read before asyncssh has it."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.pause_reading()
        transport.set_write_buffer_limits(high=BACKLOG)
        if self._made is not None:
            self._made(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of SSH."""
        assert self._transport is not None
        if self._ssh is None:
            # Some releases of Python 3.11 begin to read although `connection_made` has paused it.
            self._early += data
            self._transport.resume_reading()
            self._transport.pause_reading()
            return
        self._ssh.data_received(data)
        # SSH answers whatever is asked, read or not, and takes questions for a sign of life.
        if self._transport.get_write_buffer_size() > UNREAD + self.load * WINDOW:
            self.why = ConnectionError("the other end asks and does not read the answers")
            self.abort()

    def eof_received(self) -> bool | None:
        """The other end is gone: SSH has no half-close of its own."""
        return None if self._ssh is None else self._ssh.eof_received()

    def pause_writing(self) -> None:
        """The transport takes no more."""
        self._hold(full=True)

    def resume_writing(self) -> None:
        """It does again."""
        self._hold(full=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone, and with it all that the link carried."""
        if self._ssh is not None:
            self._ssh.connection_lost(exc or self.why)
        self.lost.set()
        for splice in tuple(self._splices):
            splice.abort()

    def _hold(self, *, full: bool) -> None:
        self._full = full
        for splice in tuple(self._splices):
            splice.hold(full=full)


async def over(sock: socket.socket) -> Link:
    """A link over a connected socket, which becomes its own."""
    _, link = await asyncio.get_running_loop().create_connection(Link, sock=sock)
    return link


def told(err: Exception) -> str:
    """An error in one short line for logs and people: its words may be the other end's."""
    words = (str(err) or type(err).__name__)[:MOST_WORDS]
    return "".join(char if char.isprintable() else " " for char in words)
