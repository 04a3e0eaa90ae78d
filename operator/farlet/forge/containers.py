"""Statuses of home containers: reflected from the mirror, or computed if it has none.

`status_fields.py` says what happens to each field of a mirror's container status. A container
that the mirror does not report is waiting; if it was running until now, that run has ended with an
unknown result (exit code 137, reason `ContainerStatusUnknown`, as `convertToAPIContainerStatuses`
in pkg/kubelet/kubelet_pods.go has it). `outcomes.py` computes what the statuses amount to.

No function raises: an API server returned the Pod, so it has the shape of one, and annotations,
which every foreign user with write access can change, are validated here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import orjson

from farlet import constants
from farlet.constants import JSON, PodCondition
from farlet.forge import amounts, phases, restart_policies, status_fields
from farlet.k8s_types import (
    ConditionStatus,
    Container,
    ContainerState,
    ContainerStatus,
    Pod,
    PodSpec,
)

MAX_RESTARTS = 2**31 - 1
"""`restartCount` is an int32; a larger number would make the whole status undecodable."""

_COPIED = tuple(
    name
    for name, field in status_fields.CONTAINER_STATUS.items()
    if field.rule is status_fields.Rule.COPIED
)
UNKNOWN_END: ContainerState = {
    "terminated": {
        "exitCode": 137,
        "reason": "ContainerStatusUnknown",
        "message": "The mirror pod was gone before farlet saw how this container ended",
    }
}
NEVER_SEEN: ContainerState = {
    "terminated": {
        "exitCode": 137,
        "reason": "ContainerStatusUnknown",
        "message": "The container could not be located when the pod was terminated",
    }
}
"""What a kubelet reports of a container that it never started (`TerminatePod`)."""


@dataclass(frozen=True, slots=True)
class Group:
    """One of the three lists of containers in a pod, and the list of their statuses."""

    spec: str
    status: str
    by_name: bool
    """A kubelet sorts statuses by name, those of init containers in the order of the spec."""


INIT = Group("initContainers", "initContainerStatuses", by_name=False)
REGULAR = Group("containers", "containerStatuses", by_name=True)
EPHEMERAL = Group("ephemeralContainers", "ephemeralContainerStatuses", by_name=True)
GROUPS = (INIT, REGULAR, EPHEMERAL)

Statuses = dict[Group, list[ContainerStatus]]


def of(pod: Pod, group: Group) -> list[Container]:
    """The containers of a group, in the order of their statuses."""
    spec = cast("Mapping[str, list[Container]]", pod["spec"])
    found = spec.get(group.spec) or []
    return sorted(found, key=_name) if group.by_name and len(found) > 1 else found


def unfinished_ephemeral(pod: Pod) -> list[Container]:
    """The ephemeral containers that run, or that never started."""
    found = pod["spec"].get("ephemeralContainers")
    if not found:
        return []
    ended = {
        name
        for name, one in statuses(pod, EPHEMERAL).items()
        if (one.get("state") or {}).get("terminated")
    }
    return [c for c in found if c["name"] not in ended]


def statuses(pod: Pod, group: Group) -> dict[str, ContainerStatus]:
    """The statuses of a group that a pod has, by container name."""
    status = cast("Mapping[str, list[ContainerStatus]]", pod.get("status", {}))
    return {s["name"]: s for s in status.get(group.status) or ()}


def offsets(home: Pod, mirror: Pod) -> dict[str, int]:
    """Restarts before this mirror was created, by container name.

    They are recorded at home with the mirror's uid when its first status is reflected. Until
    then the mirror's annotation counts, within the bounds of home's own restart counts: foreign
    users may have changed it.
    """
    uid, _, counts = (recorded(home) or "").partition(" ")
    if uid and uid == mirror["metadata"]["uid"]:
        return _counts(counts)
    if not uid:
        return {}
    annotated = _counts(mirror["metadata"].get("annotations", {}).get(constants.RESTARTS))
    live = {s["name"]: s["restartCount"] for g in GROUPS for s in statuses(home, g).values()}
    names = {container["name"] for group in GROUPS for container in of(home, group)}
    return {
        name: n for name, n in annotated.items() if name in names and n <= live.get(name, 0) + 1
    }


def recorded(home: Pod) -> str | None:
    """The message of `farlet.io/Mirrored`: a mirror's uid, then its `offsets` as JSON if any."""
    for condition in home.get("status", {}).get("conditions") or ():
        if condition["type"] == PodCondition.MIRRORED:
            return condition.get("message") if condition["status"] == ConditionStatus.TRUE else None
    return None


