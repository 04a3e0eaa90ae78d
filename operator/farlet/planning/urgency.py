"""Which of the things that wait is next: classes of work, and their order.

The same order holds for keys in the work queue and for requests to one API server. Started work is
finished first: a burst of new pods must not delay the status, the Secret or the end of a pod that
has its mirror.

Pure; times are arguments.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import IntEnum
from typing import Generic, TypeVar

from farlet.forge import phases
from farlet.planning.actions import (
    Action,
    AddEphemeralContainer,
    CreateMirror,
    PatchStatus,
    ResizeMirror,
    UpdateMirror,
)
from farlet.planning.predicates import is_deleting

PATIENCE_SECONDS = 1.0
PATIENT_TURNS = 4
"""One of this many turns belongs to the oldest item that has waited for `PATIENCE_SECONDS`.

If it were every turn, a burst that takes longer than a second would be served in order of arrival:
the classes would have no effect just when they are needed."""

T = TypeVar("T")


class Urgency(IntEnum):
    """A class of work; the lowest value is the most urgent."""

    FINISH = 0
    """Deletions, phase changes, and the Secret of a mirror that stands."""
    START = 1
    """Creation of mirrors, and changes of those that stand."""
    REPORT = 2
    """Other statuses."""


def of_pod(
    *,
    home_phase: str | None,
    mirror_phase: str | None,
    deleting: bool = False,
    secret_missing: bool = False,
) -> Urgency:
    """The class of a key, by what is known of both pods; a phase is `None` for an absent pod.

    `deleting`: one of the two is being deleted. `secret_missing`: the mirror stands without it.
    """
    if home_phase is None or deleting or secret_missing:
        return Urgency.FINISH
    if mirror_phase is None:
        ended = home_phase in phases.TERMINAL
        return Urgency.REPORT if ended else Urgency.START
    return Urgency.REPORT if mirror_phase == home_phase else Urgency.FINISH


def of_action(action: Action) -> Urgency:
    """The class of the requests of an action."""
    match action:
        case CreateMirror() | UpdateMirror() | ResizeMirror() | AddEphemeralContainer():
            return Urgency.START
        case PatchStatus():
            before = action.home.get("status", {}).get("phase")
            phase = action.body.get("status", {}).get("phase", before)
            same = phase == before and not is_deleting(action.home)
            return Urgency.REPORT if same else Urgency.FINISH
        case _:
            return Urgency.FINISH


class WaitingLine(Generic[T]):
    """What waits, each item once. All methods take constant time."""

    def __init__(self) -> None:
        self._since: OrderedDict[T, tuple[float, Urgency]] = OrderedDict()
        """All items, in order of arrival."""
        self._classes: dict[Urgency, OrderedDict[T, None]] = {
            urgency: OrderedDict() for urgency in Urgency
        }
        self._turns = PATIENT_TURNS
        """Turns since the last one of a patient item, itself included."""

    def __len__(self) -> int:
        return len(self._since)

    def __contains__(self, item: T) -> bool:
        return item in self._since

    def add(self, item: T, urgency: Urgency, now: float) -> None:
        """Let `item` wait. One that waits already keeps its time and the more urgent class."""
        known = self._since.get(item)
        if known is not None:
            now, before = known
            if before <= urgency:
                return
            del self._classes[before][item]
        self._since[item] = now, urgency
        self._classes[urgency][item] = None

    def discard(self, item: T) -> None:
        """`item` does not wait any more."""
        known = self._since.pop(item, None)
        if known is not None:
            del self._classes[known[1]][item]

    def take(self, now: float) -> tuple[T, float]:
        """The next item, and since when it has waited. Raises `LookupError` if nothing waits."""
        item = self._next(now)
        since, urgency = self._since.pop(item)
        del self._classes[urgency][item]
        return item, since

    def _next(self, now: float) -> T:
        self._turns += 1
        for oldest, (since, _) in self._since.items():
            if now - since >= PATIENCE_SECONDS and self._turns > PATIENT_TURNS:
                self._turns = 1
                return oldest
            break
        for waiting in self._classes.values():
            for first in waiting:
                return first
        raise LookupError("nothing waits")
