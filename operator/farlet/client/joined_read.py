"""One read that serves all callers who asked before it began."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from farlet.client.request_slots import URGENCY
from farlet.planning.urgency import Urgency

T = TypeVar("T")


class JoinedRead(Generic[T]):
    """Joins callers that wait at the same time. For one event loop.

    While a read is in flight, all further callers wait for the one that follows it: the present one
    may have been answered before what they ask about happened.
    """

    def __init__(self, read: Callable[[], Awaitable[T]]) -> None:
        self._read = read
        self._next: asyncio.Task[T] | None = None
        self._reading = asyncio.Lock()

    async def __call__(self) -> T:
        """The result of a read that begins after this call. Raises what `read` raises."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._read_next())
            self._next.add_done_callback(_retrieved)
        return await asyncio.shield(self._next)

    async def _read_next(self) -> T:
        URGENCY.set(Urgency.FINISH)  # callers of any urgency can wait for it
        async with self._reading:
            self._next = None  # a caller from now on needs a later read
            return await self._read()


def _retrieved(read: asyncio.Task[T]) -> None:
    """Keep an error that no caller awaits any more out of the log of the event loop."""
    if not read.cancelled():
        read.exception()
