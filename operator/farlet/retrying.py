"""How farlet retries: pauses that grow, one log line per cause, and waits with a limit.

Nothing here sends or decides anything.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime

LARGEST_EXPONENT = 64
"""Keeps the power small, however often something fails."""


def pause(failures: int, *, first: float, last: float, factor: float = 2.0) -> float:
    """Seconds to wait after that many earlier failures: `first`, then `factor` times as long."""
    return min(first * factor ** min(failures, LARGEST_EXPONENT), last)


def jittered(seconds: float, least: float = 0.7) -> float:
    """A part of `seconds`, so that many processes do not retry in the same moment."""
    return seconds * random.uniform(least, 1.0)  # noqa: S311


class Backoff:
    """The pauses between attempts at one thing."""

    def __init__(self, first: float, last: float, *, factor: float = 2.0) -> None:
        self._first = first
        self._last = last
        self._factor = factor
        self._failures = 0

    def next(self) -> float:
        """After one more failure: seconds until the next attempt."""
        seconds = pause(self._failures, first=self._first, last=self._last, factor=self._factor)
        self._failures += 1
        return seconds

    def reset(self) -> None:
        """After a success: the next pause is the first one again."""
        self._failures = 0


class OncePerCause:
    """Whether a failure deserves a log line: only when its cause is not the previous one."""

    def __init__(self) -> None:
        self._cause: object = None

    def is_new(self, cause: object) -> bool:
        """Note a failure; false while the cause stays the same."""
        new = cause != self._cause
        self._cause = cause
        return new

    def clear(self) -> bool:
        """Note a success; true if there was a failure before it."""
        failed = self._cause is not None
        self._cause = None
        return failed


async def wait(event: asyncio.Event, seconds: float) -> bool:
    """Wait for `event`, for `seconds` at most; whether it is set then."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True


async def first(*events: asyncio.Event, seconds: float | None = None) -> None:
    """Wait until one of the events is set, for `seconds` at most."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waits:
            one.cancel()


async def until(condition: Callable[[], bool], changed: asyncio.Event, seconds: float) -> bool:
    """Wait until `condition` holds, for `seconds` at most; whether it holds then.

    It is evaluated now and whenever `changed` was set, which this clears.
    """
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                changed.clear()
                await changed.wait()
    except TimeoutError:
        return condition()
    return True


def utc_now() -> datetime:
    """The wall clock of this machine; where it matters, a parameter replaces it."""
    return datetime.now(UTC)
