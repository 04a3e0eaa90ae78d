"""The conditions of the virtual Node, above all while the foreign API server does not answer.

Foreign pods keep running without their API server, so its silence says nothing about them.
`docs/decisions/0007-foreign-unreachable.md` explains which conditions farlet reports, and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum

from farlet import context, k8s_types
from farlet.constants import NodeCondition, Reason
from farlet.context import Context
from farlet.errors import Refused
from farlet.forge import timestamps
from farlet.k8s_types import ConditionStatus


class Foreign(Enum):
    """Whether the foreign API server answers."""

    UNKNOWN = "unknown"
    """It has not answered since farlet started, a moment ago."""
    REACHABLE = "reachable"
    REFUSED = "refused"
    """It answers, and does not accept farlet's credentials, or is perhaps another cluster's."""
    UNREACHABLE = "unreachable"
    """It has not answered for `--foreign-unreachable-after`."""


class ForeignUnreachable(StrEnum):
    """What the Node reports while the foreign API server is unreachable."""

    HOLD = "hold"
    NOTREADY = "notready"


@dataclass(frozen=True, slots=True)
class DesiredNodeCondition:
    """What a condition of the Node should report, without its times."""

    type: str
    status: str
    reason: str
    message: str


_CONSTANT = (
    *(
        DesiredNodeCondition(
            type_, ConditionStatus.FALSE, reason, "foreign nodes report their own pressure"
        )
        for type_, reason in (
            (NodeCondition.MEMORY_PRESSURE, "KubeletHasSufficientMemory"),
            (NodeCondition.DISK_PRESSURE, "KubeletHasNoDiskPressure"),
            (NodeCondition.PID_PRESSURE, "KubeletHasSufficientPID"),
        )
    ),
    DesiredNodeCondition(
        NodeCondition.NETWORK_UNAVAILABLE,
        ConditionStatus.FALSE,
        "ForeignNetwork",
        "pods use the foreign cluster's network",
    ),
)


def health(
    foreign: Foreign,
    *,
    problem: Refused | None,
    policy: ForeignUnreachable,
    node: k8s_types.Node | None,
) -> tuple[DesiredNodeCondition, ...]:
    """The conditions that farlet owns.

    `problem` says why the foreign API server is unreachable or refuses farlet. Until farlet knows
    whether it does, an existing Node keeps its conditions: a restart of farlet changes nothing for
    it.
    """
    return (*_CONSTANT, *_of_foreign(foreign, problem, policy, node))


def _of_foreign(
    foreign: Foreign,
    problem: Refused | None,
    policy: ForeignUnreachable,
    node: k8s_types.Node | None,
) -> tuple[DesiredNodeCondition, ...]:
    ready, reachable = NodeCondition.READY, NodeCondition.FOREIGN_REACHABLE
    if foreign is Foreign.REACHABLE:
        return (
            DesiredNodeCondition(
                ready, ConditionStatus.TRUE, "KubeletReady", "farlet is posting ready status"
            ),
            DesiredNodeCondition(
                reachable,
                ConditionStatus.TRUE,
                "ForeignAPIServerReachable",
                "the foreign API server answers",
            ),
        )
    if foreign is Foreign.UNKNOWN:
        if node is not None and condition(node, ready) is not None:
            return ()
        unanswered = "the foreign API server has not answered yet"
        return (
            DesiredNodeCondition(ready, ConditionStatus.FALSE, "KubeletNotReady", unanswered),
            DesiredNodeCondition(reachable, ConditionStatus.UNKNOWN, "ForeignUnknown", unanswered),
        )
    assert problem is not None, "it is reachable without a problem"
    failed = DesiredNodeCondition(
        reachable, ConditionStatus.FALSE, problem.reason.value, problem.message
    )
    if foreign is Foreign.UNREACHABLE and policy is ForeignUnreachable.NOTREADY:
        return DesiredNodeCondition(
            ready, ConditionStatus.FALSE, "KubeletNotReady", problem.message
        ), failed
    held = (
        "farlet is posting ready status; pods are held while the foreign API server does not serve "
        "farlet"
    )
    return DesiredNodeCondition(ready, ConditionStatus.TRUE, "KubeletReady", held), failed


def home_api(ctx: Context) -> DesiredNodeCondition:
    """Whether foreign pods reach the home API server."""
    kind = NodeCondition.HOME_API_REACHABLE
    match ctx.home_api:
        case context.NotConfigured():
            lacking = "farlet has no address at which foreign pods reach the home API server"
            return DesiredNodeCondition(
                kind, ConditionStatus.FALSE, Reason.HOME_API_NOT_CONFIGURED, lacking
            )
        case context.Refused(reason, message):
            return DesiredNodeCondition(kind, ConditionStatus.FALSE, reason, message)
        case context.OutOfReach(_, message):
            return DesiredNodeCondition(kind, ConditionStatus.FALSE, "HomeAPIUnreachable", message)
        case context.Unverified(_, message):
            return DesiredNodeCondition(
                kind, ConditionStatus.UNKNOWN, Reason.HOME_API_UNVERIFIED, message
            )
        case context.Verified(endpoint):
            return DesiredNodeCondition(
                kind,
                ConditionStatus.TRUE,
                "HomeAPIVerified",
                f"foreign pods reach it at {endpoint}",
            )


def condition(node: k8s_types.Node, kind: str) -> k8s_types.NodeCondition | None:
    """The Node's condition of type `kind`."""
    found = node.get("status", {}).get("conditions", ())
    return next((c for c in found if c["type"] == kind), None)


def conditions(
    node: k8s_types.Node | None, desired: Iterable[DesiredNodeCondition], now: datetime
) -> list[k8s_types.NodeCondition]:
    """The desired conditions with their heartbeats and the times of their last transitions."""
    at = timestamps.rfc3339(now.timestamp())
    result: list[k8s_types.NodeCondition] = []
    for one in desired:
        before = condition(node, one.type) if node is not None else None
        since: str | None = at
        if before is not None and before["status"] == one.status:
            since = before.get("lastTransitionTime")
        result.append(
            {
                "type": str(one.type),
                "status": str(one.status),
                "reason": one.reason,
                "message": one.message,
                "lastHeartbeatTime": at,
                "lastTransitionTime": since,
            }
        )
    return result


def is_current(node: k8s_types.Node, desired: k8s_types.NodeCondition) -> bool:
    """The Node has this condition, whatever its heartbeat."""
    before = condition(node, desired["type"])
    return before is not None and _lasting(before) == _lasting(desired)


def _lasting(condition: k8s_types.NodeCondition) -> tuple[object, ...]:
    return tuple(
        condition.get(key) for key in ("status", "reason", "message", "lastTransitionTime")
    )


def events(
    node: k8s_types.Node, desired: Iterable[DesiredNodeCondition]
) -> Iterator[tuple[Reason, str]]:
    """The Events to report with these conditions, as reason and message: the foreign API server
    serves farlet no longer, or again.
    """
    for one in desired:
        before = condition(node, one.type)
        if one.type != NodeCondition.FOREIGN_REACHABLE or before is None:
            continue
        if (before["status"], before.get("reason")) == (one.status, one.reason):
            continue
        if one.status == ConditionStatus.FALSE:
            yield Reason(one.reason), one.message
        elif before["status"] == ConditionStatus.FALSE:
            yield Reason.FOREIGN_REACHABLE, one.message
