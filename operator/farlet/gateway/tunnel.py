"""farlet's end of one link: the SSH server, which decides what may be reached.

A gateway may open channels to one destination, which stands for the home API server, and nothing
else: no session, no file, no forwarding the other way round. Where that server is, `dial` knows.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import asyncssh

from farlet.gateway import link, relay
from farlet.gateway.keys import Keys

Dial = Callable[[Callable[[], asyncio.Protocol]], Awaitable[object]]
"""Connect to the home API server by a new protocol of the given factory. Raises `OSError`."""

DIAL_SECONDS = 5.0

_OPTIONS = {
    "password_auth": False,
    "kbdint_auth": False,
    "host_based_auth": False,
    "agent_forwarding": False,
    "x11_forwarding": False,
    "allow_pty": False,
    "allow_scp": False,
}


async def connect(sock: socket.socket, keys: Keys, dial: Dial) -> link.Link:
    """Make a link of a connection to a gateway, which becomes its own.

    Raises `asyncssh.Error` where the other end is not who it should be, `OSError`, `TimeoutError`.
    """
    made = await link.over(sock)
    options = asyncssh.SSHServerConnectionOptions(
        **link.OPTIONS,
        **_OPTIONS,
        server_factory=lambda: _Server(made, keys, dial),
        server_host_keys=[keys.private],
    )
    await made.connected(asyncssh.connect_reverse, options)
    return made


class _Server(asyncssh.SSHServer):
    """What the gateway on the other end may do."""

    def __init__(self, made: link.Link, keys: Keys, dial: Dial) -> None:
        self._link = made
        self._keys = keys
        self._dial = dial

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """The connection that this is of."""
        self._connection = conn

    def connection_lost(self, exc: Exception | None) -> None:
        """SSH has ended."""
        self._link.why = exc

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002
        """Everybody has to prove who he is."""
        return True

    def public_key_auth_supported(self) -> bool:
        """By a key, and in no other way."""
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002
        """Whether it is the gateway's."""
        return self._keys.trust(key)

    def connection_requested(
        self,
        dest_host: str,
        dest_port: int,
        orig_host: str,  # noqa: ARG002
        orig_port: int,  # noqa: ARG002
    ) -> Any:  # asyncssh takes one of eight things; none of its types says which
        """A pod's connection, if it is for the one destination that there is."""
        if (dest_host, dest_port) != link.DESTINATION or self._link.load >= link.MOST_SPLICES:
            return False
        channel = self._connection.create_tcp_channel(window=relay.WINDOW, max_pktsize=relay.PACKET)
        made = relay.Relay()
        self._link.carry(made)  # at once: many may be asked for in one breath
        return channel, self._spliced(made)

    async def _spliced(self, made: relay.Relay) -> asyncssh.SSHTCPSession[bytes]:
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                await self._dial(lambda: made.plain)
        except (OSError, TimeoutError) as err:
            made.abort()
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_CONNECT_FAILED, "the home API server was not reached"
            ) from err
        return relay.ChannelSide(made)
