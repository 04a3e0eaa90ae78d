"""The status of a home pod, computed from the home pod and its mirror.

farlet is the kubelet of the virtual node, so what stands here must read like what a kubelet
writes: tools, controllers and people judge a pod by it. `statusfields.py` says what becomes of
each field, `containers.py` and `conditions.py` answer for theirs; this room puts them together
for each thing that can be said of a pod: its mirror says so (`reflect`), it waits (`waiting`,
`stranded`), its mirror is lost (`lost`), it is over (`ended`). `patch` is the difference.

Pure: no clock, no I/O. `now` is epoch seconds. No function changes its arguments, and what they
return shares parts with them, so results must not be changed either. None of them raises.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from farlet import constants
from farlet.constants import JSON, PodCondition, Reason
from farlet.context import Context, PodNetwork
from farlet.forge import conditions, containers, outcomes, phases
from farlet.forge import desired_status as wanteds
from farlet.forge.conditions import Fact
from farlet.forge.desired_status import DesiredStatus, patch
from farlet.forge.phases import is_terminal, ran_to_success
from farlet.k8s_types import Condition, ContainerStatus, Pod, PodStatus

__all__ = [
    "DesiredStatus",
    "ended",
    "is_terminal",
    "lost",
    "mirrored_uid",
    "patch",
    "ran_to_success",
    "reflect",
    "stranded",
    "waiting",
]


def mirrored_uid(home: Pod) -> str | None:
    """Uid of the last mirror that this pod had, None where it never had one."""
    record = containers.recorded(home)
    return None if record is None else record.partition(" ")[0]


def reflect(home: Pod, mirror: Pod, *, ctx: Context, now: float) -> DesiredStatus:
    """The mirror's status brought home."""
    live, abroad = home.get("status", {}), mirror.get("status", {})
    phase = phases.of(home, mirror)
    unschedulable = _unschedulable(mirror)

    status = _common(home, now=now, ctx=ctx, started=abroad.get("startTime"))
    status["phase"] = phase
    pending = containers.creating(home)
    if is_terminal(home):
        reason, message = live.get("reason"), live.get("message")
    elif unschedulable is not None:
        reason = unschedulable.get("reason") or "Unschedulable"
        message = unschedulable.get("message")
        pending = reason
    else:
        reason, message = abroad.get("reason"), abroad.get("message")
    _tell(status, reason, message)

    statuses = containers.reflected(home, mirror, pending=pending)
    _put(status, statuses)
    if home.get("spec", {}).get("resources"):
        for field in ("resources", "allocatedResources"):
            if field in abroad:
                status[field] = abroad[field]

    ips = _ips(mirror)
    shown = [ip for ip in map(ctx.to_home_ip, ips) if ip] if _connected(ctx) else []
    if shown:
        status["podIP"] = shown[0]
        status["podIPs"] = [{"ip": ip} for ip in shown]

    kept, facts = conditions.scheduled(home)
    facts.append(conditions.mirrored(containers.record(home, mirror)))
    if not ctx.home_api.was_verified and _access(mirror) == "home":
        facts.append(conditions.unverified(ctx))
    facts += _progress(home, mirror, statuses, phase=phase)
    target = conditions.disruption(home, mirror, over=phase in phases.TERMINAL)
    if isinstance(target, Fact):
        facts.append(target)
    elif target is not None:
        kept.append(target)
    status["conditions"] = _settle(home, facts, kept=kept, now=now)
    return DesiredStatus(
        status,
        {constants.FOREIGN_POD_IP: None if _connected(ctx) or not ips else ",".join(ips)},
    )


def waiting(home: Pod, *, reason: Reason, message: str, ctx: Context, now: float) -> DesiredStatus:
    """Pending with a reason.

    A pod that has had a mirror keeps its phase, container statuses and conditions: the mirror
    may be running well while, say, a refresh of its token is refused. Of such a pod only
    `reason` and `message` tell; `stranded` is for one whose mirror is gone for certain.
    The condition `Mirrored` is neither set nor taken away: True must never be lost.
    """
    if is_terminal(home):
        return wanteds.unchanged(home)
    if mirrored_uid(home) is None and home.get("status", {}).get("phase") not in phases.STARTED:
        return stranded(home, reason=reason, message=message, ctx=ctx, now=now)
    wanted = wanteds.unchanged(home)
    _tell(wanted.status, reason.value, message)
    return wanted


