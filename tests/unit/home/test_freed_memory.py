"""Memory that pods leave is returned once many of them are gone."""

from __future__ import annotations

import asyncio

import pytest

from farlet.home import freed_memory
from farlet.home.freed_memory import (
    AGAIN_SECONDS,
    LONGEST_SECONDS,
    PAUSE_SECONDS,
    REMOVED_PODS,
    FreedMemory,
)
from unit import faketime


@pytest.mark.parametrize(
    ("bursts", "expected"),
    [
        pytest.param([REMOVED_PODS - 1], 0, id="few pods"),
        pytest.param([REMOVED_PODS], 1, id="many pods"),
        pytest.param([REMOVED_PODS * 5], 1, id="many pods at once"),
        pytest.param([REMOVED_PODS // 2] * 2, 1, id="many pods one after the other"),
        pytest.param([REMOVED_PODS] * 2, 2, id="many pods twice"),
    ],
)
def test_it_is_returned_once_after(bursts: list[int], expected: int) -> None:
    calls: list[str] = []

    async def story() -> None:
        freed = FreedMemory(lambda: None, lambda: calls.append("given back"))
        for burst in bursts:
            for _ in range(burst):
                freed.removed()
            await asyncio.sleep(PAUSE_SECONDS - 1)
            before = len(calls)
            await asyncio.sleep(2)
            assert len(calls) - before <= 1

    faketime.run(story())
    assert len(calls) == expected


def test_it_is_returned_again_when_events_of_these_pods_are_written() -> None:
    times: list[float] = []

    async def story() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        freed = FreedMemory(lambda: None, lambda: times.append(loop.time() - began))
        for _ in range(REMOVED_PODS):
            freed.removed()
        await asyncio.sleep(10 * AGAIN_SECONDS)

    faketime.run(story())
    assert times == pytest.approx([PAUSE_SECONDS, PAUSE_SECONDS + AGAIN_SECONDS])


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        pytest.param(250.0, [250.0 + PAUSE_SECONDS], id="after the last one"),
        pytest.param(
            1.5 * LONGEST_SECONDS,
            [LONGEST_SECONDS + 100, 1.5 * LONGEST_SECONDS + PAUSE_SECONDS],
            id="without an end",
        ),
    ],
)
def test_while_pods_are_deleted_it_is_returned(seconds: float, expected: list[float]) -> None:
    times: list[float] = []

    async def story() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        freed = FreedMemory(lambda: None, lambda: times.append(loop.time() - began))
        while loop.time() - began < seconds:
            for _ in range(REMOVED_PODS // 100):
                freed.removed()
            await asyncio.sleep(1.0)
        await asyncio.sleep(2 * PAUSE_SECONDS)

    faketime.run(story())
    assert times == pytest.approx(expected, abs=2.0)


def test_records_are_moved_together_before_memory_is_returned() -> None:
    steps: list[str] = []

    async def story() -> None:
        freed = FreedMemory(lambda: steps.append("gather"), lambda: steps.append("give back"))
        for _ in range(REMOVED_PODS):
            freed.removed()
        await asyncio.sleep(PAUSE_SECONDS + 1)

    faketime.run(story())
    assert steps == ["gather", "give back"]


def test_the_libc_of_this_machine_returns_it() -> None:
    freed_memory.trim()
