"""Keys that are delayed repeatedly leave nothing behind in the queue."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import pytest

from farlet.reconcile import work_queue
from farlet.telemetry.metrics import Metrics
from unit import faketime

TIMES = 20_000


class _Key:
    """References to it are counted: each entry of the queue holds one."""


Queue = work_queue.WorkQueue[_Key]


async def _done(_: _Key) -> None:
    """No work."""


async def _ever_earlier(queue: Queue, key: _Key) -> None:
    for n in range(TIMES):
        queue.add_after(key, 1e6 - n)


async def _worked_on_before_its_time(queue: Queue, key: _Key) -> None:
    worker = asyncio.create_task(queue.work(_done))
    for _ in range(TIMES):
        queue.add_after(key, 1800.0)
        queue.add(key)
        await asyncio.sleep(0.001)
    worker.cancel()


async def _behind_a_time_that_comes_first(queue: Queue, key: _Key) -> None:
    first = _Key()
    queue.add_after(first, 100.0)
    await _worked_on_before_its_time(queue, key)
    await asyncio.sleep(0)


WAYS = {
    "put off to ever earlier times": _ever_earlier,
    "worked on before its time comes": _worked_on_before_its_time,
    "worked on while another key's time comes first": _behind_a_time_that_comes_first,
}


@pytest.mark.thorough
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_queue_stays_small_when_a_key_is(
    way: Callable[[Queue, _Key], asyncio.Future[None]],
) -> None:
    async def story() -> int:
        key = _Key()
        before = sys.getrefcount(key)
        queue: Queue = work_queue.WorkQueue(Metrics().queue("pods"))
        await way(queue, key)
        return sys.getrefcount(key) - before

    assert faketime.run(story()) < 1500


def test_many_keys_keep_their_times_when_what_is_overtaken_is_dropped() -> None:
    async def story() -> list[int]:
        queue: work_queue.WorkQueue[int] = work_queue.WorkQueue(Metrics().queue("pods"))
        done: list[int] = []

        async def work(key: int) -> None:
            done.append(key)

        worker = asyncio.create_task(queue.work(work))
        for seconds in range(1000, 0, -100):
            for key in range(1000):
                queue.add_after(key, seconds + key / 1000)
        await asyncio.sleep(2000)
        worker.cancel()
        return done

    assert faketime.run(story()) == list(range(1000))
