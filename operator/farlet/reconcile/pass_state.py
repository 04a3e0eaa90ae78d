"""What a pass over a key finds out live, and when things happened: memory beyond the store.

A restart may lose all of it; it shapes delays, latencies and repetitions, never what is decided.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from farlet.constants import ObjectKey
from farlet.k8s_types import Pod


@dataclass(slots=True)
class PassState:
    """What one pass over a key has found out live, beyond the store."""

    home_gone: bool = False
    mirror_gone: bool = False
    stranger: Pod | None = None
    secret_failed: bool = False
    step: str = ""
    """What a failure would be about, as `refusals.of` takes it; empty: nothing of the pod's."""


class PodTimes:
    """When what happened to a pod in this process. All times are monotonic, in seconds."""

    def __init__(self) -> None:
        self._first_seen: dict[str, float] = {}
        """By home uid, until its mirror stands."""
        self._made: dict[str, float] = {}
        """By home uid: when its mirror was made by this process."""
        self._changed: dict[ObjectKey, float] = {}
        self._told: dict[str, float] = {}
        """By home uid: when a reason was last written."""

    def noticed(self, key: ObjectKey) -> None:
        """A mirror of `key` changed just now."""
        self._changed.setdefault(key, time.monotonic())

    def settled(self, key: ObjectKey) -> float | None:
        """Home is told all that is known of `key`; when the first of it was noticed."""
        return self._changed.pop(key, None)

    def first_seen(self, uid: str) -> float:
        """When home pod `uid`, which has no mirror yet, was first asked about."""
        return self._first_seen.setdefault(uid, time.monotonic())

    def waited(self, uid: str) -> float:
        """Seconds since `first_seen`; infinite for a pod that has its mirror."""
        return time.monotonic() - self._first_seen.get(uid, -math.inf)

    def has_mirror(self, uid: str) -> None:
        """The mirror of home pod `uid` was made just now."""
        self._made[uid] = time.monotonic()
        self._first_seen.pop(uid, None)

    def made(self, uid: str) -> float:
        """Seconds since the mirror of home pod `uid` was made; infinite if not by this process."""
        return time.monotonic() - self._made.get(uid, -math.inf)

    def told(self, uid: str) -> None:
        """A reason was written on this home pod just now."""
        self._told[uid] = time.monotonic()

    def told_within(self, uid: str, seconds: float) -> bool:
        """Whether a reason was written on this home pod so short a time ago."""
        return time.monotonic() - self._told.get(uid, -seconds) < seconds

    def forget(self, uid: str) -> None:
        """Home pod `uid` is gone for good."""
        self._first_seen.pop(uid, None)
        self._made.pop(uid, None)
        self._told.pop(uid, None)
