"""A virtual node whose kubelet API is reachable from the home API server, with real pods."""

import dataclasses
from typing import Any

import pytest

from clusters import farlet as farlets
from clusters import pair, rest
from clusters.kubectl import Kubectl
from clusters.workspace import Workspace
from conftest import StartFarlet
from integration import realpods

STAYS = ("bash", "-c", "trap 'exit 0' TERM; sleep infinity & wait")


@dataclasses.dataclass(frozen=True)
class Far:
    """The virtual node, and clients for it."""

    clusters: pair.Clusters
    home: rest.Api
    workspace: Workspace
    node: str
    farlet: farlets.Farlet

    def kubectl(self, **environment: str) -> Kubectl:
        """kubectl for the home cluster, in this test's namespace."""
        return Kubectl.of(self.clusters.home, self.workspace.home, **environment)

    async def create(self, name: str, *command: str, **spec: Any) -> None:
        """A pod on this node."""
        wanted = realpods.pod(name, *(command or STAYS), **spec)
        wanted["metadata"]["annotations"] = {realpods.ACCESS: "disabled"}
        await self.home.create(
            "pods", realpods.bound(wanted, self.node), namespace=self.workspace.home
        )

    async def pod(self, name: str, *command: str, **spec: Any) -> rest.Object:
        """A running pod on this node."""
        await self.create(name, *command, **spec)
        return await self.home.until(
            "pods", rest.ready, name=name, namespace=self.workspace.home, seconds=180
        )

    async def prints(self, name: str, line: str, *, container: str = "main") -> None:
        """Return once a container has printed a line with this prefix."""
        await self.kubectl().until_printed(name, line, container=container)


@pytest.fixture
async def far(
    clusters: pair.Clusters,
    home: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> Far:
    """A virtual node for this test."""
    return Far(clusters, home, workspace, node, await start_farlet(node))
