"""The foreign API server is that of another cluster, or another process serves the node.

A third cluster has the same namespaces and permissions, and none of the mirrors.
"""

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

import lending
from clusters import auditlog, kubeconfig, pair, rest, workspace
from clusters.cluster import Cluster
from clusters.farlet import Farlet
from conftest import StartFarlet
from faults import manifests
from faults.environment import Environment

LEASES = "kube-node-lease"
NOTICED_SECONDS = 60.0
"""Ten seconds until the file is read again, ten until the next probe, on a busy machine."""
UNCHANGED_SECONDS = 5.0
KIND = "farlet.io/ForeignReachable"


@pytest.fixture(scope="module")
def clusters(request: pytest.FixtureRequest) -> Iterator[pair.Clusters]:
    """Clusters with fake nodes only."""
    both = pair.plain()
    with lending.lent(both, request.config):
        yield both


@pytest.fixture(scope="module")
def other_cluster(clusters: pair.Clusters) -> Iterator[Cluster]:
    """Another foreign cluster."""
    with pair.another(clusters, "other") as made:
        yield made


@dataclasses.dataclass(frozen=True)
class Other:
    """The other cluster, and the kubeconfig that farlet reads."""

    cluster: Cluster
    api: rest.Api
    kubeconfig: Path
    mark: auditlog.Mark

    def exchange(self, foreign: Cluster) -> None:
        """The kubeconfig leads to that cluster from now on."""
        kubeconfig.exchange(self.kubeconfig, foreign.login(workspace.USER))

    def writes(self) -> list[str]:
        """What farlet wrote to the other cluster."""
        return [
            f"{entry.verb} {entry.resource} {entry.name}"
            for entry in self.cluster.audit(since=self.mark, user=workspace.USER)
            if entry.verb not in auditlog.READS
        ]


@pytest.fixture
async def other(other_cluster: Cluster, env: Environment, tmp_path: Path) -> AsyncIterator[Other]:
    """The other cluster with this test's namespaces; farlet's kubeconfig leads to the right one."""
    async with other_cluster.api() as api:
        await workspace.create_farlet_namespace(api)
        await workspace.offload(api, namespace=env.workspace.foreign)
        made = Other(other_cluster, api, tmp_path / "foreign", other_cluster.audit_mark())
        made.exchange(env.clusters.foreign)
        yield made


def _reason(node: rest.Object | None) -> str:
    found = [] if node is None else node.get("status", {}).get("conditions", [])
    return next((str(one["reason"]) for one in found if one["type"] == KIND), "")


async def _shows(env: Environment, reason: str) -> str:
    """Wait until the Node shows this reason. Returns the message."""
    node = await env.home.until(
        "nodes", lambda seen: _reason(seen) == reason, name=env.node, seconds=NOTICED_SECONDS
    )
    return next(str(c["message"]) for c in node["status"]["conditions"] if c["type"] == KIND)


async def _unready(farlet: Farlet) -> str:
    url = f"http://{farlet.health_address}/readyz?verbose"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status != 200
        return await answer.text()


async def _running(env: Environment) -> None:
    await env.create(
        env.pod("once", restart="Never"), env.pod("always"), env.pod("leaving", restart="Always")
    )
    for name in ("once", "always", "leaving"):
        await env.seen(name, rest.phase("Running"))
    await env.settled()


async def _states(env: Environment) -> dict[str, str]:
    pods = await env.home.list("pods", namespace=env.workspace.home)
    return {pod["metadata"]["name"]: manifests.state(pod) for pod in pods}


ALL_RUN = {"once": "Running/-", "always": "Running/-", "leaving": "Running/-"}


