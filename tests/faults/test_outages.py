"""API servers that die or hang under load, tokens that are refused, clocks that are wrong."""

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
from faults.fixtures import StartProxied
from faults.stage import Stage

pytestmark = pytest.mark.clusters

SEED = 20261122
PAUSE_SECONDS = 8.0
RETRY_AFTER = 4
DOWN_SECONDS = 4.0
AT_LEAST = 15  # pods of the load before, between and after kills
LOADED_SECONDS = 120.0
CURED_SECONDS = 15.0 + 15.0  # the longest pause between tries, and a busy machine


@contextlib.asynccontextmanager
async def load(stage: Stage, seed: int) -> AsyncIterator[list[str]]:
    """Pods that come, end and go; the names of all that the home API server has taken."""
    made: list[str] = []
    over = asyncio.Event()

    async def churn() -> None:
        dice = random.Random(seed)
        number = 0
        while not over.is_set():
            number += 1
            restart = dice.choice(["Always", "Never", "OnFailure"])
            after = f"{dice.randint(100, 3000)}ms"
            ends = restart != "Always" and dice.random() < 0.5
            name = f"load-{number}"
            pod = stage.pod(
                name,
                restart=restart,
                annotations=manifests.finishing("Succeeded", after=after) if ends else {},
            )
            # What has no answer may have been done: names are never used twice.
            with contextlib.suppress(aiohttp.ClientError, OSError, rest.ApiError):
                await stage.create(pod)
                made.append(name)
            if made and dice.random() < 0.4:
                with contextlib.suppress(aiohttp.ClientError, OSError, rest.ApiError):
                    await stage.delete(dice.choice(made))
            await asyncio.sleep(0.1)

    task = asyncio.create_task(churn())
    try:
        yield made
    finally:
        over.set()
        await task


async def more(made: list[str], count: int) -> None:
    """Return once home has taken so many more pods of the load."""
    wanted = len(made) + count
    async with asyncio.timeout(LOADED_SECONDS):
        while len(made) < wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


@pytest.mark.both_identities
@pytest.mark.parametrize("side", [writes.HOME, writes.FOREIGN])
async def test_an_api_server_is_killed_under_load_and_comes_back(
    stage: Stage, start_farlet: StartFarlet, side: str
) -> None:
    began = stage.clusters.foreign.audit_mark()
    farlet = await start_farlet(stage.node)
    server = getattr(stage.clusters, side).apiserver
    async with load(stage, SEED) as made:
        await more(made, AT_LEAST)
        for _ in range(2):
            server.kill()
            await asyncio.sleep(DOWN_SECONDS)
            server.start()
            await asyncio.to_thread(server.wait_ready)
            await more(made, AT_LEAST)
    sight = await stage.settled(seconds=120)
    assert farlet.process.alive
    never_lost(sight.pods)
    runs_once(stage.runs(began))


