"""From the released version to this one and back, while pods are created, end and are deleted.

Both use the same identities and permissions. The released one is read from the history of this
repository, and runs with the present dependencies.
"""

import asyncio
import io
import random
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from clusters import farlet as farlets
from clusters import rest
from conftest import StartFarlet
from farlet import __version__
from faults import random_pods
from faults.environment import Environment

pytestmark = [pytest.mark.clusters, pytest.mark.soak]

SEED = 1_2026
RELEASED, COMMIT = "0.1.0", "bdca204c"  # the commit of the tag v0.1.0
FIRST = 60
CREATED, DELETED = 8, 6  # while one replaces the other


async def test_an_upgrade_and_a_rollback_neither_lose_nor_repeat_nor_change_a_pod(
    env: Environment, start_farlet: StartFarlet, tmp_path: Path
) -> None:
    old = await start_farlet(
        env.node,
        arguments=random_pods.ARGUMENTS,
        program=(sys.executable, "-P", "-m", "farlet"),
        environment={"PYTHONPATH": str(_operator(tmp_path))},
    )
    rng = random.Random(SEED)
    workload = random_pods.Workload(env, rng)
    await workload.create_pods(FIRST)
    await workload.create_real_pods()
    await env.create(env.pod("running"))
    running = await env.mirror("running", rest.phase("Running"))
    await env.settled()

    new: farlets.Farlet | None = None
    for version in (__version__, RELEASED, __version__, RELEASED):
        changing = asyncio.gather(
            workload.create_pods(CREATED),
            workload.delete_pods(DELETED),
            workload.create_real_pods(),
        )
        if new is None:
            await old.stop()
            new = await start_farlet(env.node, arguments=random_pods.ARGUMENTS)
        else:
            before, after = (old, new) if version == __version__ else (new, old)
            await before.stop()
            after.start()
            await after.ready()
        await changing
        await env.home.until("nodes", _runs(version), name=env.node)
        random_pods.check_consistency(await env.settled(), workload)

    await workload.check_runs()
    now = await env.mirror("running", rest.phase("Running"))
    assert now["metadata"] == running["metadata"]


def _operator(folder: Path) -> Path:
    """The folder `operator` of the released version."""
    archive = subprocess.run(
        ["git", "-C", farlets.ROOT, "archive", COMMIT, "operator"],
        check=True,
        capture_output=True,
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        found.extractall(folder, filter="data")
    return folder / "operator"


def _runs(version: str) -> rest.Condition:
    """Whether the Node was written by farlet of this version."""
    return lambda node: (
        node is not None
        and node["status"]["nodeInfo"]["containerRuntimeVersion"] == f"farlet://{version}"
    )
