"""What a VirtualNode reports, and whether that is over. Pure.

The manager writes conditions up to half a minute after what they are about, and none while it does
not run. So what farlet itself reports now counts, and what is over is only a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from farlet import errors
from farlet.cli.checks.causes import VIRTUAL_NODE
from farlet.cli.checks.findings import Finding, Outcome
from farlet.cli.checks.installed import Installation
from farlet.cli.reading import Absent, Unread, age, clean
from farlet.constants import JSON
from farlet.forge import timestamps
from farlet.manager import conditions, findings, rollout
from farlet.manager.conditions import MAX_MESSAGE, NOT_APPLIED, ConditionType
from farlet.manager.findings import Reason
from farlet.manager.virtual_node import FARLET, MANAGER

_REJECTED = errors.credentials_rejected("foreign", "").partition("(401")[0]
_OF_FOREIGN_CREDENTIALS = frozenset(
    {
        Reason.FOREIGN_CREDENTIALS_REJECTED,
        Reason.FOREIGN_CREDENTIALS_EXPIRED,
        Reason.FOREIGN_KUBECONFIG_MISSING,
        Reason.FOREIGN_KUBECONFIG_INVALID,
    }
)


def rows(found: Installation, *, accepted: str, now: float, kubectl: str) -> list[Finding]:
    """One for each condition. `now`: epoch seconds.

    `accepted`: that the foreign API server has just accepted the token in the Secret; else empty.
    """
    what = f"{VIRTUAL_NODE} {found.node}"
    declared = found.virtual_node
    if isinstance(declared, Absent):
        return []
    if isinstance(declared, Unread):
        return [Finding(what, Outcome.WARNING, f"not checked: {declared.why}")]
    status = declared.get("status") or {}
    hint = f"{kubectl} logs -n {FARLET} deployment/{MANAGER}"
    if not status.get("conditions"):
        return [Finding(what, Outcome.WARNING, "the manager has not reported yet", hint)]
    current = _current(found, now)
    shown = []
    for one in status["conditions"]:
        fresh = None if one.get("reason") in NOT_APPLIED else current.get(str(one.get("type")))
        over = _over(one, fresh, accepted)
        shown.append(_past(one, over, now) if over else _row(fresh or one))
    if status.get("observedGeneration") != declared["metadata"].get("generation"):
        seen = "the manager has not seen its last change yet"
        shown.append(Finding(what, Outcome.WARNING, seen, hint))
    return shown


def _current(found: Installation, now: float) -> Mapping[str, JSON]:
    """The conditions that the manager would write now; empty if no leader's state is known."""
    states = found.states
    declared = found.declared()
    if declared is None or not any(one.leader for one in states.values()):
        return {}
    pods: list[JSON] = [] if isinstance(found.pods, Absent | Unread) else [*found.pods]  # type: ignore[list-item]
    deployment = None if isinstance(found.deployment, Absent | Unread) else found.deployment
    observed = conditions.Observation(
        refused=None,
        credentials=conditions.CREDENTIALS_NOT_CHECKED,
        pods=[
            conditions.pod_report(pod, states.get(name), None, node=found.node)
            for pod in pods
            if (name := pod["metadata"]["name"]) in states or rollout.pod_problem(pod)
        ],
        rolling_out=bool(rollout.unfinished(deployment)),
        not_admitted=rollout.refusal(deployment),
    )
    moment = datetime.fromtimestamp(now, UTC)
    written = conditions.status(declared, observed, before={}, now=moment)["conditions"]
    return {one["type"]: one for one in written if one["type"] != ConditionType.CREDENTIALS_VALID}


def _over(one: JSON, fresh: JSON | None, accepted: str) -> str:
    """What contradicts a condition that reports a problem; empty: nothing does."""
    if one.get("status") != "False":
        return ""
    if fresh is not None:
        return clean(fresh["message"]) if fresh["status"] == "True" else ""
    if one.get("reason") in _OF_FOREIGN_CREDENTIALS:
        return accepted
    parts = str(one.get("message", "")).split("; ")
    return accepted if all(_REJECTED in part for part in parts) else ""


def _past(one: JSON, over: str, now: float) -> Finding:
    since = timestamps.epoch(one.get("lastTransitionTime"))
    when = "" if since is None else f" {age(now - since)} ago"
    seen = f"{clean(one.get('reason'), most=80)}, reported{when}, and over now: {over}"
    hint = "the manager reports it within half a minute: run farlet check again"
    return Finding(_what(one), Outcome.WARNING, seen, hint)


def _row(one: JSON) -> Finding:
    reason = clean(one.get("reason"), most=80)
    message = clean(findings.problems(str(one.get("message") or "")), most=MAX_MESSAGE)
    warns = one.get("type") == ConditionType.CREDENTIALS_VALID and reason not in findings.QUIET
    match one.get("status"):
        case "False":
            return Finding(_what(one), Outcome.FAILED, reason, message)
        case "True" if reason not in NOT_APPLIED and not warns:
            return Finding(_what(one), Outcome.OK, message or reason)
        case _:
            return Finding(_what(one), Outcome.WARNING, reason, message)


def _what(one: JSON) -> str:
    return f"{VIRTUAL_NODE} {clean(one.get('type'), most=80)}"
