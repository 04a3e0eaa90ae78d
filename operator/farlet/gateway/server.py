"""The gateway: it accepts connections of pods and carries them over SSH links to farlet.

Two listeners. The one for pods is open only while there is a link to farlet, so that no pod waits
for an answer that cannot come. The one for farlet is on the loopback interface, which only a
port-forward into this pod reaches. Several farlet processes can be linked, as with several virtual
nodes or replicas: a new connection uses the link with the fewest, and the next one if farlet does
not answer on the first.

The gateway has no credentials for any API server and does not interpret the bytes it carries.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncssh
import structlog

from farlet import errors
from farlet.client import connection_errors
from farlet.gateway import link
from farlet.gateway.keys import ALGORITHM, TRUSTED, Keys
from farlet.gateway.link import Link
from farlet.gateway.relay import PACKET, WINDOW, ChannelSide, Relay
from farlet.gateway.relay_budget import RelayBudget
from farlet.listeners.listener import Limits, Listener
from farlet.listeners.open_files import Budget
from farlet.settings.values import Address

OPEN_SECONDS = 10.0
"""For one farlet to connect to the home API server. A broken link is detected earlier."""

MAX_UNAUTHENTICATED = 16
"""Simultaneous connections to the listener for farlet that have not authenticated yet."""

_OPTIONS = {
    "username": "gateway",
    "password_auth": False,
    "kbdint_auth": False,
    "host_based_auth": False,
    "preferred_auth": "publickey",
    "server_host_key_algs": (ALGORITHM,),
    "disable_trivial_auth": True,
    "agent_path": None,
    "pkcs11_provider": None,
    "agent_forwarding": False,
    "x11_forwarding": False,
}

log = structlog.get_logger()


class GatewayServer:
    """A gateway, which listens inside `serving`."""

    def __init__(self, keys: Keys, *, pods_at: Address, farlet_at: Address, budget: Budget) -> None:
        self._options = asyncssh.SSHClientConnectionOptions(
            **link.OPTIONS,
            **_OPTIONS,
            client_keys=[keys.private],
            known_hosts=(list(keys.trusted), [], []),
        )
        self._pods_at = pods_at
        self._farlet_at = farlet_at
        self._links: dict[Link, asyncssh.SSHClientConnection] = {}
        self._unauthenticated = 0
        self._links_changed = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._relays = RelayBudget(relays=budget.relays)
        self._pods_limits = Limits(budget.relays, per_source=max(1, budget.relays // 4))
        self._pods: Listener | None = None

    def problem(self) -> str | None:
        """Why pods are not served; `None` when they are."""
        return None if self._links else "farlet is not connected"

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listen inside the block. Raises `StartError` for an address that is not available."""
        loop = asyncio.get_running_loop()
        self._pods = await self._bind_pods()
        farlet = self._farlet_at
        try:
            server = await loop.create_server(
                self._accept_farlet, farlet.host or None, farlet.port, backlog=MAX_UNAUTHENTICATED
            )
        except OSError as err:
            raise errors.StartError(
                f"cannot listen for farlet on {farlet}: {connection_errors.cause(err)}. Stop the "
                "other process in this pod that uses the port"
            ) from err
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                task = tasks.create_task(self._serve_pods_while_linked(), name="pods")
                yield
                server.close()
                for opened in tuple(self._links):
                    opened.abort()
                task.cancel()
        finally:
            server.close()
            self._pods.close()

    # --- farlet -------------------------------------------------------------------------------

    def _accept_farlet(self) -> Link:
        return Link(on_connected=self._start_link)

    def _start_link(self, accepted: Link) -> None:
        if self._unauthenticated >= MAX_UNAUTHENTICATED or self._tasks is None:
            accepted.abort()
            return
        self._unauthenticated += 1
        self._tasks.create_task(self._run_link(accepted), name="link")

    async def _run_link(self, accepted: Link) -> None:
        try:
            options = asyncssh.SSHClientConnectionOptions(
                options=self._options, client_factory=lambda: _Client(accepted)
            )
            connection = await accepted.start_ssh(asyncssh.connect, options)
        except (asyncssh.Error, OSError, TimeoutError) as err:
            log.warning("failed to establish a link", err=_failure(err))
            return
        finally:
            self._unauthenticated -= 1
        self._links[accepted] = connection
        self._links_changed.set()
        log.info("farlet connected", links=len(self._links))
        await accepted.lost.wait()
        del self._links[accepted]
        self._links_changed.set()
        log.info("farlet disconnected", links=len(self._links), err=accepted.reason)

    # --- pods ---------------------------------------------------------------------------------

    async def _bind_pods(self) -> Listener:
        """A listener that refuses connections until it listens."""
        at = self._pods_at
        pods = Listener(self._accept_pod, self._pods_limits)
        try:
            await pods.bind(at)
        except OSError as err:
            raise errors.StartError(
                f"--gateway-bind-address {at}: {connection_errors.cause(err)}. Choose another "
                "address"
            ) from err
        return pods

    async def _serve_pods_while_linked(self) -> None:
        assert self._pods is not None
        while True:
            await self._links_changed.wait()
            self._links_changed.clear()
            if self._links and not self._pods.is_listening:
                self._pods.listen()
            elif not self._links and self._pods.is_listening:
                self._pods.close()
                self._pods = await self._bind_pods()

    def _accept_pod(self) -> asyncio.BaseProtocol:
        return Relay(self._relays, on_connected=self._start_carrying).tcp

    def _start_carrying(self, relay: Relay) -> None:
        if self._tasks is None or self._pods is None:
            relay.abort()
        else:
            self._pods.keep(relay.tcp)
            self._tasks.create_task(self._carry(relay), name="pod")

    async def _carry(self, relay: Relay) -> None:
        """Try each link once. If farlet opens a channel on none, the pod gets a reset."""
        tried: set[Link] = set()
        while not relay.finished:
            untried = [one for one in self._links if one not in tried]
            if not untried:
                relay.abort()
                return
            chosen = min(untried, key=lambda one: one.load)
            tried.add(chosen)
            chosen.carry(relay)
            if await self._open_channel(self._links[chosen], relay):
                return
            chosen.release(relay)

    async def _open_channel(self, connection: asyncssh.SSHClientConnection, relay: Relay) -> bool:
        side = ChannelSide(relay)
        opening = asyncio.ensure_future(
            connection.create_connection(
                lambda: side,
                *link.DESTINATION,
                *relay.peer,
                window=WINDOW,
                max_pktsize=PACKET,
            )
        )
        opening.add_done_callback(_retrieve)
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await asyncio.shield(opening)
        except (asyncssh.Error, OSError, TimeoutError) as err:
            log.debug("failed to open channel", err=link.summary(err))
            side.give_up()
            return False
        except asyncio.CancelledError:
            side.give_up()
            raise
        return True


class _Client(asyncssh.SSHClient):
    """Reports why SSH ended."""

    def __init__(self, accepted: Link) -> None:
        self._link = accepted

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.ssh_ended(exc)


def _failure(err: Exception) -> str:
    if isinstance(err, asyncssh.HostKeyNotVerifiable):
        return f"the peer presented a key that {TRUSTED} does not contain"
    if isinstance(err, asyncssh.PermissionDenied):
        return f"farlet does not trust the gateway's key: its {TRUSTED} does not contain it"
    return link.summary(err)


def _retrieve(opening: asyncio.Future[Any]) -> None:
    """Retrieve an error that comes after the timeout, so that asyncio does not report it."""
    if not opening.cancelled():
        opening.exception()
