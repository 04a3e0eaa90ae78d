"""Keys to reconcile: each at most once at a time, as many in parallel as there are workers.

The semantics of client-go's workqueue, which controllers rely on: a key added while it waits is
one key; a key added while it is processed is processed again afterwards; a key can be added for a
later time, and the earliest time wins; failures of a key back off exponentially. The queue is also
farlet's only timer: "reconcile at T" is an `add_after`. Beyond client-go's, keys have classes:
`planning.urgency` says which one is next.

Lives in one event loop and is not thread safe. `docs/decisions/0002-workqueue.md` says why
it is written here.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from farlet import retrying
from farlet.planning.urgency import Urgency, WaitingLine

K = TypeVar("K")

BACKOFF_FIRST_SECONDS = 0.25
BACKOFF_LAST_SECONDS = 15.0
"""A fix that no watch shows (a namespace, a Role) takes effect within this time."""


class Observer(Protocol):
    """Receives what the metrics of the queue need."""

    def added(self, depth: int) -> None:
        """A key was added, and this many wait now."""
        ...

    def worked(self, waited: float, took: float, depth: int) -> None:
        """A key was processed: seconds in the queue and in work, and how many wait now."""
        ...

    def retried(self) -> None:
        """A key failed and will be retried."""
        ...


class WorkQueue(Generic[K]):
    """Waiting, delayed and running keys."""

    def __init__(
        self, observer: Observer, urgency: Callable[[K], Urgency] = lambda _: Urgency.START
    ) -> None:
        """`urgency`: the class of a key as it is now; called whenever a key is added."""
        self._observer = observer
        self._urgency = urgency
        self._loop = asyncio.get_running_loop()
        self._ready: WaitingLine[K] = WaitingLine()
        self._running: dict[K, float] = {}
        """Since when each key is processed."""
        self._again: set[K] = set()
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0
        self._failures: dict[K, int] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs (delayed keys do not count)."""
        return not self._ready and not self._running

    def running(self) -> list[float]:
        """For how many seconds each running key has been processed."""
        now = self._loop.time()
        return [now - since for since in self._running.values()]

    def add(self, key: K) -> None:
        """Process `key` as soon as a worker is free."""
        self._due.pop(key, None)
        if key in self._running:
            self._again.add(key)
            return
        new = key not in self._ready
        self._line_up(key)
        if not new:
            return
        self._observer.added(len(self._ready))
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                break

    def add_after(self, key: K, seconds: float) -> None:
        """Process `key` in that many seconds, unless it is due earlier.

        Raises `ValueError` for a time that is not finite: it has no place in an ordered queue.
        """
        if not math.isfinite(seconds):
            raise ValueError(f"expected a finite number of seconds, got {seconds}")
        if seconds <= 0:
            self.add(key)
            return
        if key in self._ready:
            self._line_up(key)  # the change can have made it more urgent
            return
        when = self._loop.time() + seconds
        if self._due.get(key, when + 1) <= when:
            return
        if len(self._heap) > 2 * len(self._due) + 1000:
            self._compact()
        self._due[key] = when
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, key))
        self._arm()

    def retry(self, key: K, *, at_least: float = 0.0) -> float:
        """Add `key` again after its backoff; returns the seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        seconds = retrying.pause(failures, first=BACKOFF_FIRST_SECONDS, last=BACKOFF_LAST_SECONDS)
        seconds = max(seconds, at_least)
        self._observer.retried()
        self.add_after(key, seconds)
        return seconds

    def facts_read(self, key: K) -> None:
        """All that was stored before now is known to the current run of `key`.

        So the run serves what was added before; what the run still wants later, it adds itself.
        Example: the event of its own write, which came before the answer.
        """
        self._again.discard(key)
        self._due.pop(key, None)

    def forget(self, key: K) -> None:
        """`key` succeeded: its next failure starts a new backoff."""
        self._failures.pop(key, None)

    def close(self) -> None:
        """Let workers finish their current key; waiting keys are not processed."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def work(self, perform: Callable[[K], Awaitable[None]]) -> None:
        """One worker: processes keys until `close`. An exception of `perform` ends the worker."""
        while not self._closed:
            if not self._ready:
                waiter = self._loop.create_future()
                self._waiters.append(waiter)
                await waiter
                continue
            started = self._loop.time()
            key, added = self._ready.take(started)
            self._running[key] = started
            try:
                await perform(key)
            finally:
                del self._running[key]
                now = self._loop.time()
                self._observer.worked(started - added, now - started, len(self._ready))
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

    def _line_up(self, key: K) -> None:
        self._ready.add(key, self._urgency(key), self._loop.time())

    def _compact(self) -> None:
        """Drop entries that are no longer due."""
        self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
        heapq.heapify(self._heap)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        if self._heap and not self._closed:
            self._timer = self._loop.call_at(self._heap[0][0], self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._heap and self._heap[0][0] <= now:
            when, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == when:
                self.add(key)
        self._arm()
