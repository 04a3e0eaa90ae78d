"""The foreign API server is gone for a while: what home is told, and what it makes of it.

Both ways of `--foreign-unreachable` in little: waits are seconds here, and only farlet cannot reach
the foreign side. Six minutes with the usual tolerations are in `tests/faults/test_six_minutes.py`.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from clusters import cordons, images, kwok, rest, virtualnode
from faults import failures, manifests, proxy, writes
from faults.fixtures import StartProxied
from faults.stage import Stage
from integration.nodes import nodelog

pytestmark = pytest.mark.clusters

AFTER = 3
"""--foreign-unreachable-after"""
TOLERATED = 2
"""Seconds that pods stay on a node that is not ready."""
HELD = 8.0
NOTICED = 120.0
OUTAGES = {"refuses": failures.cut(), "hangs": failures.late(600)}
REPLICAS = 3


@contextlib.contextmanager
def outage(door: proxy.Proxy, how: str) -> Iterator[None]:
    """The foreign API server refuses connections, or answers nothing."""
    gone = door.on(writes.everything, OUTAGES[how])
    door.cut_watches()
    yield
    gone.end()


def told(policy: str) -> dict[str, str | None]:
    return {"foreign-unreachable": policy, "foreign-unreachable-after": str(AFTER)}


@pytest.mark.parametrize("how", OUTAGES)
async def test_held_pods_stay_and_the_node_gets_no_new_ones_until_the_outage_is_over(
    stage: Stage, start_proxied: StartProxied, foreign_door: proxy.Proxy, how: str
) -> None:
    began = stage.clusters.foreign.audit_mark()
    await start_proxied(stage.node, settings=told("hold"))
    await stage.create(
        stage.pod("always", spec=impatient()),
        stage.pod("never", restart="Never", spec=impatient()),
    )
    before = await stage.settled()
    async with nodelog.kept(stage.home, stage.node) as log:
        with outage(foreign_door, how):
            await stage.home.until("nodes", held, name=stage.node, seconds=NOTICED)
            await asyncio.sleep(HELD)
            pods = await stage.home.list("pods", namespace=stage.workspace.home)
            assert seen(pods) == seen(before.pods)
        await stage.home.until("nodes", nodelog.well, name=stage.node, seconds=NOTICED)
    log.never_flapped()
    after = await stage.settled()
    assert seen(after.pods) == seen(before.pods)
    assert seen(after.mirrors) == seen(before.mirrors)
    assert stage.runs(began) == {"always": 1, "never": 1}


async def test_a_farlet_that_starts_in_an_outage_keeps_its_node_as_it_was(
    stage: Stage, start_proxied: StartProxied, foreign_door: proxy.Proxy
) -> None:
    began = stage.clusters.foreign.audit_mark()
    farlet = await start_proxied(stage.node, settings=told("hold"))
    await stage.create(stage.pod("one", spec=impatient()))
    before = await stage.settled()
    async with nodelog.kept(stage.home, stage.node) as log:
        with outage(foreign_door, "refuses"):
            await stage.home.until("nodes", held, name=stage.node, seconds=NOTICED)
            await nodelog.beat(stage.home, stage.node)
            farlet.kill()
            farlet.start()
            await nodelog.beat(stage.home, stage.node)
            assert held(await stage.home.get("nodes", name=stage.node))
            pods = await stage.home.list("pods", namespace=stage.workspace.home)
            assert seen(pods) == seen(before.pods)
        await stage.home.until("nodes", nodelog.well, name=stage.node, seconds=NOTICED)
    log.never_flapped()
    after = await stage.settled()
    assert seen(after.mirrors) == seen(before.mirrors)
    assert stage.runs(began) == {"one": 1}


async def test_a_cordon_of_the_admin_outlives_an_outage_that_is_held(
    stage: Stage, start_proxied: StartProxied, foreign_door: proxy.Proxy
) -> None:
    await start_proxied(stage.node, settings=told("hold"))
    await cordons.close(stage.home, stage.node)
    with outage(foreign_door, "refuses"):
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
    stage: Stage, start_proxied: StartProxied, foreign_door: proxy.Proxy
) -> None:
    began = stage.clusters.foreign.audit_mark()
    await start_proxied(stage.node, settings=told("notready"))
    namespace = stage.workspace.home
    await stage.create(stage.pod("patient"))  # no toleration of its own: five minutes
    patient = await stage.seen("patient", rest.phase("Running"))
    moved = uids(await deployed_here(stage))

    with outage(foreign_door, "refuses"):
        lost = await stage.home.until(
            "nodes", nodelog.says(nodelog.READY, "False"), name=stage.node, seconds=NOTICED
        )
        assert not nodelog.cordoned(lost), "as with a dead kubelet, taints alone keep pods away"
        replaced = await until_replicas_run(stage, here=False)
        assert moved & uids(replaced) == set()
        await asyncio.sleep(3)
        pods = await stage.home.list("pods", namespace=namespace)
        going = [pod for pod in pods if "deletionTimestamp" in pod["metadata"]]
        assert uids(going) == moved, "nobody but the foreign side can say that they have ended"
        assert {manifests.state(pod) for pod in pods} == {"Running/-"}

    await stage.home.until("nodes", nodelog.well, name=stage.node, seconds=NOTICED)
    sight = await stage.settled()
    assert uids(sight.pods) == {manifests.uid(patient)}
    assert set(stage.runs(began).values()) == {1}
    assert len(stage.runs(began)) == REPLICAS + 1


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


async def deployed_here(stage: Stage) -> list[rest.Object]:
    """Running pods of a Deployment that may go to home's other nodes, but had to come here."""
    others = await stage.home.list("nodes", labelSelector=f"{kwok.LABEL}=fake")
    names = [node["metadata"]["name"] for node in others]
    await cordons.close(stage.home, *names)
    try:
        body = deployment([stage.node, *names])
        await stage.home.create("deployments", body, namespace=stage.workspace.home)
        return await until_replicas_run(stage, here=True)
    finally:
        await cordons.reopen(stage.home, *names)


