"""The conditions of the Node: how it is, above all while the foreign API server is silent.

Pods abroad run on without their API server, so its silence alone says nothing about them.
`docs/decisions/0007-foreign-unreachable.md` says why home is told what it is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum

from farlet import constants, k8s_types
from farlet.context import Context
from farlet.forge.conditions import rfc3339


class Foreign(Enum):
    """What is known of the foreign API server."""

    UNKNOWN = "it has not been heard of since the start, which was a moment ago"
    REACHABLE = "it answers"
    UNREACHABLE = "it has not answered for too long"


class ForeignUnreachable(StrEnum):
    """What home is told while the foreign API server is unreachable."""

    HOLD = "hold"
    NOTREADY = "notready"


@dataclass(frozen=True, slots=True)
class Say:
    """A condition as it should be, without its times."""

    type: str
    status: str
    reason: str
    message: str


_ALWAYS = (
    Say("MemoryPressure", "False", "KubeletHasSufficientMemory", "foreign nodes see to their own"),
    Say("DiskPressure", "False", "KubeletHasNoDiskPressure", "foreign nodes see to their own"),
    Say("PIDPressure", "False", "KubeletHasSufficientPID", "foreign nodes see to their own"),
    Say("NetworkUnavailable", "False", "ForeignNetwork", "pods use the foreign cluster's network"),
)


def health(
    foreign: Foreign, *, problem: str, policy: ForeignUnreachable, node: k8s_types.Node | None
) -> tuple[Say, ...]:
    """The conditions that farlet owns.

    `problem` tells why the foreign API server is unreachable. While it is unknown, what an
    existing Node says of it stays: a restart is no news.
    """
    return (*_ALWAYS, *_of_foreign(foreign, problem, policy, node))


def _of_foreign(
    foreign: Foreign, problem: str, policy: ForeignUnreachable, node: k8s_types.Node | None
) -> tuple[Say, ...]:
    ready, reachable = constants.NodeCondition.READY, constants.NodeCondition.FOREIGN_REACHABLE
    if foreign is Foreign.REACHABLE:
        return (
            Say(ready, "True", "KubeletReady", "farlet is posting ready status"),
            Say(reachable, "True", "ForeignAPIServerReachable", "the foreign API server answers"),
        )
    if foreign is Foreign.UNKNOWN:
        if node is not None and condition(node, ready) is not None:
            return ()
        waiting = "the foreign API server has not answered yet"
        return (
            Say(ready, "False", "KubeletNotReady", waiting),
            Say(reachable, "Unknown", "ForeignUnknown", waiting),
        )
    silent = Say(reachable, "False", "ForeignUnreachable", problem)
    if policy is ForeignUnreachable.NOTREADY:
        return Say(ready, "False", "KubeletNotReady", problem), silent
    held = "farlet is posting ready status; pods are held while the foreign API server is silent"
    return Say(ready, "True", "KubeletReady", held), silent


def home_api(ctx: Context) -> Say:
    """Whether pods abroad reach the home API server."""
    kind = constants.NodeCondition.HOME_API_REACHABLE
    if ctx.endpoint_refusal is not None:
        return Say(kind, "False", ctx.endpoint_refusal_reason, ctx.endpoint_refusal)
    if ctx.endpoint is None:
        lacking = "there is no address at which pods abroad reach the home API server"
        return Say(kind, "False", constants.Reason.HOME_API_NOT_CONFIGURED, lacking)
    if ctx.endpoint_doubt is not None and ctx.endpoint_verified:
        return Say(kind, "False", "HomeAPIUnreachable", ctx.endpoint_doubt)
    if ctx.endpoint_doubt is not None:
        return Say(kind, "Unknown", constants.Reason.HOME_API_UNVERIFIED, ctx.endpoint_doubt)
    return Say(kind, "True", "HomeAPIVerified", f"pods abroad reach it at {ctx.endpoint}")


def condition(node: k8s_types.Node, kind: str) -> k8s_types.NodeCondition | None:
    """A condition of a Node."""
    found = node.get("status", {}).get("conditions", ())
    return next((c for c in found if c["type"] == kind), None)


def conditions(
    node: k8s_types.Node | None, wanted: Iterable[Say], now: datetime
) -> list[k8s_types.NodeCondition]:
    """As they should be written: each with its heartbeat, and its last change if that is known."""
    at = rfc3339(now.timestamp())
    result: list[k8s_types.NodeCondition] = []
    for say in wanted:
        before = condition(node, say.type) if node is not None else None
        same = before is not None and before["status"] == say.status
        result.append(
            {
                "type": say.type,
                "status": say.status,
                "reason": say.reason,
                "message": say.message,
                "lastHeartbeatTime": at,
                "lastTransitionTime": (before or {}).get("lastTransitionTime") if same else at,
            }
        )
    return result


def stands(node: k8s_types.Node, wanted: k8s_types.NodeCondition) -> bool:
    """The Node has this condition; its heartbeat does not matter."""
    before = condition(node, wanted["type"])
    return before is not None and _lasting(before) == _lasting(wanted)


def _lasting(condition: k8s_types.NodeCondition) -> tuple[object, ...]:
    return tuple(
        condition.get(key) for key in ("status", "reason", "message", "lastTransitionTime")
    )
