"""The status of a home pod, computed from the home pod and its mirror.

farlet is the kubelet of the virtual node, so it must write what a kubelet would write: tools,
controllers and people act on it. `status_fields.py` says what happens to each field;
`containers.py` and `conditions.py` compute their parts. One function for each situation of a pod:
it has a mirror (`reflect`), it waits (`waiting`, `stranded`), its mirror is lost (`lost`), it has
ended (`ended`). `patch` computes the request that writes the result.

Pure: no clock, no I/O. `now` is epoch seconds. No function changes its arguments, and results share
parts with them, so callers must not change results either. No function raises.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from farlet import constants
from farlet.constants import JSON, PodCondition, Reason
from farlet.context import Context, PodNetwork
from farlet.forge import (
    amounts,
    applied,
    conditions,
    containers,
    copies,
    desired_status,
    outcomes,
    phases,
    restart_policies,
    timestamps,
)
from farlet.forge.conditions import DesiredCondition
from farlet.forge.desired_status import DesiredStatus, patch
from farlet.forge.phases import is_terminal
from farlet.k8s_types import (
    Condition,
    ConditionStatus,
    ContainerState,
    ContainerStatus,
    Pod,
    PodPhase,
    PodStatus,
)

__all__ = [
    "DesiredStatus",
    "ended",
    "evicted",
    "exceeded",
    "is_terminal",
    "lost",
    "mirrored_uid",
    "patch",
    "reflect",
    "stranded",
    "waiting",
]


def mirrored_uid(home: Pod) -> str | None:
    """Uid of the last mirror that this pod had, None if it never had one."""
    record = containers.recorded(home)
    return None if record is None else record.partition(" ")[0]


def reflect(
    home: Pod, mirror: Pod, *, ctx: Context, now: float, resize: conditions.Rejection | None = None
) -> DesiredStatus:
    """The mirror's status, as the home pod shows it.

    `resize`: the mirror does not have the resources of the home pod; what the foreign API server
    answered.
    """
    live, foreign = home.get("status", {}), mirror.get("status", {})
    phase = phases.of(home, mirror)
    unschedulable = _unschedulable(mirror)

    resize_pending = conditions.resize_pending(home, mirror, resize)
    generation = applied.observed_generation(home, mirror, resize_rejected=bool(resize_pending))
    status = _common(
        home, now=now, ctx=ctx, started=foreign.get("startTime"), generation=generation
    )
    status["phase"] = str(phase)
    pending = containers.creating(home)
    if is_terminal(home):
        reason, message = live.get("reason"), live.get("message")
    elif unschedulable is not None:
        reason = unschedulable.get("reason") or Reason.UNSCHEDULABLE.value
        message = unschedulable.get("message")
        if message:
            message = f"in the foreign cluster: {message}"
        pending = reason
    else:
        reason, message = foreign.get("reason"), foreign.get("message")
    home_names = copies.HomeNames(home, ctx)
    _set_reason(status, reason, home_names(message) if message else message)

    statuses = containers.reflected(home, mirror, pending=pending)
    _use_home_names(statuses, home_names)
    _set_statuses(status, statuses)
    if home["spec"].get("resources"):
        asked = home["spec"]["resources"]
        if "resources" in foreign:
            status["resources"] = amounts.resources(
                foreign["resources"] or {}, asked=asked, shown=live.get("resources") or {}
            )
        if "allocatedResources" in foreign:
            status["allocatedResources"] = cast(
                "dict[str, str]",
                amounts.bounded(
                    foreign["allocatedResources"] or {},
                    asked=asked.get("requests") or {},
                    shown=live.get("allocatedResources") or {},
                ),
            )

    ips = _ips(mirror)
    shown = [ip for ip in map(ctx.to_home_ip, ips) if ip] if _connected(ctx) else []
    if shown:
        status["podIP"] = shown[0]
        status["podIPs"] = [{"ip": ip} for ip in shown]

    kept, desired = conditions.scheduled(home)
    desired.append(conditions.mirrored(containers.record(home, mirror)))
    if not ctx.home_api.was_verified and _access_mode(mirror) == "home":
        desired.append(conditions.unverified(ctx))
    desired += _progress(home, mirror, statuses, phase=phase)
    if resize_pending is not None:
        desired = [one for one in desired if one.type is not resize_pending.type]
        desired.append(resize_pending)
    target = conditions.disruption(home, mirror, finished=phase in phases.TERMINAL)
    if isinstance(target, DesiredCondition):
        desired.append(target)
    elif target is not None:
        kept.append(target)
    status["conditions"] = conditions.with_times(
        home, desired, kept=kept, generation=generation, now=now
    )
    return DesiredStatus(
        status,
        {constants.FOREIGN_POD_IP: None if _connected(ctx) or not ips else ",".join(ips)},
    )


def evicted(home: Pod, mirror: Pod, *, ctx: Context, now: float) -> DesiredStatus:
    """Like `reflect`, and marked as a target of a disruption: the pod is about to be deleted."""
    base = reflect(home, mirror, ctx=ctx, now=now)
    kept = [c for c in base.status["conditions"] if c["type"] != PodCondition.DISRUPTION_TARGET]
    status = cast("PodStatus", dict(base.status))
    status["conditions"] = _with_times(home, [conditions.eviction(mirror)], kept=kept, now=now)
    return DesiredStatus(status, base.annotations)


def waiting(home: Pod, *, reason: Reason, message: str, ctx: Context, now: float) -> DesiredStatus:
    """Pending with a reason.

    A pod that has had a mirror keeps its phase, container statuses and conditions, since the
    mirror may be running well while, for example, a refresh of its token is refused: only
    `reason` and `message` change. `stranded` is for a pod whose mirror is certainly gone.
    The condition `Mirrored` is neither set nor removed, so that a True is never lost.
    """
    if is_terminal(home):
        return desired_status.unchanged(home)
    if mirrored_uid(home) is None and home.get("status", {}).get("phase") not in phases.STARTED:
        return stranded(home, reason=reason, message=message, ctx=ctx, now=now)
    result = desired_status.unchanged(home)
    _set_reason(result.status, reason.value, message)
    return result


def stranded(home: Pod, *, reason: Reason, message: str, ctx: Context, now: float) -> DesiredStatus:
    """The pod has no mirror, and none can be created for now: no container of it runs.

    The phase never returns to Pending; the pod becomes unready, so that no Service sends it
    traffic. Containers that were running wait, and their last state is an unknown end.
    """
    if is_terminal(home):
        return desired_status.unchanged(home)
    live = home.get("status", {})
    status = _common(home, now=now, ctx=ctx, started=None, generation=_generation(home))
    phase = live.get("phase")
    status["phase"] = phase if phase in phases.STARTED else PodPhase.PENDING.value
    _set_reason(status, reason.value, message)
    _set_statuses(status, containers.waiting(home, reason=reason.value))
    kept, desired = conditions.scheduled(home)
    kept += _existing(home, PodCondition.MIRRORED, PodCondition.DISRUPTION_TARGET)
    desired.append(DesiredCondition(PodCondition.READY_TO_START_CONTAINERS, ConditionStatus.FALSE))
    initialized = conditions.by_type(home).get(PodCondition.INITIALIZED)
    if initialized is not None and initialized["status"] == ConditionStatus.TRUE:
        kept.append(initialized)
    else:
        desired.append(
            DesiredCondition(PodCondition.INITIALIZED, ConditionStatus.FALSE, reason.value)
        )
    desired += conditions.not_ready(reason.value)
    status["conditions"] = _with_times(home, desired, kept=kept, now=now)
    return DesiredStatus(status, {constants.FOREIGN_POD_IP: None})


def lost(home: Pod, *, ctx: Context, now: float, last: Pod | None = None) -> DesiredStatus:
    """Failed: the mirror vanished before farlet saw its end, and it must not run twice.

    `last`: the mirror as it was last seen, if it was.
    """
    if is_terminal(home):
        return desired_status.unchanged(home)
    namespace = ctx.namespaces.foreign(home["metadata"]["namespace"])
    final = restart_policies.final(home, last)
    policy = final or f"restartPolicy {restart_policies.of_pod(home['spec'])}"
    where = f"foreign namespace {namespace}" if namespace else "foreign cluster"
    message = (
        f"the mirror of this pod in the {where} was deleted before farlet saw how it ended. With "
        f"{policy} it does not run again, since its work may be done. Find out who "
        "deletes pods there; create a new pod to run the work again"
    )
    current = containers.reported(home)
    statuses = outcomes.ended(home, current, unknown=containers.UNKNOWN_END)
    unchanged = desired_status.unchanged(home)
    result = _finish(home, unchanged, statuses, phase=PodPhase.FAILED, now=now)
    _set_reason(result.status, Reason.MIRROR_LOST.value, message)
    return result


def exceeded(home: Pod, mirror: Pod | None, *, ctx: Context, now: float) -> DesiredStatus:
    """Failed: the active deadline passed before a foreign kubelet had the pod.

    Words and states are those of a kubelet: `ShouldEvict` in pkg/kubelet/active_deadline.go, then
    `TerminatePod` in pkg/kubelet/status/status_manager.go.
    """
    if mirror is None:
        base, current = desired_status.unchanged(home), containers.reported(home)
    else:
        base = reflect(home, mirror, ctx=ctx, now=now)
        current = _statuses(base, home, mirror)
    statuses = outcomes.ended(home, current, unknown=_unknown_end(home))
    result = _finish(home, base, statuses, phase=PodPhase.FAILED, now=now)
    _set_reason(
        result.status,
        Reason.DEADLINE_EXCEEDED.value,
        "Pod was active on the node longer than the specified deadline",
    )
    return result


def ended(home: Pod, mirror: Pod | None, *, ctx: Context, now: float) -> DesiredStatus:
    """What a kubelet writes last, before it removes a deleted pod from the API.

    `mirror` is its last known version, None if farlet never saw it. `SyncTerminatedPod` in
    pkg/kubelet/kubelet.go, then `TerminatePod` in pkg/kubelet/status/status_manager.go.
    """
    desired: list[DesiredCondition] = []
    if mirror is None:
        base, current = desired_status.unchanged(home), containers.reported(home)
    else:
        base = reflect(home, mirror, ctx=ctx, now=now)
        current = _statuses(base, home, mirror)
        target = conditions.disruption(home, mirror, finished=True)
        desired += [target] if isinstance(target, DesiredCondition) else []
    unknown = containers.UNKNOWN_END if mirror is not None else _unknown_end(home)
    statuses = outcomes.ended(home, current, unknown=unknown)
    phase = base.status.get("phase")
    if phase not in phases.TERMINAL:
        phase = PodPhase.SUCCEEDED if outcomes.succeeded(statuses) else PodPhase.FAILED
    return _finish(home, base, statuses, phase=phase, now=now, desired=desired)


# --- parts ------------------------------------------------------------------------------------


def _unschedulable(mirror: Pod) -> Condition | None:
    """`PodScheduled` of a mirror that the foreign scheduler cannot place."""
    if mirror.get("status", {}).get("phase", PodPhase.PENDING) == PodPhase.PENDING:
        scheduled = conditions.by_type(mirror).get(PodCondition.POD_SCHEDULED)
        if scheduled is not None and scheduled["status"] == ConditionStatus.FALSE:
            return scheduled
    return None


def _progress(
    home: Pod, mirror: Pod, statuses: containers.Statuses, *, phase: str
) -> list[DesiredCondition]:
    """Conditions about the pod's progress: the foreign kubelet's, or computed if it has none."""
    foreign = conditions.by_type(mirror)
    desired = [conditions.copied(foreign[t]) for t in conditions.COPIED if t in foreign]
    sandbox = foreign.get(PodCondition.READY_TO_START_CONTAINERS)
    desired.append(
        conditions.copied(sandbox)
        if sandbox
        else DesiredCondition(PodCondition.READY_TO_START_CONTAINERS, ConditionStatus.FALSE)
    )
    initialized = foreign.get(PodCondition.INITIALIZED)
    if initialized is None and is_terminal(home):
        initialized = conditions.by_type(home).get(PodCondition.INITIALIZED)
    desired.append(
        conditions.copied(initialized) if initialized else outcomes.initialized(home, statuses)
    )
    ready = foreign.get(PodCondition.CONTAINERS_READY)
    if phase in phases.TERMINAL and (ready is None or ready["status"] == ConditionStatus.TRUE):
        # A terminal pod is never ready: mergePodStatus in status_manager.go.
        return [*desired, *_finished(phase)]
    serving = conditions.copied(ready) if ready else outcomes.ready(home, statuses)
    return [*desired, serving, conditions.ready(home, mirror, containers=serving)]


def _statuses(base: DesiredStatus, home: Pod, mirror: Pod) -> containers.Statuses:
    """The container statuses of a reflected status. None of them waits for a foreign node."""
    if _unschedulable(mirror) is not None:
        return containers.reflected(home, mirror, pending=containers.creating(home))
    shown = cast("dict[str, list[ContainerStatus]]", base.status)
    return {group: shown.get(group.status, []) for group in containers.GROUPS}


def _unknown_end(home: Pod) -> ContainerState:
    return containers.NEVER_SEEN if mirrored_uid(home) is None else containers.UNKNOWN_END


def _finished(phase: str) -> list[DesiredCondition]:
    return conditions.not_ready("PodCompleted" if phase == PodPhase.SUCCEEDED else "PodFailed")


def _common(
    home: Pod, *, now: float, ctx: Context, started: str | None, generation: int
) -> PodStatus:
    """Fields that do not depend on the mirror's state."""
    live = home.get("status", {})
    status: PodStatus = {"startTime": live.get("startTime") or started or timestamps.rfc3339(now)}
    if ctx.node_ip:
        status["hostIP"] = ctx.node_ip
        status["hostIPs"] = [{"ip": ctx.node_ip}]
    if generation:
        status["observedGeneration"] = generation
    return status


