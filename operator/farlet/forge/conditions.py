"""Conditions of a home pod: which are farlet's to write, and when they changed.

Farlet owns the types in `vocabulary.PodCondition`, the list that a kubelet would own and two of
its own; all others (readiness gates, a service mesh, the home's controllers) are somebody else's
and are read only. A `Fact` is what a condition should say; `settle` gives it its times, as
`updateLastTransitionTime` in pkg/kubelet/status/status_manager.go: the time of the last change
of `status` stays while `status` stays.

Nothing here looks at container states: what they mean for readiness is told by the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from farlet.constants import PodCondition, Reason
from farlet.context import Context
from farlet.k8s_types import Condition, Pod

OWNED = frozenset(PodCondition)

PASSED_ON = (
    PodCondition.RESIZE_PENDING,
    PodCondition.RESIZE_IN_PROGRESS,
    PodCondition.ALL_CONTAINERS_RESTARTING,
)
"""Told by the foreign kubelet while they last; home has them exactly as long as the mirror."""


class Fact(NamedTuple):
    """What a condition of this type should say. `since`: RFC 3339, where the mirror knows it."""

    type: PodCondition
    status: str
    reason: str = ""
    message: str = ""
    since: str | None = None


def rfc3339(now: float) -> str:
    """Epoch seconds as the API server prints times: UTC, whole seconds."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def by_type(pod: Pod) -> dict[str, Condition]:
    """All conditions that the pod shows; of two of a type the first, which a patch would meet."""
    found = pod.get("status", {}).get("conditions") or ()
    return {c["type"]: c for c in reversed(found)}


def owned(pod: Pod) -> list[Condition]:
    """Those of the pod's conditions that farlet owns, as they are."""
    return [c for c in pod.get("status", {}).get("conditions") or () if c["type"] in OWNED]


def fact(condition: Condition) -> Fact:
    """What a condition says, without the times of another cluster's object."""
    return Fact(
        PodCondition(condition["type"]),
        condition.get("status", "Unknown"),
        condition.get("reason", ""),
        condition.get("message", ""),
        condition.get("lastTransitionTime"),
    )


def settle(
    home: Pod, facts: Iterable[Fact], *, kept: Iterable[Condition] = (), generation: int, now: float
) -> list[Condition]:
    """Conditions that say the facts, beside those that are kept as they are.

    `generation` is what the conditions were computed for (KEP-5067), 0 where home has none.
    """
    live = by_type(home)
    result = list(kept)
    for wanted in facts:
        old = live.get(wanted.type)
        if old is not None and old.get("status") == wanted.status:
            since = old.get("lastTransitionTime") or wanted.since or rfc3339(now)
        else:
            since = wanted.since or rfc3339(now)
        condition: Condition = {
            "type": wanted.type.value,
            "status": wanted.status,
            "lastTransitionTime": since,
        }
        if wanted.reason:
            condition["reason"] = wanted.reason
        if wanted.message:
            condition["message"] = wanted.message
        seen = generation or (old or {}).get("observedGeneration", 0)
        if seen:
            condition["observedGeneration"] = seen
        result.append(condition)
    return result


def scheduled(home: Pod) -> tuple[list[Condition], list[Fact]]:
    """`PodScheduled` as (kept, facts): the scheduler's stays; a pod created bound has none yet."""
    live = by_type(home).get(PodCondition.POD_SCHEDULED)
    if live is not None and live.get("status") == "True":
        return [live], []
    return [], [Fact(PodCondition.POD_SCHEDULED, "True")]


def not_ready(reason: str, message: str = "") -> list[Fact]:
    """A pod none of whose containers can serve."""
    return [
        Fact(PodCondition.CONTAINERS_READY, "False", reason, message),
        Fact(PodCondition.READY, "False", reason, message),
    ]


def ready(home: Pod, mirror: Pod, *, containers: Fact) -> Fact:
    """`Ready`: the containers are, and every readiness gate of the home pod is.

    `GeneratePodReadyCondition` in pkg/kubelet/status/generate.go. Gates do not travel: whoever
    sets their conditions sets them on the home pod. A mirror without gates that is not ready
    although its containers were is on a lost node (`MarkPodsNotReady` in pkg/controller/util/node).
    """
    if containers.status != "True":
        return containers._replace(type=PodCondition.READY, since=None)
    abroad = by_type(mirror).get(PodCondition.READY)
    if (
        abroad is not None
        and abroad.get("status") != "True"
        and not mirror.get("spec", {}).get("readinessGates")
    ):
        return Fact(
            PodCondition.READY,
            "False",
            abroad.get("reason") or "MirrorNotReady",
            abroad.get("message")
            or "the foreign cluster holds the mirror for not ready; its node may be lost",
        )
    gates = home.get("spec", {}).get("readinessGates") or ()
    live: Mapping[str, Condition] = by_type(home) if gates else {}
    closed = []
    for gate in gates:
        name = gate.get("conditionType", "")
        status = live[name].get("status") if name in live else None
        if status is None:
            closed.append(f'the readiness gate "{name}" has no condition yet')
        elif status != "True":
            closed.append(f'the condition of the readiness gate "{name}" is {status}, not True')
    if closed:
        return Fact(PodCondition.READY, "False", "ReadinessGatesNotReady", ", ".join(closed))
    return Fact(PodCondition.READY, "True")


def mirrored(record: str) -> Fact:
    """`farlet.io/Mirrored`: this pod has had a mirror; which one, `containers.record` says."""
    return Fact(
        PodCondition.MIRRORED,
        "True",
        Reason.MIRROR_CREATED.value,
        record,
    )


def disruption(home: Pod, mirror: Pod, *, over: bool) -> Fact | Condition | None:
    """`DisruptionTarget`: the mirror's where it ended the pod (`over`), else what stands at home.

    Not earlier, as with a kubelet (`mergePodStatus`): home's disruption controller takes it off
    running pods after two minutes.
    """
    abroad = by_type(mirror).get(PodCondition.DISRUPTION_TARGET)
    if over and abroad is not None and abroad.get("status") == "True":
        return fact(abroad)
    return by_type(home).get(PodCondition.DISRUPTION_TARGET)


def unverified(ctx: Context) -> Fact:
    """`farlet.io/HomeAPIVerified`: the address that the pod got was never answered to farlet."""
    where = ctx.endpoint.netloc if ctx.endpoint else "the home API server"
    return Fact(
        PodCondition.HOME_API_VERIFIED,
        "False",
        Reason.HOME_API_UNVERIFIED.value,
        f"farlet could not reach {where} from where it runs, so nobody has checked that it is "
        "the home API server. If the pod cannot reach it either, correct "
        "--home-api-server-host and --home-api-server-port",
    )
