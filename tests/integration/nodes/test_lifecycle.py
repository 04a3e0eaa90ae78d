"""The node lifecycle controller handles the virtual node like any other node.

It never taints a healthy node, although other components are killed and restarted; it detects a
dead node, and removes the taints when the node is alive again.
"""

import asyncio
import datetime
import time
from collections.abc import Awaitable, Callable

import pytest

from clusters import farlet as farlets
from clusters import rest
from clusters.cluster import Cluster
from conftest import StartFarlet
from faults import manifests, proxy, writes
from faults.environment import Environment
from faults.failures import cut
from faults.fixtures import StartProxied
from integration.nodes import nodelog
from integration.nodes.conftest import GRACE

pytestmark = [pytest.mark.clusters, pytest.mark.core, pytest.mark.takes(100)]

HEARTBEAT = 10.0
NOTICED = GRACE + 60.0  # the controller checks every five seconds, and the machine may be busy

Disturbance = Callable[[Environment, farlets.Farlet], Awaitable[None]]


async def foreign_is_killed(env: Environment, farlet: farlets.Farlet) -> None:
    await kill_for_a_moment(env.clusters.foreign)


async def home_is_killed(env: Environment, farlet: farlets.Farlet) -> None:
    await kill_for_a_moment(env.clusters.home)


async def farlet_is_killed(env: Environment, farlet: farlets.Farlet) -> None:
    farlet.kill()
    farlet.start()
    await farlet.ready()


async def farlet_is_restarted(env: Environment, farlet: farlets.Farlet) -> None:
    await farlet.restart()


async def kill_for_a_moment(cluster: Cluster) -> None:
    cluster.apiserver.kill()
    await asyncio.sleep(5)
    cluster.apiserver.start()
    await asyncio.to_thread(cluster.apiserver.wait_ready)


@pytest.mark.parametrize(
    "disturb",
    [
        pytest.param(foreign_is_killed, id="the foreign API server is killed and comes back"),
        pytest.param(home_is_killed, id="the home API server is killed and comes back"),
        pytest.param(farlet_is_killed, id="farlet is killed and comes back"),
        pytest.param(farlet_is_restarted, id="farlet is restarted"),
    ],
)
async def test_a_node_never_flaps_when(
    env: Environment, start_farlet: StartFarlet, disturb: Disturbance
) -> None:
    began = env.clusters.foreign.audit_mark()
    farlet = await start_farlet(env.node)
    await env.create(env.pod("one"))
    await env.seen("one", rest.phase("Running"))
    async with nodelog.kept(env.home, env.node) as log:
        await disturb(env, farlet)
        await nodelog.beat(env.home, env.node)
        await env.settled()
    log.never_flapped()
    assert env.runs(began) == {"one": 1}


async def test_a_healthy_node_costs_one_write_per_heartbeat(
    env: Environment, start_farlet: StartFarlet
) -> None:
    await start_farlet(env.node)
    async with nodelog.kept(env.home, env.node) as log:
        await nodelog.beat(env.home, env.node)
        mark = env.clusters.home.audit_mark()
        began = time.monotonic()
        await asyncio.sleep(GRACE + 15)  # the grace period, and one or two checks
        beats = (time.monotonic() - began) / HEARTBEAT
    log.never_flapped()
    asked = [
        (entry.verb, entry.resource, entry.code)
        for entry in env.clusters.home.audit(since=mark, user=env.user)
        if entry.resource in {"leases", "nodes"} and entry.verb != "watch"
    ]
    assert set(asked) == {("update", "leases", 200)}
    assert abs(len(asked) - beats) <= 1
    lease = await env.home.get("leases", name=env.node, namespace=nodelog.LEASES)
    node = await env.home.get("nodes", name=env.node)
    (owner,) = lease["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == (
        "Node",
        env.node,
        manifests.uid(node),
    )
    assert lease["spec"]["leaseDurationSeconds"] == 40


