"""Classes of work, and which waiting item is next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import pytest

from farlet.k8s_types import NewPod, Pod
from farlet.planning import actions, urgency
from farlet.planning.actions import Action, PatchStatus
from farlet.planning.urgency import Urgency, WaitingLine
from unit.planning import objects

FINISH, START, REPORT = Urgency

STRATEGY = objects.STRATEGIES["disabled"]


def _status(home: Pod, **status: str) -> PatchStatus:
    return PatchStatus(home, {"status": dict(status)})


PODS: dict[str, tuple[Urgency, Urgency]] = {
    "a pod without a mirror": (
        urgency.of_pod(home_phase="Pending", mirror_phase=None),
        START,
    ),
    "a mirror that has a new phase": (
        urgency.of_pod(home_phase="Pending", mirror_phase="Running"),
        FINISH,
    ),
    "a mirror whose phase home shows": (
        urgency.of_pod(home_phase="Running", mirror_phase="Running"),
        REPORT,
    ),
    "a pod that is being deleted, without a mirror": (
        urgency.of_pod(home_phase="Pending", mirror_phase=None, deleting=True),
        FINISH,
    ),
    "a pod or mirror that is being deleted": (
        urgency.of_pod(home_phase="Running", mirror_phase="Running", deleting=True),
        FINISH,
    ),
    "a mirror without its Secret": (
        urgency.of_pod(home_phase="Pending", mirror_phase="Pending", secret_missing=True),
        FINISH,
    ),
    "a mirror without a home pod": (
        urgency.of_pod(home_phase=None, mirror_phase="Running"),
        FINISH,
    ),
    "a pod that has ended, without a mirror": (
        urgency.of_pod(home_phase="Succeeded", mirror_phase=None),
        REPORT,
    ),
}


@pytest.mark.parametrize(("got", "expected"), PODS.values(), ids=PODS)
def test_the_class_of_a_key_is_that_of(got: Urgency, expected: Urgency) -> None:
    assert got is expected


HOME, MIRROR = objects.home(), objects.mirror()
NEW = cast("NewPod", {})
RUNNING = objects.home(phase="Running")

ACTIONS: dict[str, tuple[Action, Urgency]] = {
    "the creation of a mirror": (
        actions.CreateMirror(HOME, NEW, STRATEGY, ()),
        START,
    ),
    "the Secret of a mirror": (
        actions.ProvideSecret(HOME, MIRROR, STRATEGY, (), None, ()),
        FINISH,
    ),
    "a new phase": (_status(HOME, phase="Running"), FINISH),
    "a status of the same phase": (_status(RUNNING, phase="Running", message="x"), REPORT),
    "a status without a phase": (_status(RUNNING, message="x"), REPORT),
    "the last status of a pod that is being deleted": (
        _status(objects.home(phase="Running", grace=30), message="x"),
        FINISH,
    ),
    "the deletion of a mirror": (actions.DeleteMirror(MIRROR, None), FINISH),
    "the deletion of a home pod": (actions.DeleteHome(HOME), FINISH),
    "the confirmation that a mirror is gone": (
        actions.ConfirmMirrorGone(objects.MIRROR_KEY),
        FINISH,
    ),
    "a change of a mirror": (actions.UpdateMirror(HOME, MIRROR, {}, (), ""), START),
}


@pytest.mark.parametrize(("action", "expected"), ACTIONS.values(), ids=ACTIONS)
def test_the_class_of_requests_is_that_of(action: Action, expected: Urgency) -> None:
    assert urgency.of_action(action) is expected


def _line(*items: tuple[str, Urgency, float]) -> WaitingLine[str]:
    line: WaitingLine[str] = WaitingLine()
    for item, kind, at in items:
        line.add(item, kind, at)
    return line


def _taken(line: WaitingLine[str], now: float) -> Iterable[str]:
    while len(line):
        yield line.take(now)[0]


ORDERS: dict[str, tuple[WaitingLine[str], float, str]] = {
    "by class, then as they came": (
        _line(
            *(("c", REPORT, 0.0), ("b", START, 0.1), ("x", START, 0.2)),
            *(("a", FINISH, 0.3), ("y", FINISH, 0.4)),
        ),
        0.5,
        "aybxc",
    ),
    "what has waited for a second, whatever its class": (
        _line(("c", REPORT, 0.0), ("b", START, 0.9), ("a", FINISH, 0.9)),
        1.0,
        "cab",
    ),
    "by class in three of four turns where much has waited for a second": (
        _line(
            *((name, REPORT, 0.0) for name in "cde"),
            *((name, FINISH, 1.5) for name in "uvwxyz"),
        ),
        2.0,
        "cuvwdxyze",
    ),
    "an item that waits twice at its first time and in its more urgent class": (
        _line(("a", REPORT, 0.0), ("b", START, 0.1), ("a", FINISH, 0.2), ("b", REPORT, 0.2)),
        0.5,
        "ab",
    ),
}


@pytest.mark.parametrize(("line", "now", "expected"), ORDERS.values(), ids=ORDERS)
def test_the_next_item_is(line: WaitingLine[str], now: float, expected: str) -> None:
    assert "".join(_taken(line, now)) == expected


def test_an_item_keeps_the_time_since_which_it_waits() -> None:
    line = _line(("a", REPORT, 1.0), ("a", FINISH, 2.0))
    assert line.take(3.0) == ("a", 1.0)
    assert "a" not in line


def test_a_discarded_item_leaves_nothing_behind() -> None:
    line = _line(("a", REPORT, 0.0), ("b", START, 0.0))
    line.discard("a")
    line.discard("a")
    assert list(_taken(line, 5.0)) == ["b"]


def test_nothing_is_next_where_nothing_waits() -> None:
    with pytest.raises(LookupError):
        _line().take(0.0)


def test_a_flood_of_urgent_work_leaves_a_quarter_of_the_turns_to_what_waits_longest() -> None:
    """Each turn takes 10 ms, and each brings another urgent item."""
    line = _line(*((f"start {n}", START, 0.0) for n in range(1000)))
    taken = []
    for turn in range(4000):
        now = turn / 100
        line.add(f"urgent {turn}", FINISH, now)
        taken.append(line.take(now)[0])
    first = taken[:100]
    assert all(item.startswith("urgent") for item in first)
    later = taken[100:2000]
    assert sum(item.startswith("start") for item in later) == len(later) // 4
