"""The cache: lifetime and number of entries, and shared requests."""

from __future__ import annotations

import asyncio

import pytest

from farlet import errors
from farlet.kubelet import single_flight_cache
from farlet.kubelet.single_flight_cache import Entry, SingleFlightCache
from unit import faketime
from unit.certs import home_server as home


class _Fetch:
    """Counts calls, and returns or raises the next of `results`."""

    def __init__(self, *results: Entry[str] | errors.FarletError, takes: float = 1.0) -> None:
        self.results = list(results)
        self.count = 0
        self.open = 0
        self.max_open = 0
        self._takes = takes

    async def __call__(self) -> Entry[str]:
        self.count += 1
        self.open += 1
        self.max_open = max(self.max_open, self.open)
        try:
            await asyncio.sleep(self._takes)
        finally:
            self.open -= 1
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(result, errors.FarletError):
            raise result
        return result


def _cache(*, size: int = 8) -> SingleFlightCache[str]:
    return SingleFlightCache(size=size, clock=asyncio.get_running_loop().time)


@pytest.mark.parametrize(
    ("seconds", "count"),
    [
        pytest.param(9.0, 1, id="within its lifetime"),
        pytest.param(11.0, 2, id="after its lifetime"),
    ],
)
def test_a_value_is_cached(seconds: float, count: int) -> None:
    async def main() -> None:
        cache, fetch = _cache(), _Fetch(Entry("yes", 10.0))
        await cache.get(b"k", fetch)
        await asyncio.sleep(seconds)
        assert await cache.get(b"k", fetch) == "yes"
        assert fetch.count == count

    faketime.run(main())


def test_concurrent_callers_share_one_request() -> None:
    async def main() -> None:
        cache, fetch = _cache(), _Fetch(Entry("yes", 0.0))
        assert await asyncio.gather(*(cache.get(b"k", fetch) for _ in range(50))) == ["yes"] * 50
        assert fetch.count == 1

    faketime.run(main())


@pytest.mark.parametrize(
    ("takes", "raised"),
    [
        pytest.param(1.0, errors.Unreachable, id="if it fails"),
        pytest.param(60.0, TimeoutError, id="if it times out"),
    ],
)
def test_the_error_is_raised_in_all_callers(takes: float, raised: type[Exception]) -> None:
    async def main() -> None:
        cache, fetch = _cache(), _Fetch(home.unreachable(), takes=takes)
        waiting = (cache.get(b"k", fetch) for _ in range(3))
        raised_errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(one) for one in raised_errors] == [raised] * 3
        assert fetch.count == 1

    faketime.run(main())


def test_a_failure_is_not_cached() -> None:
    async def main() -> None:
        cache, fetch = _cache(), _Fetch(home.unreachable(), Entry("yes", 10.0))
        with pytest.raises(errors.Unreachable):
            await cache.get(b"k", fetch)
        assert await cache.get(b"k", fetch) == "yes"

    faketime.run(main())


def test_another_caller_fetches_if_the_first_is_cancelled() -> None:
    async def main() -> None:
        cache, fetch = _cache(), _Fetch(Entry("yes", 10.0))
        first, *others = [asyncio.create_task(cache.get(b"k", fetch)) for _ in range(5)]
        await asyncio.sleep(0.5)
        first.cancel()
        assert await asyncio.gather(*others) == ["yes"] * 4
        assert fetch.count == 2

    faketime.run(main())


def test_the_number_of_concurrent_requests_is_limited() -> None:
    async def main() -> None:
        cache, fetch = _cache(), _Fetch(Entry("no", 10.0))
        keys = (str(n).encode() for n in range(20))
        await asyncio.gather(*(cache.get(key, fetch) for key in keys))
        assert fetch.max_open == single_flight_cache.MAX_CONCURRENT

    faketime.run(main())


def test_the_least_recently_used_entry_is_dropped() -> None:
    async def main() -> None:
        cache, fetch = _cache(size=3), _Fetch(Entry("yes", 1000.0))
        for key in (b"a", b"b", b"c", b"a", b"d"):
            await cache.get(key, fetch)
        assert (len(cache), fetch.count) == (3, 4)
        await cache.get(b"a", fetch)
        assert fetch.count == 4
        await cache.get(b"b", fetch)
        assert fetch.count == 5

    faketime.run(main())
