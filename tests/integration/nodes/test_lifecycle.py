"""Home's node lifecycle controller watches the virtual node as it watches any other.

It never finds anything against a healthy one, whatever is killed and started again around it; a
dead one it notices, and takes back when it is alive again.
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
from faults.failures import cut
from faults.fixtures import StartProxied
from faults.stage import Stage
from integration.nodes import nodelog
from integration.nodes.conftest import GRACE

pytestmark = [pytest.mark.clusters, pytest.mark.core]

HEARTBEAT = 10.0
NOTICED = GRACE + 60.0  # home looks every five seconds, and this machine may be busy

Disturbance = Callable[[Stage, farlets.Farlet], Awaitable[None]]


async def foreign_is_killed(stage: Stage, farlet: farlets.Farlet) -> None:
    await kill_for_a_moment(stage.clusters.foreign)


async def home_is_killed(stage: Stage, farlet: farlets.Farlet) -> None:
    await kill_for_a_moment(stage.clusters.home)


async def farlet_is_killed(stage: Stage, farlet: farlets.Farlet) -> None:
    farlet.kill()
    farlet.start()
    await farlet.ready()


async def farlet_is_restarted(stage: Stage, farlet: farlets.Farlet) -> None:
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
    stage: Stage, start_farlet: StartFarlet, disturb: Disturbance
) -> None:
    began = stage.clusters.foreign.audit_mark()
    farlet = await start_farlet(stage.node)
    await stage.create(stage.pod("one"))
    await stage.seen("one", rest.phase("Running"))
    async with nodelog.kept(stage.home, stage.node) as log:
        await disturb(stage, farlet)
        await nodelog.beat(stage.home, stage.node)
        await stage.settled()
    log.never_flapped()
    assert stage.runs(began) == {"one": 1}


async def test_a_healthy_node_is_left_alone_and_costs_one_write_per_heartbeat(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    await start_farlet(stage.node)
    async with nodelog.kept(stage.home, stage.node) as log:
        await nodelog.beat(stage.home, stage.node)
        mark = stage.clusters.home.audit_mark()
        began = time.monotonic()
        await asyncio.sleep(GRACE + 15)  # home's patience, and a look or two
        beats = (time.monotonic() - began) / HEARTBEAT
    log.never_flapped()
    asked = [
        (entry.verb, entry.resource, entry.code)
        for entry in stage.clusters.home.audit(since=mark, user=stage.user)
        if entry.resource in {"leases", "nodes"} and entry.verb != "watch"
    ]
    assert set(asked) == {("update", "leases", 200)}
    assert abs(len(asked) - beats) <= 1
    lease = await stage.home.get("leases", name=stage.node, namespace=nodelog.LEASES)
    node = await stage.home.get("nodes", name=stage.node)
    (owner,) = lease["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == (
        "Node",
        stage.node,
        manifests.uid(node),
    )
    assert lease["spec"]["leaseDurationSeconds"] == 40


async def test_a_dead_farlet_is_noticed_and_a_living_one_taken_back(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    began = stage.clusters.foreign.audit_mark()
    farlet = await start_farlet(stage.node)
    await stage.create(stage.pod("always"), stage.pod("never", restart="Never"))
    before = await stage.settled()
    farlet.kill()
    await until_given_up(stage)
    still = await stage.sight()
    assert uids(still.pods) == uids(before.pods), "the taint is tolerated for five minutes"

    farlet.start()
    await farlet.ready()
    await stage.home.until("nodes", nodelog.well, name=stage.node)
    after = await stage.settled()
    assert uids(after.pods) == uids(before.pods)
    assert uids(after.mirrors) == uids(before.mirrors)
    assert stage.runs(began) == {"always": 1, "never": 1}


async def test_a_farlet_cut_off_from_home_is_noticed_and_taken_back(
    stage: Stage, start_proxied: StartProxied, home_door: proxy.Proxy
) -> None:
    began = stage.clusters.foreign.audit_mark()
    farlet = await start_proxied(stage.node)
    await stage.home.until("nodes", nodelog.well, name=stage.node)
    await stage.create(stage.pod("one"))
    before = await stage.settled()
    gone = home_door.on(writes.everything, cut())
    home_door.cut_watches()
    await until_given_up(stage)

    gone.end()
    await stage.home.until("nodes", nodelog.well, name=stage.node)
    after = await stage.settled()
    assert uids(after.mirrors) == uids(before.mirrors)
    assert stage.runs(began) == {"one": 1}
    assert farlet.process.alive


async def test_a_node_that_its_admin_deletes_is_not_made_again_while_farlet_lives(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(stage.node)
    before = await stage.home.get("nodes", name=stage.node)
    await stage.home.delete("nodes", name=stage.node)
    mark = stage.clusters.home.audit_mark()
    await stage.home.until("leases", rest.gone, name=stage.node, namespace=nodelog.LEASES)
    await asyncio.sleep(1.5 * HEARTBEAT)
    written = [
        f"{entry.verb} {entry.resource} {entry.code}"
        for entry in stage.clusters.home.audit(since=mark, user=stage.user)
        if entry.resource in {"nodes", "leases"} and entry.verb not in {"get", "list", "watch"}
    ]
    assert [word for word in written if word.endswith((" 200", " 201"))] == []
    assert len(written) <= 1  # a heartbeat may have been on its way
    assert await stage.home.find("nodes", name=stage.node) is None
    assert await stage.home.find("leases", name=stage.node, namespace=nodelog.LEASES) is None
    assert farlet.process.alive

    await farlet.restart()
    after = await stage.home.until("nodes", nodelog.well, name=stage.node)
    assert manifests.uid(after) != manifests.uid(before)


@pytest.mark.soak
async def test_pods_of_a_deleted_node_go_on_both_sides(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    """Home's garbage collector waits for the node for forty seconds, and looks every twenty."""
    await start_farlet(stage.node)
    await stage.create(stage.pod("always"), stage.pod("never", restart="Never"))
    await stage.settled()
    await stage.home.delete("nodes", name=stage.node)
    for name in ("always", "never"):
        await stage.seen(name, rest.gone, seconds=240)
        await stage.mirror(name, rest.gone)


async def until_given_up(stage: Stage) -> None:
    """Home's controller calls the node unknown, and keeps pods away from it; not too soon."""
    lost = await stage.home.until(
        "nodes", nodelog.says(nodelog.READY, "Unknown"), name=stage.node, seconds=NOTICED
    )
    seen = datetime.datetime.now(datetime.UTC)
    lease = await stage.home.get("leases", name=stage.node, namespace=nodelog.LEASES)
    last = datetime.datetime.fromisoformat(lease["spec"]["renewTime"])
    assert seen - last > datetime.timedelta(seconds=GRACE)
    assert nodelog.condition(lost, nodelog.READY)["reason"] == "NodeStatusUnknown"
    await stage.home.until(
        "nodes", nodelog.tainted("unreachable:NoExecute"), name=stage.node, seconds=NOTICED
    )


def uids(found: list[rest.Object]) -> set[str]:
    return {manifests.uid(one) for one in found}
