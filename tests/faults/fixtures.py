"""Fixtures for tests that hurt: a stage, and farlet behind two doors that can fail.

A `conftest.py` that wants them takes them over by name.
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
from faults.stage import Stage


class StartProxied(Protocol):
    """Starts a farlet that reaches both API servers by the doors of this test."""

    async def __call__(
        self,
        node: str,
        *,
        settings: Mapping[str, str | None] | None = None,
        ready: bool = True,
    ) -> farlets.Farlet: ...


@pytest.fixture
async def home_door(clusters: pair.Clusters) -> AsyncIterator[proxy.Proxy]:
    """The door of the home API server."""
    async with proxy.Proxy(clusters.home) as door:
        yield door


@pytest.fixture
async def foreign_door(clusters: pair.Clusters) -> AsyncIterator[proxy.Proxy]:
    """The door of the foreign API server."""
    async with proxy.Proxy(clusters.foreign) as door:
        yield door


@pytest.fixture
async def start_proxied(
    clusters: pair.Clusters,
    start_farlet: StartFarlet,
    home_door: proxy.Proxy,
    foreign_door: proxy.Proxy,
    identity: Identity,
) -> StartProxied:
    """Start a farlet behind both doors; it is stopped at the end."""

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
            home_login=home_door.login(home),
            foreign_login=foreign_door.login(foreign),
            settings=settings,
            ready=ready,
        )

    return start


@pytest.fixture
def stage(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: workspaces.Workspace,
    node: str,
    identity: Identity,
) -> Stage:
    """Where a test of faults plays."""
    return Stage(clusters, home, foreign, workspace, node, identity)
