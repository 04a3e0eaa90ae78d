"""Returns memory to the operating system after many pods are gone.

glibc keeps freed memory that lies between objects in use, for later requests of the process. After
thousands of pods that is most of its memory (docs/decisions/0003-memory.md). What outlives a pod
lies between its other objects, so these records are moved together first.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import time
from collections.abc import Callable

import structlog

REMOVED_PODS = 1000
"""Fewer pods leave less than 30 MiB."""
PAUSE_SECONDS = 30.0
"""Since the last one: those that are deleted at the same time are gone by then."""
AGAIN_SECONDS = 300.0
"""It is returned once more after this time: 10,000 Events of mirrors take 50 s to be written."""
LONGEST_SECONDS = 600.0
"""Where pods are deleted all the time, memory is returned after this time."""

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

    def __init__(
        self,
        gather: Callable[[], None],
        give_back: Callable[[], None] = _trim_in_thread,
    ) -> None:
        """`gather` moves the records that outlive pods together."""
        self._gather = gather
        self._give_back = give_back
        self._count = 0
        self._last = 0.0
        self._latest = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None

    def removed(self) -> None:
        """A pod is gone."""
        self._count += 1
        if self._count < REMOVED_PODS:
            return
        loop = asyncio.get_running_loop()
        self._last = loop.time()
        if self._timer is None:
            self._latest = self._last + LONGEST_SECONDS
            self._timer = loop.call_later(PAUSE_SECONDS, self._finish)

    def _finish(self) -> None:
        loop = asyncio.get_running_loop()
        due = min(self._last + PAUSE_SECONDS, self._latest)
        if due > loop.time():
            self._timer = loop.call_at(due, self._finish)
            return
        self._count, self._timer = 0, None
        self._return()
        if self._again is not None:
            self._again.cancel()
        self._again = loop.call_later(AGAIN_SECONDS, self._return)

    def _return(self) -> None:
        gc.collect()
        self._gather()
        self._give_back()
