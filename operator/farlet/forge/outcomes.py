"""What container statuses amount to: is the pod initialized, is it ready, how did it end?

The foreign kubelet reports this for a mirror; this module computes it where the kubelet has not
reported yet or never will. The rules are those of pkg/kubelet/status: `generate.go` for the
conditions, `TerminatePod` in `status_manager.go` for the end.
"""

from __future__ import annotations

from farlet.constants import PodCondition
from farlet.forge import containers
from farlet.forge.conditions import DesiredCondition
from farlet.forge.containers import Statuses
from farlet.k8s_types import ConditionStatus, Container, ContainerState, ContainerStatus, Pod


def initialized(home: Pod, statuses: Statuses) -> DesiredCondition:
    """`Initialized` where the mirror has none: `GeneratePodInitializedCondition` of the kubelet.

    It uses the kubelet's texts, so that home needs no other write when the kubelet reports it.
    """
    rows = zip(containers.of(home, containers.INIT), statuses[containers.INIT], strict=True)
    incomplete = [c["name"] for c, s in rows if not _completed(c, s)]
    if not incomplete or not all(map(_never_started, statuses[containers.REGULAR])):
        return DesiredCondition(PodCondition.INITIALIZED, ConditionStatus.TRUE)
    return DesiredCondition(
        PodCondition.INITIALIZED,
        ConditionStatus.FALSE,
        "ContainersNotInitialized",
        f"containers with incomplete status: [{' '.join(incomplete)}]",
    )


def ready(home: Pod, statuses: Statuses) -> DesiredCondition:
    """`ContainersReady` where the mirror has none: `GenerateContainersReadyCondition`."""
    serving = {s["name"] for rows in statuses.values() for s in rows if s.get("ready")}
    spec = home["spec"]
    required = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    required += spec.get("containers") or ()
    unready = [c["name"] for c in required if c["name"] not in serving]
    if not unready:
        return DesiredCondition(PodCondition.CONTAINERS_READY, ConditionStatus.TRUE)
    return DesiredCondition(
        PodCondition.CONTAINERS_READY,
        ConditionStatus.FALSE,
        "ContainersNotReady",
        f"containers with unready status: [{' '.join(unready)}]",
    )


def ended(home: Pod, statuses: Statuses, *, unknown: ContainerState) -> Statuses:
    """The final statuses of a pod without a mirror: every container that ran has ended.

    `unknown` is the state of one whose end was not seen.
    As a kubelet does it (`TerminatePod`): where initialization never completed, regular containers
    stay waiting, and the init containers up to the last one that started have failed.
    """
    init, regular = statuses[containers.INIT], statuses[containers.REGULAR]
    last_started = max((i for i, s in enumerate(init) if not _never_started(s)), default=0)
    initialization_completed = (
        not init
        or any(not _never_started(s) for s in regular)
        or _completed(containers.of(home, containers.INIT)[-1], init[-1])
    )
    return {
        containers.INIT: [
            _ended(s, unknown) if i <= last_started else s for i, s in enumerate(init)
        ],
        containers.REGULAR: [_ended(s, unknown) for s in regular]
        if initialization_completed
        else regular,
        containers.EPHEMERAL: [
            s if _never_started(s) else _ended(s, unknown) for s in statuses[containers.EPHEMERAL]
        ],
    }


def succeeded(statuses: Statuses) -> bool:
    """Every regular container ended with exit code 0 (`getPhase` of a pod that is terminal)."""
    return bool(statuses[containers.REGULAR]) and all(
        _exit_code(s.get("state")) == 0 for s in statuses[containers.REGULAR]
    )


def _ended(status: ContainerStatus, unknown: ContainerState) -> ContainerStatus:
    """A final status. A container that waits for its restart ended as its last run did."""
    state = status.get("state") or {}
    if state.get("terminated"):
        return status
    last = status.get("lastState") or {}
    if "running" not in state and last.get("terminated"):
        return {**status, "ready": False, "started": False, "state": last, "lastState": {}}
    return {**status, "ready": False, "started": False, "state": unknown}


def _never_started(status: ContainerStatus) -> bool:
    state, last = status.get("state") or {}, status.get("lastState") or {}
    return "running" not in state and not state.get("terminated") and not last.get("terminated")


def _completed(container: Container, status: ContainerStatus) -> bool:
    """An init container has completed: exited with code 0, or, for a sidecar, has started."""
    if container.get("restartPolicy") == "Always":
        return "running" in (status.get("state") or {}) and bool(status.get("started"))
    return 0 in (_exit_code(status.get("state")), _exit_code(status.get("lastState")))


def _exit_code(state: ContainerState | None) -> int | None:
    terminated = state.get("terminated") if state else None
    return terminated["exitCode"] if terminated else None
