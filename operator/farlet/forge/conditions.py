"""Conditions of a home pod: which ones farlet writes, and when they changed.

farlet owns the types in `constants.PodCondition`: those that a kubelet owns, and two of its own.
It reads all others (readiness gates, a service mesh, home controllers) and never writes them. A
`DesiredCondition` says what a condition should report; `with_times` adds its times as
`updateLastTransitionTime` in pkg/kubelet/status/status_manager.go does: `lastTransitionTime`
changes only when `status` changes.

Nothing here reads container states: the caller says what they mean for readiness.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from farlet import redaction
from farlet.constants import PodCondition, Reason
from farlet.context import Context
from farlet.forge import timestamps
from farlet.k8s_types import Condition, ConditionStatus, Pod

OWNED = frozenset(PodCondition)

COPIED = (
    PodCondition.RESIZE_PENDING,
    PodCondition.RESIZE_IN_PROGRESS,
    PodCondition.ALL_CONTAINERS_RESTARTING,
)
"""The foreign kubelet reports these while they last; home has them exactly when the mirror does."""


INFEASIBLE = "Infeasible"
DEFERRED = "Deferred"
"""`PodReasonInfeasible` and `PodReasonDeferred` in k8s.io/api/core/v1."""


class DesiredCondition(NamedTuple):
    """What a condition should report. `since`: RFC 3339, where the mirror knows it."""

    type: PodCondition
    status: str
    """A `ConditionStatus`, or what else a mirror reports."""
    reason: str = ""
    message: str = ""
    since: str | None = None


def by_type(pod: Pod) -> dict[str, Condition]:
    """All conditions of a pod; of two with one type the first, which a patch would change."""
    found = pod.get("status", {}).get("conditions") or ()
    return {c["type"]: c for c in reversed(found)}


def owned(pod: Pod) -> list[Condition]:
    """The pod's conditions that farlet owns, unchanged."""
    return [c for c in pod.get("status", {}).get("conditions") or () if c["type"] in OWNED]


def copied(condition: Condition) -> DesiredCondition:
    """A condition of the mirror for the home pod; `observedGeneration` counts another object."""
    return DesiredCondition(
        PodCondition(condition["type"]),
        condition["status"],
        condition.get("reason", ""),
        condition.get("message", ""),
        condition.get("lastTransitionTime"),
    )


def with_times(
    home: Pod,
    desired: Iterable[DesiredCondition],
    *,
    kept: Iterable[Condition] = (),
    generation: int,
    now: float,
) -> list[Condition]:
    """The desired conditions with their times, after those that are kept unchanged.

    `generation` is the one the conditions were computed for (KEP-5067), 0 if home has none.
    """
    live = by_type(home)
    result = list(kept)
    for one in desired:
        old = live.get(one.type)
        since = one.since or timestamps.rfc3339(now)
        if old is not None and old["status"] == one.status:
            since = old.get("lastTransitionTime") or since
        condition: Condition = {
            "type": one.type.value,
            "status": str(one.status),
            "lastTransitionTime": since,
        }
        if one.reason:
            condition["reason"] = one.reason
        if one.message:
            condition["message"] = one.message
        observed = generation or (old.get("observedGeneration", 0) if old else 0)
        if observed:
            condition["observedGeneration"] = observed
        result.append(condition)
    return result


def scheduled(home: Pod) -> tuple[list[Condition], list[DesiredCondition]]:
    """`PodScheduled` as (kept, desired): the scheduler's is kept.

    A pod that was created with a node name has none yet.
    """
    live = by_type(home).get(PodCondition.POD_SCHEDULED)
    if live is not None and live["status"] == ConditionStatus.TRUE:
        return [live], []
    return [], [DesiredCondition(PodCondition.POD_SCHEDULED, ConditionStatus.TRUE)]


def not_ready(reason: str, message: str = "") -> list[DesiredCondition]:
    """The conditions of a pod of which no container can serve."""
    return [
        DesiredCondition(PodCondition.CONTAINERS_READY, ConditionStatus.FALSE, reason, message),
        DesiredCondition(PodCondition.READY, ConditionStatus.FALSE, reason, message),
    ]


