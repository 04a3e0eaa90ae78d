"""What the home cluster sees during an outage of the foreign API server, and how it reacts.

Both values of `--foreign-unreachable`, with short timeouts; only farlet cannot reach the foreign
cluster. `tests/faults/test_long_outage.py` tests six minutes with the default tolerations.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from clusters import cordons, images, kwok, rest, virtualnode
from clusters import identity as identities
from clusters import workspace as workspaces
from clusters.identity import Identity
from conftest import StartFarlet
from faults import failures, manifests, proxy, writes
from faults.environment import Environment
from faults.fixtures import StartProxied
from integration import realpods
from integration.nodes import nodelog

pytestmark = [pytest.mark.clusters, pytest.mark.takes(170)]

AFTER = 3
"""--foreign-unreachable-after"""
TOLERATED = 2
"""Seconds that pods stay on a node that is not ready."""
HELD = 8.0
NOTICED = 120.0
OUTAGES = {"refuses": failures.cut(), "hangs": failures.late(600)}
REPLICAS = 3


@contextlib.contextmanager
def outage(fault_proxy: proxy.Proxy, how: str) -> Iterator[None]:
    """The foreign API server rejects connections, or does not answer."""
    gone = fault_proxy.on(writes.everything, OUTAGES[how])
    fault_proxy.cut_watches()
    yield
    gone.end()


def settings(policy: str) -> dict[str, str | None]:
    return {"foreign-unreachable": policy, "foreign-unreachable-after": str(AFTER)}


@pytest.mark.parametrize("how", OUTAGES)
async def test_with_hold_pods_stay_and_the_node_gets_no_new_ones_during_an_outage(
    env: Environment, start_proxied: StartProxied, foreign_proxy: proxy.Proxy, how: str
) -> None:
    began = env.clusters.foreign.audit_mark()
    await start_proxied(env.node, settings=settings("hold"))
    await env.create(
        env.pod("always", spec=impatient()),
        env.pod("never", restart="Never", spec=impatient()),
    )
    before = await env.settled()
    async with nodelog.kept(env.home, env.node) as log:
        with outage(foreign_proxy, how):
            await env.home.until("nodes", held, name=env.node, seconds=NOTICED)
            await asyncio.sleep(HELD)
            pods = await env.home.list("pods", namespace=env.workspace.home)
            assert seen(pods) == seen(before.pods)
        await env.home.until("nodes", nodelog.well, name=env.node, seconds=NOTICED)
    log.never_flapped()
    after = await env.settled()
    assert seen(after.pods) == seen(before.pods)
    assert seen(after.mirrors) == seen(before.mirrors)
    assert env.runs(began) == {"always": 1, "never": 1}


async def test_an_account_with_the_shipped_bindings_shows_an_outage_on_its_node(
    env: Environment, start_farlet: StartFarlet, foreign_proxy: proxy.Proxy
) -> None:
    """In other tests an account has the ClusterRole for pods in all namespaces."""
    login = Identity.ACCOUNT.login(env.clusters.home, env.node)
    identities.bind_as_shipped(env.clusters.home, env.node, namespace=env.workspace.home)
    for namespace, allowed in ((env.workspace.home, True), ("default", False)):
        await workspaces.until_allowed(
            env.home,
            user=Identity.ACCOUNT.user(env.node),
            namespace=namespace,
            rule={"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
            allowed=allowed,
        )
    await start_farlet(
        env.node,
        home_login=login,
        foreign_login=foreign_proxy.login(env.clusters.foreign.login(workspaces.USER)),
        settings=settings("hold"),
    )
    await env.create(env.pod("one"))
    await env.settled()
    with outage(foreign_proxy, "refuses"):
        await env.home.until(
            "nodes", nodelog.says(nodelog.FOREIGN, "False"), name=env.node, seconds=NOTICED
        )
        event = await realpods.event(
            env.home, env.node, namespace="default", reason="ForeignUnreachable"
        )
        assert event["involvedObject"]["kind"] == "Node"
    await env.home.until("nodes", nodelog.well, name=env.node, seconds=NOTICED)


async def test_a_farlet_that_starts_during_an_outage_keeps_its_node_unchanged(
    env: Environment, start_proxied: StartProxied, foreign_proxy: proxy.Proxy
) -> None:
    began = env.clusters.foreign.audit_mark()
    farlet = await start_proxied(env.node, settings=settings("hold"))
    await env.create(env.pod("one", spec=impatient()))
    before = await env.settled()
    async with nodelog.kept(env.home, env.node) as log:
        with outage(foreign_proxy, "refuses"):
            await env.home.until("nodes", held, name=env.node, seconds=NOTICED)
            await nodelog.beat(env.home, env.node)
            farlet.kill()
            farlet.start()
            await nodelog.beat(env.home, env.node)
            assert held(await env.home.get("nodes", name=env.node))
            pods = await env.home.list("pods", namespace=env.workspace.home)
            assert seen(pods) == seen(before.pods)
        await env.home.until("nodes", nodelog.well, name=env.node, seconds=NOTICED)
    log.never_flapped()
    after = await env.settled()
    assert seen(after.mirrors) == seen(before.mirrors)
    assert env.runs(began) == {"one": 1}


async def test_with_hold_a_cordon_by_an_administrator_outlasts_an_outage(
    env: Environment, start_proxied: StartProxied, foreign_proxy: proxy.Proxy
) -> None:
    await start_proxied(env.node, settings=settings("hold"))
    await cordons.close(env.home, env.node)
    with outage(foreign_proxy, "refuses"):
        await env.home.until(
            "nodes", nodelog.says(nodelog.FOREIGN, "False"), name=env.node, seconds=NOTICED
        )
    back = await env.home.until(
        "nodes", nodelog.says(nodelog.FOREIGN, "True"), name=env.node, seconds=NOTICED
    )
    assert nodelog.cordoned(back)
    await asyncio.sleep(2)
    assert nodelog.cordoned(await env.home.get("nodes", name=env.node))


async def test_with_notready_pods_are_replaced_on_other_nodes_and_none_runs_twice(
    env: Environment, start_proxied: StartProxied, foreign_proxy: proxy.Proxy
) -> None:
    began = env.clusters.foreign.audit_mark()
    await start_proxied(env.node, settings=settings("notready"))
    namespace = env.workspace.home
    await env.create(env.pod("patient"))  # the default toleration: five minutes
    patient = await env.seen("patient", rest.phase("Running"))
    moved = uids(await deployed_here(env))

    with outage(foreign_proxy, "refuses"):
        lost = await env.home.until(
            "nodes", nodelog.says(nodelog.READY, "False"), name=env.node, seconds=NOTICED
        )
        assert not nodelog.cordoned(lost), "as with a dead kubelet, taints alone keep pods away"
        replaced = await until_replicas_run(env, here=False)
        assert moved & uids(replaced) == set()
        await asyncio.sleep(3)
        pods = await env.home.list("pods", namespace=namespace)
        going = [pod for pod in pods if "deletionTimestamp" in pod["metadata"]]
        assert uids(going) == moved, "only the foreign cluster can confirm that pods have ended"
        assert {manifests.state(pod) for pod in pods} == {"Running/-"}

    await env.home.until("nodes", nodelog.well, name=env.node, seconds=NOTICED)
    observation = await env.settled()
    assert uids(observation.pods) == {manifests.uid(patient)}
    assert set(env.runs(began).values()) == {1}
    assert len(env.runs(began)) == REPLICAS + 1


def impatient() -> dict[str, Any]:
    """Short tolerations for a node that is not ready or not reachable."""
    each = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATED}
    return {
        "tolerations": [
            {"key": virtualnode.TAINT, "operator": "Exists"},
            {"key": "node.kubernetes.io/not-ready", **each},
            {"key": "node.kubernetes.io/unreachable", **each},
        ]
    }


async def deployed_here(env: Environment) -> list[rest.Object]:
    """Running pods of a Deployment that can use home's other nodes, which were cordoned."""
    others = await env.home.list("nodes", labelSelector=f"{kwok.LABEL}=fake")
    names = [node["metadata"]["name"] for node in others]
    await cordons.close(env.home, *names)
    try:
        body = deployment([env.node, *names])
        await env.home.create("deployments", body, namespace=env.workspace.home)
        return await until_replicas_run(env, here=True)
    finally:
        await cordons.reopen(env.home, *names)


