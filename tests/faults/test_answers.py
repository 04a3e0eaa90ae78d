"""Single requests that fail in every way, while pods come and go: nothing is lost or doubled."""

import asyncio
import collections
from collections.abc import Callable

import pytest

from clusters import rest
from faults import failures, manifests, proxy, writes
from faults.failures import Moment
from faults.fixtures import StartProxied
from faults.proxy import Fault
from faults.stage import Stage

pytestmark = pytest.mark.clusters

TOO_MANY = {"Retry-After": "1"}


async def conflict(request: proxy.Request, forward: proxy.Forward) -> proxy.Answer:
    """As API servers mean it: a name is taken, or the object has moved on."""
    if request.method == "POST":
        taken = failures.refused(409, reason="AlreadyExists", moment=Moment.AFTER)
        return await taken(request, forward)
    return await failures.refused(409, reason="Conflict")(request, forward)


FAULTS = {
    "is lost before it arrives": failures.cut(),
    "is lost after it was done": failures.cut(Moment.AFTER),
    "is answered 429": failures.refused(429, reason="TooManyRequests", headers=TOO_MANY),
    "is answered 500": failures.refused(500, reason="InternalError"),
    "is answered 500 after it was done": failures.refused(
        500, reason="InternalError", moment=Moment.AFTER
    ),
    "is answered 409": conflict,
    "takes long": failures.late(0.8),
}


@pytest.mark.parametrize("fault", [pytest.param(fault, id=name) for name, fault in FAULTS.items()])
async def test_each_kind_of_write_fails_once_for_each_pod_and_all_is_well_in_the_end(
    stage: Stage,
    start_proxied: StartProxied,
    home_door: proxy.Proxy,
    foreign_door: proxy.Proxy,
    fault: Fault,
) -> None:
    began = stage.clusters.foreign.audit_mark()
    failed = collections.Counter[str]()
    for name, kind in writes.KINDS.items():
        door = home_door if kind.side == writes.HOME else foreign_door
        door.on(_once_each(kind.match, name, failed), fault)
    await start_proxied(stage.node)
    made = await stage.create(
        stage.pod("always"),
        stage.pod("never", restart="Never"),
        stage.pod("onfailure", restart="OnFailure"),
        stage.pod("remote", annotations=manifests.access("remote")),
        stage.pod("ends", restart="Never", annotations=manifests.finishing("Failed", after="1s")),
        stage.pod("refused", annotations={manifests.SUPPORT: "nonsense"}),
    )
    await stage.settled()
    ended = await stage.seen("ends", rest.phase("Failed"))
    assert "reason" not in ended["status"]
    await stage.seen("refused", rest.reason("InvalidAPIServerSupport"))

    await stage.delete(*(pod["metadata"]["name"] for pod in made))
    await asyncio.gather(*(stage.seen(pod["metadata"]["name"], rest.gone) for pod in made))
    sight = await stage.settled()
    assert (sight.pods, sight.mirrors) == ([], [])
    runs = stage.runs(began)
    assert runs == dict.fromkeys(["always", "never", "onfailure", "remote", "ends"], 1)
    expected = set(writes.KINDS) - {"refreshed secret", "token times"}
    assert expected <= set(failed), expected - set(failed)


def _once_each(
    match: proxy.Match, kind: str, failed: collections.Counter[str]
) -> Callable[[proxy.Request], bool]:
    """The first request of this kind to each path."""
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
async def test_a_watch_ends_and_what_happened_meanwhile_is_found(
    stage: Stage,
    start_proxied: StartProxied,
    home_door: proxy.Proxy,
    foreign_door: proxy.Proxy,
    side: str,
    code: int | None,
) -> None:
    door = home_door if side == writes.HOME else foreign_door
    await start_proxied(stage.node)
    await stage.create(
        stage.pod("stays"),
        stage.pod("goes"),
        stage.pod("ends", restart="Never"),
    )
    await stage.settled()
    began = stage.clusters.foreign.audit_mark()
    # No new watch for a while: what happens now is seen by nobody.
    closed = door.on(
        lambda request: request.watch, failures.refused(503, reason="ServiceUnavailable")
    )
    if code is not None:
        error = {"kind": "Status", "code": code, "reason": "Expired", "message": "made up"}
        await door.tell_watches({"type": "ERROR", "object": error})
    door.cut_watches()
    await closed.hit()
    await stage.create(stage.pod("comes"))
    await stage.finish("ends", "Succeeded")
    namespace = stage.workspace.home
    await stage.home.delete("pods", name="goes", namespace=namespace, gracePeriodSeconds="0")
    await stage.seen("goes", rest.gone)
    closed.end()
    sight = await stage.settled(seconds=90)
    states = {pod["metadata"]["name"]: manifests.state(pod) for pod in sight.pods}
    assert states == {"stays": "Running/-", "comes": "Running/-", "ends": "Succeeded/-"}
    assert manifests.names(sight.mirrors) == ["comes", "ends", "stays"]
    assert stage.runs(began) == {"comes": 1}


async def test_a_list_that_has_expired_within_its_pages_is_made_again(
    stage: Stage, start_proxied: StartProxied, foreign_door: proxy.Proxy
) -> None:
    expired = foreign_door.on(
        writes.lists("pods"), failures.refused(410, reason="Expired"), times=2
    )
    await start_proxied(stage.node)
    await stage.create(stage.pod("one"))
    await stage.settled()
    assert len(expired.hits) == 2
