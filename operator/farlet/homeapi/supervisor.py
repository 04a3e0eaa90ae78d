"""Runs what pods need to reach the home API server: discovery of the endpoint, and the tunnels to
gateways.

Every farlet process does this, leading or not, so that more processes provide more tunnels.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from farlet.client.cluster import Cluster
from farlet.context import Verified
from farlet.homeapi import discovery
from farlet.listeners import open_files
from farlet.settings import Settings
from farlet.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from farlet.gateway.tunnel_manager import TunnelManager


def _ignore() -> None:
    """For callers that do not need `on_change`."""


class HomeAPISupervisor:
    """The part of one farlet process."""

    def __init__(
        self,
        settings: Settings,
        home: Cluster,
        foreign: Cluster,
        *,
        metrics: Metrics,
        relays: int = open_files.MAX_RELAYS,
        on_change: Callable[[], None] = _ignore,
    ) -> None:
        """`relays`: connections of pods at once. `on_change` is called when the context changes."""
        self._settings = settings
        self._home = home
        self._foreign = foreign
        self._metrics = metrics
        self._relays = relays
        self._tunnels: TunnelManager | None = None
        self.discovery = discovery.Discovery(
            settings,
            home,
            foreign,
            on_change=on_change,
            gateway_problem=lambda: None if self._tunnels is None else self._tunnels.problem(),
        )

    @property
    def gateway_connected(self) -> bool:
        """Whether this process is connected to a gateway."""
        return self._tunnels is not None and self._tunnels.problem() is None

    @contextlib.asynccontextmanager
    async def checking(self) -> AsyncIterator[None]:
        """Check the endpoint inside the block, without tunnels to gateways."""
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.discovery.run())
            yield
            task.cancel()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Check the endpoint and keep the tunnels up inside the block.

        `discovery` has to identify home before. Raises `StartError` for unusable keys, in a group.
        """
        ctx = self.discovery.ctx
        self._metrics.home_api_reachable.set_function(
            lambda: float(isinstance(ctx().home_api, Verified))
        )
        ready = None
        async with asyncio.TaskGroup() as tasks:
            background = []
            if self._settings.gateway_keys is not None:
                tunnels = self._tunnels = self._create_tunnels()
                background.append(tasks.create_task(tunnels.run(), name="tunnels"))
                ready = tunnels.wait_connected
            checks = self.discovery.run(ready=ready)
            background.append(tasks.create_task(checks, name="home API endpoint"))
            yield
            for task in background:
                task.cancel()

    def _create_tunnels(self) -> TunnelManager:
        # Imported only if a gateway is configured: asyncssh takes 20 MiB.
        from farlet.gateway import tunnel_manager

        assert self._settings.gateway_keys is not None
        tunnels = tunnel_manager.create(
            self._home,
            self._foreign,
            namespace=self._settings.foreign_system_namespace,
            folder=self._settings.gateway_keys,
            relays=self._relays,
            on_change=self.discovery.recheck,
        )
        self._metrics.gateway_links.set_function(lambda: float(tunnels.links))
        self._metrics.gateway_connections.set_function(lambda: float(tunnels.connections))
        return tunnels
