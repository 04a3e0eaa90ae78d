"""From the released version to this one and back, while pods are created, end and are deleted.

farlet and its gateway change one after the other, so that each version of one meets each version of
the other. Both use the same identities and permissions. The released version is read from the
history of this repository, and runs with the present dependencies.
"""

import asyncio
import io
import random
import subprocess
import sys
import tarfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from clusters import farlet as farlets
from clusters import farletimage, gateway, progress, rest
from conftest import StartFarlet
from farlet import __version__
from faults import random_pods
from faults.environment import Environment

pytestmark = [pytest.mark.clusters, pytest.mark.soak]

SEED = 1_2026
RELEASED, COMMIT = "0.1.0", "bdca204c"  # the commit of the tag v0.1.0
IMAGE = f"farlet.test/farlet:{RELEASED}"
FIRST = 60
CREATED, DELETED = 8, 6  # during each change


async def test_an_upgrade_and_a_rollback_neither_lose_nor_repeat_nor_change_a_pod(
    env: Environment, start_farlet: StartFarlet, tmp_path: Path
) -> None:
    released = _checkout(tmp_path / "released")
    async with gateway.installed(env.clusters) as link:
        (tmp_path / "image").mkdir()
        await asyncio.to_thread(
            farletimage.load_other,
            env.clusters.foreign,
            IMAGE,
            source=released,
            folder=tmp_path / "image",
            progress=progress.Progress(),
        )
        old = await start_farlet(
            env.node,
            settings=link.settings,
            arguments=random_pods.ARGUMENTS,
            program=(sys.executable, "-P", "-m", "farlet"),
            environment={"PYTHONPATH": str(released / "operator")},
        )
        await link.use(IMAGE)
        workload = random_pods.Workload(env, random.Random(SEED))
        await workload.create_pods(FIRST)
        await workload.create_real_pods()
        await env.create(env.pod("running"))
        running = await env.mirror("running", rest.phase("Running"))
        await env.settled()

        async def change(step: Coroutine[Any, Any, None]) -> None:
            """Do one step of an upgrade while pods come and go."""
            await asyncio.gather(
                step,
                workload.create_pods(CREATED),
                workload.delete_pods(DELETED),
                workload.create_real_pods(),
            )
            random_pods.check_consistency(await env.settled(), workload)

        await old.stop()
        new = await start_farlet(env.node, settings=link.settings, arguments=random_pods.ARGUMENTS)
        await change(link.use(farletimage.NAME))
        await change(_replace(env, new, old, RELEASED))
        await change(link.use(IMAGE))
        await change(_replace(env, old, new, __version__))
        await change(link.use(farletimage.NAME))
        await change(_replace(env, new, old, RELEASED))
        await change(link.use(IMAGE))

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
    await env.home.until("nodes", _runs(version), name=env.node)


def _checkout(folder: Path) -> Path:
    """The tree of the released version."""
    archive = subprocess.run(
        ["git", "-C", farlets.ROOT, "archive", COMMIT], check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        found.extractall(folder, filter="data")
    return folder


def _runs(version: str) -> rest.Condition:
    """Whether the Node was written by farlet of this version."""
    return lambda node: (
        node is not None
        and node["status"]["nodeInfo"]["containerRuntimeVersion"] == f"farlet://{version}"
    )