def record(home: Pod, mirror: Pod) -> str:
    """The message of `farlet.io/Mirrored` for this mirror, as `recorded` reads it."""
    uid = mirror["metadata"]["uid"]
    before = offsets(home, mirror)
    if not before:
        return uid
    return f"{uid} {orjson.dumps(before, option=orjson.OPT_SORT_KEYS).decode()}"


def _counts(text: str | None) -> dict[str, int]:
    """A map of names to counts; everything else in the text is ignored."""
    if not text:
        return {}
    try:
        found = orjson.loads(text)  # bounded depth, unlike the standard library's
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {k: v for k, v in found.items() if type(v) is int and 0 <= v <= MAX_RESTARTS}


def creating(home: Pod) -> str:
    """The waiting reason that a kubelet reports before it has started any container."""
    return "PodInitializing" if home["spec"].get("initContainers") else "ContainerCreating"


def reflected(home: Pod, mirror: Pod, *, pending: str) -> Statuses:
    """The mirror's statuses, as the home pod shows them.

    `pending` is the waiting reason of containers that the mirror does not report.
    """
    before = offsets(home, mirror)
    together = _restarts_together(home["spec"])
    result: Statuses = {}
    for group in GROUPS:
        live, foreign = statuses(home, group), statuses(mirror, group)
        rows = result[group] = []
        for container in of(home, group):
            name = container["name"]
            old, new = live.get(name), foreign.get(name)
            if new is None:
                restarts = before.get(name, 0)
                rows.append(_unreported(container, group, old, reason=pending, restarts=restarts))
            elif old is not None and _stays_terminated(
                home, container, group, old, new, together=together
            ):
                rows.append(old)
            else:
                rows.append(_reflected(container, group, old, new, before=before.get(name)))
    return result


def next_restart(status: ContainerStatus) -> int:
    """The restart count of the next run: a container that ran starts once more.

    While one waits for its restart (CrashLoopBackOff), a kubelet shows the id of its last run. A
    container without one never ran, or its restart is counted already (`_unreported`).
    """
    state, last = status.get("state") or {}, status.get("lastState") or {}
    waits = "running" not in state and not state.get("terminated")
    ran = bool(status.get("containerID") and last.get("terminated")) if waits else True
    return status.get("restartCount", 0) + (1 if ran else 0)


def waiting(home: Pod, *, reason: str) -> Statuses:
    """Every container that has not ended is waiting with `reason`."""
    result: Statuses = {}
    for group in GROUPS:
        live = statuses(home, group)
        result[group] = [
            _unreported(c, group, live.get(c["name"]), reason=reason, restarts=0)
            for c in of(home, group)
        ]
    return result


def reported(home: Pod) -> Statuses:
    """Home's own statuses; a container without one is waiting."""
    result: Statuses = {}
    for group in GROUPS:
        live = statuses(home, group)
        result[group] = [
            live.get(c["name"]) or _unreported(c, group, None, reason=creating(home), restarts=0)
            for c in of(home, group)
        ]
    return result


def _stays_terminated(
    home: Pod,
    container: Container,
    group: Group,
    old: ContainerStatus,
    new: ContainerStatus,
    *,
    together: bool,
) -> bool:
    """The home API server would refuse the new state, or the home pod has finished.

    `ValidateContainerStateTransition` and the two functions for init and ephemeral containers in
    pkg/apis/core/validation.
    """
    terminated = (old.get("state") or {}).get("terminated")
    if not terminated or (new.get("state") or {}).get("terminated"):
        return False
    if group is EPHEMERAL or phases.is_terminal(home):
        return True
    spec, code = home["spec"], terminated["exitCode"]
    return not (together or restart_policies.may_restart(spec, container, code))


