"""How late the event loop is: the one delay that all requests, streams and timers share.

A timer is set and seen to ring, ten times a second: what it costs is not to be seen, and a wait
that any event would have met at a random moment is met by it too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

EVERY_SECONDS = 0.1


async def watch(observe: Callable[[float], None]) -> None:
    """Tell `observe` for ever how many seconds the running loop is late."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + EVERY_SECONDS
        await asyncio.sleep(EVERY_SECONDS)
        observe(max(loop.time() - due, 0.0))
