"""One row of the table: what is known, and what must follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from farlet import constants
from farlet.constants import Reason
from farlet.context import Context
from farlet.planning.actions import (
    CreateMirror,
    Decision,
    DeleteHome,
    PatchStatus,
    ProvideSecret,
    Wait,
)
from farlet.planning.snapshot import Missing, Snapshot
from unit.planning import objects

Decide = Callable[..., Decision]
"""`plan.decide`, or a mutation of it."""

Expected = Decision | Callable[[Snapshot, Decision], bool]


@dataclass(frozen=True, slots=True)
class Row:
    """`sentence` is the name of the test."""

    sentence: str
    given: Snapshot
    expected: Expected
    ctx: Context = objects.CONTEXT

    def __post_init__(self) -> None:
        object.__setattr__(self, "given", objects.under(self.given, self.ctx))

    def holds(self, decide: Decide) -> tuple[bool, Decision]:
        """Whether `decide` answers as the row expects, and its answer."""
        got = decide(self.given, ctx=self.ctx)
        if isinstance(self.expected, Decision):
            return got == self.expected, got
        return self.expected(self.given, got), got


def does(action: Any, **more: Any) -> Decision:
    """Exactly this action."""
    return Decision(action, **more)


def within(**changes: Any) -> Context:
    """The usual context with these changes."""
    return replace(objects.CONTEXT, **changes)


def shows(phase: str, reason: Reason | None = None, *, retry: bool = False) -> Expected:
    """A status patch of the uid that was decided on, after which H is in this phase.

    `reason` is the reason of an Event, too.
    """

    def check(given: Snapshot, got: Decision) -> bool:
        if not isinstance(got.action, PatchStatus) or got.retry is not retry:
            return False
        assert not isinstance(given.home, Missing)
        body = got.action.body
        before = given.home["status"]
        status = {"phase": before["phase"], "reason": before.get("reason")}
        status |= body.get("status", {})
        noted = None if got.action.event is None else got.action.event[0]
        return (
            body["metadata"]["uid"] == objects.HOME
            and status["phase"] == phase
            and noted is reason
            and (reason is None or status.get("reason") == reason)
        )

    return check


def ends(code: int, phase: str) -> Expected:
    """A status patch, after which H is in this phase and its container ended with this code."""

    def check(given: Snapshot, got: Decision) -> bool:
        if not isinstance(got.action, PatchStatus):
            return False
        assert not isinstance(given.home, Missing)
        status = {**given.home["status"], **got.action.body["status"]}
        states = [s["state"].get("terminated", {}) for s in status["containerStatuses"]]
        return status["phase"] == phase and [s.get("exitCode") for s in states] == [code]

    return check


def creates(
    *, restarts: Mapping[str, int] | None = None, observed: bool = False, token_specs: int = 0
) -> Expected:
    """The mirror of H, with so many restarts before it, our finalizer or not, so many tokens."""

    def check(given: Snapshot, got: Decision) -> bool:
        if not isinstance(got.action, CreateMirror):
            return False
        metadata = got.action.pod["metadata"]
        before = orjson.loads(metadata["annotations"].get(constants.RESTARTS, "{}"))
        return (
            metadata["annotations"][constants.HOME_UID] == objects.HOME
            and metadata.get("ownerReferences") == [objects.ANCHOR]
            and before == (restarts or {})
            and (metadata.get("finalizers") == [constants.OBSERVED]) is observed
            and len(got.action.token_specs) == token_specs
        )

    return check


def provides(*, exists: bool, overdue: bool = False, tokens: int = 1) -> Expected:
    """The Secret, with so many new tokens."""

    def check(given: Snapshot, got: Decision) -> bool:
        action = got.action
        return (
            isinstance(action, ProvideSecret)
            and (action.existing is not None) is exists
            and action.overdue is overdue
            and len(action.token_specs) == tokens
        )

    return check


def notes(reason: Reason | None) -> Expected:
    """Nothing to be done, and an Event of this reason, or none."""

    def check(_: Snapshot, got: Decision) -> bool:
        noted = None if got.note is None else got.note[0]
        return (got.action is None or isinstance(got.action, Wait)) and noted is reason

    return check


def looks_again(*, after: float, before: float) -> Expected:
    """Nothing now; decide again after a time between these seconds."""

    def check(given: Snapshot, got: Decision) -> bool:
        return isinstance(got.action, Wait) and after <= got.action.seconds <= before

    return check


def fails(reason: Reason, action: Wait | None = None) -> Expected:
    """Tried again after the backoff, with an Event of this reason and no status."""

    def check(_: Snapshot, got: Decision) -> bool:
        noted = None if got.note is None else got.note[0]
        return got.action == action and got.retry and noted is reason

    return check


def removes() -> Expected:
    """The home pod of the decision is deleted with grace period 0."""
    return lambda given, got: (
        not isinstance(given.home, Missing) and got == Decision(DeleteHome(given.home))
    )
