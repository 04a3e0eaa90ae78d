"""API servers that die or hang under load, rejected token requests, and wrong clocks."""

import asyncio
import base64
import contextlib
import datetime
import json
import random
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest

from clusters import rest
from conftest import StartFarlet
from faults import failures, manifests, proxy, writes
from faults.environment import Environment
from faults.fixtures import StartProxied

pytestmark = [pytest.mark.clusters, pytest.mark.takes(450)]

SEED = 20261122
PAUSE_SECONDS = 8.0
RETRY_AFTER = 4
DOWN_SECONDS = 4.0
AT_LEAST = 15  # pods created before, between and after kills
LOADED_SECONDS = 120.0
FIXED_SECONDS = 15.0 + 15.0  # the maximum backoff, and a busy machine


@contextlib.asynccontextmanager
async def load(env: Environment, seed: int) -> AsyncIterator[list[str]]:
    """Create, end and delete pods; yield the names of all created ones."""
    made: list[str] = []
    over = asyncio.Event()

    async def churn() -> None:
        rng = random.Random(seed)
        number = 0
        while not over.is_set():
            number += 1
            restart = rng.choice(["Always", "Never", "OnFailure"])
            after = f"{rng.randint(100, 3000)}ms"
            ends = restart != "Always" and rng.random() < 0.5
            name = f"load-{number}"
            pod = env.pod(
                name,
                restart=restart,
                annotations=manifests.finishing("Succeeded", after=after) if ends else {},
            )
            # A request without response may have succeeded, so no name is used twice.
            with contextlib.suppress(aiohttp.ClientError, OSError, rest.ApiError):
                await env.create(pod)
                made.append(name)
            if made and rng.random() < 0.4:
                with contextlib.suppress(aiohttp.ClientError, OSError, rest.ApiError):
                    await env.delete(rng.choice(made))
            await asyncio.sleep(0.1)

    task = asyncio.create_task(churn())
    try:
        yield made
    finally:
        over.set()
        await task


async def more(made: list[str], count: int) -> None:
    """Return once `count` more pods of the load are created."""
    wanted = len(made) + count
    async with asyncio.timeout(LOADED_SECONDS):
        while len(made) < wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


@pytest.mark.both_identities
@pytest.mark.parametrize("side", [writes.HOME, writes.FOREIGN])
async def test_both_clusters_agree_after_an_api_server_was_killed_under_load(
    env: Environment, start_farlet: StartFarlet, side: str
) -> None:
    began = env.clusters.foreign.audit_mark()
    farlet = await start_farlet(env.node)
    server = getattr(env.clusters, side).apiserver
    async with load(env, SEED) as made:
        await more(made, AT_LEAST)
        for _ in range(2):
            server.kill()
            await asyncio.sleep(DOWN_SECONDS)
            server.start()
            await asyncio.to_thread(server.wait_ready)
            await more(made, AT_LEAST)
    observation = await env.settled(seconds=120)
    assert farlet.process.alive
    never_lost(observation.pods)
    runs_once(env.runs(began))


async def test_a_hanging_foreign_api_server_does_not_block_work_in_the_home_cluster(
    env: Environment, start_farlet: StartFarlet
) -> None:
    began = env.clusters.foreign.audit_mark()
    await start_farlet(env.node)
    await env.create(env.pod("before", restart="Never"))
    await env.seen("before", rest.phase("Running"))
    await env.settled()
    env.clusters.foreign.apiserver.pause()
    try:
        await env.create(
            env.pod("meanwhile", restart="Never"),
            env.pod("refused", annotations={manifests.SUPPORT: "nonsense"}),
        )
        await env.seen("refused", rest.reason("InvalidAPIServerSupport"))
        await asyncio.sleep(PAUSE_SECONDS)
        seen = await env.home.get("pods", name="before", namespace=env.workspace.home)
        assert manifests.state(seen) == "Running/-"
    finally:
        env.clusters.foreign.apiserver.resume()
    observation = await env.settled()
    never_lost(observation.pods)
    assert env.runs(began) == {"before": 1, "meanwhile": 1}


async def test_pods_show_an_unreachable_foreign_api_server_and_start_when_it_is_back(
    env: Environment, start_proxied: StartProxied, foreign_proxy: proxy.Proxy
) -> None:
    began = env.clusters.foreign.audit_mark()
    await start_proxied(env.node)
    await env.create(env.pod("before", restart="Never"))
    await env.seen("before", rest.phase("Running"))
    await env.settled()
    gone = foreign_proxy.on(writes.everything, failures.cut())
    foreign_proxy.cut_watches()
    await env.create(env.pod("late"))
    late = await env.seen("late", rest.reason("ForeignUnreachable"))
    assert "farlet keeps trying" in late["status"]["message"]
    before = await env.home.get("pods", name="before", namespace=env.workspace.home)
    assert manifests.state(before) == "Running/-"
    gone.end()
    back = time.monotonic()
    await env.seen("late", rest.phase("Running"))
    assert time.monotonic() - back < FIXED_SECONDS
    await env.settled()
    assert env.runs(began) == {"before": 1, "late": 1}


