"""Amounts of resources that a mirror reports, within what the home pod asks for.

Home's scheduler and its quotas take the larger of spec and status (`UseStatusResources` in
pkg/quota/v1/evaluator/core/pods.go). What a foreign LimitRange, autoscaler or user adds must use up
neither. A home pod that was just resized to less shows its old amounts until the mirror follows.
"""

from __future__ import annotations

from collections.abc import Mapping

from farlet.constants import JSON
from farlet.forge import quantities


def bounded(
    reported: Mapping[str, object], *, asked: Mapping[str, object], shown: Mapping[str, object]
) -> dict[str, object]:
    """For each resource that home requests, no more than that or than home already shows."""
    result: dict[str, object] = {}
    for name, amount in reported.items():
        if name not in asked:
            continue
        most = max(asked[name], shown.get(name, "0"), key=_nanos)
        result[name] = amount if 0 <= _nanos(amount) <= _nanos(most) else most
    return result


def resources(reported: JSON, *, asked: JSON, shown: JSON) -> JSON:
    """`resources` of a container or pod, as `bounded`."""
    result = {key: value for key, value in reported.items() if key not in ("requests", "limits")}
    for key in ("requests", "limits"):
        amounts = bounded(
            reported.get(key) or {}, asked=asked.get(key) or {}, shown=shown.get(key) or {}
        )
        if amounts:
            result[key] = amounts
    return result


def _nanos(amount: object) -> int:
    """Billionths; -1 for what is not an amount."""
    try:
        return quantities.parse(str(amount)).nanos
    except ValueError:
        return -1