def _generation(home: Pod) -> int:
    """The generation that a status is computed for; 0 if home does not count them.

    A deletion increments it, but the status keeps the old one: the final status follows, and this
    saves one write.
    """
    metadata = home["metadata"]
    if "deletionTimestamp" in metadata:
        return home.get("status", {}).get("observedGeneration", 0)
    return metadata.get("generation", 0)


def _use_home_names(statuses: containers.Statuses, home_names: copies.HomeNames) -> None:
    """Waiting containers name objects of the home namespace, not their copies. In place."""
    for rows in statuses.values():
        for row in rows:
            waiting = row["state"].get("waiting")
            if waiting is not None and waiting.get("message"):
                text = home_names(waiting["message"])
                row["state"] = {"waiting": {**waiting, "message": text}}


def _set_reason(status: PodStatus, reason: str | None, message: str | None) -> None:
    """Set reason and message, or remove those that are empty. Changes `status` in place."""
    for field, value in (("reason", reason), ("message", message)):
        if value:
            cast("JSON", status)[field] = value
        else:
            cast("JSON", status).pop(field, None)


def _set_statuses(status: PodStatus, statuses: containers.Statuses) -> None:
    for group, rows in statuses.items():
        if rows:
            cast("dict[str, list[ContainerStatus]]", status)[group.status] = rows


