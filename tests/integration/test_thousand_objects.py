"""A thousand distinct ConfigMaps: memory, CPU while idle, and how soon a change arrives."""

import asyncio
import statistics
import time

import pytest

from clusters import kwok, rest
from clusters.workspace import Workspace
from conftest import StartFarlet
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.soak]

OBJECTS = 1_000
PODS = 20
MOST_MIB = 60.0
IDLE_SECONDS = 60
MOST_IDLE = 0.02
"""Of one core, beyond what the same pods without ConfigMaps cost."""
CHANGES = 300
PAUSE_SECONDS = 0.1
SOON_SECONDS = 2.0


def pod(number: int, node: str, names: list[str]) -> rest.Object:
    wanted = realpods.pod(
        f"{'user' if names else 'plain'}-{number}",
        "true",
        nodeSelector={kwok.LABEL: "fake"},
        restartPolicy="Always",
    )
    wanted["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": n}} for n in names]
    return realpods.bound(wanted, node)


async def test_a_thousand_objects_cost_little_and_changes_arrive_soon(
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    farlet = await start_farlet(node)

    async def run(pods: list[rest.Object]) -> tuple[float, float]:
        """MiB, and the share of a core while idle."""
        for each in pods:
            await home.create("pods", each, namespace=workspace.home)
        for each in pods:
            await home.until(
                "pods",
                rest.phase("Running"),
                name=each["metadata"]["name"],
                namespace=workspace.home,
                seconds=300,
            )
        await asyncio.sleep(10)
        before, began = farlet.usage().cpu_seconds, time.monotonic()
        await asyncio.sleep(IDLE_SECONDS)
        usage = farlet.usage()
        busy = (usage.cpu_seconds - before) / (time.monotonic() - began)
        return usage.rss_bytes / 2**20, busy

    names = [f"map-{number}" for number in range(OBJECTS)]
    for start in range(0, OBJECTS, 20):
        await asyncio.gather(
            *(_create(home, workspace, name) for name in names[start : start + 20])
        )
    plain = await run([pod(n, node, []) for n in range(PODS)])
    each = OBJECTS // PODS
    used = await run([pod(n, node, names[n * each : (n + 1) * each]) for n in range(PODS)])
    print(
        f"plain: {plain[0]:.1f} MiB, {plain[1]:.2%}; with objects: {used[0]:.1f} MiB, {used[1]:.2%}"
    )

    took = await _changes(home, foreign, workspace, names)
    p99 = statistics.quantiles(took, n=100)[98]
    print(
        f"changes: median {statistics.median(took):.3f} s, p99 {p99:.3f} s, most {max(took):.3f} s"
    )
    assert used[0] - plain[0] <= MOST_MIB
    assert used[1] - plain[1] <= MOST_IDLE
    assert p99 <= SOON_SECONDS


async def _create(home: rest.Api, workspace: Workspace, name: str) -> None:
    body = {"metadata": {"name": name}, "data": {"key": "0" * 1000}}
    await home.create("configmaps", body, namespace=workspace.home)


async def _changes(
    home: rest.Api, foreign: rest.Api, workspace: Workspace, names: list[str]
) -> list[float]:
    """Seconds from each change at home until the copy has it."""
    sent: dict[str, float] = {}
    took: dict[str, float] = {}

    async def follow() -> None:
        async for _, found in foreign.watch("configmaps", namespace=workspace.foreign):
            change = (found.get("data") or {}).get("change", "")
            if change in sent and change not in took:
                took[change] = time.monotonic() - sent[change]
                if len(took) == CHANGES:
                    return

    following = asyncio.create_task(follow())
    for number in range(CHANGES):
        change = str(number)
        name = names[number * 7 % OBJECTS]
        body = {"data": {"change": change}}
        sent[change] = time.monotonic()
        await home.patch("configmaps", body, name=name, namespace=workspace.home)
        await asyncio.sleep(PAUSE_SECONDS)
    async with asyncio.timeout(30):
        await following
    return list(took.values())
