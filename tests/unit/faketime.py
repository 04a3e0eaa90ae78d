"""An event loop whose clock jumps instead of waiting, so that hours of timers take no time.

Whatever is due next is due now: where every task waits for a timer, the clock moves to the
first one. Where every task waits for something that no timer brings, the test fails.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumping(selectors.SelectSelector):
    """Waits for nothing; counts what it would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout == 0 and len(self.get_map()) == 1:
            return []  # only the loop's own wake-up pipe: that call would be a third of a story
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise AssertionError("every task waits for something that never comes")
        self.waited += max(0.0, timeout)
        return []


class Loop(asyncio.SelectorEventLoop):
    """Starts at second 0."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.waited


@contextmanager
def loop() -> Iterator[Loop]:
    """A loop of its own, closed with all that still runs in it."""
    made = Loop()
    try:
        yield made
    finally:
        left = asyncio.all_tasks(made)
        for task in left:
            task.cancel()
        if left:
            made.run_until_complete(asyncio.wait(left))
        made.close()


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` in such a loop."""
    with loop() as made:
        return made.run_until_complete(main)
