"""Order and speed of Events: Warnings first, and pods that wait before Normal ones."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from prometheus_client import CollectorRegistry, Counter

from farlet.client import resources
from farlet.constants import JSON, Reason
from farlet.k8s_types import Pod
from farlet.reconcile import event_recorder
from unit import faketime
from unit.fakeclient import FakeClient


class Home(FakeClient):
    """Accepts Events, and records when each came."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, float]] = []

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = resources.JSON_BODY,
        accept: str | None = None,
    ) -> JSON:
        name = cast("JSON", body)["involvedObject"]["name"]
        self.taken.append((name, asyncio.get_running_loop().time()))
        return {}


def pod(name: str) -> Pod:
    return {
        "metadata": {"name": name, "namespace": "shop", "uid": name},
        "spec": {"containers": []},
    }


def taken(busy: bool, *, normal: int, warnings: int, seconds: float) -> tuple[list[str], int]:
    """Names of the pods whose Events were posted, and how many Events were dropped."""
    home = Home()
    dropped = Counter("dropped", "Events that were dropped", registry=CollectorRegistry())

    async def run() -> None:
        recorder = event_recorder.Recorder(home, node="far", dropped=dropped, busy=lambda: busy)
        for number in range(normal):
            recorder.note(pod(f"normal-{number}"), Reason.MIRROR_CREATED, "runs")
        for number in range(warnings):
            recorder.note(pod(f"warning-{number}"), Reason.FOREIGN_FORBIDDEN, "no")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await recorder.run()

    faketime.run(run())
    return [name for name, _ in home.taken], int(dropped._value.get())


@pytest.mark.parametrize(
    ("busy", "posted"),
    [
        pytest.param(True, 3, id="slowly while pods wait"),
        pytest.param(False, 50, id="immediately when none waits"),
    ],
)
def test_normal_events_are_posted(busy: bool, posted: int) -> None:
    names, _ = taken(busy, normal=50, warnings=0, seconds=1.95)
    assert names == [f"normal-{number}" for number in range(posted)]


def test_warnings_do_not_wait_for_normal_events() -> None:
    names, _ = taken(busy=True, normal=50, warnings=30, seconds=0.05)
    assert names == [f"warning-{number}" for number in range(30)]


def test_normal_events_leave_room_for_warnings() -> None:
    names, dropped = taken(
        busy=False, normal=event_recorder.NORMAL_BUFFER + 7, warnings=1, seconds=1
    )
    assert names[0] == "warning-0"
    assert dropped == 7


def reported(recorder: event_recorder.Recorder, name: str, once: str = "") -> bool:
    """Whether a Warning about a pod is posted."""
    before = len(recorder._warnings)
    recorder.note(pod(name), Reason.CHANGE_REJECTED, "no", once=once)
    return len(recorder._warnings) > before


@pytest.fixture
async def recorder() -> event_recorder.Recorder:
    dropped = Counter("dropped", "Events that were dropped", registry=CollectorRegistry())
    return event_recorder.Recorder(Home(), node="far", dropped=dropped, busy=lambda: False)


async def test_a_reason_is_reported_once_for_each_value(recorder: event_recorder.Recorder) -> None:
    values = ("a", "b", "a", "b", "")
    assert [reported(recorder, "web", value) for value in values] == [
        True,
        True,
        False,
        False,
        True,
    ]
    assert reported(recorder, "other", "a")


async def test_the_reasons_of_a_deleted_pod_are_forgotten(
    recorder: event_recorder.Recorder,
) -> None:
    for name in ("web", "other"):
        for reason in (Reason.SPEC_ADJUSTED, Reason.FOREIGN_FORBIDDEN):
            recorder.note(pod(name), reason, "no")
    recorder.forget("web")
    assert {about for about, _ in recorder._last} == {"other "}


async def test_what_is_remembered_of_reasons_is_bounded(
    recorder: event_recorder.Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_recorder, "REMEMBERED", 10)
    for number in range(20):
        assert reported(recorder, "web", f"value-{number}")
    assert len(recorder._last) == 10
