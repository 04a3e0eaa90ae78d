"""The status of a VirtualNode, from what its farlet pods report: pure.

Conditions name the pod and say what to do. While nothing is known they are Unknown, not False.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from farlet import errors, redaction
from farlet.constants import JSON, Reason
from farlet.forge.timestamps import rfc3339
from farlet.manager import rollout
from farlet.manager.virtual_node import VirtualNode
from farlet.telemetry.state import State

MAX_MESSAGE = 4000

TRUE: Literal["True"] = "True"
FALSE: Literal["False"] = "False"
UNKNOWN: Literal["Unknown"] = "Unknown"

NOT_APPLIED = frozenset(
    {
        "InvalidSpec", "SecretNotAllowed", "ObjectConflict", "CredentialsInvalid", "ApplyFailed",
        "InternalError",
    }
)  # fmt: skip
"""Reasons of Ready while the spec is not applied. Ready is True with them if a pod serves the node
with the spec before."""

ROLLING_OUT = "RollingOut"
"""Reason of Ready while pods of an earlier spec exist, or new ones do not yet."""
NOT_REPORTED = "NotReported"
_NOTHING = "no farlet pod of this node has reported its state yet"


class ConditionType(StrEnum):
    """Conditions of a VirtualNode."""

    READY = "Ready"
    FOREIGN_REACHABLE = "ForeignReachable"
    CREDENTIALS_VALID = "CredentialsValid"
    HOME_API_REACHABLE = "HomeAPIReachable"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition, without the time of its last change."""

    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: str
    """One word in CamelCase."""
    message: str


@dataclass(frozen=True, slots=True)
class PodReport:
    """One farlet pod. `state` None: it did not report; `problem` says why."""

    name: str
    state: State | None = None
    problem: str | None = None
    reports: bool = True
    """False: its farlet is too old to report, so that nothing follows from its silence."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the manager knows of one VirtualNode."""

    refused: Condition | None
    """Ready=False, with the reason for which its objects were not applied. While a farlet pod
    serves the node, only the reason and the message are used."""
    credentials: Condition
    pods: Sequence[PodReport]
    rolling_out: bool
    """Pods of an earlier spec still exist, or new ones do not yet."""
    not_admitted: str = ""
    """Why the API server does not admit pods of the Deployment; empty: it does."""


CREDENTIALS_NOT_CHECKED = Condition(
    ConditionType.CREDENTIALS_VALID, UNKNOWN, "NotChecked", "the credentials were not checked yet"
)


def not_ready(reason: str, message: str) -> Condition:
    """Ready=False."""
    return Condition(ConditionType.READY, FALSE, reason, message)


def internal_error(kind: ConditionType, error: Exception) -> Condition:
    """A defect of the manager. Its text can contain anything, so it is only in the log."""
    message = f"the manager failed ({type(error).__name__}); its log has the details"
    status = FALSE if kind is ConditionType.READY else UNKNOWN
    return Condition(kind, status, "InternalError", message)


def status(
    node: VirtualNode, observed: Observation, *, before: Mapping[str, object], now: datetime
) -> JSON:
    """The whole status; `before` is the one that the object has. Equal if nothing has changed."""
    leader = _leader(observed.pods)
    state = None if leader is None else leader.state
    known = state or next((one.state for one in observed.pods if one.state is not None), None)
    found = (
        _ready(observed, leader),
        _foreign(known),
        observed.credentials,
        _home_api(known),
    )
    result: JSON = {
        "observedGeneration": node.generation,
        "conditions": list(_written(found, node, before=before, now=now)),
    }
    if leader is not None and state is not None:
        result["leader"] = leader.name
        result["pods"] = state.pod_count
        if state.foreign.cluster is not None:
            result["foreignCluster"] = state.foreign.cluster
    if known is not None and known.foreign.server is not None:
        result["foreignServer"] = known.foreign.server
    if known is not None and known.expires.foreign_credentials is not None:
        result["foreignCredentialsExpire"] = rfc3339(known.expires.foreign_credentials)
    return result


def is_settled(status: JSON) -> bool:
    """Whether a status shows neither a problem nor a rollout, which ends without an event."""
    return not any(
        one["status"] == FALSE or one["reason"] == ROLLING_OUT for one in status["conditions"]
    )


def pod_report(pod: JSON, state: State | None, problem: str | None, *, node: str) -> PodReport:
    """`problem`: why the state could not be read. A cause that the kubelet reports replaces it.

    A state with another node comes from another farlet, whose pod now has this address.
    """
    name = pod["metadata"]["name"]
    if state is None:
        return PodReport(name, None, rollout.pod_problem(pod) or problem or "has not started yet")
    if state.node != node:
        other = redaction.value(state.node)
        return PodReport(name, None, f"its address answers for another node, {other}")
    return PodReport(name, state)


def is_unauthorized(pod: PodReport) -> bool:
    """Whether the foreign API server does not accept the credentials that the pod has read."""
    return pod.state is not None and pod.state.foreign.reason == Reason.FOREIGN_UNAUTHORIZED


def _leader(pods: Iterable[PodReport]) -> PodReport | None:
    """The pod that leads. Of two during a handover, the one with fewer problems serves."""
    leaders = [one for one in pods if one.state is not None and one.state.leader]
    return min(leaders, key=lambda one: len(one.state.problems) if one.state else 0, default=None)


