"""Answers of the home API server to questions that come again and again, kept for a while.

Whoever knocks at the kubelet's port makes us ask, so this room bounds what a stranger can cost:
how many answers are kept, how many questions are open at once, and how long one may take. Two
who ask the same at the same time wait for one answer. Failures are told, not kept.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from farlet import errors

V = TypeVar("V")

AT_ONCE = 4
"""Open questions of one kind: a quarter of what one API server is asked at once."""

WITHIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Answer(Generic[V]):
    """An answer, and for how many seconds it is good."""

    value: V
    seconds: float


class SingleFlightCache(Generic[V]):
    """The last `size` answers by key. `clock` is monotonic, in seconds."""

    def __init__(self, *, size: int, clock: Callable[[], float]) -> None:
        self._size = size
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[V, float]] = OrderedDict()
        self._open: dict[bytes, asyncio.Future[V]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    def __len__(self) -> int:
        return len(self._kept)

    async def get(self, key: bytes, ask: Callable[[], Awaitable[Answer[V]]]) -> V:
        """The kept answer, else the one that `ask` gives.

        Raises the `FarletError` of `ask`, or `TimeoutError`, for everybody who waits for it.
        """
        while True:
            kept = self._kept.get(key)
            if kept is not None and self._clock() < kept[1]:
                self._kept.move_to_end(key)
                return kept[0]
            other = self._open.get(key)
            if other is None:
                return await self._first(key, ask)
            await asyncio.wait([other])
            if not other.cancelled():  # else who asked went away, and one of us asks instead
                return other.result()

    async def _first(self, key: bytes, ask: Callable[[], Awaitable[Answer[V]]]) -> V:
        mine = self._open[key] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(WITHIN_SECONDS), self._slots:
                answer = await ask()
        except (errors.FarletError, TimeoutError) as err:
            mine.set_exception(err)
            mine.exception()  # somebody has seen it, even if nobody waits
            raise
        else:
            mine.set_result(answer.value)
            self._keep(key, answer)
            return answer.value
        finally:
            mine.cancel()
            del self._open[key]

    def _keep(self, key: bytes, answer: Answer[V]) -> None:
        self._kept[key] = (answer.value, self._clock() + answer.seconds)
        self._kept.move_to_end(key)
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)
