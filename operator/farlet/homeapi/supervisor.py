"""Pods' way home: the address that they are given, and the gateways that it may rest on.

Kept whether this process leads or not: more farlets are more ways.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from farlet.client.cluster import Cluster
from farlet.homeapi import discovery
from farlet.settings import Settings
from farlet.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from farlet.gateway.tunnel_manager import TunnelManager


def _nobody() -> None:
    """Nobody is told of changes."""


class HomeAPISupervisor:
    """One farlet's part in it. `discovery` tells the address."""

    def __init__(
        self,
        settings: Settings,
        home: Cluster,
        foreign: Cluster,
        *,
        metrics: Metrics,
        on_change: Callable[[], None] = _nobody,
    ) -> None:
        """`on_change` is called when the context has become another."""
        self._settings = settings
        self._home = home
        self._foreign = foreign
        self._metrics = metrics
        self._gateways: TunnelManager | None = None
        self.discovery = discovery.Discovery(
            settings,
            home,
            foreign,
            on_change=on_change,
            gateway_problem=lambda: None if self._gateways is None else self._gateways.problem(),
        )

    @property
    def connected(self) -> bool:
        """Whether there is a gateway that this process is connected to."""
        return self._gateways is not None and self._gateways.problem() is None

    @contextlib.asynccontextmanager
    async def address(self) -> AsyncIterator[None]:
        """`discovery` looks while the context lasts; no gateway is connected to."""
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(self.discovery.run(ready=discovery.at_once))
            yield
            looking.cancel()

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """It is kept while the context lasts, which begins when `discovery` has found out who home
        is. Raises `StartError` for keys that are none, in a group.
        """
        ctx = self.discovery.ctx
        self._metrics.home_api_reachable.set_function(
            lambda: float((one := ctx()).endpoint_verified and one.endpoint_doubt is None)
        )
        ready = discovery.at_once
        async with asyncio.TaskGroup() as tasks:
            forever = []
            if self._settings.gateway_keys is not None:
                gateways = self._gateways = self._keeping()
                forever.append(tasks.create_task(gateways.run(), name="gateways"))
                ready = gateways.settled
            looking = self.discovery.run(ready=ready)
            forever.append(tasks.create_task(looking, name="home API address"))
            yield
            for task in forever:
                task.cancel()

    def _keeping(self) -> TunnelManager:
        # Not for those who have no gateway: asyncssh takes 20 MiB.
        from farlet.gateway import tunnel_manager

        assert self._settings.gateway_keys is not None
        made = tunnel_manager.keeping(
            self._home,
            self._foreign,
            namespace=self._settings.foreign_system_namespace,
            folder=self._settings.gateway_keys,
            on_change=self.discovery.look_again,
        )
        self._metrics.gateway_links.set_function(lambda: float(made.connected[0]))
        self._metrics.gateway_connections.set_function(lambda: float(made.connected[1]))
        return made
