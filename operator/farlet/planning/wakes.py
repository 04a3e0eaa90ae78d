"""When a change that a watch shows is worth a pass of the pod it concerns.

A pass decides from all that is known, so one pass serves all changes before it. Only changes that
say nothing new to `plan` are left out; in doubt there is a pass.

Pure.
"""

from __future__ import annotations

from farlet.k8s_types import Pod, PodPhase
from farlet.planning import predicates
from farlet.planning.plan import FIRST_STATUS_SECONDS

COALESCE_SECONDS = 0.05
"""Changes of a mirror within this time become one status in the home cluster."""

VANISHING_SECONDS = 1.0
"""A mirror with grace period 0 and without finalizers is removed by the same request, so that its
DELETED event follows. One that is still there after this time is processed as it is."""


def after_change(mirror: Pod, *, phase_before: str | None) -> float:
    """Seconds until the pass after a new version of a mirror.

    `phase_before`: of the version before it; `None`: there was none.
    """
    if predicates.is_released(mirror["metadata"]):
        return VANISHING_SECONDS
    if predicates.is_deleting(mirror):
        return COALESCE_SECONDS
    if mirror.get("status", {}).get("phase", PodPhase.UNKNOWN.value) != phase_before:
        return 0.0
    if predicates.is_only_scheduled(mirror):
        return FIRST_STATUS_SECONDS  # what `plan` would hold back until then
    return COALESCE_SECONDS
