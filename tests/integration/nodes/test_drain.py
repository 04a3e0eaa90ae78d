"""`--drain-on-exit`: the node empties itself as `kubectl drain` would, then farlet ends."""

import asyncio
import signal

import pytest

from clusters import farlet as farlets
from clusters import rest
from conftest import StartFarlet
from faults import manifests
from faults.stage import Stage

pytestmark = pytest.mark.clusters

DRAINS = {"drain-on-exit": "true"}
ENDS_SECONDS = 180.0
BUDGETS = "policy/v1/poddisruptionbudgets"


@pytest.mark.both_identities
async def test_the_node_is_empty_and_not_ready_when_farlet_ends_and_comes_back_with_it(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(stage.node, settings=DRAINS)
    await _running(stage, "one", "two")
    ends = manifests.finishing("Succeeded", after="100ms")
    await stage.create(stage.pod("done", restart="Never", annotations=ends))
    await stage.seen("done", rest.phase("Succeeded"))
    began = stage.clusters.home.audit_mark()

    assert await _ended(farlet) == 0

    sight = await stage.sight()
    assert (sight.pods, sight.mirrors, sight.secrets) == ([], [], [])
    node = await stage.home.get("nodes", name=stage.node)
    assert node["spec"].get("unschedulable") is True
    ready = _ready(node)
    assert (ready["status"], ready["message"]) == ("False", "node is shutting down")
    evictions = [
        (entry.user, entry.name, entry.code)
        for entry in stage.clusters.home.audit(
            since=began, resource="pods", namespace=stage.workspace.home
        )
        if entry.subresource == "eviction"
    ]
    assert sorted(evictions) == [(stage.user, name, 201) for name in ("done", "one", "two")]

    farlet.start()
    await farlet.ready()
    await stage.home.until("nodes", _serves, name=stage.node)


async def test_a_budget_that_is_used_up_is_waited_for(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(stage.node, settings=DRAINS)
    await _running(stage, "kept", "free", guarded="kept")
    farlet.process.signal(signal.SIGTERM)
    await stage.seen("free", rest.gone)
    kept = await stage.seen("kept", rest.phase("Running"))
    assert "deletionTimestamp" not in kept["metadata"]
    assert farlet.process.alive
    await stage.home.delete(BUDGETS, name="kept", namespace=stage.workspace.home)
    assert await asyncio.to_thread(farlet.process.wait, seconds=ENDS_SECONDS) == 0
    assert (await stage.sight()).pods == []


async def test_what_does_not_go_in_time_runs_on(stage: Stage, start_farlet: StartFarlet) -> None:
    farlet = await start_farlet(stage.node, settings=DRAINS | {"drain-timeout": "3"})
    (kept,) = await _running(stage, "kept", guarded="kept")
    assert await _ended(farlet) == 0
    sight = await stage.sight()
    assert [manifests.uid(pod) for pod in sight.pods] == [manifests.uid(kept)]
    assert [pod["status"]["phase"] for pod in sight.mirrors] == ["Running"]
    assert _ready(await stage.home.get("nodes", name=stage.node))["status"] == "False"


async def test_a_second_signal_ends_it_at_once(stage: Stage, start_farlet: StartFarlet) -> None:
    farlet = await start_farlet(stage.node, settings=DRAINS | {"drain-timeout": "600"})
    await _running(stage, "kept", guarded="kept")
    farlet.process.signal(signal.SIGTERM)
    await stage.home.until("nodes", _cordoned, name=stage.node)
    assert farlet.process.alive
    farlet.process.signal(signal.SIGINT)
    assert await asyncio.to_thread(farlet.process.wait, seconds=90) == 0
    await stage.seen("kept", rest.phase("Running"))


async def _running(stage: Stage, *names: str, guarded: str | None = None) -> list[rest.Object]:
    """Pods that run; `guarded` may not be evicted."""
    if guarded is not None:
        budget = {
            "metadata": {"name": guarded},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": guarded}}},
        }
        await stage.home.create(BUDGETS, budget, namespace=stage.workspace.home)
    await stage.create(*(stage.pod(name, labels={"app": name}) for name in names))
    found = [await stage.seen(name, rest.phase("Running")) for name in names]
    if guarded is not None:
        await stage.home.until(BUDGETS, _counted, name=guarded, namespace=stage.workspace.home)
    return found


async def _ended(farlet: farlets.Farlet) -> int:
    farlet.process.signal(signal.SIGTERM)
    return await asyncio.to_thread(farlet.process.wait, seconds=ENDS_SECONDS)


def _ready(node: rest.Object) -> rest.Object:
    (ready,) = [one for one in node["status"]["conditions"] if one["type"] == "Ready"]
    return dict(ready)


def _serves(node: rest.Object | None) -> bool:
    return (
        node is not None
        and _ready(node)["status"] == "True"
        and not node["spec"].get("unschedulable")
    )


def _cordoned(node: rest.Object | None) -> bool:
    return node is not None and node["spec"].get("unschedulable") is True


def _counted(budget: rest.Object | None) -> bool:
    """The disruption controller knows the pod, and lets nobody evict it."""
    return budget is not None and budget.get("status", {}).get("currentHealthy") == 1
