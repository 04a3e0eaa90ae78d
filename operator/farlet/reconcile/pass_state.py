"""What one pass over a key reads live, and when events happened: memory beyond the store.

A restart can lose all of it. It affects delays, latencies and repetitions, never the outcome.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from farlet import retrying
from farlet.access import Token
from farlet.constants import ObjectKey
from farlet.forge.conditions import Rejection
from farlet.k8s_types import ObjectMeta, Pod
from farlet.planning import changes, wishes
from farlet.planning.actions import Action, ProvideSecret, ResizeMirror, Step, UpdateMirror
from farlet.planning.snapshot import LASTING_SECONDS, STATUS_SECONDS, Ages, Answered
from farlet.planning.wishes import Wish

Change = UpdateMirror | ResizeMirror

CHANGE_FIRST_SECONDS = 0.5
CHANGE_LAST_SECONDS = 15.0
"""Between two tries of a change that fails."""


@dataclass(slots=True)
class PassState:
    """What one pass over a key has read live, beyond the store."""

    key: ObjectKey
    """Of the home pod."""
    home_gone: bool = False
    mirror_gone: bool = False
    mirror_read: bool = False
    unrelated: Pod | None = None
    """The pod under the mirror's name that is not ours."""
    secret_failed: bool = False
    change_failed: bool = False
    step: Step = Step.HOME
    """What the current request is for."""

    @property
    def failed(self) -> bool:
        """An action has failed, and the pass continued without it."""
        return self.secret_failed or self.change_failed

    @property
    def rests_on_store(self) -> bool:
        """Whether the pass still decides as a pass that begins now would.

        Otherwise a failure has added its retry, or a pod that was read replaces the store's.
        """
        return not self.failed and self.unrelated is None

    def continues_without(self, action: Action) -> bool:
        """Whether the pass continues although `action` failed, once for each kind: the status does
        not wait for a token, nor does an ephemeral container for a change.
        """
        match action:
            case ProvideSecret() if not self.secret_failed:
                self.secret_failed = True
            case UpdateMirror() | ResizeMirror():
                self.change_failed = True  # it is held back
            case _:
                return False
        return True


@dataclass(slots=True)
class _Attempts:
    """At one change."""

    wanted: str
    backoff: retrying.Backoff = field(
        default_factory=lambda: retrying.Backoff(CHANGE_FIRST_SECONDS, CHANGE_LAST_SECONDS)
    )
    again_at: float = 0.0


