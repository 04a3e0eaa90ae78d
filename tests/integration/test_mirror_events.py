"""`kubectl describe pod` in the home cluster tells what happens to the mirror.

The Events are those that a real scheduler and a real kubelet of the foreign cluster write.
"""

from __future__ import annotations

import asyncio
import re

import pytest

from clusters import kwok, pair, rest
from clusters.workspace import Workspace
from conftest import StartFarlet
from faults import manifests
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.takes(90)]

SETTINGS = {"foreign-node-labels": kwok.LABEL}
PATIENCE = 120.0
PLAIN = ("Scheduled", "Pulled", "Created", "Started")


def failing_pods(node: str) -> dict[str, rest.Object]:
    """By the reason of the Event: pods that cannot start, or not well."""

    def pod(name: str, **more: object) -> rest.Object:
        access = manifests.access("disabled")
        return realpods.bound(realpods.pod(name, "sleep", "inf", annotations=access, **more), node)

    image = realpods.container("main") | {"image": "registry.invalid/none:1"}
    probe = {"exec": {"command": ["sh", "-c", "echo not yet; exit 1"]}, "periodSeconds": 1}
    secret = {"name": "missing", "secret": {"secretName": "not-there"}}
    return {
        "Failed": pod("image", containers=[image]),
        "Unhealthy": pod(
            "probe",
            containers=[realpods.container("main", "sleep", "inf", readinessProbe=probe)],
        ),
        "FailedMount": pod(
            "volume",
            volumes=[secret],
            containers=[
                realpods.container(
                    *("main", "sleep", "inf"),
                    volumeMounts=[{"name": "missing", "mountPath": "/missing"}],
                )
            ],
        ),
        "FailedScheduling": pod("nowhere", nodeSelector={kwok.LABEL: "nowhere"}),
    }


SHOWN = {
    "Failed": r"kubelet +spec\.containers\{main\}: in the foreign cluster: .*registry\.invalid",
    "Unhealthy": r"kubelet +spec\.containers\{main\}: Readiness probe failed: not yet",
    "FailedMount": r"kubelet +in the foreign cluster: MountVolume.* secret \"not-there\" not found",
    "FailedScheduling": r"default-scheduler +in the foreign cluster: 0/\d+ nodes are available",
}
"""What `kubectl describe` prints after type, reason and age: source and message."""


@pytest.mark.both_identities
async def test_describe_shows_why_a_pod_does_not_run(
    clusters: pair.Clusters,
    home: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    await start_farlet(node, settings=SETTINGS)
    pods = failing_pods(node)
    for pod in pods.values():
        await home.create("pods", pod, namespace=workspace.home)
    for reason, pod in pods.items():
        name = pod["metadata"]["name"]
        event = await realpods.event(
            home, name, namespace=workspace.home, reason=reason, seconds=PATIENCE
        )
        live = await home.get("pods", name=name, namespace=workspace.home)
        assert event["involvedObject"]["uid"] == live["metadata"]["uid"]
        assert event["type"] == "Warning"
        printed = await _describe(clusters, name, workspace.home)
        line = rf"Warning +{reason} +\S+( \(x\d+ over \S+\))? +{SHOWN[reason]}"
        assert re.search(line, printed), printed

    # The kubelet continues to count in its Event, and so does home.
    probed = f"involvedObject.name={pods['Unhealthy']['metadata']['name']},reason=Unhealthy"
    (event,) = await home.list("events", namespace=workspace.home, fieldSelector=probed)
    more = event["count"] + 1
    await home.until(
        "events",
        lambda seen: seen is not None and seen["count"] >= more,
        name=event["metadata"]["name"],
        namespace=workspace.home,
    )


async def test_describe_shows_where_a_pod_runs_and_a_restart_replays_nothing(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    farlet = await start_farlet(node, settings=SETTINGS)
    access = manifests.access("disabled")
    pod = realpods.pod("web", "sleep", "inf", annotations=access, terminationGracePeriodSeconds=2)
    await home.create("pods", realpods.bound(pod, node), namespace=workspace.home)
    for reason in PLAIN:
        await realpods.event(home, "web", namespace=workspace.home, reason=reason, seconds=PATIENCE)
    mirror = await foreign.get("pods", name="web", namespace=workspace.foreign)
    printed = await _describe(clusters, "web", workspace.home)
    where = f"{workspace.foreign}/web to {mirror['spec']['nodeName']}"
    assert f"in the foreign cluster: Successfully assigned {where}" in printed

    before = await _events(home, workspace.home)
    await farlet.restart()
    body = {"metadata": {"annotations": {"farlet.test/touched": "yes"}}}
    await foreign.patch("pods", body, name="web", namespace=workspace.foreign)
    second = realpods.pod("second", "sleep", "inf", annotations=access)
    await home.create("pods", realpods.bound(second, node), namespace=workspace.home)
    await realpods.event(
        home, "second", namespace=workspace.home, reason="Started", seconds=PATIENCE
    )
    await asyncio.sleep(2)
    assert await _events(home, workspace.home) == before

    await home.delete("pods", name="web", namespace=workspace.home)
    await realpods.event(home, "web", namespace=workspace.home, reason="Killing")


async def _describe(clusters: pair.Clusters, name: str, namespace: str) -> str:
    return await asyncio.to_thread(
        clusters.home.kubectl, "describe", "pod", name, f"--namespace={namespace}"
    )


async def _events(home: rest.Api, namespace: str) -> set[tuple[str, str, int, str]]:
    """Name, reason, count and version of each Event of the pod `web`."""
    found = await home.list("events", namespace=namespace, fieldSelector="involvedObject.name=web")
    return {
        (
            one["metadata"]["name"],
            one["reason"],
            one.get("count") or 1,
            one["metadata"]["resourceVersion"],
        )
        for one in found
    }
