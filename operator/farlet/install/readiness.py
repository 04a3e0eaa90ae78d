"""Why a VirtualNode is not ready as it is specified now: pure."""

from __future__ import annotations

from collections.abc import Sequence

from farlet import redaction
from farlet.constants import JSON
from farlet.manager import findings
from farlet.manager.conditions import NOT_APPLIED, ROLLING_OUT, ConditionType
from farlet.manager.findings import Reason

SHOWN_CHARS = 400
"""Limit of each condition."""

_EXPIRY = "foreignCredentialsExpire"


def problem(node: JSON | None, *, expires: str | None = None) -> str:
    """The conditions that are False, that of `Ready` first; empty: it is ready.

    `expires` is when the credentials of the Secret expire (`credentials.expiry`): a farlet that
    reports another time has read an earlier Secret. While its client certificate waits for an
    approval, only that: `farlet connect` approves it.
    """
    if node is None:
        return "the VirtualNode does not exist"
    generation = node["metadata"].get("generation")
    status = node.get("status") or {}
    conditions = {one.get("type"): one for one in status.get("conditions") or ()}
    ready = conditions.pop(ConditionType.READY.value, None)
    credentials = conditions.get(ConditionType.CREDENTIALS_VALID.value) or {}
    if ready is None:
        return "the manager has not reported yet"
    if ready.get("status") == "True" and ready.get("reason") not in NOT_APPLIED:
        if ready.get("observedGeneration", generation) != generation:
            return "the manager has not seen the last change yet"
        if credentials.get("status", "True") != "True":
            return _shown(ConditionType.CREDENTIALS_VALID, credentials)
        if expires not in (None, status.get(_EXPIRY, expires)):
            return (
                "farlet still uses the foreign credentials before the last change; the kubelet "
                "gives it the present ones within two minutes"
            )
        return ""
    if credentials.get("reason") == Reason.APPROVAL_REQUIRED:
        return "the client certificate of the node is not issued yet"
    others = [
        _shown(kind, one)
        for kind, one in conditions.items()
        if one.get("status") == "False"
        and findings.problems(str(one.get("message"))) not in str(ready.get("message"))
    ]
    return "; ".join((_cut(_words(ready)), *others))


def home_api_problem(node: JSON | None) -> str:
    """Why pods in access mode `home` would not start; empty: they would, or it is not known.

    After other credentials, farlet verifies the address for pods some seconds after the rest.
    """
    kind = ConditionType.HOME_API_REACHABLE.value
    found = next((one for one in _conditions(node) if one.get("type") == kind), {})
    return _shown(kind, found) if found.get("status") == "False" else ""


def is_rolling_out(node: JSON) -> bool:
    """Whether the manager last saw pods of an earlier spec: what it reports can be of those."""
    return any(one.get("reason") == ROLLING_OUT for one in _conditions(node))


def reasons(node: JSON | None) -> frozenset[str]:
    """The reasons of the conditions that are not True."""
    found = _conditions(node)
    return frozenset(str(one.get("reason")) for one in found if one.get("status") != "True")


def _conditions(node: JSON | None) -> Sequence[JSON]:
    return ((node or {}).get("status") or {}).get("conditions") or ()


def _shown(kind: str, condition: JSON) -> str:
    return _cut(f"{kind} is {condition.get('status')}: {_words(condition)}")


def _words(condition: JSON) -> str:
    return f"{condition.get('reason')}: {findings.problems(str(condition.get('message')))}"


def _cut(text: str) -> str:
    return redaction.cut(text, SHOWN_CHARS)
