"""How long a change of a mirror waits for a pass."""

from __future__ import annotations

import copy

import pytest

from farlet.k8s_types import Pod
from farlet.planning import wakes
from unit.planning.objects import mirror


def _scheduled() -> Pod:
    """M with a node and without a report of its kubelet."""
    pod = copy.deepcopy(mirror(phase="Pending"))
    del pod["status"]["containerStatuses"]
    return pod


def _finalized(pod: Pod) -> Pod:
    pod["metadata"]["finalizers"] = ["example.org/keep"]
    return pod


CHANGES: dict[str, tuple[Pod, str | None, float]] = {
    "a new phase": (mirror(), "Pending", 0.0),
    "a mirror that was not known": (mirror(), None, 0.0),
    "the end of its containers": (mirror(phase="Succeeded"), "Running", 0.0),
    "a status of the same phase": (mirror(), "Running", 0.05),
    "containers that are being created": (mirror(phase="Pending"), "Pending", 0.05),
    "a node, and nothing of its kubelet": (_scheduled(), "Pending", 2.0),
    "a deletion that has begun": (mirror(grace=30), "Running", 0.05),
    "a deletion that has begun, with a new phase": (
        mirror(phase="Failed", grace=3),
        "Running",
        0.05,
    ),
    "its removal, which the DELETED event shows": (mirror(grace=0), "Running", 1.0),
    "grace period 0 while our finalizer holds it": (
        mirror(grace=0, observed=True),
        "Running",
        0.05,
    ),
    "grace period 0 while another finalizer holds it": (
        _finalized(mirror(grace=0)),
        "Running",
        0.05,
    ),
}


@pytest.mark.parametrize(("changed", "before", "seconds"), CHANGES.values(), ids=CHANGES)
def test_a_mirror_is_processed_soon_after(changed: Pod, before: str | None, seconds: float) -> None:
    assert wakes.after_change(changed, phase_before=before) == seconds
