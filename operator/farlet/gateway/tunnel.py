"""farlet's end of one link: the SSH server, which decides what is reachable.

A gateway is allowed to open channels to one destination, which stands for the home API server, and
nothing else: no session, no file, no forwarding in the other direction. `dial` knows the address.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import asyncssh

from farlet.gateway import link, relay
from farlet.gateway.keys import TRUSTED, Keys
from farlet.gateway.relay_budget import RelayBudget

Dial = Callable[[Callable[[], asyncio.BaseProtocol]], Awaitable[object]]
"""Connect to the home API server with a protocol from the given factory. Raises `OSError`."""

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


async def connect(
    sock: socket.socket, keys: Keys, dial: Dial, budget: RelayBudget | None = None
) -> link.Link:
    """Start SSH over a connection to a gateway. The link closes the socket.

    `budget`: shared by the tunnels of a process; by default the tunnel has one of its own.

    Raises `asyncssh.Error` where authentication fails, `OSError`, `TimeoutError`.
    """
    opened = await link.from_socket(sock)
    server = _Server(opened, keys, dial, budget or RelayBudget())
    options = asyncssh.SSHServerConnectionOptions(
        **link.OPTIONS,
        **_OPTIONS,
        server_factory=lambda: server,
        server_host_keys=[keys.private],
    )
    try:
        await opened.start_ssh(asyncssh.connect_reverse, options)
    except asyncssh.Error as err:
        if server.has_rejected_key:  # asyncssh only says that the connection was lost
            raise asyncssh.PermissionDenied("unknown key of the gateway") from err
        raise
    return opened


def failure(err: Exception) -> str:
    """Why `connect` failed, in one short line."""
    if isinstance(err, asyncssh.HostKeyNotVerifiable):  # sent by the gateway
        return f"the gateway does not trust farlet's key: its {TRUSTED} does not contain it"
    if isinstance(err, asyncssh.PermissionDenied):
        return f"the gateway presented a key that {TRUSTED} does not contain"
    return link.summary(err)


class _Server(asyncssh.SSHServer):
    """What the gateway at the other end is allowed to do."""

    def __init__(self, opened: link.Link, keys: Keys, dial: Dial, budget: RelayBudget) -> None:
        self._budget = budget
        self._link = opened
        self._keys = keys
        self._dial = dial
        self._has_rejected_key = False

    @property
    def has_rejected_key(self) -> bool:
        """Whether the other end presented a key that farlet does not trust."""
        return self._has_rejected_key

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """asyncssh provides the connection here, after construction."""
        self._connection = conn

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.ssh_ended(exc)

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002
        """Whether the key belongs to the gateway."""
        trusted = self._keys.trust(key)
        self._has_rejected_key = self._has_rejected_key or not trusted
        return trusted

    def connection_requested(
        self,
        dest_host: str,
        dest_port: int,
        orig_host: str,  # noqa: ARG002
        orig_port: int,  # noqa: ARG002
    ) -> Any:  # asyncssh accepts one of eight things; none of its types covers them
        """Accept a connection of a pod to the one destination."""
        if (dest_host, dest_port) != link.DESTINATION or self._budget.is_full:
            return False
        channel = self._connection.create_tcp_channel(window=relay.WINDOW, max_pktsize=relay.PACKET)
        accepted = relay.Relay(self._budget)
        self._link.carry(accepted)  # before the dial: many requests can arrive in one packet
        return channel, self._connect_home(accepted)

    async def _connect_home(self, accepted: relay.Relay) -> asyncssh.SSHTCPSession[bytes]:
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                await self._dial(lambda: accepted.tcp)
        except (OSError, TimeoutError) as err:
            accepted.abort()
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_CONNECT_FAILED, "the home API server is not reachable"
            ) from err
        return relay.ChannelSide(accepted)
