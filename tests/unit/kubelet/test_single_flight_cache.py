"""Answers that are kept: for how long, how many, and what two who ask at once get."""

from __future__ import annotations

import asyncio

import pytest

from farlet import errors
from farlet.kubelet import single_flight_cache
from farlet.kubelet.single_flight_cache import Answer, SingleFlightCache
from unit import faketime
from unit.certs import home_server as home


class _Asked:
    """Counts, and answers with what is next."""

    def __init__(self, *answers: Answer[str] | errors.FarletError, takes: float = 1.0) -> None:
        self.answers = list(answers)
        self.count = 0
        self.open = 0
        self.most_open = 0
        self._takes = takes

    async def __call__(self) -> Answer[str]:
        self.count += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await asyncio.sleep(self._takes)
        finally:
            self.open -= 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, errors.FarletError):
            raise answer
        return answer


def _remembered(*, size: int = 8) -> SingleFlightCache[str]:
    return SingleFlightCache(size=size, clock=asyncio.get_running_loop().time)


@pytest.mark.parametrize(
    ("seconds", "count"),
    [
        pytest.param(9.0, 1, id="before its time is over"),
        pytest.param(11.0, 2, id="after it"),
    ],
)
def test_an_answer_is_kept(seconds: float, count: int) -> None:
    async def main() -> None:
        kept, ask = _remembered(), _Asked(Answer("yes", 10.0))
        await kept.get(b"k", ask)
        await asyncio.sleep(seconds)
        assert await kept.get(b"k", ask) == "yes"
        assert ask.count == count

    faketime.run(main())


def test_those_who_ask_at_once_get_one_answer() -> None:
    async def main() -> None:
        kept, ask = _remembered(), _Asked(Answer("yes", 0.0))
        assert await asyncio.gather(*(kept.get(b"k", ask) for _ in range(50))) == ["yes"] * 50
        assert ask.count == 1

    faketime.run(main())


@pytest.mark.parametrize(
    ("takes", "raised"),
    [
        pytest.param(1.0, errors.Unreachable, id="that there is none"),
        pytest.param(60.0, TimeoutError, id="that it takes too long"),
    ],
)
def test_all_who_wait_are_told(takes: float, raised: type[Exception]) -> None:
    async def main() -> None:
        kept, ask = _remembered(), _Asked(home.unreachable(), takes=takes)
        asking = (kept.get(b"k", ask) for _ in range(3))
        told = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(one) for one in told] == [raised] * 3
        assert ask.count == 1

    faketime.run(main())


def test_a_failure_is_not_kept() -> None:
    async def main() -> None:
        kept, ask = _remembered(), _Asked(home.unreachable(), Answer("yes", 10.0))
        with pytest.raises(errors.Unreachable):
            await kept.get(b"k", ask)
        assert await kept.get(b"k", ask) == "yes"

    faketime.run(main())


def test_when_the_first_who_asked_leaves_another_asks() -> None:
    async def main() -> None:
        kept, ask = _remembered(), _Asked(Answer("yes", 10.0))
        first, *others = [asyncio.create_task(kept.get(b"k", ask)) for _ in range(5)]
        await asyncio.sleep(0.5)
        first.cancel()
        assert await asyncio.gather(*others) == ["yes"] * 4
        assert ask.count == 2

    faketime.run(main())


def test_a_stranger_s_many_questions_wait_for_each_other() -> None:
    async def main() -> None:
        kept, ask = _remembered(), _Asked(Answer("no", 10.0))
        keys = (str(n).encode() for n in range(20))
        await asyncio.gather(*(kept.get(key, ask) for key in keys))
        assert ask.most_open == single_flight_cache.AT_ONCE

    faketime.run(main())


def test_no_more_are_kept_than_fit_and_the_least_used_go() -> None:
    async def main() -> None:
        kept, ask = _remembered(size=3), _Asked(Answer("yes", 1000.0))
        for key in (b"a", b"b", b"c", b"a", b"d"):
            await kept.get(key, ask)
        assert (len(kept), ask.count) == (3, 4)
        await kept.get(b"a", ask)
        assert ask.count == 4
        await kept.get(b"b", ask)
        assert ask.count == 5

    faketime.run(main())
