"""From the released version to this one and back, while pods are created, end and are deleted.

farlet and its gateway change one after the other, so that each version of one meets each version of
the other. Both use the same identities and permissions, and the released version runs with the
present dependencies.
"""

import asyncio
import random
import sys
from pathlib import Path

import pytest

from clusters import farlet as farlets
from clusters import farletimage, gateway, rest
from conftest import StartFarlet
from farlet import __version__
from faults import random_pods, released
from faults.environment import Environment

pytestmark = [pytest.mark.clusters, pytest.mark.soak]

SEED = 1_2026
FIRST = 60


async def test_an_upgrade_and_a_rollback_neither_lose_nor_repeat_nor_change_a_pod(
    env: Environment, start_farlet: StartFarlet, tmp_path: Path
) -> None:
    source = released.checkout(tmp_path / "released")
    async with gateway.installed(env.clusters) as link:
        await asyncio.to_thread(
            released.load_image, env.clusters.foreign, source=source, folder=tmp_path / "image"
        )
        old = await start_farlet(
            env.node,
            settings=link.settings,
            arguments=random_pods.ARGUMENTS,
            program=(sys.executable, "-P", "-m", "farlet"),
            environment={"PYTHONPATH": str(source / "operator")},
        )
        await link.use(released.IMAGE)
        workload = random_pods.Workload(env, random.Random(SEED))
        await workload.create_pods(FIRST)
        await workload.create_real_pods()
        await env.create(env.pod("running"))
        running = await env.mirror("running", rest.phase("Running"))
        await env.settled()

        await old.stop()
        new = await start_farlet(env.node, settings=link.settings, arguments=random_pods.ARGUMENTS)
        await workload.accompany(link.use(farletimage.NAME))
        await workload.accompany(_replace(env, new, old, released.VERSION))
        await workload.accompany(link.use(released.IMAGE))
        await workload.accompany(_replace(env, old, new, __version__))
        await workload.accompany(link.use(farletimage.NAME))
        await workload.accompany(_replace(env, new, old, released.VERSION))
        await workload.accompany(link.use(released.IMAGE))

        await workload.check_runs()
        now = await env.mirror("running", rest.phase("Running"))
        assert now["metadata"] == running["metadata"]


async def _replace(
    env: Environment, before: farlets.Farlet, after: farlets.Farlet, version: str
) -> None:
    """Stop one farlet and start the other; the Node shows its version."""
    await before.stop()
    after.start()
    await after.ready()
    await env.home.until("nodes", released.runs(version), name=env.node)
