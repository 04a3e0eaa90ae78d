"""A drain before farlet exits: which pods are evicted, which stay, and how long it takes."""

from __future__ import annotations

import asyncio

import pytest

from farlet import draining, errors
from farlet.constants import ObjectKey
from unit.planning import model, objects
from unit.planning.model import JSON
from unit.reconcile import harness
from unit.reconcile.harness import HOME, USER, Harness

EVICTIONS = "POST .*/eviction$"
WEB = ObjectKey(HOME, "web")


def _running(s: Harness, *names: str) -> None:
    for name in names:
        s.create(name)
    s.wait(2.0)
    for name in names:
        s.runs(name)
    s.wait(2.0)


def _evicted(s: Harness) -> list[str]:
    return [one.request.split("/")[-2] for one in s.home.requests(EVICTIONS)]


def test_every_pod_is_evicted_once_and_waited_for() -> None:
    with harness.running() as s:
        _running(s, "one", "two")
        drain = s.drain()
        s.wait(4.0)
        assert sorted(_evicted(s)) == ["one", "two"]
        assert not drain.done(), "their mirrors still run"
        s.remove("one")
        s.wait(20.0)
        assert s.pod("one") is None
        assert not drain.done()
        s.remove("two")
        s.wait(2.0)
        assert drain.result() == draining.Drained(evicted=2, left=())
        assert sorted(_evicted(s)) == ["one", "two"]


def test_an_empty_node_is_cordoned_and_drained_at_once() -> None:
    with harness.running() as s:
        cordoned: list[float] = []

        async def cordon() -> None:
            cordoned.append(s.clock())

        s.wait(2.0)
        drain = s.drain(cordon=cordon)
        s.wait(0.1)
        assert drain.result() == draining.Drained(evicted=0, left=())
        assert len(cordoned) == 1


def test_the_node_is_cordoned_before_anything_is_evicted_and_again_until_it_is() -> None:
    with harness.running() as s:
        tries: list[int] = []

        async def cordon() -> None:
            tries.append(len(_evicted(s)))
            if len(tries) < 3:
                raise s.home.silence()

        _running(s, "web")
        s.drain(cordon=cordon)
        s.wait(60.0)
        assert tries[0] == 0
        assert len(tries) == 3
        assert [entry["event"] for entry in s.logs].count("failed to cordon node") == 1


def test_a_pod_that_is_bound_meanwhile_is_evicted_too() -> None:
    with harness.running() as s:
        _running(s, "one")
        drain = s.drain()
        s.wait(1.0)
        s.create("late")
        s.wait(2.0)
        assert _evicted(s) == ["one", "late"]
        assert s.pod("late") is None, "nothing of it had begun to run"
        s.remove("one")
        s.wait(2.0)
        assert drain.result().left == ()


def test_an_eviction_that_a_budget_rejects_is_retried_and_logged_once() -> None:
    with harness.running() as s:
        _running(s, "web")
        s.home.refusing[EVICTIONS] = s.home.refusal(
            errors.Throttled, 429, "would violate the disruption budget", reason="TooManyRequests"
        )
        drain = s.drain()
        s.wait(21.0)
        assert len(_evicted(s)) == 5
        assert [entry["event"] for entry in s.logs].count("failed to evict pod") == 1
        s.home.refusing.clear()
        s.wait(6.0)
        s.remove()
        s.wait(2.0)
        assert drain.result() == draining.Drained(evicted=1, left=())


def test_pods_that_do_not_end_in_time_are_left_as_they_are() -> None:
    with harness.running() as s:
        _running(s, "web")
        drain = s.drain(seconds=30.0)
        s.wait(29.0)
        assert not drain.done()
        s.wait(2.0)
        assert drain.result() == draining.Drained(evicted=1, left=(WEB,))
        assert s.mirror() is not None


def test_an_immediate_stop_waits_for_nothing() -> None:
    with harness.running() as s:
        _running(s, "web")
        immediate = asyncio.Event()
        drain = s.drain(immediate=immediate)
        s.wait(2.0)
        immediate.set()
        s.wait(0.01)
        assert drain.result().left == (WEB,)


def test_a_pod_with_other_finalizers_is_not_waited_for_once_its_mirror_is_gone() -> None:
    with harness.running() as s:
        _running(s, "web")
        held = {"metadata": {"finalizers": ["example.org/held"]}}
        where = ("pods", HOME, "web")
        s.home_server.patch(where, held, by=USER, status=False, strategic=False)
        drain = s.drain()
        s.wait(20.0)
        assert not drain.done()
        s.remove()
        s.wait(10.0)
        assert drain.result().left == ()
        assert s.pod() is not None


def test_a_pod_that_replaces_another_is_checked_again() -> None:
    with harness.running() as s:
        _running(s, "web")
        s.home.refusing[EVICTIONS] = s.home.refusal(
            errors.Conflict, 409, "the UID in the precondition does not match", reason="Conflict"
        )
        drain = s.drain()
        s.wait(2.0)
        s.home.refusing.clear()
        s.wait(6.0)
        s.remove()
        s.wait(2.0)
        assert drain.result() == draining.Drained(evicted=1, left=())


def _changed(pod: JSON, **metadata: object) -> JSON:
    changed: JSON = model.clone(pod)
    changed["metadata"] |= metadata
    return changed


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param(objects.daemon(objects.home()), id="of a DaemonSet"),
        pytest.param(
            _changed(
                model.clone(objects.home()), annotations={"kubernetes.io/config.mirror": "5f2c"}
            ),
            id="that stands for a static pod",
        ),
    ],
)
def test_a_pod_is_left_alone(pod: JSON) -> None:
    with harness.running() as s:
        s.home_server.create("pods", HOME, model.clone(pod), by=USER)
        s.wait(2.0)
        drain = s.drain()
        s.wait(1.0)
        assert drain.result() == draining.Drained(evicted=0, left=())
        assert s.pod() is not None
        assert _evicted(s) == []
