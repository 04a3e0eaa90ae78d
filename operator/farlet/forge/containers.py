"""Statuses of containers: those of the mirror brought home, and those of containers without any.

What a container's mirror says comes home by the table in `statusfields.py`; a container that
the mirror does not report is waiting, and if it ran until now, that run has ended in a way that
nobody saw (exit code 137, reason `ContainerStatusUnknown`, as `convertToAPIContainerStatuses` in
pkg/kubelet/kubelet_pods.go has it). What statuses amount to is judged in `outcomes.py`.

Nothing raises: what a foreign server returned has the shape of a Pod, and annotations, which
anybody may write, are checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import orjson

from farlet import constants
from farlet.constants import JSON, PodCondition
from farlet.forge import phases, status_fields
from farlet.k8s_types import Container, ContainerState, ContainerStatus, Pod, PodSpec

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
        "message": "The mirror of this pod was gone before the end of this container was seen",
    }
}


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
    """The containers of a group, in the order in which their statuses stand."""
    spec = cast("Mapping[str, list[Container]]", pod.get("spec", {}))
    found = spec.get(group.spec) or []
    return sorted(found, key=_name) if group.by_name and len(found) > 1 else found


def statuses(pod: Pod, group: Group) -> dict[str, ContainerStatus]:
    """The reported statuses of a group, by container name."""
    status = cast("Mapping[str, list[ContainerStatus]]", pod.get("status", {}))
    return {s["name"]: s for s in status.get(group.status) or ()}


def offsets(home: Pod, mirror: Pod) -> dict[str, int]:
    """Restarts before this mirror was made, by container name.

    Once home has told of this mirror, what it wrote then beside the mirror's uid counts. Before,
    the mirror's annotation does, as far as it can be true: anybody abroad may write it.
    """
    uid, _, told = (recorded(home) or "").partition(" ")
    if uid and uid == mirror["metadata"].get("uid"):
        return _counts(told)
    if not uid:
        return {}
    written = _counts(mirror["metadata"].get("annotations", {}).get(constants.RESTARTS))
    known = {
        s["name"]: s.get("restartCount", 0) for g in GROUPS for s in statuses(home, g).values()
    }
    return {name: n for name, n in written.items() if n <= known.get(name, 0) + 1}


def recorded(home: Pod) -> str | None:
    """The message of `farlet.io/Mirrored`: a mirror's uid, then its `offsets` as JSON if any."""
    for condition in home.get("status", {}).get("conditions") or ():
        if condition["type"] == PodCondition.MIRRORED and condition.get("status") == "True":
            return condition.get("message")
    return None


def record(home: Pod, mirror: Pod) -> str:
    """The message of `farlet.io/Mirrored` for this mirror, as `recorded` reads it."""
    uid = mirror["metadata"].get("uid", "")
    before = offsets(home, mirror)
    if not before:
        return uid
    return f"{uid} {orjson.dumps(before, option=orjson.OPT_SORT_KEYS).decode()}"


def _counts(text: str | None) -> dict[str, int]:
    """A map of names to counts; what is none is ignored."""
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
    """The waiting reason of a kubelet that has nothing to report yet."""
    return "PodInitializing" if home.get("spec", {}).get("initContainers") else "ContainerCreating"


def reflected(home: Pod, mirror: Pod, *, pending: str) -> Statuses:
    """The mirror's statuses as home shows them; `pending`: why unreported containers wait."""
    before = offsets(home, mirror)
    result: Statuses = {}
    for group in GROUPS:
        live, abroad = statuses(home, group), statuses(mirror, group)
        rows = result[group] = []
        for container in of(home, group):
            name = container["name"]
            old, new = live.get(name), abroad.get(name)
            if new is None:
                rows.append(
                    _unreported(container, old, reason=pending, restarts=before.get(name, 0))
                )
            elif old is not None and _stays_terminated(home, container, group, old, new):
                rows.append(old)
            else:
                rows.append(_carried(container, group, old, new, before=before.get(name)))
    return result


def waiting(home: Pod, *, reason: str) -> Statuses:
    """Every container that has not ended waits for `reason`."""
    result: Statuses = {}
    for group in GROUPS:
        live = statuses(home, group)
        result[group] = [
            _unreported(c, live.get(c["name"]), reason=reason, restarts=0) for c in of(home, group)
        ]
    return result


