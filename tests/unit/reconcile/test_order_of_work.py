"""What is done first if requests are slow: three workers, 100 ms for each request."""

from __future__ import annotations

import re
from typing import Any

import pytest

from farlet.client.request_slots import URGENCY
from farlet.foreign import namespace
from farlet.planning import actions, urgency
from farlet.planning.urgency import Urgency
from farlet.reconcile import executor, home_actions
from farlet.reconcile.pass_state import PassState
from farlet.store import Store
from farlet.telemetry.metrics import Metrics
from unit.planning import objects
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, Harness

TAKES = 0.1


def _slow(s: Harness) -> None:
    s.home.takes = s.foreign.takes = TAKES


def _open(s: Harness) -> None:
    """The first pod opens the namespace."""
    s.create("first")
    s.wait(5.0)


def _created(s: Harness) -> list[str]:
    """Names of mirrors, in the order of their creation."""
    return [one.body["metadata"]["name"] for one in s.foreign.requests(r"^POST .*/pods$")]


def _statuses(s: Harness, name: str) -> list[float]:
    return [one.at for one in s.home.requests(rf"^PATCH .*/pods/{re.escape(name)}/status$")]


def test_a_pod_that_runs_waits_for_one_request_and_not_for_a_burst_of_creations() -> None:
    with harness.running() as s:
        _open(s)
        _slow(s)
        for number in range(30):
            s.create(f"new-{number}")
        s.wait(0.35)
        before = len(_statuses(s, "first"))
        s.runs("first")
        now = s.clock()
        while len(_statuses(s, "first")) == before:
            s.wait(0.01)
        assert s.clock() - now <= 2 * TAKES
        assert len(_created(s)) < 1 + 15
        s.wait(10.0)
        assert len(_created(s)) == 31


def test_a_deletion_waits_for_one_request_and_not_for_a_burst_of_creations() -> None:
    with harness.running() as s:
        _open(s)
        s.runs("first")
        s.wait(1.0)
        _slow(s)
        for number in range(30):
            s.create(f"new-{number}")
        s.wait(0.35)
        s.delete("first")
        now = s.clock()
        while not s.foreign.requests(rf"^DELETE .*/{FOREIGN}/pods/first$"):
            s.wait(0.01)
        assert s.clock() - now <= 2 * TAKES
        assert len(_created(s)) < 1 + 15


@pytest.mark.thorough
def test_a_tenant_whose_pods_change_all_the_time_starves_no_other() -> None:
    """Twelve pods change every 20 ms, which is sixty times what three workers can write."""
    flapping = [f"flap-{number}" for number in range(12)]
    with harness.running() as s:
        _open(s)
        for name in flapping:
            s.create(name)
        s.wait(3.0)
        for name in flapping:
            s.runs(name)
        s.wait(60.0)
        _slow(s)
        begun, written = s.clock(), {name: len(_statuses(s, name)) for name in flapping}
        for turn in range(1, 251):
            for name in flapping:
                s.runs(name, restarts=turn, ready=turn % 2 == 0)
            if turn % 25 == 0:
                s.create(f"new-{turn}")
            s.wait(0.02)
        s.wait(2.0)
        seconds = s.clock() - begun
        late = {
            name: one.at - (int(name[4:]) * 0.02 + begun - objects.NOW)
            for one in s.foreign.requests(r"^POST .*/pods$")
            if (name := one.body["metadata"]["name"]).startswith("new-")
        }
        assert len(late) == 10
        assert max(late.values()) <= 1.0 + 4 * TAKES, late
        for name in flapping:
            count = len(_statuses(s, name)) - written[name]
            assert 10 <= count <= 10 + seconds + 1, (name, count)
        s.wait(30.0)
        for name in flapping:
            pod = s.pod(name)
            assert pod is not None
            assert pod["status"]["containerStatuses"][0]["restartCount"] == 250


def test_a_namespace_that_a_creation_opens_is_not_read_as_late_as_a_creation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, list[Urgency]] = {}
    read = namespace.ForeignNamespace._read_anchor

    async def noted(self: namespace.ForeignNamespace) -> Any:
        seen.setdefault(self.foreign, []).append(URGENCY.get())
        return await read(self)

    monkeypatch.setattr(namespace.ForeignNamespace, "_read_anchor", noted)
    with harness.running() as s:
        for number in range(10):
            s.create(f"new-{number}")
        s.wait(5.0)
        for number in range(10):
            s.runs(f"new-{number}")
        s.wait(5.0)
        for number in range(10):
            s.runs(f"new-{number}", restarts=1)  # no worker has just created a mirror
        s.wait(5.0)
        s.create("other", namespace="second")
        s.wait(5.0)
    assert seen.keys() == {FOREIGN, "second-h"}
    assert {one for urgencies in seen.values() for one in urgencies} == {Urgency.FINISH}


async def test_an_action_leaves_no_urgency_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    during: list[Urgency] = []

    async def patched(_self: object, _action: object) -> None:
        during.append(URGENCY.get())

    monkeypatch.setattr(home_actions.HomeActions, "patch_status", patched)
    unused: Any = None
    performs = executor.ActionExecutor(
        home=unused,
        foreign=unused,
        store=Store(),
        recorder=unused,
        metrics=Metrics(),
        ctx=unused,
        confirm_foreign=unused,
    )
    URGENCY.set(Urgency.START)
    home = objects.home(phase="Running")
    action = actions.PatchStatus(home, {})
    await performs.perform(action, PassState(objects.KEY))
    assert during == [urgency.of_action(action)]
    assert URGENCY.get() is Urgency.START
