"""On SIGTERM a leader hands its node over at once, whatever streams are open."""

import asyncio
import time

import pytest

from clusters import farlet as farlets
from clusters import pair, rest
from clusters.workspace import Workspace
from conftest import StartFarlet
from integration.streaming import Far

pytestmark = pytest.mark.clusters

RETRY = 1.0
WITHIN = 2.0
"""Seconds from the signal to the next leader, and from a new pod to its mirror."""
SETTINGS = {
    "leader-elect": "true",
    "leader-elect-lease-duration": "12s",
    "leader-elect-renew-deadline": "8s",
    "leader-elect-retry-period": f"{RETRY:g}s",
}


async def test_a_standby_serves_new_pods_while_an_exec_of_the_old_leader_is_open(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    old = await start_farlet(node, settings=SETTINGS)
    new = await start_farlet(node, settings=SETTINGS)
    far = Far(clusters, home, workspace, node, old)
    await far.pod("first")
    shell = ("exec", "-i", "first", "--", "cat")
    async with far.kubectl().running(*shell, stdin=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"before\n")
        assert await process.stdout.readline() == b"before\n"
        stopping = asyncio.create_task(old.stop())
        began = time.monotonic()
        await _leads(new)
        took = time.monotonic() - began
        await far.create("second")
        created = time.monotonic()
        await foreign.until("pods", rest.exists, name="second", namespace=workspace.foreign)
        mirrored = time.monotonic() - created
        process.stdin.write(b"after\n")
        assert await process.stdout.readline() == b"after\n"
        assert not stopping.done()
        process.stdin.close()
        assert await process.wait() == 0
    assert await stopping == 0
    assert took < WITHIN + RETRY
    assert mirrored < WITHIN
    assert "waiting for open streams" in old.log
    again = await far.kubectl().run("exec", "first", "--", "echo", "again")
    assert (again.code, again.out) == (0, b"again\n"), again.err


async def _leads(farlet: farlets.Farlet) -> None:
    """Return once its metrics show that it leads."""
    async with asyncio.timeout(30):
        while not await farlet.leads():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