async def test_a_dead_farlet_is_detected_and_the_node_recovers_after_a_restart(
    env: Environment, start_farlet: StartFarlet
) -> None:
    began = env.clusters.foreign.audit_mark()
    farlet = await start_farlet(env.node)
    await env.create(env.pod("always"), env.pod("never", restart="Never"))
    before = await env.settled()
    farlet.kill()
    await until_given_up(env)
    still = await env.observe()
    assert uids(still.pods) == uids(before.pods), "the taint is tolerated for five minutes"

    farlet.start()
    await farlet.ready()
    await env.home.until("nodes", nodelog.well, name=env.node)
    after = await env.settled()
    assert uids(after.pods) == uids(before.pods)
    assert uids(after.mirrors) == uids(before.mirrors)
    assert env.runs(began) == {"always": 1, "never": 1}


async def test_a_farlet_cut_off_from_home_is_detected_and_the_node_recovers(
    env: Environment, start_proxied: StartProxied, home_proxy: proxy.Proxy
) -> None:
    began = env.clusters.foreign.audit_mark()
    farlet = await start_proxied(env.node)
    await env.home.until("nodes", nodelog.well, name=env.node)
    await env.create(env.pod("one"))
    before = await env.settled()
    gone = home_proxy.on(writes.everything, cut())
    home_proxy.cut_watches()
    await until_given_up(env)

    gone.end()
    await env.home.until("nodes", nodelog.well, name=env.node)
    after = await env.settled()
    assert uids(after.mirrors) == uids(before.mirrors)
    assert env.runs(began) == {"one": 1}
    assert farlet.process.alive


async def test_a_deleted_node_is_not_recreated_while_farlet_runs(
    env: Environment, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(env.node)
    before = await env.home.get("nodes", name=env.node)
    await env.home.delete("nodes", name=env.node)
    mark = env.clusters.home.audit_mark()
    await env.home.until("leases", rest.gone, name=env.node, namespace=nodelog.LEASES)
    await asyncio.sleep(1.5 * HEARTBEAT)
    written = [
        f"{entry.verb} {entry.resource} {entry.code}"
        for entry in env.clusters.home.audit(since=mark, user=env.user)
        if entry.resource in {"nodes", "leases"} and entry.verb not in {"get", "list", "watch"}
    ]
    assert [word for word in written if word.endswith((" 200", " 201"))] == []
    assert len(written) <= 1  # a heartbeat may have been in flight
    assert await env.home.find("nodes", name=env.node) is None
    assert await env.home.find("leases", name=env.node, namespace=nodelog.LEASES) is None
    assert farlet.process.alive

    await farlet.restart()
    after = await env.home.until("nodes", nodelog.well, name=env.node)
    assert manifests.uid(after) != manifests.uid(before)


@pytest.mark.soak
async def test_pods_of_a_deleted_node_are_deleted_in_both_clusters(
    env: Environment, start_farlet: StartFarlet
) -> None:
    """The pod garbage collector waits forty seconds for the node, and checks every twenty."""
    await start_farlet(env.node)
    await env.create(env.pod("always"), env.pod("never", restart="Never"))
    await env.settled()
    await env.home.delete("nodes", name=env.node)
    for name in ("always", "never"):
        await env.seen(name, rest.gone, seconds=240)
        await env.mirror(name, rest.gone)


async def until_given_up(env: Environment) -> None:
    """The controller marks the node Unknown and taints it, but not too early."""
    lost = await env.home.until(
        "nodes", nodelog.says(nodelog.READY, "Unknown"), name=env.node, seconds=NOTICED
    )
    seen = datetime.datetime.now(datetime.UTC)
    lease = await env.home.get("leases", name=env.node, namespace=nodelog.LEASES)
    last = datetime.datetime.fromisoformat(lease["spec"]["renewTime"])
    assert seen - last > datetime.timedelta(seconds=GRACE)
    assert nodelog.condition(lost, nodelog.READY)["reason"] == "NodeStatusUnknown"
    await env.home.until(
        "nodes", nodelog.tainted("unreachable:NoExecute"), name=env.node, seconds=NOTICED
    )


def uids(found: list[rest.Object]) -> set[str]:
    return {manifests.uid(one) for one in found}
