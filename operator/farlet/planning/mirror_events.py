"""Which Events of mirrors appear at home, and in which order and number.

The sender waits on `Backlog`; everything it decides is decided here. Pure: no clock, no I/O. Times
are monotonic seconds.

Anyone in the foreign cluster can write Events, in any number. So what waits is bounded, each pod
has an allowance for each type of Event, and all pods together have one. Where something has to give
way, Normal Events do.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from farlet.constants import ObjectKey
from farlet.forge import mirror_event
from farlet.forge.mirror_event import NORMAL, WARNING, HomePod, Summary

WAITING = 10_000
"""Events that wait at the same time; each takes at most 3 KiB."""

POD_BURST = 50
POD_EVERY_SECONDS = 30.0
"""Allowance of one pod for each type of Event: this many at once, and one more after this time. A
recorder of client-go, a kubelet's for example, sends half as many (`defaultSpamBurst`)."""
PODS = 20_000
"""Allowances that are remembered."""

BURST = 200
PER_SECOND = 200.0
"""Allowance of all pods together."""
BUSY_PER_SECOND = 2.0
"""The same while pods wait to be reconciled: their requests come first."""

SETTLE_SECONDS = 1.0
"""An Event waits for at least this time. Its repetitions become one write, and a mirror whose
creation was not answered yet is known by then."""


ATTEMPTS = 6
"""An Event is dropped after this many requests that the home API server did not answer."""


_ROUNDING = 1e-6
"""Floats that are added up lack so little of a whole number."""


class Shown(StrEnum):
    """Events of mirrors that appear on home pods."""

    ALL = "all"
    WARNINGS = "warnings"
    NONE = "none"


def shows(seen: Summary, shown: Shown) -> bool:
    """Whether home shows it. The Event that says where the mirror runs is always shown."""
    match shown:
        case Shown.ALL:
            return True
        case Shown.WARNINGS:
            return seen.type == WARNING or seen.reason == mirror_event.SCHEDULED
        case Shown.NONE:
            return False


@dataclass(slots=True)
class TokenBucket:
    """An allowance: `burst` at once, and `per_second` more each second."""

    burst: float
    per_second: float
    left: float
    at: float

    def refill(self, now: float) -> None:
        """Add what has come since the last call."""
        self.left = min(self.burst, self.left + (now - self.at) * self.per_second)
        self.at = now

    def take(self, now: float) -> bool:
        """Use one, if there is one."""
        self.refill(now)
        if self.left < 1 - _ROUNDING:
            return False
        self.left -= 1
        return True


@dataclass(frozen=True, slots=True)
class Waiting:
    """An Event that waits to be written, with farlet's own mapping of its pod."""

    home: ObjectKey
    foreign: ObjectKey
    pod: HomePod | None
    """The home pod; `None`: it was not known to be one when the Event came."""
    seen: Summary
    since: float
    attempts: int = 0
    """How often it was sent without an answer."""


@dataclass(slots=True)
class _Allowance:
    """The allowance of one foreign pod for one type of Event."""

    left: TokenBucket
    about: str = ""
    pod: HomePod | None = None
    """The home pod of the mirror of uid `about`, so that not each Event reads it."""


class Backlog:
    """Events that wait: Warnings before Normal ones, of each type the oldest first."""

    def __init__(self, now: float) -> None:
        self._waiting: dict[str, OrderedDict[str, Waiting]] = {
            WARNING: OrderedDict(),
            NORMAL: OrderedDict(),
        }
        """By type and uid of the foreign Event."""
        self._pods: OrderedDict[tuple[ObjectKey, str], _Allowance] = OrderedDict()
        """By foreign key and type: the author of an Event chooses the uid that it is about."""
        self._all = TokenBucket(BURST, PER_SECOND, BURST, now)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(
        self,
        home: ObjectKey,
        foreign: ObjectKey,
        pod: Callable[[], HomePod | None],
        seen: Summary,
        now: float,
    ) -> str | None:
        """Let it wait. Returns the type of the Event that gave way: this one, or an older one.

        A repetition of one that waits takes its place. `pod` costs milliseconds for a large pod, so
        it is called only where the allowance lets the Event wait, and once for each mirror.
        """
        queue = self._waiting[seen.type]
        before = queue.get(seen.uid)
        if before is not None:
            same = (before.foreign, before.seen.about) == (foreign, seen.about)
            known = before.pod if same else None
            queue[seen.uid] = Waiting(home, foreign, known, seen, before.since)
            return None
        allowance = self._allowance(foreign, seen.type)
        if not allowance.left.take(now):
            return seen.type
        gave_way = None
        if len(self) >= WAITING:
            if seen.type == NORMAL or not self._waiting[NORMAL]:
                return seen.type
            self._waiting[NORMAL].popitem(last=False)
            gave_way = NORMAL
        if allowance.pod is None or allowance.about != seen.about:
            allowance.about, allowance.pod = seen.about, pod()
        queue[seen.uid] = Waiting(home, foreign, allowance.pod, seen, now)
        return gave_way

    def put_back(self, waiting: Waiting, now: float) -> bool:
        """Let an Event wait that was not answered, for the last place. False: it has to give way.

        One that has been repeated meanwhile is superseded.
        """
        queue = self._waiting[waiting.seen.type]
        if waiting.seen.uid in queue:
            return True
        if waiting.attempts + 1 >= ATTEMPTS or len(self) >= WAITING:
            return False
        queue[waiting.seen.uid] = replace(waiting, since=now, attempts=waiting.attempts + 1)
        return True

    def forget(self, foreign: ObjectKey) -> None:
        """The home pod of this mirror is deleted: the next pod has allowances of its own."""
        for kind in self._waiting:
            self._pods.pop((foreign, kind), None)

    def _allowance(self, foreign: ObjectKey, kind: str) -> _Allowance:
        key = (foreign, kind)
        found = self._pods.get(key)
        if found is None:
            bucket = TokenBucket(POD_BURST, 1 / POD_EVERY_SECONDS, POD_BURST, 0.0)
            found = self._pods[key] = _Allowance(bucket)
            if len(self._pods) > PODS:
                self._pods.popitem(last=False)
        self._pods.move_to_end(key)
        return found

    def next(self, now: float, *, busy: bool) -> Waiting | float | None:
        """The Event to write now, the seconds until one may be written, or `None` if none waits.

        `busy`: pods wait to be reconciled.
        """
        soonest = None
        for queue in self._waiting.values():
            if not queue:
                continue
            uid, first = next(iter(queue.items()))
            left = first.since + SETTLE_SECONDS - now
            if left <= 0:
                left = self._all_pods(now, busy=busy)
                if left > 0:
                    return left
                return queue.pop(uid)
            soonest = left if soonest is None else min(soonest, left)
        return soonest

    def _all_pods(self, now: float, *, busy: bool) -> float:
        """Use one of the allowance of all pods; the seconds until there is one."""
        bucket = self._all
        bucket.refill(now)
        bucket.per_second = BUSY_PER_SECOND if busy else PER_SECOND
        if busy:
            bucket.left = min(bucket.left, 1.0)
        return 0.0 if bucket.take(now) else (1 - bucket.left) / bucket.per_second
