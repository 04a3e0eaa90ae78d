"""An event loop whose clock jumps instead of waiting, so that hours of timers take no time.

Whatever is due next is due now: if every task waits for a timer, the clock moves to the first one.
If every task waits for something that no timer causes, the test fails.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Jumping(selectors.SelectSelector):
    """Waits for nothing; counts what it would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = 0.0
        self.threads = False
        """Whether a thread may write to the pipe of the loop. To ask is a system call."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.threads or len(self.get_map()) > 1:
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

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        self._jumping.threads = True
        return super().run_in_executor(executor, func, *args)

    def advance(self, seconds: float) -> None:
        """Let this many seconds pass."""
        self.call_later(seconds, self.stop)
        self.run_forever()


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