def _ready(observed: Observation, leader: PodReport | None) -> Condition:
    pods, refused = observed.pods, observed.refused
    known = set(leader.state.problems.values()) if leader and leader.state else set()
    problems = _others([one for one in pods if one is not leader], known)
    refusal = f"no pod is admitted: {observed.not_admitted}" if observed.not_admitted else ""
    if leader is None or leader.state is None:
        if refused is not None:
            return refused
        if any(not one.reports for one in pods):
            return Condition(ConditionType.READY, UNKNOWN, "StateNotReported", problems)
        message = problems or ("no farlet pod leads yet" if pods else "no farlet pod exists yet")
        return not_ready("NoLeader", _joined(message, refusal))
    checks = _by_text(leader.state.problems.items())
    failing = "; ".join(f"{', '.join(names)}: {text}" for text, names in checks.items())
    not_applied = "" if refused is None else f"its spec is not applied: {refused.message}"
    rolling_out = ""
    if observed.rolling_out:
        rolling_out = _joined("the Deployment is still rolling out", refusal)
    serves = f"{leader.name} serves the node"
    if failing:
        return not_ready("Unhealthy", _joined(f"{serves}, but {failing}", not_applied, problems))
    reason = refused.reason if refused else ROLLING_OUT if rolling_out else "Serving"
    message = _joined(serves, not_applied or rolling_out, problems)
    return Condition(ConditionType.READY, TRUE, reason, message)


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _others(pods: Sequence[PodReport], known: Set[str]) -> str:
    """Why pods that do not lead could not; causes that are `known` of the leader are not repeated.

    Pods with the same cause are named together.
    """
    silent = [f"{pod.name}: {pod.problem}" for pod in pods if not pod.reports]
    why = ((pod.name, _cannot_lead(pod, known)) for pod in pods if pod.reports)
    causes = _by_text((name, text) for name, text in why if text)
    return _joined(
        *(f"{' and '.join(names)} cannot lead{text}" for text, names in causes.items()), *silent
    )


def _cannot_lead(pod: PodReport, known: Set[str]) -> str:
    """The end of the sentence that begins with names of pods and "cannot lead"; empty: it can."""
    problems = [pod.problem or ""] if pod.state is None else pod.state.problems.values()
    found = dict.fromkeys(text for text in problems if text)
    if not found:
        return ""
    new = [text for text in found if text not in known]
    return f": {'; '.join(new)}" if new else " for the same reason"


def _by_text(found: Iterable[tuple[str, str]]) -> Mapping[str, Sequence[str]]:
    """Texts, each with the names of those that report it."""
    result: dict[str, list[str]] = {}
    for name, text in found:
        result.setdefault(text, []).append(name)
    return result


_REASONS = frozenset(Reason)
"""API servers reject a condition whose reason is another text, and a pod reports it."""


def _foreign(state: State | None) -> Condition:
    kind = ConditionType.FOREIGN_REACHABLE
    if state is None:
        return Condition(kind, UNKNOWN, NOT_REPORTED, _NOTHING)
    if state.foreign.reachable:
        server = state.foreign.server or "the foreign API server"
        return Condition(kind, TRUE, "ForeignAPIServerReachable", f"{server} answers")
    problem = state.foreign.problem or "the foreign API server has not answered yet"
    reason = state.foreign.reason
    known = reason if reason in _REASONS else Reason.FOREIGN_UNREACHABLE.value
    return Condition(kind, FALSE, known, problem)


def _home_api(state: State | None) -> Condition:
    """As the Node's condition `farlet.io/HomeAPIReachable`."""
    kind = ConditionType.HOME_API_REACHABLE
    if state is None:
        return Condition(kind, UNKNOWN, NOT_REPORTED, _NOTHING)
    found = state.home_api
    message = found.message or ""
    match found.state:
        case "Verified":
            text = f"pods in the foreign cluster reach it at {found.endpoint}"
            return Condition(kind, TRUE, "HomeAPIVerified", text)
        case "NotConfigured":
            text = "farlet has no address at which pods reach the home API server: set up a "
            text += "gateway and spec.gateway, or spec.homeAPIServer"
            return Condition(kind, FALSE, Reason.HOME_API_NOT_CONFIGURED.value, text)
        case "Refused":
            return Condition(kind, FALSE, found.reason or "HomeAPIRefused", message)
        case "OutOfReach":
            return Condition(kind, FALSE, "HomeAPIUnreachable", message)
        case _:
            return Condition(kind, UNKNOWN, Reason.HOME_API_UNVERIFIED.value, message)


def _written(
    found: Iterable[Condition], node: VirtualNode, *, before: Mapping[str, object], now: datetime
) -> Iterable[JSON]:
    earlier = before.get("conditions")
    known = {one["type"]: one for one in earlier} if isinstance(earlier, list) else {}
    for one in found:
        old = known.get(one.type.value)
        same = old is not None and old["status"] == one.status
        yield {
            "type": one.type.value,
            "status": one.status,
            "observedGeneration": node.generation,
            "lastTransitionTime": old["lastTransitionTime"]
            if old is not None and same
            else rfc3339(now.timestamp()),
            "reason": one.reason,
            "message": _named(redaction.redact(one.message), node)[:MAX_MESSAGE],
        }


def _named(text: str, node: VirtualNode) -> str:
    """A text of a farlet pod, which does not know the names of its Secrets."""
    foreign = errors.with_secret(text, "foreign", node.foreign_secret)
    return errors.with_secret(foreign, "home", node.home_secret)
