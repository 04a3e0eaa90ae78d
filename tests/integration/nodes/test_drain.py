"""`--drain-on-exit`: farlet empties the node like `kubectl drain`, and then exits."""

import asyncio
import signal

import pytest

from clusters import farlet as farlets
from clusters import rest
from conftest import StartFarlet
from faults import manifests
from faults.environment import Environment

pytestmark = [pytest.mark.clusters, pytest.mark.takes(60)]

DRAINS = {"drain-on-exit": "true"}
ENDS_SECONDS = 180.0
BUDGETS = "policy/v1/poddisruptionbudgets"


@pytest.mark.both_identities
async def test_the_node_is_empty_and_not_ready_after_the_exit_and_ready_after_the_next_start(
    env: Environment, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(env.node, settings=DRAINS)
    await _running(env, "one", "two")
    ends = manifests.finishing("Succeeded", after="100ms")
    await env.create(env.pod("done", restart="Never", annotations=ends))
    await env.seen("done", rest.phase("Succeeded"))
    began = env.clusters.home.audit_mark()

    assert await _ended(farlet) == 0

    observation = await env.observe()
    assert (observation.pods, observation.mirrors, observation.secrets) == ([], [], [])
    node = await env.home.get("nodes", name=env.node)
    assert node["spec"].get("unschedulable") is True
    ready = _ready(node)
    assert (ready["status"], ready["message"]) == ("False", "node is shutting down")
    evictions = [
        (entry.user, entry.name, entry.code)
        for entry in env.clusters.home.audit(
            since=began, resource="pods", namespace=env.workspace.home
        )
        if entry.subresource == "eviction"
    ]
    assert sorted(evictions) == [(env.user, name, 201) for name in ("done", "one", "two")]

    farlet.start()
    await farlet.ready()
    await env.home.until("nodes", _serves, name=env.node)


async def test_the_drain_waits_for_a_disruption_budget(
    env: Environment, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(env.node, settings=DRAINS)
    await _running(env, "kept", "free", guarded="kept")
    farlet.process.signal(signal.SIGTERM)
    await env.seen("free", rest.gone)
    kept = await env.seen("kept", rest.phase("Running"))
    assert "deletionTimestamp" not in kept["metadata"]
    assert farlet.process.alive
    await env.home.delete(BUDGETS, name="kept", namespace=env.workspace.home)
    assert await asyncio.to_thread(farlet.process.wait, seconds=ENDS_SECONDS) == 0
    assert (await env.observe()).pods == []


async def test_pods_that_are_not_evicted_in_time_keep_running(
    env: Environment, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(env.node, settings=DRAINS | {"drain-timeout": "3"})
    (kept,) = await _running(env, "kept", guarded="kept")
    assert await _ended(farlet) == 0
    observation = await env.observe()
    assert [manifests.uid(pod) for pod in observation.pods] == [manifests.uid(kept)]
    assert [pod["status"]["phase"] for pod in observation.mirrors] == ["Running"]
    assert _ready(await env.home.get("nodes", name=env.node))["status"] == "False"


async def test_a_second_signal_ends_the_drain_at_once(
    env: Environment, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(env.node, settings=DRAINS | {"drain-timeout": "600"})
    await _running(env, "kept", guarded="kept")
    farlet.process.signal(signal.SIGTERM)
    await env.home.until("nodes", _cordoned, name=env.node)
    assert farlet.process.alive
    farlet.process.signal(signal.SIGINT)
    assert await asyncio.to_thread(farlet.process.wait, seconds=90) == 0
    await env.seen("kept", rest.phase("Running"))


async def _running(env: Environment, *names: str, guarded: str | None = None) -> list[rest.Object]:
    """Running pods; a budget protects `guarded` from eviction."""
    if guarded is not None:
        budget = {
            "metadata": {"name": guarded},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": guarded}}},
        }
        await env.home.create(BUDGETS, budget, namespace=env.workspace.home)
    await env.create(*(env.pod(name, labels={"app": name}) for name in names))
    found = [await env.seen(name, rest.phase("Running")) for name in names]
    if guarded is not None:
        await env.home.until(BUDGETS, _counted, name=guarded, namespace=env.workspace.home)
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
    """The disruption controller knows the pod, and allows no eviction."""
    return budget is not None and budget.get("status", {}).get("currentHealthy") == 1
