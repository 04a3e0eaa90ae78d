"""Times as Kubernetes objects contain them: RFC 3339, in UTC where farlet writes them. Pure."""

from __future__ import annotations

import functools
from datetime import UTC, datetime

MAX_CHARS = 40
"""Length of a time with nanoseconds and offset. A longer text is not a time."""


_FIRST_YEAR = 1970


def parse(text: object) -> datetime | None:
    """The time in UTC; `None` for anything else, which may come from a foreign cluster.

    No object is older than 1970: such a time is Go's zero time, or made up.
    """
    if not isinstance(text, str) or len(text) > MAX_CHARS:
        return None
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            return None
        found = found.astimezone(UTC)
    except (ValueError, OverflowError):  # the offset leads beyond the years 1 to 9999
        return None
    return None if found.year < _FIRST_YEAR else found


def epoch(text: object) -> float | None:
    """Like `parse`, in epoch seconds."""
    found = parse(text)
    return None if found is None else found.timestamp()


def rfc3339(seconds: float) -> str:
    """Epoch seconds as an API server prints times: UTC, whole seconds."""
    return _rfc3339(int(seconds))


@functools.lru_cache(maxsize=8)
def _rfc3339(seconds: int) -> str:
    """One status has up to ten conditions of the same time."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
