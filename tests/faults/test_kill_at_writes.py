"""farlet is killed right before and right after every kind of write; the next start goes on.

What is killed before a write must come to it again, what is killed after it must find it done.
"""

import asyncio

import pytest

from clusters import rest
from faults import manifests, proxy, writes
from faults.failures import Hold, Moment
from faults.fixtures import StartProxied
from faults.stage import Stage

pytestmark = pytest.mark.clusters

_REFRESH = {"refreshed secret", "token times"}
_DELETION = {"mirror deletion", "home deletion"}


@pytest.mark.parametrize("kind", writes.KINDS)
async def test_farlet_is_killed_before_and_after_its_write_of(
    stage: Stage,
    start_proxied: StartProxied,
    home_door: proxy.Proxy,
    foreign_door: proxy.Proxy,
    kind: str,
) -> None:
    began = stage.clusters.foreign.audit_mark()
    door = home_door if writes.KINDS[kind].side == writes.HOME else foreign_door
    holds = [Hold(moment) for moment in (Moment.BEFORE, Moment.AFTER)]
    for hold in holds:
        door.on(writes.KINDS[kind].match, hold, times=1)
    if kind in _REFRESH:
        home_door.on(writes.KINDS["token"].match, writes.short_tokens(8))
    farlet = await start_proxied(stage.node, ready=False)

    async def kills() -> None:
        for hold in holds:
            await hold.reached()
            farlet.kill()
            hold.cut()
            farlet.start()

    killing = asyncio.create_task(kills())
    await stage.create(
        stage.pod("always"),
        stage.pod("never", restart="Never"),
        stage.pod("onfailure", restart="OnFailure", annotations=manifests.access("remote")),
        stage.pod(
            "ends", restart="Never", annotations=manifests.finishing("Succeeded", after="1s")
        ),
    )
    names = ["always", "never", "onfailure", "ends"]
    if kind not in _DELETION:
        await killing
    sight = await stage.settled()
    states = {pod["metadata"]["name"]: manifests.state(pod) for pod in sight.pods}
    assert states == dict.fromkeys(names, "Running/-") | {"ends": "Succeeded/-"}
    await stage.delete(*names)
    await killing
    await asyncio.gather(*(stage.seen(name, rest.gone) for name in names))
    sight = await stage.settled()
    assert (sight.pods, sight.mirrors, sight.secrets) == ([], [], [])
    assert stage.runs(began) == dict.fromkeys(names, 1)
