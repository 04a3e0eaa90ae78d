"""Compares two JSON values as an API server would, and computes patches between them.

An API server prints some empty fields and omits others (`omitempty`), so an object that it returns
is seldom literally the one that was sent; a literal comparison would cause a write at every
comparison. `difference` returns a strategic merge patch
(k8s.io/apimachinery/pkg/util/strategicpatch): an explicit null removes a key.
"""

from __future__ import annotations

from farlet.constants import JSON


def same(one: object, other: object) -> bool:
    """Whether an API server would store the same for both.

    Missing, null, zero, false, the empty string and the empty list are equal. An empty object
    differs from them: `waiting: {}` has a meaning.
    """
    if one == other:
        return True
    if isinstance(one, dict):
        return isinstance(other, dict) and all(
            same(one.get(key), other.get(key)) for key in one.keys() | other.keys()
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return not one and not other and not isinstance(other, dict)


def difference(old: JSON, new: JSON) -> JSON:
    """The merge patch that turns `old` into `new`."""
    result: JSON = {}
    for key in {**old, **new}:
        before, after = old.get(key), new.get(key)
        if same(before, after):
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            result[key] = difference(before, after)
        else:
            result[key] = after
    return result
