"""farlet is killed at random moments while hundreds of pods are created, end and are deleted."""

import asyncio
import random

import pytest

from conftest import StartFarlet
from faults import random_pods
from faults.environment import Environment

pytestmark = [pytest.mark.clusters, pytest.mark.core, pytest.mark.takes(120)]

SEED = 7_2026
KILLS = 30
FIRST = 80
CREATED, DELETED = 6, 6  # per kill
REAL_EVERY = 2  # kills between two pods on the real node
BUSY_SECONDS = 1.2  # maximum time from the first new pod to the kill


async def test_thirty_kills_neither_lose_nor_repeat_a_pod(
    env: Environment, start_farlet: StartFarlet
) -> None:
    rng = random.Random(SEED)
    workload = random_pods.Workload(env, rng)
    farlet = await start_farlet(env.node, arguments=random_pods.ARGUMENTS)
    await workload.create_pods(FIRST)
    for number in range(KILLS):
        changing = asyncio.gather(workload.create_pods(CREATED), workload.delete_pods(DELETED))
        if number % REAL_EVERY == 0:
            await workload.create_real_pods()
        await asyncio.sleep(rng.random() * BUSY_SECONDS)
        farlet.kill()
        await changing
        farlet.start()
        await farlet.ready()
        random_pods.check_consistency(await env.settled(steady=0.5), workload)

    await workload.check_runs()
    assert len(workload.policies) > 200
