"""A DaemonSet whose pods tolerate everything: its controller creates one for the virtual node too.

farlet rejects the pod without making it Failed, since the controller would recreate a failed one
again and again.
"""

import asyncio
import collections
from typing import Any

import pytest

from clusters import images, rest
from conftest import StartFarlet
from faults import manifests
from faults.environment import Environment

pytestmark = [pytest.mark.clusters, pytest.mark.takes(40)]

NAME = "agent"
SCHEDULER = "system:kube-scheduler"


async def test_a_daemonset_creates_one_pending_pod_and_no_churn(
    env: Environment, start_farlet: StartFarlet
) -> None:
    await start_farlet(env.node)
    await _one_pod_and_no_churn(env, seconds=15)


@pytest.mark.soak
async def test_a_daemonset_creates_one_pod_and_no_churn_in_five_minutes(
    env: Environment, start_farlet: StartFarlet
) -> None:
    await start_farlet(env.node)
    await _one_pod_and_no_churn(env, seconds=300)


async def _one_pod_and_no_churn(env: Environment, *, seconds: float) -> None:
    namespace = env.workspace.home
    marks = env.clusters.home.audit_mark(), env.clusters.foreign.audit_mark()
    await env.home.create("daemonsets", daemonset(env.node), namespace=namespace)
    waiting = await _refused(env)
    name = waiting["metadata"]["name"]
    await asyncio.sleep(seconds)

    (still,) = await env.home.list("pods", namespace=namespace)
    assert manifests.uid(still) == manifests.uid(waiting)
    assert manifests.state(still) == "Pending/DaemonSetNotAllowed"
    assert (await env.observe()).mirrors == []
    assert env.runs(marks[1]) == {}
    asked = collections.Counter(
        f"{entry.verb} {entry.resource}/{entry.subresource} {entry.code}"
        for entry in env.clusters.home.audit(since=marks[0], namespace=namespace)
        if entry.resource == "pods"
        and entry.verb not in {"get", "list", "watch"}
        # A scheduler that does not know the new Node yet writes a condition to the pod.
        and (entry.user, entry.subresource) != (SCHEDULER, "status")
    )
    # Creations contain no pod name, so all of the namespace are counted.
    assert asked == {
        "create pods/ 201": 1,
        "create pods/binding 201": 1,
        "patch pods/status 200": 1,
    }
    events = await env.home.list(
        "events",
        namespace=namespace,
        fieldSelector=f"involvedObject.name={name},reason=DaemonSetNotAllowed",
    )
    assert len(events) == 1
    assert events[0].get("count", 1) == 1

    await env.home.delete("daemonsets", name=NAME, namespace=namespace)
    await env.seen(name, rest.gone)


async def _refused(env: Environment) -> rest.Object:
    """The pod that the controller has created for the node, rejected by farlet."""
    async with asyncio.timeout(rest.PATIENCE):
        while True:
            pods = await env.home.list("pods", namespace=env.workspace.home)
            if pods and "nodeName" in pods[0]["spec"]:  # the scheduler has bound it
                (pod,) = pods
                assert pod["spec"]["nodeName"] == env.node
                return await env.seen(pod["metadata"]["name"], rest.reason("DaemonSetNotAllowed"))
            await asyncio.sleep(0.1)


def daemonset(node: str) -> dict[str, Any]:
    """It tolerates everything, and selects one node."""
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
