"""Pods of home controllers, placed by the home scheduler.

Most other tests bind pods themselves; here the components of the home cluster do it: Deployment,
ReplicaSet, scheduler, and the deletion by a controller.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from clusters import images, kwok, rest, virtualnode
from clusters.workspace import Workspace
from conftest import StartFarlet

pytestmark = pytest.mark.clusters

LABELS = {"app": "web"}


@pytest.mark.both_identities
async def test_a_deployment_runs_scales_and_replaces_deleted_pods_in_the_foreign_cluster(
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    await start_farlet(node)
    await home.create("deployments", deployment(node, replicas=3), namespace=workspace.home)
    await home.until("deployments", available(3), name="web", namespace=workspace.home)

    pods = await home.list("pods", namespace=workspace.home)
    mirrors = await foreign.list("pods", namespace=workspace.foreign)
    assert {p["spec"]["nodeName"] for p in pods} == {node}
    assert names(mirrors) == names(pods)
    for pod in pods:
        # The condition of the scheduler, which farlet must not rewrite.
        scheduled = next(c for c in pod["status"]["conditions"] if c["type"] == "PodScheduled")
        assert scheduled["status"] == "True"
    for mirror in mirrors:
        owners = mirror["metadata"]["ownerReferences"]
        assert [o["kind"] for o in owners] == ["Namespace"], (
            "the ReplicaSet does not exist in the foreign cluster"
        )

    victim = pods[0]["metadata"]["name"]
    await home.delete("pods", name=victim, namespace=workspace.home)
    await home.until("pods", rest.gone, name=victim, namespace=workspace.home)
    # The status of the Deployment may be out of date.
    async with asyncio.timeout(rest.PATIENCE):
        while len(await running(home, workspace.home)) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    await home.until("deployments", available(3), name="web", namespace=workspace.home)

    await home.patch("deployments", {"spec": {"replicas": 1}}, name="web", namespace=workspace.home)
    await home.until("deployments", available(1), name="web", namespace=workspace.home)
    pods = await home.list("pods", namespace=workspace.home)
    (last,) = names([pod for pod in pods if "deletionTimestamp" not in pod["metadata"]])
    for name in names(mirrors) - {last}:
        await home.until("pods", rest.gone, name=name, namespace=workspace.home)
        await foreign.until("pods", rest.gone, name=name, namespace=workspace.foreign)
    await foreign.until("pods", rest.phase("Running"), name=last, namespace=workspace.foreign)


def deployment(node: str, *, replicas: int) -> dict[str, Any]:
    return {
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": LABELS},
            "template": {
                "metadata": {"labels": LABELS},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "nodeSelector": {"kubernetes.io/hostname": node},
                    "tolerations": [{"key": virtualnode.TAINT, "operator": "Exists"}],
                    "affinity": {"nodeAffinity": preferring_fake_nodes()},
                    "containers": [
                        {"name": "main", "image": images.CLIENTS, "command": ["sleep", "inf"]}
                    ],
                },
            },
        },
    }


def preferring_fake_nodes() -> dict[str, Any]:
    expression = {"key": kwok.LABEL, "operator": "In", "values": ["fake"]}
    return {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "preference": {"matchExpressions": [expression]}}
        ]
    }


def available(number: int) -> rest.Condition:
    def condition(seen: rest.Object | None) -> bool:
        status: dict[str, Any] = (seen or {}).get("status", {})
        counts = {status.get("availableReplicas"), status.get("replicas")}
        return counts == {number}

    return condition


async def running(home: rest.Api, namespace: str) -> set[str]:
    pods = await home.list("pods", namespace=namespace)
    return names([pod for pod in pods if rest.phase("Running")(pod)])


def names(pods: list[rest.Object]) -> set[str]:
    return {pod["metadata"]["name"] for pod in pods}
