"""Single requests fail in every way while pods are created and deleted; none is lost or doubled."""

import asyncio
import collections
from collections.abc import Callable

import pytest

from clusters import rest
from faults import failures, manifests, proxy, writes
from faults.environment import Environment
from faults.failures import Moment
from faults.fixtures import StartProxied
from faults.proxy import Fault

pytestmark = [pytest.mark.clusters, pytest.mark.takes(220)]

TOO_MANY = {"Retry-After": "1"}


async def conflict(request: proxy.Request, forward: proxy.Forward) -> proxy.Answer:
    """409 as API servers use it: the name is taken, or the object has changed."""
    if request.method == "POST":
        taken = failures.refused(409, reason="AlreadyExists", moment=Moment.AFTER)
        return await taken(request, forward)
    return await failures.refused(409, reason="Conflict")(request, forward)


FAULTS = {
    "connection breaks before the request arrives": failures.cut(),
    "connection breaks after the request was processed": failures.cut(Moment.AFTER),
    "429": failures.refused(429, reason="TooManyRequests", headers=TOO_MANY),
    "500": failures.refused(500, reason="InternalError"),
    "500 after the request was processed": failures.refused(
        500, reason="InternalError", moment=Moment.AFTER
    ),
    "409": conflict,
    "slow response": failures.late(0.8),
}


@pytest.mark.parametrize("fault", [pytest.param(fault, id=name) for name, fault in FAULTS.items()])
async def test_both_clusters_agree_although_each_kind_of_write_fails_once_for_each_pod(
    env: Environment,
    start_proxied: StartProxied,
    home_proxy: proxy.Proxy,
    foreign_proxy: proxy.Proxy,
    fault: Fault,
) -> None:
    began = env.clusters.foreign.audit_mark()
    failed = collections.Counter[str]()
    for name, kind in writes.KINDS.items():
        fault_proxy = home_proxy if kind.side == writes.HOME else foreign_proxy
        fault_proxy.on(_once_each(kind.match, name, failed), fault)
    await start_proxied(env.node)
    made = await env.create(
        env.pod("always"),
        env.pod("never", restart="Never"),
        env.pod("onfailure", restart="OnFailure"),
        env.pod("remote", annotations=manifests.access("remote")),
        env.pod("ends", restart="Never", annotations=manifests.finishing("Failed", after="1s")),
        env.pod("refused", annotations={manifests.SUPPORT: "nonsense"}),
    )
    await env.settled()
    ended = await env.seen("ends", rest.phase("Failed"))
    assert "reason" not in ended["status"]
    await env.seen("refused", rest.reason("InvalidAPIServerSupport"))

    await env.delete(*(pod["metadata"]["name"] for pod in made))
    await asyncio.gather(*(env.seen(pod["metadata"]["name"], rest.gone) for pod in made))
    observation = await env.settled()
    assert (observation.pods, observation.mirrors) == ([], [])
    runs = env.runs(began)
    assert runs == dict.fromkeys(["always", "never", "onfailure", "remote", "ends"], 1)
    expected = set(writes.KINDS) - {"refreshed secret", "token times"}
    assert expected <= set(failed), expected - set(failed)


def _once_each(
    match: proxy.Match, kind: str, failed: collections.Counter[str]
) -> Callable[[proxy.Request], bool]:
    """Match the first request of this kind to each path."""
    met = set()

    def first(request: proxy.Request) -> bool:
        if not match(request) or request.path in met:
            return False
        met.add(request.path)
        failed[kind] += 1
        return True

    return first


WATCH_FAULTS = {
    "the connection breaks": None,
    "410 inside the watch": 410,
    "500 inside the watch": 500,
    "403 inside the watch": 403,
}


@pytest.mark.parametrize("code", [pytest.param(c, id=name) for name, c in WATCH_FAULTS.items()])
@pytest.mark.parametrize("side", [writes.HOME, writes.FOREIGN])
async def test_events_missed_while_a_watch_is_interrupted_are_found(
    env: Environment,
    start_proxied: StartProxied,
    home_proxy: proxy.Proxy,
    foreign_proxy: proxy.Proxy,
    side: str,
    code: int | None,
) -> None:
    fault_proxy = home_proxy if side == writes.HOME else foreign_proxy
    await start_proxied(env.node)
    await env.create(
        env.pod("stays"),
        env.pod("goes"),
        env.pod("ends", restart="Never"),
    )
    await env.settled()
    began = env.clusters.foreign.audit_mark()
    # No new watch for a while: farlet misses what happens now.
    closed = fault_proxy.on(
        lambda request: request.watch, failures.refused(503, reason="ServiceUnavailable")
    )
    if code is not None:
        error = {"kind": "Status", "code": code, "reason": "Expired", "message": "injected"}
        await fault_proxy.inject_event({"type": "ERROR", "object": error})
    fault_proxy.cut_watches()
    await closed.hit()
    await env.create(env.pod("comes"))
    await env.finish("ends", "Succeeded")
    namespace = env.workspace.home
    await env.home.delete("pods", name="goes", namespace=namespace, gracePeriodSeconds="0")
    await env.seen("goes", rest.gone)
    closed.end()
    observation = await env.settled(seconds=90)
    states = {pod["metadata"]["name"]: manifests.state(pod) for pod in observation.pods}
    assert states == {"stays": "Running/-", "comes": "Running/-", "ends": "Succeeded/-"}
    assert manifests.names(observation.mirrors) == ["comes", "ends", "stays"]
    assert env.runs(began) == {"comes": 1}


async def test_a_list_that_expires_between_pages_is_repeated(
    env: Environment, start_proxied: StartProxied, foreign_proxy: proxy.Proxy
) -> None:
    expired = foreign_proxy.on(
        writes.lists("pods"), failures.refused(410, reason="Expired"), times=2
    )
    await start_proxied(env.node)
    await env.create(env.pod("one"))
    await env.settled()
    assert len(expired.hits) == 2
