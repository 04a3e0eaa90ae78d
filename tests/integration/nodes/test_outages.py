"""The foreign API server is gone for a while: what home is told, and what it makes of it.

Both ways of `--foreign-unreachable` in little: waits are seconds here. Six minutes with the usual
tolerations are in `tests/faults/test_six_minutes.py`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from clusters import images, kwok, rest, virtualnode
from clusters.cluster import Cluster
from conftest import StartFarlet
from faults import manifests
from faults.stage import Stage
from integration.nodes import nodelog

pytestmark = pytest.mark.clusters

AFTER = 3
"""--foreign-unreachable-after"""
TOLERATED = 2
"""Seconds that pods stay on a node that is not ready."""
HELD = 12.0
NOTICED = 60.0


@contextlib.asynccontextmanager
async def outage(cluster: Cluster, how: str) -> AsyncIterator[None]:
    """An API server that is killed, or that only hangs."""
    server = cluster.apiserver
    server.kill() if how == "killed" else server.pause()
    try:
        yield
    finally:
        server.start() if how == "killed" else server.resume()
        await asyncio.to_thread(server.wait_ready)


def told(policy: str) -> dict[str, str | None]:
    return {"foreign-unreachable": policy, "foreign-unreachable-after": str(AFTER)}


@pytest.mark.parametrize("how", ["killed", "hangs"])
async def test_held_pods_stay_and_the_node_gets_no_new_ones_until_the_outage_is_over(
    stage: Stage, start_farlet: StartFarlet, how: str
) -> None:
    began = stage.clusters.foreign.audit_mark()
    await start_farlet(stage.node, settings=told("hold"))
    await stage.create(
        stage.pod("always", spec=impatient()),
        stage.pod("never", restart="Never", spec=impatient()),
    )
    before = await stage.settled()
    async with nodelog.kept(stage.home, stage.node) as log:
        async with outage(stage.clusters.foreign, how):
            held = await stage.home.until(
                "nodes", cordoned_by_farlet, name=stage.node, seconds=NOTICED
            )
            assert nodelog.condition(held, nodelog.FOREIGN)["status"] == "False"
            await asyncio.sleep(HELD)
            pods = await stage.home.list("pods", namespace=stage.workspace.home)
            assert seen(pods) == seen(before.pods)
        await stage.home.until("nodes", nodelog.well, name=stage.node, seconds=NOTICED)
    log.never_flapped()
    after = await stage.settled()
    assert seen(after.pods) == seen(before.pods)
    assert seen(after.mirrors) == seen(before.mirrors)
    assert stage.runs(began) == {"always": 1, "never": 1}


async def test_a_cordon_of_the_admin_outlives_an_outage_that_is_held(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    await start_farlet(stage.node, settings=told("hold"))
    stage.clusters.home.kubectl("cordon", stage.node)
    async with outage(stage.clusters.foreign, "killed"):
        await stage.home.until(
            "nodes", nodelog.says(nodelog.FOREIGN, "False"), name=stage.node, seconds=NOTICED
        )
    back = await stage.home.until(
        "nodes", nodelog.says(nodelog.FOREIGN, "True"), name=stage.node, seconds=NOTICED
    )
    assert nodelog.cordoned(back)
    await asyncio.sleep(2)
    assert nodelog.cordoned(await stage.home.get("nodes", name=stage.node))


async def test_pods_of_a_node_that_is_not_ready_are_replaced_elsewhere_and_none_runs_twice(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    began = stage.clusters.foreign.audit_mark()
    await start_farlet(stage.node, settings=told("notready"))
    namespace = stage.workspace.home
    others = await stage.home.list("nodes", labelSelector=f"{kwok.LABEL}=fake")
    names = [node["metadata"]["name"] for node in others]
    stage.clusters.home.kubectl("cordon", *names)
    try:
        body = movable([stage.node, *names])
        await stage.home.create("deployments", body, namespace=namespace)
        moved = {manifests.uid(pod) for pod in await until_all_run(stage, on=stage.node)}
    finally:
        stage.clusters.home.kubectl("uncordon", *names)
    await stage.create(stage.pod("patient"))  # no toleration of its own: five minutes
    await stage.seen("patient", rest.phase("Running"))
    patient = await stage.seen("patient", rest.exists)

    async with outage(stage.clusters.foreign, "killed"):
        lost = await stage.home.until(
            "nodes", nodelog.says(nodelog.READY, "False"), name=stage.node, seconds=NOTICED
        )
        assert not nodelog.cordoned(lost), "as with a dead kubelet, taints alone keep pods away"
        replaced = await until_all_run(stage, on=None)
        assert moved & {manifests.uid(pod) for pod in replaced} == set()
        await asyncio.sleep(3)
        pods = await stage.home.list("pods", namespace=namespace)
        going = {manifests.uid(pod) for pod in pods if "deletionTimestamp" in pod["metadata"]}
        assert going == moved, "nobody but the foreign side can say that they have ended"
        assert {manifests.state(pod) for pod in pods} == {"Running/-"}

    await stage.home.until("nodes", nodelog.well, name=stage.node, seconds=NOTICED)
    sight = await stage.settled()
    assert [manifests.uid(pod) for pod in sight.pods] == [manifests.uid(patient)]
    assert set(stage.runs(began).values()) == {1}
    assert len(stage.runs(began)) == len(moved) + 1


def impatient() -> dict[str, Any]:
    """Tolerations that end soon on a node that is not ready or not reachable."""
    each = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATED}
    return {
        "tolerations": [
            {"key": virtualnode.TAINT, "operator": "Exists"},
            {"key": "node.kubernetes.io/not-ready", **each},
            {"key": "node.kubernetes.io/unreachable", **each},
        ]
    }


def movable(nodes: list[str]) -> dict[str, Any]:
    """A Deployment whose pods may go to those nodes."""
    labels = {"app": "movable"}
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": nodes}
    required = {"nodeSelectorTerms": [{"matchExpressions": [here]}]}
    return {
        "metadata": {"name": "movable"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "affinity": {
                        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}
                    },
                    "containers": [{"name": "main", "image": images.CLIENTS}],
                    **impatient(),
                },
            },
        },
    }


async def until_all_run(stage: Stage, *, on: str | None) -> list[rest.Object]:
    """The three that are not going, once they run: on that node, or all on others."""
    while True:
        pods = await stage.home.list(
            "pods", namespace=stage.workspace.home, labelSelector="app=movable"
        )
        staying = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        if len(staying) == 3 and all(pod["status"]["phase"] == "Running" for pod in staying):
            there = [pod["spec"]["nodeName"] == stage.node for pod in staying]
            if all(there) if on is not None else not any(there):
                return staying
        await asyncio.sleep(0.2)


def cordoned_by_farlet(found: rest.Object | None) -> bool:
    return (
        found is not None
        and nodelog.cordoned(found)
        and nodelog.CORDONED in found["metadata"].get("annotations", {})
    )


def seen(found: list[rest.Object]) -> dict[str, tuple[str, bool]]:
    """What each pod is, by its uid."""
    return {
        manifests.uid(pod): (manifests.state(pod), "deletionTimestamp" in pod["metadata"])
        for pod in found
    }