class PodTimes:
    """When events of a pod happened in this process. All times are monotonic, in seconds."""

    def __init__(self) -> None:
        self._first_seen: dict[str, float] = {}
        """By home uid, until its mirror is created."""
        self._created: dict[str, float] = {}
        """By home uid: when its mirror was created by this process."""
        self._creations: dict[str, int] = {}
        """By home uid: how many mirrors this process created, each before the last one lasted."""
        self._delivered: dict[str, dict[str, tuple[float, float]]] = {}
        """By home uid and `TokenSpec.key`: issue and expiry of tokens in the mirror's Secret."""
        self._reported: dict[str, float] = {}
        """By home uid: when a reason was last written."""
        self._statuses: dict[str, tuple[float, float]] = {}
        """By home uid: `Snapshot.recent_statuses`, and when that was."""
        self._changed: dict[ObjectKey, float] = {}
        self._answered: dict[str, dict[type[Wish], Answered]] = {}
        """By home uid: the last accepted write of each kind."""
        self._rejected: dict[str, dict[type[Change], tuple[str, Rejection]]] = {}
        """By home uid: `wanted` of the last update and resize that was rejected, and why."""
        self._attempts: dict[str, dict[type[Change], _Attempts]] = {}
        """By home uid: the update and the resize that have failed."""

    def changed(self, key: ObjectKey) -> None:
        """The mirror of `key` has just changed."""
        self._changed.setdefault(key, time.monotonic())

    def reconciled(self, key: ObjectKey) -> float | None:
        """The home status of `key` is up to date. Returns when the first change of it was seen."""
        return self._changed.pop(key, None)

    def first_seen(self, uid: str) -> float:
        """When home pod `uid` was first seen without a mirror."""
        return self._first_seen.setdefault(uid, time.monotonic())

    def mirror_created(self, uid: str) -> None:
        """The mirror of home pod `uid` has just been created."""
        now = time.monotonic()
        if now - self._created.get(uid, -math.inf) >= LASTING_SECONDS:
            self._creations[uid] = 0
        self._creations[uid] += 1
        self._created[uid] = now
        self._first_seen.pop(uid, None)

    def created_here(self, uid: str) -> bool:
        """Whether this process created a mirror for home pod `uid`."""
        return uid in self._created

    def creations(self, uid: str) -> int:
        """Mirrors that this process created for home pod `uid`, each before the last one lasted."""
        return self._creations.get(uid, 0)

    def tokens_delivered(self, uid: str, granted: Mapping[str, Token]) -> None:
        """The Secret of home pod `uid` has these tokens now."""
        times = self._delivered.setdefault(uid, {})
        times.update({key: (token.issued, token.expires) for key, token in granted.items()})

    def delivered(self, uid: str) -> Mapping[str, tuple[float, float]]:
        """Issue and expiry of the tokens that this process delivered to home pod `uid`."""
        return self._delivered.get(uid, {})

    def reported(self, uid: str) -> None:
        """A reason has just been written to the status of home pod `uid`."""
        self._reported[uid] = time.monotonic()

    def status_written(self, uid: str) -> None:
        """The status of home pod `uid` has just been written."""
        self._statuses[uid] = self.recent_statuses(uid) + 1.0, time.monotonic()

    def recent_statuses(self, uid: str) -> float:
        """Statuses of home pod `uid`, less one for each `STATUS_SECONDS` since then."""
        count, at = self._statuses.get(uid, (0.0, 0.0))
        return max(0.0, count - (time.monotonic() - at) / STATUS_SECONDS)

    def wrote(self, uid: str, wish: Wish, answer: ObjectMeta) -> None:
        """A write for home pod `uid` was accepted; `answer` is the object as it is now."""
        if isinstance(wish, UpdateMirror | ResizeMirror):
            self._attempts.get(uid, {}).pop(type(wish), None)
        kinds = self._answered.setdefault(uid, {})
        kinds[type(wish)] = wishes.answered(wish, answer)

    def answered(self, uid: str) -> frozenset[Answered]:
        """The last accepted write of each kind for home pod `uid`."""
        return frozenset(self._answered.get(uid, {}).values())

    def change_rejected(self, uid: str, change: Change, why: Rejection) -> bool:
        """The foreign API server has rejected a change of home pod `uid`. Returns whether that is
        new.

        Of a rejection that is not final the first message stays: those of quotas name what is used
        at the moment, and the status would change with each try.
        """
        found = self._rejected.setdefault(uid, {})
        before = found.get(type(change))
        if before is not None and before[0] == change.wanted and before[1].final is why.final:
            return False
        found[type(change)] = (change.wanted, why)
        return True

    def rejected(self, home: Pod) -> dict[str, Rejection]:
        """`wanted` of what was rejected of a home pod as it is now -> why.

        What it was rejected for before it changed is forgotten: it may change back.
        """
        found = self._rejected.get(home["metadata"]["uid"])
        if not found:
            return {}
        now = changes.every_wanted(home)
        for kind, (wanted, _) in list(found.items()):
            if wanted not in now:
                del found[kind]
        return dict(found.values())

    def change_failed(self, uid: str, change: Change) -> None:
        """A change of home pod `uid` has failed: it is held back for longer each time, whatever
        else wakes the pod.
        """
        found = self._attempts.setdefault(uid, {})
        attempts = found.get(type(change))
        if attempts is None or attempts.wanted != change.wanted:
            attempts = found[type(change)] = _Attempts(change.wanted)
        attempts.again_at = time.monotonic() + attempts.backoff.next()

    def held_back(self, home: Pod) -> dict[str, float]:
        """`wanted` of a change of a home pod that has failed -> seconds until it is sent again."""
        found = self._attempts.get(home["metadata"]["uid"])
        if not found:
            return {}
        now = time.monotonic()
        return {one.wanted: one.again_at - now for one in found.values() if one.again_at > now}

    def ages(self, uid: str) -> Ages:
        """Seconds since the events of home pod `uid`."""
        now = time.monotonic()
        return Ages(
            first_seen=now - self._first_seen.get(uid, -math.inf),
            mirror_created=now - self._created.get(uid, -math.inf),
            reason_written=now - self._reported.get(uid, -math.inf),
        )

    def forget(self, uid: str) -> None:
        self._first_seen.pop(uid, None)
        self._created.pop(uid, None)
        self._creations.pop(uid, None)
        self._delivered.pop(uid, None)
        self._reported.pop(uid, None)
        self._statuses.pop(uid, None)
        self._answered.pop(uid, None)
        self._rejected.pop(uid, None)
        self._attempts.pop(uid, None)