async def test_a_foreign_api_server_that_hangs_stops_nothing_but_itself(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    began = stage.clusters.foreign.audit_mark()
    await start_farlet(stage.node)
    await stage.create(stage.pod("before", restart="Never"))
    await stage.seen("before", rest.phase("Running"))
    await stage.settled()
    stage.clusters.foreign.apiserver.pause()
    try:
        await stage.create(
            stage.pod("meanwhile", restart="Never"),
            stage.pod("refused", annotations={manifests.SUPPORT: "nonsense"}),
        )
        await stage.seen("refused", rest.reason("InvalidAPIServerSupport"))
        await asyncio.sleep(PAUSE_SECONDS)
        seen = await stage.home.get("pods", name="before", namespace=stage.workspace.home)
        assert manifests.state(seen) == "Running/-"
    finally:
        stage.clusters.foreign.apiserver.resume()
    sight = await stage.settled()
    never_lost(sight.pods)
    assert stage.runs(began) == {"before": 1, "meanwhile": 1}


async def test_pods_tell_of_a_foreign_api_server_that_is_gone_and_go_on_when_it_is_back(
    stage: Stage, start_proxied: StartProxied, foreign_door: proxy.Proxy
) -> None:
    began = stage.clusters.foreign.audit_mark()
    await start_proxied(stage.node)
    await stage.create(stage.pod("before", restart="Never"))
    await stage.seen("before", rest.phase("Running"))
    await stage.settled()
    gone = foreign_door.on(writes.everything, failures.cut())
    foreign_door.cut_watches()
    await stage.create(stage.pod("late"))
    late = await stage.seen("late", rest.reason("ForeignUnreachable"))
    assert "farlet keeps trying" in late["status"]["message"]
    before = await stage.home.get("pods", name="before", namespace=stage.workspace.home)
    assert manifests.state(before) == "Running/-"
    gone.end()
    back = time.monotonic()
    await stage.seen("late", rest.phase("Running"))
    assert time.monotonic() - back < CURED_SECONDS
    await stage.settled()
    assert stage.runs(began) == {"before": 1, "late": 1}


@pytest.mark.both_identities
async def test_a_refused_token_is_told_and_asked_for_again(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    began = stage.clusters.foreign.audit_mark()
    account = {"metadata": {"name": "short-lived"}}
    namespace = stage.workspace.home
    await stage.home.create("serviceaccounts", account, namespace=namespace)
    await stage.create(stage.pod("waits", spec={"serviceAccountName": "short-lived"}))
    await stage.home.delete("serviceaccounts", name="short-lived", namespace=namespace)
    await start_farlet(stage.node)
    waiting = await stage.seen("waits", rest.reason("TokenRequestFailed"))
    assert "short-lived" in waiting["status"]["message"]
    assert waiting["status"]["phase"] == "Pending"
    assert (await stage.sight()).mirrors == []
    await stage.home.create("serviceaccounts", account, namespace=namespace)
    await stage.seen("waits", rest.phase("Running"))
    await stage.settled()
    assert stage.runs(began) == {"waits": 1}


async def test_home_says_try_later_to_everything_for_a_while(
    stage: Stage, start_proxied: StartProxied, home_door: proxy.Proxy
) -> None:
    busy = home_door.on(
        lambda request: not request.watch,
        failures.refused(429, reason="TooManyRequests", headers={"Retry-After": "1"}),
    )
    farlet = await start_proxied(stage.node, ready=False)
    await stage.create(stage.pod("one"))
    await busy.hit(3)
    busy.end()
    await farlet.ready()
    await stage.seen("one", rest.phase("Running"))
    await stage.settled()


@pytest.mark.parametrize("door", [writes.HOME, writes.FOREIGN])
async def test_retry_after_is_obeyed(
    stage: Stage,
    start_proxied: StartProxied,
    home_door: proxy.Proxy,
    foreign_door: proxy.Proxy,
    door: str,
) -> None:
    await start_proxied(stage.node)
    await stage.create(stage.pod("first"))
    await stage.settled()
    kind = writes.KINDS["token" if door == writes.HOME else "mirror"]
    busy = (home_door if door == writes.HOME else foreign_door).on(
        kind.match,
        failures.refused(429, reason="TooManyRequests", headers={"Retry-After": str(RETRY_AFTER)}),
    )
    await stage.create(stage.pod("one"))
    await busy.hit(2)
    busy.end()
    first, second, *_ = busy.times
    assert second - first >= RETRY_AFTER
    await stage.seen("one", rest.phase("Running"))


HOURS = {"three hours ahead": 3, "three hours behind": -3}


@pytest.mark.parametrize("opaque", [False, True], ids=["JSON Web Token", "another kind of token"])
@pytest.mark.parametrize("hours", [pytest.param(h, id=name) for name, h in HOURS.items()])
async def test_tokens_of_a_home_whose_clock_is_off_live_as_long_as_they_were_given(
    stage: Stage,
    start_proxied: StartProxied,
    home_door: proxy.Proxy,
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

    home_door.on(writes.KINDS["token"].match, failures.changed(skewed))
    await start_proxied(stage.node)
    began = int(time.time())
    await stage.create(stage.pod("one"))
    await stage.seen("one", rest.phase("Running"))
    await stage.settled()
    mirror = await stage.mirror("one", rest.exists)
    ((issued, expires),) = json.loads(mirror["metadata"]["annotations"][manifests.TOKENS]).values()
    assert began <= issued <= time.time()
    assert abs(expires - issued - 3600) < 30
    await asyncio.sleep(3)
    # And no hot loop of refreshes. What lagging caches refuse is asked for again, but not granted.
    assert granted == 1


def _token_of(issued: float) -> str:
    """Something whose payload says when it was issued."""
    payload = base64.urlsafe_b64encode(json.dumps({"iat": int(issued)}).encode())
    return f"e30.{payload.decode().rstrip('=')}.c2ln"


def never_lost(pods: list[rest.Object]) -> None:
    """No pod is said to have lost its mirror."""
    lost = [pod["metadata"]["name"] for pod in pods if pod["status"].get("reason") == "MirrorLost"]
    assert lost == []


def runs_once(runs: dict[str, int]) -> None:
    """Whatever its policy, no mirror of these tests is ever lost, so none is made twice."""
    assert {name: count for name, count in runs.items() if count > 1} == {}