def ready(home: Pod, mirror: Pod, *, containers: DesiredCondition) -> DesiredCondition:
    """`Ready`: the containers are ready, and so is every readiness gate of the home pod.

    `GeneratePodReadyCondition` in pkg/kubelet/status/generate.go. Mirrors have no readiness gates:
    their conditions are set on the home pod. A mirror that is not ready although its containers
    were is on a lost node (`MarkPodsNotReady` in pkg/controller/util/node).
    """
    if containers.status != ConditionStatus.TRUE:
        return containers._replace(type=PodCondition.READY, since=None)
    foreign = by_type(mirror).get(PodCondition.READY)
    if (
        foreign is not None
        and foreign["status"] != ConditionStatus.TRUE
        and not mirror["spec"].get("readinessGates")
    ):
        return DesiredCondition(
            PodCondition.READY,
            ConditionStatus.FALSE,
            foreign.get("reason") or "MirrorNotReady",
            foreign.get("message")
            or "the foreign cluster reports the mirror as not ready; its node may be lost",
        )
    gates = home["spec"].get("readinessGates") or ()
    live: Mapping[str, Condition] = by_type(home) if gates else {}
    closed = []
    for gate in gates:
        name = gate.get("conditionType", "")
        if name not in live:
            closed.append(f'the readiness gate "{name}" has no condition yet')
        elif live[name]["status"] != ConditionStatus.TRUE:
            status = live[name]["status"]
            closed.append(f'the condition of the readiness gate "{name}" is {status}, not True')
    if closed:
        reason = "ReadinessGatesNotReady"
        return DesiredCondition(
            PodCondition.READY, ConditionStatus.FALSE, reason, redaction.some(closed)
        )
    return DesiredCondition(PodCondition.READY, ConditionStatus.TRUE)


def mirrored(record: str) -> DesiredCondition:
    """`farlet.io/Mirrored`: this pod has had a mirror; `containers.record` identifies it."""
    return DesiredCondition(
        PodCondition.MIRRORED, ConditionStatus.TRUE, Reason.MIRROR_CREATED.value, record
    )


def disruption(home: Pod, mirror: Pod, *, finished: bool) -> DesiredCondition | Condition | None:
    """`DisruptionTarget`: the mirror's once the pod has finished, else the one home has.

    Not earlier, as with a kubelet (`mergePodStatus`): home's disruption controller removes it from
    running pods after two minutes.
    """
    foreign = by_type(mirror).get(PodCondition.DISRUPTION_TARGET)
    if finished and foreign is not None and foreign["status"] == ConditionStatus.TRUE:
        return copied(foreign)
    return by_type(home).get(PodCondition.DISRUPTION_TARGET)


def eviction(mirror: Pod) -> DesiredCondition:
    """`DisruptionTarget` of a pod whose mirror does not end: the mirror's, or one in our words.

    `addConditionAndDeletePod` in pkg/controller/tainteviction.
    """
    foreign = by_type(mirror).get(PodCondition.DISRUPTION_TARGET)
    if foreign is not None and foreign["status"] == ConditionStatus.TRUE:
        return copied(foreign)
    return DesiredCondition(
        PodCondition.DISRUPTION_TARGET,
        ConditionStatus.TRUE,
        "DeletionByTaintManager",
        "the mirror of this pod was deleted in the foreign cluster and does not end; its foreign "
        "node may be lost",
    )


@dataclass(frozen=True, slots=True)
class Rejection:
    """What the foreign API server answered to a change of a mirror."""

    message: str
    final: bool = True
    """It would answer the same each time; otherwise farlet tries again."""


UNANSWERED = Rejection("")
"""This process knows no answer yet."""


def resize_pending(home: Pod, mirror: Pod, resize: Rejection | None) -> DesiredCondition | None:
    """`PodResizePending` of a pod whose resize the foreign API server rejected.

    The reasons are a kubelet's (`pkg/kubelet/allocation`): `Deferred` if it is tried again.
    `resize` as in `status.reflect`. After a restart of farlet the condition stays until there is
    an answer.
    """
    kind = PodCondition.RESIZE_PENDING
    if resize is None:
        return None
    if resize is not UNANSWERED:
        message = f"the foreign API server rejected the resize: {resize.message}"
        reason = INFEASIBLE if resize.final else DEFERRED
        return DesiredCondition(kind, ConditionStatus.TRUE, reason, message)
    shown = by_type(home).get(kind)
    ours = {INFEASIBLE, DEFERRED}
    if shown is None or shown.get("reason") not in ours or kind in by_type(mirror):
        return None
    return copied(shown)


def unverified(ctx: Context) -> DesiredCondition:
    """`farlet.io/HomeAPIVerified`: farlet never got an answer at the pod's home API address."""
    where = ctx.endpoint.netloc if ctx.endpoint else "the home API server"
    return DesiredCondition(
        PodCondition.HOME_API_VERIFIED,
        ConditionStatus.FALSE,
        Reason.HOME_API_UNVERIFIED.value,
        f"farlet cannot reach {where} from where it runs, so it has not verified that the home API "
        "server answers there. If the pod cannot reach it either, correct "
        "--home-api-server-host and --home-api-server-port",
    )
