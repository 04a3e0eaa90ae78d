"""The phase of a home pod, and which phases may follow it.

Phases only move forward: a pod that has finished never runs again, and one that has run is never
Pending again. `plan` relies on this module before it recreates a mirror, so nothing here guesses.
"""

from __future__ import annotations

from farlet.forge import restart_policies
from farlet.k8s_types import Pod, PodPhase

TERMINAL = frozenset({PodPhase.SUCCEEDED, PodPhase.FAILED})
STARTED = frozenset({PodPhase.RUNNING, PodPhase.UNKNOWN})
_ALL = frozenset(PodPhase)


def is_terminal(pod: Pod) -> bool:
    """The pod has finished. It never runs again."""
    return pod.get("status", {}).get("phase") in TERMINAL


def of(home: Pod, mirror: Pod) -> str:
    """The phase of a home pod with this mirror. A mirror that is being replaced ends nothing."""
    before = home.get("status", {}).get("phase", PodPhase.PENDING)
    if before in TERMINAL:
        return before
    phase = mirror.get("status", {}).get("phase", PodPhase.PENDING)
    if phase not in _ALL or (phase == PodPhase.PENDING and before in STARTED):
        return before
    if phase in TERMINAL and _replaced(home, mirror):
        return before if before in STARTED else PodPhase.RUNNING
    return phase


def _replaced(home: Pod, mirror: Pod) -> bool:
    """The mirror was deleted in the foreign cluster, and home's restart policies demand another.

    A kubelet ends every deleted pod in a terminal phase, those of restartPolicy Always too.
    """
    if "deletionTimestamp" in home["metadata"] or "deletionTimestamp" not in mirror["metadata"]:
        return False
    succeeded = mirror.get("status", {}).get("phase") == PodPhase.SUCCEEDED
    if succeeded and restart_policies.of_pod(home["spec"]) == "OnFailure":
        return False
    return restart_policies.final(home, mirror) is None
