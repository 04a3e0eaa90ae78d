"""The lag of the event loop."""

from __future__ import annotations

import asyncio
import time

from farlet.telemetry import loop_lag

BLOCKED_SECONDS = 0.3


async def test_a_blocked_loop_lags_by_the_blocked_time() -> None:
    lags: asyncio.Queue[float] = asyncio.Queue()
    watching = asyncio.create_task(loop_lag.watch(lags.put_nowait))
    await asyncio.sleep(0)  # the timer is set
    time.sleep(BLOCKED_SECONDS)  # noqa: ASYNC251 -- blocks the loop on purpose
    assert await lags.get() >= BLOCKED_SECONDS - loop_lag.INTERVAL_SECONDS - 0.01
    watching.cancel()


async def test_the_lag_is_measured_repeatedly() -> None:
    lags: asyncio.Queue[float] = asyncio.Queue()
    watching = asyncio.create_task(loop_lag.watch(lags.put_nowait))
    assert min([await lags.get() for _ in range(3)]) >= 0.0
    watching.cancel()
