"""Ctrl-C, SIGTERM and a closed terminal end a benchmark cleanly."""

import asyncio
import signal
from collections.abc import Coroutine
from types import FrameType
from typing import TypeVar

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Handles signals from its creation on."""

    def __init__(self) -> None:
        self._over = False
        self._listen()

    def run(self, work: Coroutine[None, None, T]) -> T:
        """Run `work`; on a signal cancel it and raise KeyboardInterrupt."""
        try:
            return asyncio.run(self._cancelled_by_signals(work))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        finally:
            self._listen()  # closing a loop restores the default handlers

    async def _cancelled_by_signals(self, work: Coroutine[None, None, T]) -> T:
        task = asyncio.ensure_future(work)
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._cancel, task)
        return await task

    def _cancel(self, task: asyncio.Future[T]) -> None:
        if not self._over:
            self._over = True
            task.cancel()

    def _listen(self) -> None:
        for number in _SIGNALS:
            signal.signal(number, self._raise)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if not self._over:
            self._over = True
            raise KeyboardInterrupt
