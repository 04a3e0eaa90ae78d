"""Backoff, one log line per cause, and waits with a limit."""

from __future__ import annotations

import asyncio

import pytest

from farlet import retrying
from unit import faketime


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [
        pytest.param(0, 1.0, id="the first failure"),
        pytest.param(3, 8.0, id="the fourth failure"),
        pytest.param(4, 15.0, id="longer than the longest pause"),
        pytest.param(100_000, 15.0, id="very many failures"),
    ],
)
def test_pauses_double_up_to_the_longest(failures: int, seconds: float) -> None:
    assert retrying.pause(failures, first=1.0, last=15.0) == seconds


def test_a_success_makes_the_next_pause_short_again() -> None:
    backoff = retrying.Backoff(5.0, 120.0, factor=3.0)
    assert [backoff.next() for _ in range(4)] == [5.0, 15.0, 45.0, 120.0]
    backoff.reset()
    assert backoff.next() == 5.0


def test_jitter_only_shortens_a_pause() -> None:
    pauses = [retrying.jittered(10.0, 0.5) for _ in range(200)]
    assert 5.0 <= min(pauses) < 6.0
    assert 9.0 < max(pauses) <= 10.0


def test_a_cause_is_new_until_it_repeats_and_after_a_success() -> None:
    failures = retrying.OncePerCause()
    assert not failures.clear()
    assert [failures.is_new(cause) for cause in ("a", "a", "b", "a")] == [True, False, True, True]
    assert failures.clear()
    assert not failures.clear()
    assert failures.is_new("a")


@pytest.mark.parametrize(
    ("set_after", "came", "seconds"),
    [
        pytest.param(0.0, True, 0.0, id="set before"),
        pytest.param(3.0, True, 3.0, id="set meanwhile"),
        pytest.param(None, False, 5.0, id="never set"),
    ],
)
def test_a_wait_ends_with_its_event_or_in_time(
    set_after: float | None, came: bool, seconds: float
) -> None:
    async def story() -> None:
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        if set_after == 0.0:
            event.set()
        elif set_after is not None:
            loop.call_later(set_after, event.set)
        started = loop.time()
        assert await retrying.wait(event, 5.0) is came
        assert loop.time() - started == pytest.approx(seconds)

    faketime.run(story())


@pytest.mark.parametrize(
    ("holds_after", "holds", "seconds"),
    [
        pytest.param(0, True, 0.0, id="from the start"),
        pytest.param(2, True, 2.0, id="after the second change"),
        pytest.param(9, False, 5.0, id="too late"),
    ],
)
def test_a_wait_for_a_condition_ends_with_it_or_in_time(
    holds_after: int, holds: bool, seconds: float
) -> None:
    async def story() -> None:
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        started = loop.time()
        for second in range(1, 10):
            loop.call_later(second, changed.set)
        found = await retrying.until(lambda: loop.time() - started >= holds_after, changed, 5.0)
        assert found is holds
        assert loop.time() - started == pytest.approx(seconds)

    faketime.run(story())


def test_a_cancelled_wait_stays_cancelled() -> None:
    async def story() -> None:
        task = asyncio.create_task(retrying.wait(asyncio.Event(), 5.0))
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    faketime.run(story())
