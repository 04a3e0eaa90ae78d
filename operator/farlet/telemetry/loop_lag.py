"""Measures the lag of the event loop, which delays all requests, streams and timers.

Ten times a second a timer is set and its delay observed. That costs too little to measure and
samples the lag at random moments.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

INTERVAL_SECONDS = 0.1


async def watch(observe: Callable[[float], None]) -> None:
    """Call `observe` with the lag of the running loop in seconds, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + INTERVAL_SECONDS
        await asyncio.sleep(INTERVAL_SECONDS)
        observe(max(loop.time() - due, 0.0))
