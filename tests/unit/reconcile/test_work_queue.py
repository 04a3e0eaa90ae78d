"""The guarantees of the queue, each as a short story in a loop whose clock jumps."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from farlet.planning.urgency import Urgency
from farlet.reconcile import work_queue
from unit import faketime


class Metrics:
    """What the queue reports."""

    def __init__(self) -> None:
        self.depths: list[int] = []
        self.work: list[tuple[float, float]] = []
        self.retries = 0

    def added(self, depth: int) -> None:
        self.depths.append(depth)

    def worked(self, waited: float, took: float, depth: int) -> None:
        self.work.append((round(waited, 3), round(took, 3)))

    def retried(self) -> None:
        self.retries += 1


class Harness:
    """A queue, its workers, and when each key was worked on."""

    def __init__(self, *, takes: float = 0.0) -> None:
        self.observed = Metrics()
        self.urgent: set[str] = set()
        """Keys of the most urgent class, as the store would show it at this moment."""
        self.queue: work_queue.WorkQueue[str] = work_queue.WorkQueue(
            self.observed,
            lambda key: Urgency.FINISH if key in self.urgent else Urgency.START,
        )
        self.done: list[tuple[str, float]] = []
        self.most = 0
        self.takes = takes
        self._now: list[str] = []

    async def perform(self, key: str) -> None:
        assert key not in self._now, "one key twice at the same time"
        self._now.append(key)
        self.most = max(self.most, len(self._now))
        self.done.append((key, round(asyncio.get_running_loop().time(), 3)))
        await asyncio.sleep(self.takes)
        self._now.remove(key)


@asynccontextmanager
async def scene(*, workers: int = 1, takes: float = 0.0) -> AsyncIterator[Harness]:
    made = Harness(takes=takes)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(workers):
            tasks.create_task(made.queue.work(made.perform))
        yield made
        made.queue.close()


async def _same_key_twice() -> None:
    async with scene() as s:
        s.queue.add("a")
        s.queue.add("a")
        assert len(s.queue) == 1
        await asyncio.sleep(1)
        assert s.done == [("a", 0)]
        assert s.queue.idle


async def _in_order() -> None:
    async with scene() as s:
        for key in "cab":
            s.queue.add(key)
        await asyncio.sleep(1)
        assert [key for key, _ in s.done] == ["c", "a", "b"]


async def _while_running() -> None:
    async with scene(workers=3, takes=1.0) as s:
        s.queue.add("a")
        await asyncio.sleep(0.5)
        s.queue.add("a")
        s.queue.add("a")
        assert not s.queue.idle
        await asyncio.sleep(5)
        assert s.done == [("a", 0), ("a", 1.0)]


async def _in_parallel() -> None:
    async with scene(workers=2, takes=1.0) as s:
        for key in "abcd":
            s.queue.add(key)
        await asyncio.sleep(5)
        assert s.most == 2
        assert s.done == [("a", 0), ("b", 0), ("c", 1.0), ("d", 1.0)]


async def _earliest_wins() -> None:
    async with scene() as s:
        s.queue.add_after("a", 5)
        s.queue.add_after("a", 2)
        s.queue.add_after("a", 9)
        await asyncio.sleep(30)
        assert s.done == [("a", 2.0)]


async def _now_beats_later() -> None:
    async with scene() as s:
        s.queue.add_after("a", 5)
        s.queue.add("a")
        await asyncio.sleep(30)
        assert s.done == [("a", 0)]


async def _later_than_waiting() -> None:
    async with scene(takes=1.0) as s:
        s.queue.add("b")
        await asyncio.sleep(0.1)
        s.queue.add("a")
        s.queue.add_after("a", 5)
        await asyncio.sleep(30)
        assert s.done == [("b", 0), ("a", 1.0)]


async def _not_in_the_past() -> None:
    async with scene() as s:
        s.queue.add_after("a", 0)
        s.queue.add_after("b", -3)
        await asyncio.sleep(1)
        assert s.done == [("a", 0), ("b", 0)]


async def _later_while_running() -> None:
    async with scene(takes=1.0) as s:
        s.queue.add("a")
        await asyncio.sleep(0.5)
        s.queue.add_after("a", 3)
        await asyncio.sleep(30)
        assert s.done == [("a", 0), ("a", 3.5)]


async def _due_while_running() -> None:
    async with scene(takes=2.0) as s:
        s.queue.add("a")
        await asyncio.sleep(0.5)
        s.queue.add_after("a", 1)
        await asyncio.sleep(30)
        assert s.done == [("a", 0), ("a", 2.0)]


async def _many_delays() -> None:
    async with scene() as s:
        for seconds in range(5000, 0, -1):
            s.queue.add_after("a", float(seconds))
        await asyncio.sleep(6000)
        assert s.done == [("a", 1.0)]


async def _backoff() -> None:
    async with scene() as s:
        waits = [s.queue.retry("a") for _ in range(9)]
        assert waits == [0.25, 0.5, 1, 2, 4, 8, 15, 15, 15]
        assert s.queue.retry("b") == 0.25
        assert s.observed.retries == 10


async def _forgets() -> None:
    async with scene() as s:
        s.queue.retry("a")
        s.queue.retry("a")
        s.queue.forget("a")
        assert s.queue.retry("a") == 0.25


async def _retry_after() -> None:
    async with scene() as s:
        assert s.queue.retry("a", at_least=60) == 60
        assert s.queue.retry("a") == 0.5
        await asyncio.sleep(100)
        assert s.done == [("a", 0.5)]


async def _finite() -> None:
    async with scene() as s:
        for seconds in (math.nan, math.inf, -math.inf):
            with pytest.raises(ValueError, match="finite"):
                s.queue.add_after("a", seconds)
        s.queue.add_after("c", 2.0)
        await asyncio.sleep(100)
        assert s.done == [("c", 2.0)]


async def _woken_before_backoff() -> None:
    async with scene() as s:
        s.queue.retry("a", at_least=60)
        s.queue.add("a")
        await asyncio.sleep(100)
        assert s.done == [("a", 0)]


async def _urgent_first() -> None:
    async with scene(takes=0.1) as s:
        s.urgent = {"c"}
        for key in "xabc":
            s.queue.add(key)
        await asyncio.sleep(5)
        assert [key for key, _ in s.done] == ["c", "x", "a", "b"]


async def _becomes_urgent() -> None:
    async with scene(takes=0.1) as s:
        for key in "xabc":
            s.queue.add(key)
        await asyncio.sleep(0.05)
        s.urgent = {"b", "c"}
        s.queue.add("c")
        s.queue.add_after("b", 0.05)
        await asyncio.sleep(5)
        assert [key for key, _ in s.done] == ["x", "c", "b", "a"]
        assert s.observed.depths == [1, 2, 3, 4]


async def _waits_for_a_second() -> None:
    """Each key takes 300 ms, and two urgent ones come meanwhile."""
    async with scene(takes=0.3) as s:
        s.queue.add("a")
        s.queue.add("b")
        for number in range(10):
            urgent = {f"{number}-{n}" for n in "12"}
            s.urgent |= urgent
            for key in sorted(urgent):
                s.queue.add(key)
            await asyncio.sleep(0.3)
        await asyncio.sleep(60)
        assert [at for key, at in s.done if key in "ab"] == [1.2, 2.4]
        assert len(s.done) == 22


async def _close() -> None:
    async with scene(takes=1.0) as s:
        s.queue.add("a")
        s.queue.add("b")
        s.queue.add_after("c", 0.5)
        await asyncio.sleep(0.1)
        s.queue.close()
        await asyncio.sleep(10)
        assert s.done == [("a", 0)]


async def _close_idle() -> None:
    async with scene(workers=3) as s:
        await asyncio.sleep(1)
        s.queue.close()
        assert s.done == []


async def _tells() -> None:
    async with scene(takes=1.0) as s:
        s.queue.add("a")
        s.queue.add("b")
        await asyncio.sleep(10)
        assert s.observed.depths == [1, 2]
        assert s.observed.work == [(0.0, 1.0), (1.0, 1.0)]


async def _runs() -> None:
    async with scene(workers=2, takes=5.0) as at:
        at.queue.add("a")
        await asyncio.sleep(2.0)
        at.queue.add("b")
        await asyncio.sleep(1.0)
        assert at.queue.running() == [3.0, 1.0]
        await asyncio.sleep(6.0)
        assert at.queue.running() == []


PROMISES: dict[str, Callable[[], Awaitable[None]]] = {
    "a key that waits is one key": _same_key_twice,
    "keys are worked on in the order in which they came": _in_order,
    "a key added while it is worked on is worked on once more, afterwards": _while_running,
    "as many keys at a time as there are workers": _in_parallel,
    "of several times the earliest wins": _earliest_wins,
    "now is earlier than any time": _now_beats_later,
    "a time for a key that waits already adds nothing": _later_than_waiting,
    "a time that has passed is now": _not_in_the_past,
    "a time set while the key is worked on stands": _later_while_running,
    "a time that comes while the key is worked on waits for its end": _due_while_running,
    "a thousand times for one key are one": _many_delays,
    "failures of a key back off, each key for itself, to 15 s": _backoff,
    "a key that succeeded starts from the beginning": _forgets,
    "retry-after is the minimum of the pause, and only once": _retry_after,
    "a time that is not finite is refused and delays no other key": _finite,
    "an event does not wait for the backoff": _woken_before_backoff,
    "an urgent key is before all others": _urgent_first,
    "a key that waits can become urgent": _becomes_urgent,
    "one of four turns belongs to who has waited for a second": _waits_for_a_second,
    "closing lets work end and starts none": _close,
    "closing ends workers that wait": _close_idle,
    "the observer gets depth, waiting time and work time": _tells,
    "it knows for how long each key has been worked on": _runs,
}


@pytest.mark.parametrize("promise", PROMISES.values(), ids=PROMISES)
def test_the_queue_keeps_its_promise(promise: Callable[[], Awaitable[None]]) -> None:
    async def story() -> None:
        await promise()

    faketime.run(story())


def test_an_exception_of_the_work_ends_the_worker_and_frees_the_key() -> None:
    async def story() -> None:
        observed = Metrics()
        queue: work_queue.WorkQueue[str] = work_queue.WorkQueue(observed)

        async def fail(_: str) -> None:
            raise LookupError("a bug")

        queue.add("a")
        with pytest.raises(LookupError, match="a bug"):
            await queue.work(fail)
        assert queue.idle

    faketime.run(story())
