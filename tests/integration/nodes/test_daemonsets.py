"""A DaemonSet whose pods tolerate everything: home's controller binds one to the virtual node too.

It is refused without being Failed, since a failed one would be made again for ever.
"""

import asyncio
import collections
from typing import Any

import pytest

from clusters import images, rest
from conftest import StartFarlet
from faults import manifests
from faults.stage import Stage

pytestmark = pytest.mark.clusters

NAME = "agent"
SCHEDULER = "system:kube-scheduler"


async def test_a_daemonset_makes_one_pod_here_that_waits_refused_and_no_churn(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    await start_farlet(stage.node)
    await _one_pod_and_no_churn(stage, seconds=15)


@pytest.mark.soak
async def test_five_minutes_of_a_daemonset_are_one_pod_and_no_churn(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    await start_farlet(stage.node)
    await _one_pod_and_no_churn(stage, seconds=300)


async def _one_pod_and_no_churn(stage: Stage, *, seconds: float) -> None:
    namespace = stage.workspace.home
    marks = stage.clusters.home.audit_mark(), stage.clusters.foreign.audit_mark()
    await stage.home.create("daemonsets", daemonset(stage.node), namespace=namespace)
    waiting = await _refused(stage)
    name = waiting["metadata"]["name"]
    await asyncio.sleep(seconds)

    (still,) = await stage.home.list("pods", namespace=namespace)
    assert manifests.uid(still) == manifests.uid(waiting)
    assert manifests.state(still) == "Pending/DaemonSetNotAllowed"
    assert (await stage.sight()).mirrors == []
    assert stage.runs(marks[1]) == {}
    asked = collections.Counter(
        f"{entry.verb} {entry.resource}/{entry.subresource} {entry.code}"
        for entry in stage.clusters.home.audit(since=marks[0], namespace=namespace)
        if entry.resource == "pods"
        and entry.verb not in {"get", "list", "watch"}
        # A scheduler that does not know the new Node yet says on the pod that it waits.
        and (entry.user, entry.subresource) != (SCHEDULER, "status")
    )
    # The controller names no pod when it creates one: all of the namespace are counted.
    assert asked == {
        "create pods/ 201": 1,
        "create pods/binding 201": 1,
        "patch pods/status 200": 1,
    }
    events = await stage.home.list(
        "events",
        namespace=namespace,
        fieldSelector=f"involvedObject.name={name},reason=DaemonSetNotAllowed",
    )
    assert len(events) == 1
    assert events[0].get("count", 1) == 1

    await stage.home.delete("daemonsets", name=NAME, namespace=namespace)
    await stage.seen(name, rest.gone)


async def _refused(stage: Stage) -> rest.Object:
    """The pod that the controller has made for the node, refused."""
    async with asyncio.timeout(rest.PATIENCE):
        while True:
            pods = await stage.home.list("pods", namespace=stage.workspace.home)
            if pods and "nodeName" in pods[0]["spec"]:  # the scheduler has bound it
                (pod,) = pods
                assert pod["spec"]["nodeName"] == stage.node
                return await stage.seen(pod["metadata"]["name"], rest.reason("DaemonSetNotAllowed"))
            await asyncio.sleep(0.1)


def daemonset(node: str) -> dict[str, Any]:
    """It tolerates everything, and is kept to one node so that it is told from its like."""
    labels = {"app": NAME}
    return {
        "metadata": {"name": NAME},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "nodeSelector": {"kubernetes.io/hostname": node},
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [{"name": "main", "image": images.CLIENTS}],
                },
            },
        },
    }
