"""What a kubelet does for a pod that it has not started is done for pods that wait, too."""

import asyncio

import pytest

from clusters import kwok, rest
from conftest import StartFarlet
from faults import manifests
from faults.environment import Environment
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.takes(40)]

WORDS = "Pod was active on the node longer than the specified deadline"


def waiting(name: str, node: str, **spec: object) -> rest.Object:
    """A pod that farlet does not run, since it uses the network of its node."""
    access = manifests.access("disabled")
    return realpods.bound(
        realpods.pod(name, "true", annotations=access, hostNetwork=True, **spec), node
    )


@pytest.mark.both_identities
async def test_the_active_deadline_holds_before_a_foreign_kubelet_has_the_pod(
    env: Environment, start_farlet: StartFarlet
) -> None:
    await start_farlet(env.node)
    nowhere = realpods.pod(
        "unscheduled",
        "true",
        annotations=manifests.access("disabled"),
        nodeSelector={kwok.LABEL: "nowhere"},
        activeDeadlineSeconds=8,
    )
    await env.create(
        realpods.bound(nowhere, env.node), waiting("waits", env.node, activeDeadlineSeconds=4)
    )
    await env.mirror("unscheduled", rest.exists, seconds=rest.PATIENCE)
    for name in ("waits", "unscheduled"):
        ended = await env.seen(name, rest.phase("Failed"), seconds=60)
        status = ended["status"]
        assert (status["reason"], status["message"]) == ("DeadlineExceeded", WORDS)
        [state] = [one["state"]["terminated"] for one in status["containerStatuses"]]
        assert (state["exitCode"], state["reason"]) == (137, "ContainerStatusUnknown")
        conditions = {one["type"]: one["status"] for one in status["conditions"]}
        assert (conditions["Ready"], conditions["PodScheduled"]) == ("False", "True")
        event = await realpods.event(
            env.home, name, namespace=env.workspace.home, reason="DeadlineExceeded"
        )
        assert (event["type"], event["message"]) == ("Normal", WORDS)
    await env.mirror("unscheduled", rest.gone, seconds=rest.PATIENCE)


async def test_a_job_replaces_a_pod_that_was_deleted_while_it_waited(
    env: Environment, start_farlet: StartFarlet
) -> None:
    """With this policy the Job waits until the deleted pod is Failed."""
    await start_farlet(env.node)
    template = waiting("one", env.node)
    job = {
        "metadata": {"name": "job"},
        "spec": {"podReplacementPolicy": "Failed", "backoffLimit": 9, "template": template},
    }
    await env.home.create("batch/v1/jobs", job, namespace=env.workspace.home)
    first = await _pod_of_job(env)
    await env.delete(first)
    second = await _pod_of_job(env, but=first)
    assert second != first
    await env.seen(first, rest.gone, seconds=rest.PATIENCE)


async def _pod_of_job(env: Environment, *, but: str = "") -> str:
    """The name of a pod that waits with a reason; `but`: another one than this."""
    async with asyncio.timeout(60):
        async for _, pod in env.home.watch(
            "pods", namespace=env.workspace.home, labelSelector="job-name=job", resourceVersion="0"
        ):
            name: str = pod["metadata"]["name"]
            if name != but and pod["status"].get("reason") == "PodFeatureNotAllowed":
                return name
    raise AssertionError("the watch of pods ended")
