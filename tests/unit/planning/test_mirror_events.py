"""Which Events of mirrors wait, which are dropped, and when the next one may be written."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from farlet.constants import ObjectKey
from farlet.forge.mirror_event import NORMAL, WARNING, HomePod, Summary
from farlet.planning import mirror_events
from farlet.planning.mirror_events import Backlog, Shown, Waiting
from unit.planning import objects

LATER = 1_000.0
"""All Events have waited for long enough."""
WEB = HomePod("default", "web", "home-1", 0.0)


def event(
    uid: str = "e", *, kind: str = NORMAL, about: str = "m", count: int = 1, reason: str = "Pulled"
) -> Summary:
    return Summary(uid, about, kind, reason, "", "", "kubelet", count, None, None)


def nothing() -> None:
    """The mirror is not known yet."""


def add(
    backlog: Backlog, seen: Summary, now: float = 0.0, *, foreign: str | None = None
) -> str | None:
    """Each uid is that of another pod, unless `foreign` names the pod."""
    where = ObjectKey("default-h", seen.about if foreign is None else foreign)
    return backlog.add(objects.KEY, where, nothing, seen, now)


def written(backlog: Backlog, now: float = LATER) -> list[str]:
    """The uids that are written now, in their order."""
    found = []
    while isinstance(waiting := backlog.next(now, busy=False), Waiting):
        found.append(waiting.seen.uid)
    return found


@pytest.mark.parametrize(
    ("seen", "shown_with"),
    [
        pytest.param(event(kind=WARNING), {Shown.ALL, Shown.WARNINGS}, id="a Warning"),
        pytest.param(event(), {Shown.ALL}, id="a Normal one"),
        pytest.param(
            event(reason="Scheduled"), {Shown.ALL, Shown.WARNINGS}, id="where the mirror runs"
        ),
    ],
)
def test_the_setting_selects(seen: Summary, shown_with: set[Shown]) -> None:
    assert {shown for shown in Shown if mirror_events.shows(seen, shown)} == shown_with


def test_the_pod_of_a_mirror_is_read_once() -> None:
    backlog, read = Backlog(0.0), [None, WEB, dataclasses.replace(WEB, uid="home-2")]
    for number, about in enumerate(("m1", "m1", "m1", "m2", "m2")):
        seen = event(f"e{number}", about=about)
        backlog.add(objects.KEY, objects.MIRROR_KEY, lambda: read.pop(0), seen, 0.0)
    found = [backlog.next(LATER, busy=False) for _ in range(5)]
    pods = [one.pod for one in found if isinstance(one, Waiting)]
    assert [pod and pod.uid for pod in pods] == [None, "home-1", "home-1", "home-2", "home-2"]


def test_warnings_are_written_first_and_each_type_in_its_order() -> None:
    backlog = Backlog(0.0)
    for uid, kind in (("a", NORMAL), ("b", WARNING), ("c", NORMAL), ("d", WARNING)):
        assert add(backlog, event(uid, kind=kind)) is None
    assert written(backlog) == ["b", "d", "a", "c"]


def test_repetitions_that_wait_are_one_write() -> None:
    backlog = Backlog(0.0)
    for count in (1, 2, 3):
        add(backlog, event(count=count), now=count / 10)
    waiting = backlog.next(1.2, busy=False)
    assert isinstance(waiting, Waiting), "it has waited since the first one"
    assert waiting.seen.count == 3
    assert len(backlog) == 0


def test_an_event_waits_for_a_moment() -> None:
    backlog = Backlog(0.0)
    assert backlog.next(0.0, busy=False) is None
    add(backlog, event())
    assert backlog.next(0.25, busy=False) == 0.75
    assert written(backlog, 1.0) == ["e"]


def test_a_storm_about_one_pod_leaves_other_pods_their_events() -> None:
    backlog = Backlog(0.0)
    gave_way = [add(backlog, event(f"storm-{n}", kind=WARNING)) for n in range(10_000)]
    assert gave_way.count(None) == mirror_events.POD_BURST
    assert gave_way.count(WARNING) == 10_000 - mirror_events.POD_BURST
    assert add(backlog, event("normal")) is None, "each type has its own allowance"
    assert add(backlog, event("other", kind=WARNING, about="m2")) is None
    later = mirror_events.POD_EVERY_SECONDS
    assert [add(backlog, event(f"late-{n}", kind=WARNING), later) for n in (1, 2)] == [
        None,
        WARNING,
    ]


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(
            mirror_events.WAITING,
            id="as many as can wait do not keep out Warnings of other pods",
        ),
        pytest.param(
            mirror_events.PODS,
            id="as many as allowances are remembered leave those of other pods in use",
        ),
    ],
)
def test_made_up_uids_about_one_pod_share_its_allowance(count: int) -> None:
    backlog = Backlog(0.0)
    burst = mirror_events.POD_BURST
    used = [event(f"used-{n}", kind=WARNING) for n in range(burst)]
    assert {add(backlog, seen, foreign="busy") for seen in used} == {None}
    forged = [event(f"f{n}", kind=WARNING, about=f"made-up-{n}") for n in range(count)]
    assert [add(backlog, seen, foreign="web") for seen in forged].count(None) == burst
    assert len(backlog) == 2 * burst
    assert add(backlog, event("more", kind=WARNING), foreign="busy") == WARNING
    assert add(backlog, event("other", kind=WARNING), foreign="other") is None


@pytest.mark.parametrize(
    ("offered", "reads"),
    [
        pytest.param(
            [event(f"e{n}", about=f"m{n}") for n in range(1000)],
            mirror_events.POD_BURST,
            id="an Event beyond the allowance does not read the pod",
        ),
        pytest.param(
            [event(f"e{n}") for n in range(1000)],
            1,
            id="a further Event of a mirror does not read the pod again",
        ),
        pytest.param(
            [event(count=n + 1) for n in range(1000)],
            1,
            id="a repetition of an Event that waits does not read the pod again",
        ),
    ],
)
def test_the_pod_is_read_only_for_an_event_that_will_wait(
    offered: Sequence[Summary], reads: int
) -> None:
    backlog, done = Backlog(0.0), 0

    def read() -> HomePod:
        nonlocal done
        done += 1
        return WEB

    for seen in offered:
        backlog.add(objects.KEY, objects.MIRROR_KEY, read, seen, 0.0)
    assert done == reads
    waiting = backlog.next(LATER, busy=False)
    assert isinstance(waiting, Waiting)
    assert waiting.pod == WEB


def test_a_repetition_about_another_uid_is_not_taken_for_the_pod_of_the_first() -> None:
    backlog = Backlog(0.0)
    for about in ("m1", "m2"):
        backlog.add(objects.KEY, objects.MIRROR_KEY, lambda: WEB, event(about=about), 0.0)
    waiting = backlog.next(LATER, busy=False)
    assert isinstance(waiting, Waiting)
    assert (waiting.seen.about, waiting.pod) == ("m2", None)


def test_normal_events_give_way_where_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_events, "WAITING", 4)
    backlog = Backlog(0.0)
    for n in range(4):
        assert add(backlog, event(f"n{n}", about=f"m{n}")) is None
    assert add(backlog, event("n4", about="m4")) == NORMAL
    assert [add(backlog, event(f"w{n}", kind=WARNING, about=f"m{n}")) for n in range(5)] == [
        *[NORMAL] * 4,
        WARNING,
    ]
    assert written(backlog) == ["w0", "w1", "w2", "w3"]


def test_the_allowances_of_a_deleted_pod_are_forgotten() -> None:
    backlog = Backlog(0.0)
    for n, kind in enumerate([WARNING] * mirror_events.POD_BURST + [NORMAL]):
        assert add(backlog, event(f"e{n}", kind=kind), foreign="web") is None
    add(backlog, event("other"), foreign="other")
    assert add(backlog, event("more", kind=WARNING), foreign="web") == WARNING
    backlog.forget(objects.MIRROR_KEY)
    assert [key.name for key, _ in backlog._pods] == ["other"]
    assert add(backlog, event("next", kind=WARNING), foreign="web") is None
    assert len(backlog) == mirror_events.POD_BURST + 3, "those that waited still wait"


def test_what_is_remembered_of_pods_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_events, "PODS", 10)
    backlog = Backlog(0.0)
    for n in range(100):
        add(backlog, event(f"e{n}", about=f"m{n}"))
    assert len(backlog._pods) == 10


@pytest.mark.parametrize(
    ("busy", "rate"),
    [
        pytest.param(False, mirror_events.PER_SECOND, id="as many as all pods are allowed"),
        pytest.param(True, mirror_events.BUSY_PER_SECOND, id="few while pods wait"),
    ],
)
def test_events_of_all_pods_are_paced(busy: bool, rate: float) -> None:
    backlog = Backlog(0.0)
    for n in range(5000):
        add(backlog, event(f"e{n}", about=f"m{n // 40}"))
    now, count = 1.0, 0
    while now < 11.0:
        found = backlog.next(now, busy=busy)
        assert found is not None
        if isinstance(found, Waiting):
            count += 1
        else:
            assert found > 0
            now += found
    burst = 1 if busy else mirror_events.BURST
    assert count == pytest.approx(10 * rate + burst, abs=2)


def test_an_event_without_an_answer_is_written_again_a_few_times() -> None:
    backlog = Backlog(0.0)
    add(backlog, event())
    for attempt in range(mirror_events.ATTEMPTS):
        waiting = backlog.next(LATER * (attempt + 1), busy=False)
        assert isinstance(waiting, Waiting)
        last = attempt == mirror_events.ATTEMPTS - 1
        assert backlog.put_back(waiting, LATER * (attempt + 1)) is not last
    assert len(backlog) == 0


def test_a_repetition_supersedes_an_event_without_an_answer() -> None:
    backlog = Backlog(0.0)
    add(backlog, event(count=2))
    waiting = backlog.next(LATER, busy=False)
    assert isinstance(waiting, Waiting)
    add(backlog, event(count=3), LATER)
    assert backlog.put_back(waiting, LATER)
    found = backlog.next(2 * LATER, busy=False)
    assert found == dataclasses.replace(
        waiting, seen=dataclasses.replace(waiting.seen, count=3), since=LATER
    )


def test_what_waits_keeps_farlets_own_mapping() -> None:
    backlog = Backlog(0.0)
    backlog.add(ObjectKey("shop", "web"), ObjectKey("shop-h", "web"), nothing, event(), 0.0)
    waiting = backlog.next(LATER, busy=False)
    assert isinstance(waiting, Waiting)
    assert (waiting.home, waiting.foreign) == (("shop", "web"), ("shop-h", "web"))
