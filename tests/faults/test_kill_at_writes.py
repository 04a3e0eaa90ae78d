"""farlet is killed right before and right after every kind of write; the next start continues.

After a kill before the write, the new process must do the write. After a kill behind the write, it
must find it done.
"""

import asyncio

import pytest

from clusters import rest
from faults import manifests, proxy, writes
from faults.environment import Environment
from faults.failures import Hold, Moment
from faults.fixtures import StartProxied

pytestmark = [pytest.mark.clusters, pytest.mark.takes(270)]

_REFRESH = {"refreshed secret", "token times"}
_DELETION = {"mirror deletion", "home deletion"}


@pytest.mark.parametrize("kind", writes.KINDS)
async def test_a_new_process_continues_after_a_kill_before_and_after_a_write_of(
    env: Environment,
    start_proxied: StartProxied,
    home_proxy: proxy.Proxy,
    foreign_proxy: proxy.Proxy,
    kind: str,
) -> None:
    began = env.clusters.foreign.audit_mark()
    fault_proxy = home_proxy if writes.KINDS[kind].side == writes.HOME else foreign_proxy
    holds = [Hold(moment) for moment in (Moment.BEFORE, Moment.AFTER)]
    for hold in holds:
        fault_proxy.on(writes.KINDS[kind].match, hold, times=1)
    if kind in _REFRESH:
        home_proxy.on(writes.KINDS["token"].match, writes.short_tokens(8))
    farlet = await start_proxied(env.node, ready=False)

    async def kills() -> None:
        for hold in holds:
            await hold.reached()
            farlet.kill()
            hold.cut()
            farlet.start()

    killing = asyncio.create_task(kills())
    await env.create(
        env.pod("always"),
        env.pod("never", restart="Never"),
        env.pod("onfailure", restart="OnFailure", annotations=manifests.access("remote")),
        env.pod("ends", restart="Never", annotations=manifests.finishing("Succeeded", after="1s")),
    )
    names = ["always", "never", "onfailure", "ends"]
    if kind not in _DELETION:
        await killing
    await env.seen("ends", rest.phase("Succeeded"))
    observation = await env.settled()
    states = {pod["metadata"]["name"]: manifests.state(pod) for pod in observation.pods}
    assert states == dict.fromkeys(names, "Running/-") | {"ends": "Succeeded/-"}
    await env.delete(*names)
    await killing
    await asyncio.gather(*(env.seen(name, rest.gone) for name in names))
    observation = await env.settled()
    assert (observation.pods, observation.mirrors, observation.secrets) == ([], [], [])
    assert env.runs(began) == dict.fromkeys(names, 1)
