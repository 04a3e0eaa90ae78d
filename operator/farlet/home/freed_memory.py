"""Returns memory to the operating system after many pods are gone.

glibc keeps freed memory that lies between objects in use, for later requests of the process. After
thousands of pods that is most of its memory (docs/decisions/0003-memory.md).
"""

from __future__ import annotations

import asyncio
import ctypes
import time
from collections.abc import Callable

import structlog

REMOVED_PODS = 1000
"""Fewer pods leave less than 30 MiB."""
PAUSE_SECONDS = 30.0
"""By then those that are deleted at the same time are gone, too."""

log = structlog.get_logger()


def trim() -> None:
    """Return what is free. It takes 0.1 s after 2,500 pods; without glibc nothing happens."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        began = time.monotonic()
        malloc_trim(0)
        log.debug("freed memory returned", seconds=round(time.monotonic() - began, 3))


def _trim_in_thread() -> None:
    asyncio.get_running_loop().run_in_executor(None, trim)


class FreedMemory:
    """Counts pods that are gone, and returns their memory. For one event loop."""

    def __init__(self, give_back: Callable[[], None] = _trim_in_thread) -> None:
        self._give_back = give_back
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def removed(self) -> None:
        """A pod is gone."""
        self._count += 1
        if self._count >= REMOVED_PODS and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(PAUSE_SECONDS, self._finish)

    def _finish(self) -> None:
        self._count, self._timer = 0, None
        self._give_back()
