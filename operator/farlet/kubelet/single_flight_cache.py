"""Caches answers of the home API server to repeated questions, such as token reviews.

Anyone who reaches the kubelet port can cause such a question, so the cost is bounded: the number
of cached answers, of concurrent requests, and the duration of each. Concurrent callers with the
same key share one request. Failures are raised to all of them and not cached.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from farlet import errors

V = TypeVar("V")

MAX_CONCURRENT = 4
"""A quarter of the requests that farlet sends to one API server at a time."""

TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Entry(Generic[V]):
    """A value and the number of seconds for which it is valid."""

    value: V
    seconds: float


class SingleFlightCache(Generic[V]):
    """The `size` most recently used values. `clock` is monotonic, in seconds."""

    def __init__(self, *, size: int, clock: Callable[[], float]) -> None:
        self._size = size
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[V, float]] = OrderedDict()
        self._in_flight: dict[bytes, asyncio.Future[V]] = {}
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, key: bytes, fetch: Callable[[], Awaitable[Entry[V]]]) -> V:
        """The cached value, else the one that `fetch` returns.

        Raises the `FarletError` of `fetch`, or `TimeoutError`, in every caller that waits for it.
        """
        while True:
            entry = self._entries.get(key)
            if entry is not None and self._clock() < entry[1]:
                self._entries.move_to_end(key)
                return entry[0]
            other = self._in_flight.get(key)
            if other is None:
                return await self._fetch(key, fetch)
            await asyncio.wait([other])
            if not other.cancelled():  # else its caller was cancelled, and one of us fetches
                return other.result()

    async def _fetch(self, key: bytes, fetch: Callable[[], Awaitable[Entry[V]]]) -> V:
        result = self._in_flight[key] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS), self._slots:
                entry = await fetch()
        except (errors.FarletError, TimeoutError) as err:
            result.set_exception(err)
            result.exception()  # marks it as retrieved: perhaps no other caller waits
            raise
        else:
            result.set_result(entry.value)
            self._store(key, entry)
            return entry.value
        finally:
            result.cancel()
            del self._in_flight[key]

    def _store(self, key: bytes, entry: Entry[V]) -> None:
        self._entries[key] = (entry.value, self._clock() + entry.seconds)
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)
