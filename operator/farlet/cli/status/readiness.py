"""Whether a node takes pods, and which reports are over: `/state` is of now. Pure.

Conditions of a Node are up to a heartbeat older than `/state`, those of a VirtualNode up to half a
minute, and as old as the manager's last run where it does not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from farlet.cli import new_pods
from farlet.constants import JSON, NodeCondition
from farlet.k8s_types import Node
from farlet.manager.conditions import NOT_APPLIED, ConditionType
from farlet.manager.findings import QUIET
from farlet.telemetry.state import State

_SERVING = "serving"
"""`health.Phase.SERVING`."""
_WAITS = frozenset({"starting", "stopping", "not started", "not checked yet"})
"""Texts of checks that only wait for the start or the end of their process (`health.Health`)."""
_VERIFIED = "Verified"
"""`context.Verified`."""


def problems(state: State) -> Mapping[str, str]:
    """Failing checks of a process, without those that only wait for its start."""
    return {check: text for check, text in state.problems.items() if text not in _WAITS}


def is_over(kind: str, leading: State | None) -> bool:
    """Whether a condition of this kind, which is not as it should be, is over by now."""
    if leading is None:
        return False
    match kind:
        case ConditionType.READY:
            return leading.phase == _SERVING and not leading.problems
        case ConditionType.FOREIGN_REACHABLE | NodeCondition.FOREIGN_REACHABLE:
            return leading.foreign.reachable
        case ConditionType.HOME_API_REACHABLE | NodeCondition.HOME_API_REACHABLE:
            return leading.home_api.state == _VERIFIED
    return False


def wrong(declared: JSON | None, leading: State | None) -> Sequence[JSON]:
    """Conditions of a VirtualNode that are not as they should be, or warn, and are not over."""
    found = ((declared or {}).get("status") or {}).get("conditions") or ()
    return [one for one in found if _is_problem(one) and not _is_over(one, leading)]


def _is_problem(condition: JSON) -> bool:
    reason = condition.get("reason")
    warns = condition.get("type") == ConditionType.CREDENTIALS_VALID and reason not in QUIET
    return condition.get("status") != "True" or reason in NOT_APPLIED or warns


def _is_over(condition: JSON, leading: State | None) -> bool:
    """No process knows that the manager has not applied a spec."""
    return condition.get("reason") not in NOT_APPLIED and is_over(
        str(condition.get("type")), leading
    )


def of_leader(pod: str, leading: State) -> str:
    """Why the process that leads does not serve the node as it should; empty: it does."""
    if leading.phase != _SERVING:
        return f"{pod} is {leading.phase}"
    failing = ", ".join(leading.problems)
    return f"{pod} serves it with failing checks: {failing}" if failing else ""


def obstacles(
    node: Node | None, *, kubectl: str, unserved: str = ""
) -> Sequence[new_pods.Obstacle]:
    """Those of the Node; without a farlet that serves it, that alone makes it not ready."""
    if node is None:
        return [new_pods.Obstacle("the Node does not exist")]
    found = new_pods.obstacles(node, kubectl=kubectl)
    return [one for one in found if not unserved or one.what != new_pods.NOT_READY]
