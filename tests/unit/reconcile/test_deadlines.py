"""`activeDeadlineSeconds` while a watch of mirrors shows nothing and seems to be open."""

from __future__ import annotations

from unit.planning import objects
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, HOME, KUBELET, USER, Harness

READS = "^GET .*/namespaces/default-h/pods/web$"
SECONDS = 30
NEVER = 1e6


def _waiting(s: Harness) -> None:
    """Its mirror waits for a node."""
    s.create(policy="Never")
    body = {"spec": {"activeDeadlineSeconds": SECONDS}}
    s.home_server.patch(("pods", HOME, "web"), body, by=USER, status=False, strategic=True)
    s.wait(5.0)
    assert s.mirror() is not None


def test_a_pod_that_ended_while_its_watch_was_silent_keeps_its_result_at_the_deadline() -> None:
    with harness.running() as s:
        _waiting(s)
        s.foreign.lag = NEVER
        s.runs()
        s.wait(7.0)
        ended = objects.mirror(phase="Succeeded", state=objects.exited(0)).get("status", {})
        where = ("pods", FOREIGN, "web")
        s.foreign_server.patch(where, {"status": ended}, by=KUBELET, status=True, strategic=False)
        s.wait(SECONDS)
        pod = s.pod()
        assert pod is not None
        assert pod["status"]["phase"] == "Succeeded"
        assert "DeadlineExceeded" not in s.events()
        assert len(s.foreign.requests(READS)) == 1


def test_a_pod_whose_mirror_still_waits_for_a_node_is_failed_at_the_deadline() -> None:
    with harness.running() as s:
        _waiting(s)
        s.foreign.lag = NEVER
        s.wait(SECONDS)
        assert s.reason() == "DeadlineExceeded"
        assert s.events() == ["DeadlineExceeded"]
        assert s.mirror() is None
        assert len(s.foreign.requests(READS)) == 1


def test_a_pod_whose_mirror_is_found_gone_at_the_deadline_is_lost() -> None:
    with harness.running() as s:
        _waiting(s)
        s.foreign.lag = NEVER
        s.remove()
        s.wait(SECONDS)
        assert s.reason() == "MirrorLost"
        assert len(s.foreign.requests(READS)) == 1
