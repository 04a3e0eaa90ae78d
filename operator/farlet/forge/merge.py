"""Comparing two JSON values as an API server would, and telling it the difference.

An API server prints some empty fields and leaves out others (`omitempty`), so that what it
returns is seldom literally what was sent. Whoever compares the two literally writes for ever.
`difference` and `replaced` speak the language of strategic merge patches
(k8s.io/apimachinery/pkg/util/strategicpatch): an explicit null removes a key.
"""

from __future__ import annotations

from farlet.constants import JSON


def same(one: object, other: object) -> bool:
    """Whether an API server would store the same for both.

    Missing, null, zero, false, the empty string and the empty list are one; an empty object is
    not: `waiting: {}` says something.
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
    """What must be merged into `old` so that it becomes `new`."""
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


def replaced(new: list[JSON] | None) -> list[JSON] | None:
    """A list that merges by key, sent so that nothing of the old one remains."""
    return [{"$patch": "replace"}, *new] if new else None
