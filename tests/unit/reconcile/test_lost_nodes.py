"""A foreign node is lost: its pods become Terminating at home, as those of a lost home node."""

from __future__ import annotations

import pytest

from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, USER, Harness

MIRROR = ("pods", FOREIGN, "web")


def _lose_node(s: Harness, policy: str) -> None:
    """The taint manager deletes the mirror, and no kubelet is there to end it."""
    s.create(policy=policy)
    s.wait(3.0)
    s.runs()
    s.wait(5.0)
    s.foreign_server.delete(MIRROR, by=USER)


@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
def test_the_home_pod_is_terminating_a_minute_after_the_grace_period(policy: str) -> None:
    with harness.running() as s:
        _lose_node(s, policy)
        s.wait(85.0)
        pod = s.pod()
        assert pod is not None
        assert "deletionTimestamp" not in pod["metadata"]
        s.wait(10.0)
        pod = s.pod()
        assert pod is not None
        assert pod["metadata"]["deletionGracePeriodSeconds"] == 30
        (target,) = [c for c in pod["status"]["conditions"] if c["type"] == "DisruptionTarget"]
        assert (target["status"], target["reason"]) == ("True", "DeletionByTaintManager")
        assert pod["status"]["phase"] == "Running"
        s.wait(3600.0)
        assert s.pod() is not None, "it stays until the mirror is gone"
        assert len(s.home.requests("DELETE .*/pods/web")) == 1
        s.remove()
        s.wait(10.0)
        assert s.pod() is None


def test_a_mirror_that_ends_late_costs_its_pod_nothing() -> None:
    with harness.running() as s:
        _lose_node(s, "Always")
        s.wait(80.0)
        s.remove()
        s.wait(30.0)
        assert s.home.requests("DELETE .*/pods/web") == []
        assert s.mirror() is not None


def test_no_pod_is_given_up_while_the_foreign_api_server_does_not_answer() -> None:
    with harness.running() as s:
        _lose_node(s, "Always")
        s.wait(5.0)
        s.foreign.down = True
        s.foreign.break_watches()
        s.wait(3600.0)
        assert s.home.requests("DELETE .*/pods/web") == []
        s.foreign.down = False
        s.wait(120.0)
        assert len(s.home.requests("DELETE .*/pods/web")) == 1
