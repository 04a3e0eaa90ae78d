"""`activeDeadlineSeconds` of a home pod while no foreign kubelet has its mirror.

A kubelet ends a pod that was active for longer, counted from `status.startTime`, whether or not a
container has started (`active_deadline.go` in pkg/kubelet). The foreign kubelet does so as soon as
it has set the start time of the mirror. Until then it is farlet's duty. Pure.
"""

from __future__ import annotations

from farlet.forge import timestamps
from farlet.k8s_types import Pod
from farlet.planning import predicates
from farlet.planning.snapshot import Missing


def left(home: Pod, mirror: Pod | Missing, *, now: float) -> float | None:
    """Seconds until farlet has to end the pod, zero and less if it has to now.

    `None`: the pod has no deadline, is ending, was not accepted yet, or belongs to a kubelet.
    """
    seconds = home["spec"].get("activeDeadlineSeconds")
    if seconds is None or predicates.is_terminal(home) or predicates.is_deleting(home):
        return None
    if not isinstance(mirror, Missing) and _has_kubelet(mirror):
        return None
    started = timestamps.epoch(home.get("status", {}).get("startTime"))
    return None if started is None else started + seconds - now


def _has_kubelet(mirror: Pod) -> bool:
    return "startTime" in mirror.get("status", {}) or predicates.is_finished(mirror)
