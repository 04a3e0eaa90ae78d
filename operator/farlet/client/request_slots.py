"""How many requests one API server gets at the same time, and which one is sent next."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from types import TracebackType

from farlet.planning.urgency import Urgency, WaitingLine

URGENCY: ContextVar[Urgency] = ContextVar("urgency", default=Urgency.FINISH)
"""Urgency of the requests of the current task, and of the tasks that it starts. By default the most
urgent: requests beside the reconciliation of pods are few, and many pods wait for their answers."""


class RequestSlots:
    """An async context manager: a semaphore whose waiters are served by class, then in order."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._line: WaitingLine[asyncio.Future[None]] = WaitingLine()

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._line)

    async def __aenter__(self) -> None:
        if self._free > 0:
            self._free -= 1
            return
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._line.add(turn, URGENCY.get(), loop.time())
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()  # it had just got its slot
            self._line.discard(turn)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        """Hand the slot to the next request; nothing that comes later can take it first."""
        now = asyncio.get_running_loop().time()
        while self._line:
            turn, _ = self._line.take(now)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