def stranded(home: Pod, *, reason: Reason, message: str, ctx: Context, now: float) -> DesiredStatus:
    """No mirror exists, and none can be made for now: nothing of the pod runs.

    The phase never goes back to Pending; readiness does, so that no Service sends traffic.
    Containers that ran until now wait, their last state is an end that nobody saw.
    """
    if is_terminal(home):
        return wanteds.unchanged(home)
    live = home.get("status", {})
    status = _common(home, now=now, ctx=ctx, started=None)
    phase = live.get("phase")
    status["phase"] = phase if phase in phases.STARTED else "Pending"
    _tell(status, reason.value, message)
    _put(status, containers.waiting(home, reason=reason.value))
    kept, facts = conditions.scheduled(home)
    kept += _standing(home, PodCondition.MIRRORED, PodCondition.DISRUPTION_TARGET)
    facts.append(Fact(PodCondition.READY_TO_START_CONTAINERS, "False"))
    initialized = conditions.by_type(home).get(PodCondition.INITIALIZED)
    if initialized is not None and initialized.get("status") == "True":
        kept.append(initialized)
    else:
        facts.append(Fact(PodCondition.INITIALIZED, "False", reason.value))
    facts += conditions.not_ready(reason.value)
    status["conditions"] = _settle(home, facts, kept=kept, now=now)
    return DesiredStatus(status, {constants.FOREIGN_POD_IP: None})


def lost(home: Pod, *, ctx: Context, now: float) -> DesiredStatus:
    """Failed, since the mirror vanished before its end was seen and must not run twice."""
    if is_terminal(home):
        return wanteds.unchanged(home)
    namespace = ctx.namespaces.foreign(home["metadata"].get("namespace", ""))
    policy = home.get("spec", {}).get("restartPolicy", "Always")
    where = f"foreign namespace {namespace}" if namespace else "foreign cluster"
    message = (
        f"the mirror of this pod in the {where} was deleted before its end was seen, and with "
        f"restartPolicy {policy} it may have done its work: it is not run again. Find out who "
        "deletes pods there; create a new pod if the work is to be done once more"
    )
    statuses = outcomes.ended(home, containers.reported(home))
    wanted = _over(home, wanteds.unchanged(home), statuses, phase="Failed", now=now)
    _tell(wanted.status, Reason.MIRROR_LOST.value, message)
    return wanted


def ended(home: Pod, mirror: Pod | None, *, ctx: Context, now: float) -> DesiredStatus:
    """What a kubelet writes last, before it removes a deleted pod from the API.

    `mirror` is the mirror as it was last seen, if it was. `SyncTerminatedPod` in
    pkg/kubelet/kubelet.go, then `TerminatePod` in pkg/kubelet/status/status_manager.go.
    """
    facts: list[Fact] = []
    if mirror is None:
        base, known = wanteds.unchanged(home), containers.reported(home)
    else:
        base = reflect(home, mirror, ctx=ctx, now=now)
        known = containers.reflected(home, mirror, pending=containers.creating(home))
        target = conditions.disruption(home, mirror, over=True)
        facts += [target] if isinstance(target, Fact) else []
    statuses = outcomes.ended(home, known)
    phase = base.status.get("phase")
    if phase not in phases.TERMINAL:
        phase = "Succeeded" if outcomes.succeeded(statuses) else "Failed"
    return _over(home, base, statuses, phase=phase, now=now, facts=facts)


# --- parts ------------------------------------------------------------------------------------


def _unschedulable(mirror: Pod) -> Condition | None:
    """What the foreign scheduler says of a mirror that it cannot place."""
    if mirror.get("status", {}).get("phase", "Pending") == "Pending":
        for condition in mirror.get("status", {}).get("conditions") or ():
            if condition["type"] == PodCondition.POD_SCHEDULED:
                return condition if condition.get("status") == "False" else None
    return None