def _restarts_together(spec: PodSpec) -> bool:
    """A container may restart all containers (KEP-5532), so any of them may leave terminated."""
    return any(
        rule.get("action") == "RestartAllContainers"
        for c in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
        for rule in c.get("restartPolicyRules", ())
    )


def _reflected(
    container: Container,
    group: Group,
    old: ContainerStatus | None,
    new: ContainerStatus,
    *,
    before: int | None,
) -> ContainerStatus:
    """One status by the table in `status_fields`.

    `before`: restarts before this mirror, None for a first mirror.
    """
    source = cast("JSON", new)
    row: JSON = {field: source[field] for field in _COPIED if field in source}
    asked, shown = container.get("resources") or {}, cast("JSON", old or {})
    if "resources" in row:
        row["resources"] = amounts.resources(
            row["resources"] or {}, asked=asked, shown=shown.get("resources") or {}
        )
    if "allocatedResources" in row:
        row["allocatedResources"] = amounts.bounded(
            row["allocatedResources"] or {},
            asked=asked.get("requests") or {},
            shown=shown.get("allocatedResources") or {},
        )
    row["state"] = new.get("state") or {}
    row["lastState"] = new.get("lastState") or {}
    if not row["lastState"] and before is not None and old is not None:
        row["lastState"] = _previous_run(old, new)
    restarts = min(MAX_RESTARTS, new["restartCount"] + (before or 0))
    row["restartCount"] = max(restarts, old["restartCount"] if old else 0)
    mounts = _mounts(container, new)
    if mounts:
        row["volumeMounts"] = mounts
    requested = container.get("resources", {}).get("requests") or {}
    health = [r for r in new.get("allocatedResourcesStatus") or () if r.get("name") in requested]
    if health and group is not EPHEMERAL:
        row["allocatedResourcesStatus"] = health
    if "stopSignal" in new and container.get("lifecycle", {}).get("stopSignal"):
        row["stopSignal"] = new["stopSignal"]
    return cast("ContainerStatus", row)


def _previous_run(old: ContainerStatus, new: ContainerStatus) -> ContainerState:
    """How the run before this mirror ended, by home's status.

    A kubelet does the same if it lost the old container (`convertToAPIContainerStatuses`).
    """
    if old.get("containerID") != new.get("containerID"):
        state = old.get("state") or {}
        if state.get("terminated"):
            return {"terminated": state["terminated"]}
        if "running" in state:
            return UNKNOWN_END
    return old.get("lastState") or {}


def _mounts(container: Container, new: ContainerStatus) -> list[JSON]:
    """The reported mounts that home's container has, without `volumeStatus`: alpha in 1.37."""
    reported = new.get("volumeMounts")
    if not reported:
        return []
    own = {(m["name"], m["mountPath"]) for m in container.get("volumeMounts", ())}
    return [
        {k: v for k, v in m.items() if k != "volumeStatus"}
        for m in reported
        if (m.get("name"), m.get("mountPath")) in own
    ]


def _unreported(
    container: Container,
    group: Group,
    old: ContainerStatus | None,
    *,
    reason: str,
    restarts: int,
) -> ContainerStatus:
    """The status of a container that no mirror reports.

    One that was running is gone with its mirror: that run has ended, with an unknown result. An
    ephemeral container never runs a second time (`computePodActions` in
    pkg/kubelet/kuberuntime/kuberuntime_manager.go).
    """
    state: ContainerState = (old.get("state") if old else None) or {}
    if old is not None and state.get("terminated"):
        return old
    if old is not None and group is EPHEMERAL and "running" in state:
        return {**old, "ready": False, "started": False, "state": UNKNOWN_END}
    count = next_restart(old) if old else 0
    last: ContainerState = (old.get("lastState") if old else None) or {}
    if "running" in state:
        last = UNKNOWN_END
    return {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": "",
        "ready": False,
        "started": False,
        "restartCount": min(MAX_RESTARTS, max(count, restarts)),
        "state": {"waiting": {"reason": reason}},
        "lastState": last,
    }


def _name(container: Container) -> str:
    return container["name"]
