"""Counts the pods in the store by phase and access mode, and computes ages of tokens.

The counts are computed at each scrape from the notes that the store keeps for each object: counts
that events update can drift, and parsing ten thousand pods per scrape costs too much.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping

from farlet.context import Context
from farlet.k8s_types import PodPhase
from farlet.store import Store, TokenTimes

INVALID = "invalid"
"""Reported as the access mode of a pod that selects an unknown one."""


class PodCounts:
    """Counts for one store. Times are epoch seconds."""

    def __init__(self, store: Store, *, modes: Collection[str], ctx: Callable[[], Context]) -> None:
        self._store = store
        self._modes = modes
        self._ctx = ctx

    def pods(self) -> Mapping[tuple[str, str], int]:
        """Home pods by phase and access mode."""
        counts: Counter[tuple[str, str]] = Counter()
        for note in self._store.home.notes():
            mode = self._ctx().access_default if note.mode is None else note.mode
            counts[note.phase, mode if mode in self._modes else INVALID] += 1
        return counts

    def waiting(self) -> Mapping[str, int]:
        """Home pods that wait for their mirror, by reason."""
        return Counter(note.waits for note in self._store.home.notes() if note.waits is not None)

    def running(self) -> int:
        """Number of mirrors in phase Running."""
        return sum(note.phase == PodPhase.RUNNING for note in self._store.mirrors.notes())

    def token_age(self, now: float) -> float:
        """Age in seconds of the oldest token of an unfinished mirror; 0 without any."""
        issued = min((times.issued for times in self._tokens()), default=now)
        return max(now - issued, 0.0)

    def token_remaining(self, now: float) -> float:
        """Seconds until the first token of an unfinished mirror expires; infinite without any."""
        return min((times.expires for times in self._tokens()), default=math.inf) - now

    def _tokens(self) -> Iterator[TokenTimes]:
        return (note.tokens for note in self._store.mirrors.notes() if note.tokens is not None)
