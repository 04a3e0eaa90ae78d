"""How often a pod is processed: most events that it causes itself say nothing new."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from unit.planning import model, objects
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, HOME, KUBELET, USER, Harness

MOST = 3
WEB = ("pods", FOREIGN, "web")


def _open(s: Harness) -> None:
    """Another pod opens the namespace."""
    s.create("other")
    s.wait(5.0)


def _passes(s: Harness, act: Callable[[Harness], None], *, name: str = "web") -> int:
    before = s.passes[name]
    act(s)
    return s.passes[name] - before


def _scheduled(s: Harness) -> None:
    bound = {"spec": {"nodeName": "worker"}}
    s.foreign_server.patch(WEB, bound, by=KUBELET, status=False, strategic=False)


def _reports(s: Harness, **status: object) -> None:
    reported = objects.mirror(**status)  # type: ignore[arg-type]
    body = {"status": reported.get("status", {})}
    s.foreign_server.patch(WEB, body, by=KUBELET, status=True, strategic=False)


def _starts(s: Harness) -> None:
    """As on a kwok node: scheduled, then Running."""
    s.create(mode="home")
    s.wait(0.1)
    _scheduled(s)
    s.wait(0.1)
    _reports(s)
    s.wait(5.0)
    assert _phase(s) == "Running"


def _starts_on_a_kubelet(s: Harness) -> None:
    """As on a real node: scheduled, its containers are created, Running."""
    s.create(mode="home")
    s.wait(0.1)
    _scheduled(s)
    s.wait(0.1)
    _reports(s, phase="Pending", state=objects.WAITING)
    s.wait(1.0)
    _reports(s)
    s.wait(5.0)
    assert _phase(s) == "Running"


def _ends(s: Harness) -> None:
    """A user deletes it; the kubelet reports that its containers ended, and removes it."""
    s.delete()
    s.wait(0.5)
    s.foreign_server.delete(WEB, by=KUBELET, grace=0)
    for secret in s.secrets():
        where = ("secrets", FOREIGN, secret["metadata"]["name"])
        s.foreign_server.delete(where, by="garbage collector")
    s.wait(5.0)
    assert s.pod() is None
    assert s.mirror() is None


def _phase(s: Harness) -> str:
    pod = s.pod()
    assert pod is not None
    return str(pod["status"]["phase"])


@pytest.mark.parametrize(
    ("start", "most"),
    [
        pytest.param(_starts, 2, id="whose node reports at once"),
        pytest.param(_starts_on_a_kubelet, MOST, id="whose kubelet creates its containers first"),
    ],
)
def test_few_passes_to_running_for_a_pod(start: Callable[[Harness], None], most: int) -> None:
    with harness.running() as s:
        _open(s)
        assert 1 <= _passes(s, start) <= most


def test_few_passes_to_gone() -> None:
    with harness.running() as s:
        _starts(s)
        assert 1 <= _passes(s, _ends) <= MOST


def test_a_secret_that_goes_with_its_mirror_wakes_no_pod() -> None:
    with harness.running() as s:
        _starts(s)
        s.remove()
        (secret,) = s.secrets()
        s.wait(0.0)
        s.woken.clear()
        where = ("secrets", FOREIGN, secret["metadata"]["name"])
        s.foreign_server.delete(where, by="garbage collector")
        s.wait(0.001)
        assert s.woken == [] or s.mirror() is not None


def test_a_secret_that_is_deleted_while_its_mirror_exists_is_written_again() -> None:
    with harness.running() as s:
        _starts(s)
        (secret,) = s.secrets()
        where = ("secrets", FOREIGN, secret["metadata"]["name"])
        s.foreign_server.delete(where, by=USER)
        s.wait(1.0)
        assert len(s.secrets()) == 1


@pytest.mark.thorough
def test_a_change_that_comes_after_the_last_decision_has_a_pass_of_its_own() -> None:
    """Also while a pass of the same pod waits for an answer: its decision is followed by another.

    The status changes at any moment of the write before it; the last one is always shown.
    """
    for step in range(40):
        with harness.running() as s:
            _starts(s)
            s.home.takes = 0.02
            s.runs(restarts=1)
            s.wait(0.05 + step / 1000)
            s.runs(restarts=2)
            s.wait(10.0)
            pod = s.pod()
            assert pod is not None
            assert pod["status"]["containerStatuses"][0]["restartCount"] == 2, step


def test_a_deletion_that_the_answer_of_a_pass_that_is_retried_shows_waits_for_no_retry() -> None:
    taken = {"metadata": {"name": "web", "namespace": FOREIGN}, "spec": {"containers": []}}
    status = r"^PATCH .*/pods/web/status"
    with harness.running() as s:
        _open(s)
        s.foreign_server.create("pods", FOREIGN, taken, by=USER)
        s.create()
        s.wait(200.0)
        assert s.reason() == "NameConflict"
        s.feeding = False
        body = {"status": {"reason": "x", "message": "y"}}
        s.home_server.patch(("pods", HOME, "web"), body, by=USER, status=True, strategic=False)
        s.pods.event("MODIFIED", model.clone(s.pod()))
        s.home.takes = 0.05
        before = len(s.home.requests(status))
        while len(s.home.requests(status)) == before:
            s.wait(0.005)
        s.delete()
        deletion = model.clone(s.pod())
        s.wait(0.2)
        s.pods.event("MODIFIED", deletion)  # older than the answer, so it wakes no pass
        s.feeding = True
        s.wait(2.0)
        assert s.pod() is None