def reported(home: Pod) -> Statuses:
    """Home's own statuses; a container that has none waits."""
    result: Statuses = {}
    for group in GROUPS:
        live = statuses(home, group)
        result[group] = [
            live.get(c["name"]) or _unreported(c, None, reason=creating(home), restarts=0)
            for c in of(home, group)
        ]
    return result


def may_restart(spec: PodSpec, container: Container, exit_code: int) -> bool:
    """Whether a container that ended so may run again.

    `ContainerShouldRestart` in pkg/api/v1/pod/util.go (KEP-5307: rules of a container count
    before its policy, its policy before the pod's).
    """
    own = container.get("restartPolicy")
    if own is not None:
        for rule in container.get("restartPolicyRules", ()):
            codes = rule.get("exitCodes") or {}
            listed = exit_code in codes.get("values", ())
            if codes.get("operator") == ("In" if listed else "NotIn"):
                return True  # both actions there are, Restart and RestartAllContainers
    policy = own or spec.get("restartPolicy", "Always")
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def _stays_terminated(
    home: Pod, container: Container, group: Group, old: ContainerStatus, new: ContainerStatus
) -> bool:
    """The home server would refuse the new state, or home has finished.

    `ValidateContainerStateTransition` and its two sisters in pkg/apis/core/validation.
    """
    terminated = (old.get("state") or {}).get("terminated")
    if not terminated or (new.get("state") or {}).get("terminated"):
        return False
    if group is EPHEMERAL or phases.is_terminal(home):
        return True
    spec = home.get("spec", {})
    return not (
        may_restart(spec, container, terminated.get("exitCode", 0)) or _restarts_together(spec)
    )


def _restarts_together(spec: PodSpec) -> bool:
    """Some container may restart all of them (KEP-5532), so that any may leave terminated."""
    return any(
        rule.get("action") == "RestartAllContainers"
        for c in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
        for rule in c.get("restartPolicyRules", ())
    )


def _carried(
    container: Container,
    group: Group,
    old: ContainerStatus | None,
    new: ContainerStatus,
    *,
    before: int | None,
) -> ContainerStatus:
    """One status by the table. `before`: restarts before this mirror, None for a first mirror."""
    source = cast("JSON", new)
    row: JSON = {field: source[field] for field in _COPIED if field in source}
    row["state"] = new.get("state") or {}
    row["lastState"] = new.get("lastState") or {}
    if not row["lastState"] and before is not None and old is not None:
        row["lastState"] = _former(old, new)
    restarts = min(MAX_RESTARTS, new.get("restartCount", 0) + (before or 0))
    row["restartCount"] = max(restarts, old.get("restartCount", 0) if old else 0)
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


def _former(old: ContainerStatus, new: ContainerStatus) -> ContainerState:
    """How the run before this mirror ended, as home knows it.

    A kubelet does the same where it lost the old container (`convertToAPIContainerStatuses`).
    """
    if old.get("containerID") != new.get("containerID"):
        state = old.get("state") or {}
        if state.get("terminated"):
            return {"terminated": state["terminated"]}
        if "running" in state:
            return UNKNOWN_END
    return old.get("lastState") or {}


def _mounts(container: Container, new: ContainerStatus) -> list[JSON]:
    """Mounts that home's container has. `volumeStatus` stays abroad: alpha in 1.36."""
    reported = new.get("volumeMounts")
    if not reported:
        return []
    own = {(m.get("name"), m.get("mountPath")) for m in container.get("volumeMounts", ())}
    return [
        {k: v for k, v in m.items() if k != "volumeStatus"}
        for m in reported
        if (m.get("name"), m.get("mountPath")) in own
    ]


def _unreported(
    container: Container, old: ContainerStatus | None, *, reason: str, restarts: int
) -> ContainerStatus:
    """The status of a container that no mirror reports.

    One that ran until now is gone with its mirror: that run has ended, nobody knows how.
    """
    state: ContainerState = (old or {}).get("state") or {}
    if old is not None and state.get("terminated"):
        return old
    count = old.get("restartCount", 0) if old else 0
    last: ContainerState = (old or {}).get("lastState") or {}
    if "running" in state:
        count, last = count + 1, UNKNOWN_END
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