def _finish(
    home: Pod,
    base: DesiredStatus,
    statuses: containers.Statuses,
    *,
    phase: str,
    now: float,
    desired: Iterable[DesiredCondition] = (),
) -> DesiredStatus:
    """`base` in a terminal phase, with final container statuses and further conditions."""
    status = cast("PodStatus", dict(base.status))
    status["phase"] = str(phase)
    status.setdefault("startTime", timestamps.rfc3339(now))
    _set_statuses(status, statuses)
    desired = [
        DesiredCondition(PodCondition.READY_TO_START_CONTAINERS, ConditionStatus.FALSE),
        *_finished(phase),
        *desired,
    ]
    rewritten = {one.type.value for one in desired}
    kept = [c for c in status.get("conditions", []) if c["type"] not in rewritten]
    if not any(c["type"] == PodCondition.POD_SCHEDULED for c in kept):
        desired.append(DesiredCondition(PodCondition.POD_SCHEDULED, ConditionStatus.TRUE))
    status["conditions"] = _with_times(home, desired, kept=kept, now=now)
    return DesiredStatus(status, base.annotations)


def _with_times(
    home: Pod, desired: list[DesiredCondition], *, kept: list[Condition], now: float
) -> list[Condition]:
    return conditions.with_times(home, desired, kept=kept, generation=_generation(home), now=now)


def _existing(home: Pod, *types: PodCondition) -> list[Condition]:
    return [c for c in home.get("status", {}).get("conditions") or () if c["type"] in types]


def _ips(mirror: Pod) -> list[str]:
    status = mirror.get("status", {})
    found = [entry["ip"] for entry in status.get("podIPs") or () if entry.get("ip")]
    single = status.get("podIP")
    return found[:2] or ([single] if single else [])  # one of each family at most


def _connected(ctx: Context) -> bool:
    return ctx.pod_network is PodNetwork.CONNECTED


def _access_mode(mirror: Pod) -> str | None:
    return mirror["metadata"].get("annotations", {}).get(constants.ACCESS)