def _progress(home: Pod, mirror: Pod, statuses: containers.Statuses, *, phase: str) -> list[Fact]:
    """How far the pod has come: the foreign kubelet's words, in its place where it has none."""
    told = conditions.by_type(mirror)
    facts = [conditions.fact(told[t]) for t in conditions.PASSED_ON if t in told]
    sandbox = told.get(PodCondition.READY_TO_START_CONTAINERS)
    facts.append(
        conditions.fact(sandbox)
        if sandbox
        else Fact(PodCondition.READY_TO_START_CONTAINERS, "False")
    )
    initialized = told.get(PodCondition.INITIALIZED)
    if initialized is None and is_terminal(home):
        initialized = conditions.by_type(home).get(PodCondition.INITIALIZED)
    facts.append(
        conditions.fact(initialized) if initialized else outcomes.initialized(home, statuses)
    )
    ready = told.get(PodCondition.CONTAINERS_READY)
    if phase in phases.TERMINAL and (ready is None or ready.get("status") == "True"):
        # A terminal pod is never ready: mergePodStatus in status_manager.go.
        return [*facts, *_finished(phase)]
    serving = conditions.fact(ready) if ready else outcomes.ready(home, statuses)
    return [*facts, serving, conditions.ready(home, mirror, containers=serving)]


def _finished(phase: str) -> list[Fact]:
    return conditions.not_ready("PodCompleted" if phase == "Succeeded" else "PodFailed")


def _common(home: Pod, *, now: float, ctx: Context, started: str | None) -> PodStatus:
    """Fields that do not depend on what is said of the pod."""
    live = home.get("status", {})
    status: PodStatus = {"startTime": live.get("startTime") or started or conditions.rfc3339(now)}
    if ctx.node_ip:
        status["hostIP"] = ctx.node_ip
        status["hostIPs"] = [{"ip": ctx.node_ip}]
    generation = _generation(home)
    if generation:
        status["observedGeneration"] = generation
    return status


def _generation(home: Pod) -> int:
    """The generation that a status is computed for; 0 where home does not count them.

    A deletion counts as a change of the spec, but is none that a status need tell: the final
    one follows, and one write is spared.
    """
    metadata = home["metadata"]
    if "deletionTimestamp" in metadata:
        return home.get("status", {}).get("observedGeneration", 0)
    return metadata.get("generation", 0)


def _tell(status: PodStatus, reason: str | None, message: str | None) -> None:
    """Put a reason and a message on a status that was made here, or take them off."""
    for field, value in (("reason", reason), ("message", message)):
        if value:
            cast("JSON", status)[field] = value
        else:
            cast("JSON", status).pop(field, None)


def _put(status: PodStatus, statuses: containers.Statuses) -> None:
    for group, rows in statuses.items():
        if rows:
            cast("dict[str, list[ContainerStatus]]", status)[group.status] = rows


def _over(
    home: Pod,
    base: DesiredStatus,
    statuses: containers.Statuses,
    *,
    phase: str,
    now: float,
    facts: Iterable[Fact] = (),
) -> DesiredStatus:
    """`base` with all containers ended, in a terminal phase; `facts` say what else there is."""
    status = cast("PodStatus", dict(base.status))
    status["phase"] = phase
    status.setdefault("startTime", conditions.rfc3339(now))
    _put(status, statuses)
    facts = [Fact(PodCondition.READY_TO_START_CONTAINERS, "False"), *_finished(phase), *facts]
    rewritten = {fact.type.value for fact in facts}
    kept = [c for c in status.get("conditions", []) if c["type"] not in rewritten]
    if not any(c["type"] == PodCondition.POD_SCHEDULED for c in kept):
        facts.append(Fact(PodCondition.POD_SCHEDULED, "True"))
    status["conditions"] = _settle(home, facts, kept=kept, now=now)
    return DesiredStatus(status, base.annotations)


def _settle(home: Pod, facts: list[Fact], *, kept: list[Condition], now: float) -> list[Condition]:
    return conditions.settle(home, facts, kept=kept, generation=_generation(home), now=now)


def _standing(home: Pod, *types: PodCondition) -> list[Condition]:
    return [c for c in home.get("status", {}).get("conditions") or () if c["type"] in types]


def _ips(mirror: Pod) -> list[str]:
    status = mirror.get("status", {})
    found = [entry["ip"] for entry in status.get("podIPs") or () if entry.get("ip")]
    single = status.get("podIP")
    return found or ([single] if single else [])


def _connected(ctx: Context) -> bool:
    return ctx.pod_network is PodNetwork.CONNECTED


def _access(mirror: Pod) -> str | None:
    return mirror["metadata"].get("annotations", {}).get(constants.ACCESS)
