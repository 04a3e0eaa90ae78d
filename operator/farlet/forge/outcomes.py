"""What container statuses amount to: is the pod initialized, is it ready, how did it end?

The foreign kubelet answers these for a mirror, and its answers are taken; this room answers where
it has not spoken yet or never will again. The rules are those of pkg/kubelet/status: `generate.go`
for the conditions, `TerminatePod` in `status_manager.go` for the end.
"""

from __future__ import annotations

from farlet.constants import PodCondition
from farlet.forge import containers
from farlet.forge.conditions import Fact
from farlet.forge.containers import Statuses
from farlet.k8s_types import Container, ContainerStatus, Pod


def initialized(home: Pod, known: Statuses) -> Fact:
    """`Initialized` where nobody tells it: `GeneratePodInitializedCondition` of the kubelet.

    In its words too, so that home need not be written again when it tells the same.
    """
    rows = zip(containers.of(home, containers.INIT), known[containers.INIT], strict=True)
    incomplete = [c["name"] for c, s in rows if not _completed(c, s)]
    if not incomplete or not all(map(_untouched, known[containers.REGULAR])):
        return Fact(PodCondition.INITIALIZED, "True")
    message = f"containers with incomplete status: [{' '.join(incomplete)}]"
    return Fact(PodCondition.INITIALIZED, "False", "ContainersNotInitialized", message)


def ready(home: Pod, known: Statuses) -> Fact:
    """`ContainersReady` where nobody tells it: `GenerateContainersReadyCondition`."""
    serving = {s["name"] for rows in known.values() for s in rows if s.get("ready")}
    spec = home.get("spec", {})
    asked = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    asked += spec.get("containers") or ()
    unready = [c["name"] for c in asked if c["name"] not in serving]
    if not unready:
        return Fact(PodCondition.CONTAINERS_READY, "True")
    message = f"containers with unready status: [{' '.join(unready)}]"
    return Fact(PodCondition.CONTAINERS_READY, "False", "ContainersNotReady", message)


def ended(home: Pod, known: Statuses) -> Statuses:
    """All that ran, or may have run, has ended: the last state of a pod without a mirror.

    As a kubelet does it (`TerminatePod`): where initialization never came to its end, regular
    containers go on waiting and the init containers up to the last that was tried have failed.
    """
    init, regular = known[containers.INIT], known[containers.REGULAR]
    tried = max((i for i, s in enumerate(init) if not _untouched(s)), default=0)
    got_through = (
        not init
        or any(not _untouched(s) for s in regular)
        or _completed(containers.of(home, containers.INIT)[-1], init[-1])
    )
    return {
        containers.INIT: [_ended(s) if i <= tried else s for i, s in enumerate(init)],
        containers.REGULAR: [_ended(s) for s in regular] if got_through else regular,
        containers.EPHEMERAL: [
            s if _untouched(s) else _ended(s) for s in known[containers.EPHEMERAL]
        ],
    }


def succeeded(known: Statuses) -> bool:
    """Every regular container ended with exit code 0 (`getPhase` of a pod that is terminal)."""
    return bool(known[containers.REGULAR]) and all(
        (s.get("state") or {}).get("terminated", {}).get("exitCode") == 0
        for s in known[containers.REGULAR]
    )


def _ended(status: ContainerStatus) -> ContainerStatus:
    """A status that is final. A container that waits to be restarted ended as its last run did."""
    state = status.get("state") or {}
    if state.get("terminated"):
        return status
    last = status.get("lastState") or {}
    if "running" not in state and last.get("terminated"):
        return {**status, "ready": False, "started": False, "state": last, "lastState": {}}
    return {**status, "ready": False, "started": False, "state": containers.UNKNOWN_END}


def _untouched(status: ContainerStatus) -> bool:
    """No sign that this container was ever started."""
    state, last = status.get("state") or {}, status.get("lastState") or {}
    return "running" not in state and not state.get("terminated") and not last.get("terminated")


def _completed(container: Container, status: ContainerStatus) -> bool:
    """An init container has done its part: ended well, or, for a sidecar, has started."""
    if container.get("restartPolicy") == "Always":
        return "running" in (status.get("state") or {}) and bool(status.get("started"))
    return any(
        (status.get(key) or {}).get("terminated", {}).get("exitCode") == 0  # type: ignore[attr-defined]
        for key in ("state", "lastState")
    )
