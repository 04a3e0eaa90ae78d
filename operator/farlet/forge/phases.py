"""The phase of a home pod, and what it may still become.

Phases only go forward: a pod that has finished never runs again, one that has run is never
Pending again. `plan` asks here before it makes a mirror anew, so nothing in here may guess.
"""

from __future__ import annotations

from farlet.k8s_types import Pod

TERMINAL = frozenset({"Succeeded", "Failed"})
STARTED = frozenset({"Running", "Unknown"})
_KNOWN = TERMINAL | STARTED | {"Pending"}


def is_terminal(pod: Pod) -> bool:
    """The pod has finished. It never runs again."""
    return pod.get("status", {}).get("phase") in TERMINAL


def ran_to_success(pod: Pod) -> bool:
    """Some regular container has ended with exit code 0, now or in the run before."""
    for status in pod.get("status", {}).get("containerStatuses") or ():
        for state in (status.get("state"), status.get("lastState")):
            if state and (state.get("terminated") or {}).get("exitCode") == 0:
                return True
    return False


def of(home: Pod, mirror: Pod) -> str:
    """The phase of a home pod whose mirror is this. A mirror that is replaced ends nothing."""
    before = home.get("status", {}).get("phase", "Pending")
    if before in TERMINAL:
        return before
    phase = mirror.get("status", {}).get("phase", "Pending")
    if phase not in _KNOWN or (phase == "Pending" and before in STARTED):
        return before
    if phase in TERMINAL and _replaced(home, mirror):
        return before if before in STARTED else "Running"
    return phase


def _replaced(home: Pod, mirror: Pod) -> bool:
    """Somebody abroad deleted the mirror, and home's restart policy asks for another.

    A kubelet ends every deleted pod in a terminal phase, those of restartPolicy Always too.
    """
    if "deletionTimestamp" in home["metadata"] or "deletionTimestamp" not in mirror["metadata"]:
        return False
    policy = home.get("spec", {}).get("restartPolicy", "Always")
    if policy == "OnFailure":
        return mirror.get("status", {}).get("phase") == "Failed" and not ran_to_success(mirror)
    return policy == "Always"
