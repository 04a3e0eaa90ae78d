"""The scheduler and kubectl with the virtual node: capacity, taint, cordon, drain."""

import asyncio
from typing import Any

import pytest

from clusters import cordons, images, rest, virtualnode
from conftest import StartFarlet
from faults.environment import Environment
from integration.nodes import nodelog

pytestmark = [pytest.mark.clusters, pytest.mark.takes(130)]

CAPACITY = "cpu=2,memory=4Gi,pods=4,example.com/gpu=1"


@pytest.mark.both_identities
@pytest.mark.parametrize(
    ("requests", "fit", "expected"),
    [
        pytest.param({}, 4, "Too many pods", id="pods"),
        pytest.param({"cpu": "700m"}, 2, "Insufficient cpu", id="cpu"),
        pytest.param({"memory": "1500Mi"}, 2, "Insufficient memory", id="memory"),
        pytest.param({"example.com/gpu": "1"}, 1, "Insufficient example.com/gpu", id="a gpu"),
    ],
)
async def test_the_scheduler_places_only_pods_that_fit(
    env: Environment, start_farlet: StartFarlet, requests: dict[str, str], fit: int, expected: str
) -> None:
    await start_farlet(env.node, settings={"capacity": CAPACITY})
    await give_gpus(env.foreign)
    names = [f"pod-{number}" for number in range(fit + 1)]
    for name in names[:fit]:
        await env.create(asking(env, name, requests))
        await env.seen(name, rest.phase("Running"))
    await env.create(asking(env, names[fit], requests))
    waiting = await env.seen(names[fit], unschedulable)
    (condition,) = waiting["status"]["conditions"]
    assert expected in condition["message"]
    assert waiting["spec"].get("nodeName") is None

    await env.delete(names[0])
    await env.seen(names[fit], rest.phase("Running"))
    observation = await env.settled()
    assert len(observation.pods) == fit


async def test_a_pod_without_the_toleration_is_not_scheduled(
    env: Environment, start_farlet: StartFarlet
) -> None:
    await start_farlet(env.node)
    await env.create(asking(env, "one", {}, tolerations=[]))
    waiting = await env.seen("one", unschedulable)
    (condition,) = waiting["status"]["conditions"]
    assert "untolerated taint" in condition["message"]


@pytest.mark.both_identities
async def test_a_cordon_keeps_new_pods_away_and_survives_a_restart(
    env: Environment, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(env.node)
    await env.create(asking(env, "before", {}))
    await env.seen("before", rest.phase("Running"))
    await cordons.close(env.home, env.node)
    await farlet.restart()
    await env.create(asking(env, "late", {}))
    await env.seen("late", unschedulable)
    assert nodelog.cordoned(await env.home.get("nodes", name=env.node))
    before = await env.home.get("pods", name="before", namespace=env.workspace.home)
    assert rest.phase("Running")(before)

    await cordons.reopen(env.home, env.node)
    await env.seen("late", rest.phase("Running"))


@pytest.mark.both_identities
async def test_kubectl_drain_empties_the_node(env: Environment, start_farlet: StartFarlet) -> None:
    farlet = await start_farlet(env.node)
    names = [f"pod-{number}" for number in range(3)]
    await env.create(*(env.pod(name) for name in names))
    await env.settled()
    await asyncio.to_thread(
        env.clusters.home.kubectl, "drain", env.node, "--force", "--timeout=180s"
    )
    observation = await env.settled()
    assert observation.pods == observation.mirrors == observation.secrets == []
    drained = await env.home.get("nodes", name=env.node)
    assert nodelog.cordoned(drained)
    assert nodelog.condition(drained, nodelog.READY)["status"] == "True"
    assert farlet.process.alive


async def give_gpus(foreign: rest.Api) -> None:
    """The foreign nodes must have capacity for these pods as well."""
    more = {"example.com/gpu": "8"}
    for node in await foreign.list("nodes"):
        await foreign.patch(
            "nodes",
            {"status": {"capacity": more, "allocatable": more}},
            name=node["metadata"]["name"],
            subresource="status",
        )


def asking(
    env: Environment,
    name: str,
    requests: dict[str, str],
    *,
    tolerations: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    """A pod for the scheduler that fits on no other node."""
    if tolerations is None:
        tolerations = [{"key": virtualnode.TAINT, "operator": "Exists"}]
    resources = {"requests": requests, "limits": requests}
    return {
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "nodeSelector": {"kubernetes.io/hostname": env.node},
            "tolerations": tolerations,
            "containers": [{"name": "main", "image": images.CLIENTS, "resources": resources}],
        },
    }


def unschedulable(seen: rest.Object | None) -> bool:
    """Whether the scheduler has marked the pod Unschedulable."""
    found = (seen or {}).get("status", {}).get("conditions", [])
    return any(one.get("reason") == "Unschedulable" for one in found)
