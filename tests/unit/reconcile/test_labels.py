"""farlet restores its label on a mirror in every state of the pod."""

from __future__ import annotations

import pytest

from unit.planning import objects
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, KUBELET, USER, Harness

OWNER = "farlet.io/virtual-node-id"
MIRROR = ("pods", FOREIGN, "web")


def _running(s: Harness, policy: str = "Always") -> None:
    s.create(policy=policy)
    s.wait(5.0)
    s.runs()
    s.wait(5.0)


def _strip(s: Harness) -> None:
    body = {"metadata": {"labels": {OWNER: None}}}
    s.foreign_server.patch(MIRROR, body, by=USER, status=False, strategic=False)


def _labelled(s: Harness) -> bool:
    mirror = s.mirror()
    assert mirror is not None
    return bool(mirror["metadata"]["labels"].get(OWNER) == objects.CONTEXT.virtual_node_id)


def test_the_label_of_a_running_pod_s_mirror_is_restored() -> None:
    with harness.running() as s:
        _running(s)
        _strip(s)
        s.wait(2.0)
        assert _labelled(s)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_the_label_of_a_finished_pod_s_mirror_is_restored_and_the_mirror_ends_with_the_pod(
    phase: str,
) -> None:
    with harness.running() as s:
        _running(s, policy="Never")
        body = {"status": objects.mirror(phase=phase).get("status", {})}
        s.foreign_server.patch(MIRROR, body, by=KUBELET, status=True, strategic=False)
        s.wait(5.0)
        _strip(s)
        s.wait(2.0)
        assert _labelled(s)
        pod = s.pod()
        assert pod is not None
        assert pod["status"]["phase"] == phase
        s.delete(grace=0)
        s.wait(10.0)
        assert s.mirror() is None


def test_the_label_of_a_mirror_whose_pod_is_being_deleted_is_restored() -> None:
    with harness.running() as s:
        _running(s)
        s.delete(grace=30)
        s.wait(2.0)
        _strip(s)
        s.wait(5.0)
        assert _labelled(s)
        assert s.pod() is not None
        s.remove()
        s.wait(5.0)
        assert s.pod() is None


def test_a_finished_pod_whose_mirror_is_gone_costs_one_read() -> None:
    with harness.running() as s:
        _running(s, policy="Never")
        body = {"status": objects.mirror(phase="Succeeded").get("status", {})}
        s.foreign_server.patch(MIRROR, body, by=KUBELET, status=True, strategic=False)
        s.wait(5.0)
        s.remove()
        s.wait(600.0)
        assert len(s.foreign.requests("GET .*/pods/web$")) <= 1
        assert s.mirror() is None
