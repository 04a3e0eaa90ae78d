"""Counts the pods in the store by phase and access mode, and computes ages of tokens.

The counts are computed at each scrape from the notes that the store keeps for each object: counts
that events update can drift, and parsing ten thousand pods per scrape costs too much.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping

from farlet.context import Context
from farlet.store import Store

INVALID = "invalid"
"""Reported as the access mode of a pod that selects an unknown one."""

RUNNING = "Running"


class PodCounts:
    """Counts for one store. Times are epoch seconds."""

    def __init__(self, store: Store, *, modes: Collection[str], ctx: Callable[[], Context]) -> None:
        self._store = store
        self._modes = modes
        self._ctx = ctx

    def pods(self) -> Mapping[tuple[str, str], int]:
        """Home pods by phase and access mode."""
        counts: Counter[tuple[str, str]] = Counter()
        for phase, *selected in self._store.home.notes():
            mode = selected[0] if selected else self._ctx().access_default
            counts[phase, mode if mode in self._modes else INVALID] += 1
        return counts

    def running(self) -> int:
        """Number of mirrors in phase Running."""
        return sum(phase == RUNNING for phase, *_ in self._store.mirrors.notes())

    def token_age(self, now: float) -> float:
        """Age in seconds of the oldest token of an unfinished mirror; 0 without any."""
        issued = [float(times[0]) for _, *times in self._store.mirrors.notes() if times]
        return max(now - min(issued), 0.0) if issued else 0.0

    def token_remaining(self, now: float) -> float:
        """Seconds until the first token of an unfinished mirror expires; infinite without any."""
        expires = [float(times[1]) for _, *times in self._store.mirrors.notes() if times]
        return min(expires) - now if expires else math.inf
