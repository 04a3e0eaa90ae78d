"""The gateway itself: where pods knock, and the SSH client behind it.

Two listeners: one for pods, open only while there is a link to farlet, so that nobody waits for an
answer that cannot come; and one on loopback for farlet, which only a port-forward into this very
pod reaches. Several farlets may be linked, as with several virtual nodes or replicas: a new
connection takes the link with the fewest, and the next one if that does not answer.

The gateway has no right at any API server and understands nothing of what it carries.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncssh
import structlog

from farlet import errors
from farlet.gateway import link
from farlet.gateway.keys import ALGORITHM, Keys
from farlet.gateway.link import Link
from farlet.gateway.relay import PACKET, WINDOW, ChannelSide, Relay
from farlet.settings.values import Address

OPEN_SECONDS = 10.0
"""For one farlet to reach the home API server; a link that breaks is noticed earlier."""

STRANGERS = 16
"""Connections at once whose other end has not shown yet that it is farlet."""

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
    """A gateway; it is open while `opened` lasts."""

    def __init__(self, keys: Keys, *, pods_at: Address, farlet_at: Address) -> None:
        self._options = asyncssh.SSHClientConnectionOptions(
            **link.OPTIONS,
            **_OPTIONS,
            client_keys=[keys.private],
            known_hosts=(list(keys.trusted), [], []),
        )
        self._pods_at = pods_at
        self._farlet_at = farlet_at
        self._links: dict[Link, asyncssh.SSHClientConnection] = {}
        self._strangers = 0
        self._changed = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._pods: asyncio.Server | None = None

    def problem(self) -> str | None:
        """Why pods are not served; `None` when they are."""
        return None if self._links else "no farlet is connected"

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Listen. Raises `StartError` for an address that cannot be had."""
        loop = asyncio.get_running_loop()
        self._pods = await self._bind_for_pods()
        farlet = self._farlet_at
        try:
            server = await loop.create_server(self._visitor, farlet.host or None, farlet.port)
        except OSError as err:
            raise _taken("--gateway-link-address", farlet, err) from err
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                keeping = tasks.create_task(self._open_while_linked(), name="door")
                yield
                server.close()
                for made in tuple(self._links):
                    made.abort()
                keeping.cancel()
        finally:
            server.close()
            self._pods.close()

    # --- farlet -------------------------------------------------------------------------------

    def _visitor(self) -> Link:
        return Link(made=self._begin)

    def _begin(self, made: Link) -> None:
        if self._strangers >= STRANGERS or self._tasks is None:
            made.abort()
            return
        self._strangers += 1
        self._tasks.create_task(self._serve(made), name="link")

    async def _serve(self, made: Link) -> None:
        try:
            options = asyncssh.SSHClientConnectionOptions(
                options=self._options, client_factory=lambda: _Client(made)
            )
            connection = await made.connected(asyncssh.connect, options)
        except (asyncssh.Error, OSError, TimeoutError) as err:
            log.warning("connection was not farlet's", err=link.told(err))
            return
        finally:
            self._strangers -= 1
        self._links[made] = connection
        self._changed.set()
        log.info("farlet was linked", links=len(self._links))
        await made.lost.wait()
        del self._links[made]
        self._changed.set()
        log.info("farlet was lost", links=len(self._links), err=made.reason)

    # --- pods ---------------------------------------------------------------------------------

    async def _bind_for_pods(self) -> asyncio.Server:
        """A server that refuses connections until it is started."""
        at = self._pods_at
        try:
            return await asyncio.get_running_loop().create_server(
                self._knock, at.host or None, at.port, start_serving=False
            )
        except OSError as err:
            raise _taken("--gateway-bind-address", at, err) from err

    async def _open_while_linked(self) -> None:
        assert self._pods is not None
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._links and not self._pods.is_serving():
                await self._pods.start_serving()
            elif not self._links and self._pods.is_serving():
                self._pods.close()
                self._pods = await self._bind_for_pods()

    def _knock(self) -> asyncio.Protocol:
        splice = Relay()
        splice.made = self._carry_soon
        return splice.plain

    def _carry_soon(self, splice: Relay) -> None:
        if self._tasks is None:
            splice.abort()
        else:
            self._tasks.create_task(self._carry(splice), name="pod")

    async def _carry(self, splice: Relay) -> None:
        """Find a farlet that takes it; else it is reset."""
        tried: set[Link] = set()
        while not splice.done:
            left = [one for one in self._links if one not in tried]
            if not left:
                splice.abort()
                return
            made = min(left, key=lambda one: one.load)
            tried.add(made)
            made.carry(splice)
            if await self._open(self._links[made], splice):
                return
            made.let_go(splice)

    async def _open(self, connection: asyncssh.SSHClientConnection, splice: Relay) -> bool:
        carried = ChannelSide(splice)
        opening = asyncio.ensure_future(
            connection.create_connection(
                lambda: carried,
                *link.DESTINATION,
                *splice.peer,
                window=WINDOW,
                max_pktsize=PACKET,
            )
        )
        opening.add_done_callback(_heard)
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await asyncio.shield(opening)
        except (asyncssh.Error, OSError, TimeoutError) as err:
            log.debug("connection was not carried", err=link.told(err))
            carried.give_up()
            return False
        except asyncio.CancelledError:
            carried.give_up()
            raise
        return True


class _Client(asyncssh.SSHClient):
    """Hears why a link ends; the rest of an SSH client is never asked."""

    def __init__(self, made: Link) -> None:
        self._link = made

    def connection_lost(self, exc: Exception | None) -> None:
        """SSH has ended."""
        self._link.why = exc


def _heard(opening: asyncio.Future[Any]) -> None:
    """An answer that came too late for anybody is no error."""
    if not opening.cancelled():
        opening.exception()


def _taken(flag: str, at: Address, err: OSError) -> errors.StartError:
    return errors.StartError(f"{flag} {at}: {err.strerror or err}. Choose another address")
