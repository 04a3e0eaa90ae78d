"""Memory that pods leave is returned once many of them are gone."""

from __future__ import annotations

import asyncio

import pytest

from farlet.home import freed_memory
from farlet.home.freed_memory import PAUSE_SECONDS, REMOVED_PODS, FreedMemory
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
    calls: list[float] = []

    async def story() -> None:
        freed = FreedMemory(lambda: calls.append(0.0))
        for burst in bursts:
            for _ in range(burst):
                freed.removed()
            await asyncio.sleep(PAUSE_SECONDS - 1)
            before = len(calls)
            await asyncio.sleep(2)
            assert len(calls) - before <= 1

    faketime.run(story())
    assert len(calls) == expected


def test_the_libc_of_this_machine_returns_it() -> None:
    freed_memory.trim()
