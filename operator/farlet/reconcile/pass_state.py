"""What a pass over a key finds out live, and when things happened: memory beyond the store.

A restart may lose all of it; it shapes delays, latencies and repetitions, never what is decided.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from farlet.constants import ObjectKey
from farlet.k8s_types import Pod
from farlet.planning.actions import Step
from farlet.planning.snapshot import Ages


@dataclass(slots=True)
class PassState:
    """What one pass over a key has found out live, beyond the store."""

    home_gone: bool = False
    mirror_gone: bool = False
    stranger: Pod | None = None
    secret_failed: bool = False
    step: Step = Step.HOME
    """What a request that fails now was for."""


class PodTimes:
    """When what happened to a pod in this process. All times are monotonic, in seconds."""

    def __init__(self) -> None:
        self._first_seen: dict[str, float] = {}
        """By home uid, until its mirror stands."""
        self._created: dict[str, float] = {}
        """By home uid: when its mirror was created by this process."""
        self._reported: dict[str, float] = {}
        """By home uid: when a reason was last written."""
        self._changed: dict[ObjectKey, float] = {}

    def changed(self, key: ObjectKey) -> None:
        """A mirror of `key` changed just now."""
        self._changed.setdefault(key, time.monotonic())

    def reconciled(self, key: ObjectKey) -> float | None:
        """Home shows all that is known of `key`; returns when the first of it changed."""
        return self._changed.pop(key, None)

    def first_seen(self, uid: str) -> float:
        """When home pod `uid`, which has no mirror yet, was first reconciled."""
        return self._first_seen.setdefault(uid, time.monotonic())

    def mirror_created(self, uid: str) -> None:
        """The mirror of home pod `uid` was created just now."""
        self._created[uid] = time.monotonic()
        self._first_seen.pop(uid, None)

    def reported(self, uid: str) -> None:
        """A reason was written on home pod `uid` just now."""
        self._reported[uid] = time.monotonic()

    def ages(self, uid: str) -> Ages:
        """How long ago these things happened to home pod `uid`."""
        now = time.monotonic()
        return Ages(
            first_seen=now - self._first_seen.get(uid, -math.inf),
            mirror_created=now - self._created.get(uid, -math.inf),
            reason_written=now - self._reported.get(uid, -math.inf),
        )

    def forget(self, uid: str) -> None:
        """Home pod `uid` is gone for good."""
        self._first_seen.pop(uid, None)
        self._created.pop(uid, None)
        self._reported.pop(uid, None)
