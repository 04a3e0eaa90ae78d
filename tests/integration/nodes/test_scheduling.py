"""What home's scheduler and kubectl do with the virtual node: place, refuse, cordon, drain."""

import asyncio
from typing import Any

import pytest

from clusters import cordons, images, rest, virtualnode
from conftest import StartFarlet
from faults.stage import Stage
from integration.nodes import nodelog

pytestmark = pytest.mark.clusters

ROOM = "cpu=2,memory=4Gi,pods=4,example.com/gpu=1"


@pytest.mark.both_identities
@pytest.mark.parametrize(
    ("requests", "fit", "told"),
    [
        pytest.param({}, 4, "Too many pods", id="pods"),
        pytest.param({"cpu": "700m"}, 2, "Insufficient cpu", id="cpu"),
        pytest.param({"memory": "1500Mi"}, 2, "Insufficient memory", id="memory"),
        pytest.param({"example.com/gpu": "1"}, 1, "Insufficient example.com/gpu", id="a gpu"),
    ],
)
async def test_the_scheduler_places_what_fits_and_refuses_one_too_many(
    stage: Stage, start_farlet: StartFarlet, requests: dict[str, str], fit: int, told: str
) -> None:
    await start_farlet(stage.node, settings={"capacity": ROOM})
    await give_gpus(stage.foreign)
    names = [f"pod-{number}" for number in range(fit + 1)]
    for name in names[:fit]:
        await stage.create(asking(stage, name, requests))
        await stage.seen(name, rest.phase("Running"))
    await stage.create(asking(stage, names[fit], requests))
    waiting = await stage.seen(names[fit], unschedulable)
    (condition,) = waiting["status"]["conditions"]
    assert told in condition["message"]
    assert waiting["spec"].get("nodeName") is None

    await stage.delete(names[0])
    await stage.seen(names[fit], rest.phase("Running"))
    sight = await stage.settled()
    assert len(sight.pods) == fit


async def test_a_pod_that_does_not_tolerate_the_taint_is_never_placed(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    await start_farlet(stage.node)
    await stage.create(asking(stage, "one", {}, tolerations=[]))
    waiting = await stage.seen("one", unschedulable)
    (condition,) = waiting["status"]["conditions"]
    assert "untolerated taint" in condition["message"]


@pytest.mark.both_identities
async def test_a_cordon_keeps_new_pods_away_and_outlives_a_restart(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(stage.node)
    await stage.create(asking(stage, "before", {}))
    await stage.seen("before", rest.phase("Running"))
    await cordons.close(stage.home, stage.node)
    await farlet.restart()
    await stage.create(asking(stage, "late", {}))
    await stage.seen("late", unschedulable)
    assert nodelog.cordoned(await stage.home.get("nodes", name=stage.node))
    before = await stage.home.get("pods", name="before", namespace=stage.workspace.home)
    assert rest.phase("Running")(before)

    await cordons.reopen(stage.home, stage.node)
    await stage.seen("late", rest.phase("Running"))


@pytest.mark.both_identities
async def test_kubectl_drain_empties_the_node(stage: Stage, start_farlet: StartFarlet) -> None:
    farlet = await start_farlet(stage.node)
    names = [f"pod-{number}" for number in range(3)]
    await stage.create(*(stage.pod(name) for name in names))
    await stage.settled()
    await asyncio.to_thread(
        stage.clusters.home.kubectl, "drain", stage.node, "--force", "--timeout=180s"
    )
    sight = await stage.settled()
    assert sight.pods == sight.mirrors == sight.secrets == []
    drained = await stage.home.get("nodes", name=stage.node)
    assert nodelog.cordoned(drained)
    assert nodelog.condition(drained, nodelog.READY)["status"] == "True"
    assert farlet.process.alive


async def give_gpus(foreign: rest.Api) -> None:
    """What home has placed must find room abroad as well."""
    more = {"example.com/gpu": "8"}
    for node in await foreign.list("nodes"):
        await foreign.patch(
            "nodes",
            {"status": {"capacity": more, "allocatable": more}},
            name=node["metadata"]["name"],
            subresource="status",
        )


def asking(
    stage: Stage,
    name: str,
    requests: dict[str, str],
    *,
    tolerations: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    """A pod for the scheduler, which finds no other node that will do."""
    if tolerations is None:
        tolerations = [{"key": virtualnode.TAINT, "operator": "Exists"}]
    resources = {"requests": requests, "limits": requests}
    return {
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "nodeSelector": {"kubernetes.io/hostname": stage.node},
            "tolerations": tolerations,
            "containers": [{"name": "main", "image": images.CLIENTS, "resources": resources}],
        },
    }


def unschedulable(seen: rest.Object | None) -> bool:
    """The scheduler has said that no node will do."""
    found = (seen or {}).get("status", {}).get("conditions", [])
    return any(one.get("reason") == "Unschedulable" for one in found)