@pytest.mark.both_identities
async def test_a_rejected_token_request_is_reported_and_retried(
    env: Environment, start_farlet: StartFarlet
) -> None:
    began = env.clusters.foreign.audit_mark()
    account = {"metadata": {"name": "short-lived"}}
    namespace = env.workspace.home
    await env.home.create("serviceaccounts", account, namespace=namespace)
    await env.create(env.pod("waits", spec={"serviceAccountName": "short-lived"}))
    await env.home.delete("serviceaccounts", name="short-lived", namespace=namespace)
    await start_farlet(env.node)
    waiting = await env.seen("waits", rest.reason("TokenRequestFailed"))
    assert "short-lived" in waiting["status"]["message"]
    assert waiting["status"]["phase"] == "Pending"
    assert (await env.observe()).mirrors == []
    await env.home.create("serviceaccounts", account, namespace=namespace)
    await env.seen("waits", rest.phase("Running"))
    await env.settled()
    assert env.runs(began) == {"waits": 1}


async def test_pods_start_after_the_home_api_server_answered_everything_with_try_later(
    env: Environment, start_proxied: StartProxied, home_proxy: proxy.Proxy
) -> None:
    busy = home_proxy.on(
        lambda request: not request.watch,
        failures.refused(429, reason="TooManyRequests", headers={"Retry-After": "1"}),
    )
    farlet = await start_proxied(env.node, ready=False)
    await env.create(env.pod("one"))
    await busy.hit(3)
    busy.end()
    await farlet.ready()
    await env.seen("one", rest.phase("Running"))
    await env.settled()


@pytest.mark.parametrize("side", [writes.HOME, writes.FOREIGN])
async def test_retry_after_is_obeyed(
    env: Environment,
    start_proxied: StartProxied,
    home_proxy: proxy.Proxy,
    foreign_proxy: proxy.Proxy,
    side: str,
) -> None:
    await start_proxied(env.node)
    await env.create(env.pod("first"))
    await env.settled()
    kind = writes.KINDS["token" if side == writes.HOME else "mirror"]
    busy = (home_proxy if side == writes.HOME else foreign_proxy).on(
        kind.match,
        failures.refused(429, reason="TooManyRequests", headers={"Retry-After": str(RETRY_AFTER)}),
    )
    await env.create(env.pod("one"))
    await busy.hit(2)
    busy.end()
    first, second, *_ = busy.times
    assert second - first >= RETRY_AFTER
    await env.seen("one", rest.phase("Running"))


HOURS = {"three hours ahead": 3, "three hours behind": -3}


@pytest.mark.parametrize("opaque", [False, True], ids=["JSON Web Token", "another kind of token"])
@pytest.mark.parametrize("hours", [pytest.param(h, id=name) for name, h in HOURS.items()])
async def test_the_lifetime_of_tokens_is_right_although_the_home_clock_is_wrong(
    env: Environment,
    start_proxied: StartProxied,
    home_proxy: proxy.Proxy,
    hours: int,
    opaque: bool,
) -> None:
    granted = 0

    def skewed(answer: rest.Object) -> rest.Object:
        nonlocal granted
        granted += 1
        status = answer["status"]
        expires = datetime.datetime.fromisoformat(status["expirationTimestamp"])
        moved = expires + datetime.timedelta(hours=hours)
        value = "opaque" if opaque else _token_of(moved.timestamp() - 3600)
        return {**answer, "status": {"token": value, "expirationTimestamp": moved.isoformat()}}

    home_proxy.on(writes.KINDS["token"].match, failures.changed(skewed))
    await start_proxied(env.node)
    began = int(time.time())
    await env.create(env.pod("one"))
    await env.seen("one", rest.phase("Running"))
    await env.settled()
    mirror = await env.mirror("one", rest.exists)
    ((issued, expires),) = json.loads(mirror["metadata"]["annotations"][manifests.TOKENS]).values()
    assert began <= issued <= time.time()
    assert abs(expires - issued - 3600) < 30
    await asyncio.sleep(3)
    # No hot loop of refreshes: requests that lagging caches reject are retried, but not granted.
    assert granted == 1


def _token_of(issued: float) -> str:
    """A token-like string with an issue time in its payload."""
    payload = base64.urlsafe_b64encode(json.dumps({"iat": int(issued)}).encode())
    return f"e30.{payload.decode().rstrip('=')}.c2ln"


def never_lost(pods: list[rest.Object]) -> None:
    """Check that no pod has the reason MirrorLost."""
    lost = [pod["metadata"]["name"] for pod in pods if pod["status"].get("reason") == "MirrorLost"]
    assert lost == []


def runs_once(runs: dict[str, int]) -> None:
    """Check that each mirror was created only once: these tests never lose a mirror."""
    assert {name: count for name, count in runs.items() if count > 1} == {}