def deployment(nodes: list[str]) -> dict[str, Any]:
    """A Deployment whose pods can use these nodes."""
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


async def until_replicas_run(env: Environment, *, here: bool) -> list[rest.Object]:
    """The pods that are not being deleted, once all run on this node, or all on others."""
    async with asyncio.timeout(180):
        while True:
            pods = await env.home.list(
                "pods", namespace=env.workspace.home, labelSelector="app=movable"
            )
            staying = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
            running = [pod for pod in staying if manifests.state(pod) == "Running/-"]
            placed = [(pod["spec"]["nodeName"] == env.node) is here for pod in running]
            if len(staying) == REPLICAS and placed == [True] * REPLICAS:
                return staying
            await asyncio.sleep(0.2)


def held(found: rest.Object | None) -> bool:
    """farlet reports the outage on the Node, and keeps new pods away."""
    return (
        found is not None
        and nodelog.cordoned(found)
        and nodelog.CORDONED in found["metadata"].get("annotations", {})
        and nodelog.condition(found, nodelog.FOREIGN)["status"] == "False"
    )


def seen(found: list[rest.Object]) -> dict[str, tuple[str, bool]]:
    """The state of each pod, by uid."""
    return {
        manifests.uid(pod): (manifests.state(pod), "deletionTimestamp" in pod["metadata"])
        for pod in found
    }


def uids(found: list[rest.Object]) -> set[str]:
    return {manifests.uid(pod) for pod in found}
