"""How late the loop is."""

from __future__ import annotations

import asyncio
import time

from farlet.telemetry import loop_lag

HELD_SECONDS = 0.3


async def test_a_loop_that_is_held_up_is_late_by_as_much() -> None:
    seen: asyncio.Queue[float] = asyncio.Queue()
    watching = asyncio.create_task(loop_lag.watch(seen.put_nowait))
    await asyncio.sleep(0)  # the timer is set
    time.sleep(HELD_SECONDS)  # noqa: ASYNC251 -- what no coroutine may do is what is to be seen
    assert await seen.get() >= HELD_SECONDS - loop_lag.EVERY_SECONDS - 0.01
    watching.cancel()


async def test_it_looks_again_and_again() -> None:
    seen: asyncio.Queue[float] = asyncio.Queue()
    watching = asyncio.create_task(loop_lag.watch(seen.put_nowait))
    assert min([await seen.get() for _ in range(3)]) >= 0.0
    watching.cancel()
