"""Fixtures for fault tests: an environment, and farlet behind two proxies that can fail.

A `conftest.py` imports the fixtures that its tests use.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

import pytest

from clusters import farlet as farlets
from clusters import pair, rest
from clusters import workspace as workspaces
from clusters.identity import Identity
from conftest import StartFarlet
from faults import proxy
from faults.environment import Environment


class StartProxied(Protocol):
    """Starts a farlet that reaches both API servers through the proxies of this test."""

    async def __call__(
        self,
        node: str,
        *,
        settings: Mapping[str, str | None] | None = None,
        ready: bool = True,
    ) -> farlets.Farlet: ...


@pytest.fixture
async def home_proxy(clusters: pair.Clusters) -> AsyncIterator[proxy.Proxy]:
    """The proxy in front of the home API server."""
    async with proxy.Proxy(clusters.home) as fault_proxy:
        yield fault_proxy


@pytest.fixture
async def foreign_proxy(clusters: pair.Clusters) -> AsyncIterator[proxy.Proxy]:
    """The proxy in front of the foreign API server."""
    async with proxy.Proxy(clusters.foreign) as fault_proxy:
        yield fault_proxy


@pytest.fixture
async def start_proxied(
    clusters: pair.Clusters,
    start_farlet: StartFarlet,
    home_proxy: proxy.Proxy,
    foreign_proxy: proxy.Proxy,
    identity: Identity,
) -> StartProxied:
    """Start a farlet behind both proxies; it is stopped at the end of the test."""

    async def start(
        node: str,
        *,
        settings: Mapping[str, str | None] | None = None,
        ready: bool = True,
    ) -> farlets.Farlet:
        home = identity.login(clusters.home, node)
        foreign = clusters.foreign.login(workspaces.USER)
        return await start_farlet(
            node,
            home_login=home_proxy.login(home),
            foreign_login=foreign_proxy.login(foreign),
            settings=settings,
            ready=ready,
        )

    return start


@pytest.fixture
def env(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: workspaces.Workspace,
    node: str,
    identity: Identity,
) -> Environment:
    """The environment of a fault test."""
    return Environment(clusters, home, foreign, workspace, node, identity)
