"""What can be counted of the pods that are known: phases, ways of access, ages of tokens.

Counted from what the store noted of each object when it was kept, and only when someone looks: a
number that is kept up by events can drift, and reading ten thousand pods for a scrape costs
too much. Decides nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping

from farlet.context import Context
from farlet.store import Store

INVALID = "invalid"
"""The access mode of a pod that asks for one that there is not."""

RUNNING = "Running"


class PodCounts:
    """Counts of one store. Times are epoch seconds."""

    def __init__(self, store: Store, *, modes: Collection[str], ctx: Callable[[], Context]) -> None:
        self._store = store
        self._modes = modes
        self._ctx = ctx

    def pods(self) -> Mapping[tuple[str, str], int]:
        """Home pods by phase and access mode."""
        counts: Counter[tuple[str, str]] = Counter()
        for phase, *wanted in self._store.home.notes():
            mode = wanted[0] if wanted else self._ctx().access_default
            counts[phase, mode if mode in self._modes else INVALID] += 1
        return counts

    def running(self) -> int:
        """Mirrors in phase Running."""
        return sum(phase == RUNNING for phase, *_ in self._store.mirrors.notes())

    def token_age(self, now: float) -> float:
        """Seconds since the oldest token was issued that an unfinished mirror has; 0 for none."""
        issued = [float(times[0]) for _, *times in self._store.mirrors.notes() if times]
        return max(now - min(issued), 0.0) if issued else 0.0

    def token_remaining(self, now: float) -> float:
        """Seconds until the first token expires that an unfinished mirror has; inf for none."""
        expires = [float(times[1]) for _, *times in self._store.mirrors.notes() if times]
        return min(expires) - now if expires else math.inf
