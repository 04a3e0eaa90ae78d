"""Why a VirtualNode is not ready as it is specified now: pure."""

from __future__ import annotations

from farlet import redaction
from farlet.constants import JSON
from farlet.manager.conditions import NOT_APPLIED, ConditionType
from farlet.manager.findings import Reason

SHOWN_CHARS = 400
"""Limit of each condition."""


def problem(node: JSON | None) -> str:
    """The conditions that are False, that of `Ready` first; empty: it is ready.

    While its client certificate waits for an approval, only that: `farlet connect` approves it.
    """
    if node is None:
        return "the VirtualNode does not exist"
    generation = node["metadata"].get("generation")
    status = node.get("status") or {}
    conditions = {one.get("type"): one for one in status.get("conditions") or ()}
    ready = conditions.pop(ConditionType.READY.value, None)
    if ready is None:
        return "the manager has not reported yet"
    if ready.get("status") == "True" and ready.get("reason") not in NOT_APPLIED:
        seen = ready.get("observedGeneration", generation) == generation
        return "" if seen else "the manager has not seen the last change yet"
    credentials = conditions.get(ConditionType.CREDENTIALS_VALID.value) or {}
    if credentials.get("reason") == Reason.APPROVAL_REQUIRED:
        return "the client certificate of the node is not issued yet"
    others = [
        _cut(f"{kind} is False: {_words(one)}")
        for kind, one in conditions.items()
        if one.get("status") == "False" and str(one.get("message")) not in str(ready.get("message"))
    ]
    return "; ".join((_cut(_words(ready)), *others))


def reasons(node: JSON | None) -> frozenset[str]:
    """The reasons of the conditions that are False."""
    conditions = ((node or {}).get("status") or {}).get("conditions") or ()
    return frozenset(str(one.get("reason")) for one in conditions if one.get("status") == "False")


def _words(condition: JSON) -> str:
    return f"{condition.get('reason')}: {condition.get('message')}"


def _cut(text: str) -> str:
    return redaction.cut(text, SHOWN_CHARS)