async def test_a_kubeconfig_that_is_exchanged_under_a_running_farlet_changes_nothing(
    env: Environment, other: Other, start_farlet: StartFarlet
) -> None:
    began = env.clusters.foreign.audit_mark()
    farlet = await start_farlet(env.node, foreign_login=other.kubeconfig)
    await _running(env)
    other.exchange(other.cluster)
    message = await _shows(env, "ForeignClusterUnconfirmed")
    await env.delete("leaving")
    assert "another foreign cluster" in message
    assert "another foreign cluster" in await _unready(farlet)
    await asyncio.sleep(UNCHANGED_SECONDS)
    assert await _states(env) == ALL_RUN
    assert other.writes() == []
    other.exchange(env.clusters.foreign)
    await _shows(env, "ForeignAPIServerReachable")
    await env.settled()
    assert "leaving" not in await _states(env)
    assert env.runs(began) == {"once": 1, "always": 1, "leaving": 1}
    assert other.writes() == []


async def test_a_restart_onto_another_cluster_changes_nothing_until_it_is_adopted(
    env: Environment, other: Other, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(env.node, foreign_login=other.kubeconfig)
    await _running(env)
    await farlet.stop()
    other.exchange(other.cluster)
    farlet.start()
    await env.delete("leaving")
    message = await _shows(env, "ForeignClusterUnconfirmed")
    await asyncio.sleep(UNCHANGED_SECONDS)
    assert await _states(env) == ALL_RUN
    assert other.writes() == []
    assert "adopt-foreign-cluster" in await _unready(farlet)
    await farlet.stop()

    found = re.search(r"--adopt-foreign-cluster=([0-9a-f/-]+)", message)
    assert found is not None
    settings = {"adopt-foreign-cluster": found[1]}
    adopting = await start_farlet(env.node, foreign_login=other.kubeconfig, settings=settings)
    assert "adopting foreign cluster" in adopting.log
    once = await env.seen("once", rest.phase("Failed"))
    assert once["status"]["reason"] == "MirrorLost"
    await env.home.until("pods", rest.gone, name="leaving", namespace=env.workspace.home)
    mirror = await other.api.until(
        "pods", rest.phase("Running"), name="always", namespace=env.workspace.foreign
    )
    assert manifests.OWNER in mirror["metadata"]["labels"]


async def test_a_farlet_on_another_host_waits_beside_a_leader(
    env: Environment, start_farlet: StartFarlet
) -> None:
    election: dict[str, str | None] = {"leader-elect": "true", "kubelet-bind-address": "0"}
    leader = await start_farlet(env.node, settings=election)
    await env.create(env.pod("one"))
    await env.seen("one", rest.phase("Running"))
    node = await env.home.get("nodes", name=env.node)
    lease = await env.home.get("leases", name=env.node, namespace=LEASES)
    alone: dict[str, str | None] = {"kubelet-bind-address": "0", "node-ip": "192.0.2.77"}
    laptop = await start_farlet(env.node, settings=alone, ready=False)
    async with asyncio.timeout(NOTICED_SECONDS):
        while "waiting for the Lease of the node" not in laptop.log:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    holder = lease["spec"]["holderIdentity"]
    assert f"another farlet ({holder}) serves the node {env.node}" in laptop.log
    await asyncio.sleep(UNCHANGED_SECONDS)
    now = await env.home.get("nodes", name=env.node)
    assert now["status"]["addresses"] == node["status"]["addresses"]
    lease = await env.home.get("leases", name=env.node, namespace=LEASES)
    assert lease["spec"]["holderIdentity"] == holder
    assert await leader.stop() == 0
    await laptop.ready()
    lease = await env.home.get("leases", name=env.node, namespace=LEASES)
    assert lease["spec"]["holderIdentity"].startswith(f"{env.node}@")
    candidate = await start_farlet(env.node, settings=election, ready=False)
    await asyncio.sleep(UNCHANGED_SECONDS)
    lease = await env.home.get("leases", name=env.node, namespace=LEASES)
    assert lease["spec"]["holderIdentity"].startswith(f"{env.node}@")
    assert await laptop.stop() == 0
    await candidate.ready()