def deployment(nodes: list[str]) -> dict[str, Any]:
    """A Deployment whose pods may go to those nodes."""
    labels = {"app": "movable"}
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": nodes}
    required = {"nodeSelectorTerms": [{"matchExpressions": [here]}]}
    spec = {
        "terminationGracePeriodSeconds": 1,
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}},
        "containers": [{"name": "main", "image": images.CLIENTS}],
        **impatient(),
    }
    return {
        "metadata": {"name": "movable"},
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


async def until_replicas_run(stage: Stage, *, here: bool) -> list[rest.Object]:
    """Those that are not going, once all run: on this node, or all on others."""
    async with asyncio.timeout(180):
        while True:
            pods = await stage.home.list(
                "pods", namespace=stage.workspace.home, labelSelector="app=movable"
            )
            staying = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
            running = [pod for pod in staying if manifests.state(pod) == "Running/-"]
            placed = [(pod["spec"]["nodeName"] == stage.node) is here for pod in running]
            if len(staying) == REPLICAS and placed == [True] * REPLICAS:
                return staying
            await asyncio.sleep(0.2)


def held(found: rest.Object | None) -> bool:
    """farlet has said that the foreign side is silent, and keeps new pods away."""
    return (
        found is not None
        and nodelog.cordoned(found)
        and nodelog.CORDONED in found["metadata"].get("annotations", {})
        and nodelog.condition(found, nodelog.FOREIGN)["status"] == "False"
    )


def seen(found: list[rest.Object]) -> dict[str, tuple[str, bool]]:
    """What each pod is, by its uid."""
    return {
        manifests.uid(pod): (manifests.state(pod), "deletionTimestamp" in pod["metadata"])
        for pod in found
    }


def uids(found: list[rest.Object]) -> set[str]:
    return {manifests.uid(pod) for pod in found}
