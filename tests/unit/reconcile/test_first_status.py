"""The first status of a new mirror: its quick first steps are one status."""

from __future__ import annotations

from unit.planning import objects
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, KUBELET, Harness

STATUS = r"^PATCH .*/pods/web/status$"


def _phase(s: Harness) -> str:
    pod = s.pod()
    assert pod is not None
    return str(pod["status"]["phase"])


def _scheduled(s: Harness) -> None:
    where, bound = ("pods", FOREIGN, "web"), {"spec": {"nodeName": "worker"}}
    s.foreign_server.patch(where, bound, by=KUBELET, status=False, strategic=False)


def test_a_mirror_that_runs_at_once_is_one_status_and_a_prompt_one() -> None:
    with harness.running() as s:
        s.create()
        s.wait(0.1)
        _scheduled(s)
        s.wait(0.1)
        assert not s.home.requests(STATUS)
        s.runs()
        s.wait(0.1)
        assert _phase(s) == "Running"
        s.wait(5.0)
        assert len(s.home.requests(STATUS)) == 1


def test_a_mirror_that_starts_slowly_is_reported_after_two_seconds() -> None:
    with harness.running() as s:
        s.create()
        s.wait(3.0)
        assert len(s.home.requests(STATUS)) == 1
        pod = s.pod()
        assert pod is not None
        assert "farlet.io/Mirrored" in [c["type"] for c in pod["status"]["conditions"]]


def test_a_kubelet_s_report_of_containers_is_not_held_back() -> None:
    with harness.running() as s:
        s.create()
        s.wait(0.1)
        reported = objects.mirror(state=objects.WAITING)
        where, body = ("pods", FOREIGN, "web"), {"status": reported.get("status", {})}
        s.foreign_server.patch(where, body, by=KUBELET, status=True, strategic=False)
        s.wait(0.1)
        assert len(s.home.requests(STATUS)) == 1
