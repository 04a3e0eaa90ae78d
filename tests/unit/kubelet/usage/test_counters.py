"""Counters of CPU time from rates: they never decrease, and dividing returns the rate."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farlet.kubelet.usage import counters
from farlet.kubelet.usage.counters import MIN_NANOSECONDS, Counter, Sample

CORE = 10**9


def sample(at: float, nanocores: int, *, window: float = 15.0) -> Sample:
    return Sample(at, window, nanocores=nanocores, memory=1)


def through(*samples: Sample, started_at: float = 0.0) -> list[Counter]:
    """The counter after each sample."""
    found: list[Counter] = []
    for one in samples:
        found.append(counters.add_sample(found[-1] if found else None, one, started_at=started_at))
    return found


@pytest.mark.parametrize(
    ("started_at", "at", "since", "seconds"),
    [
        pytest.param(
            0.0, 100.0, 85.0, 7.5, id="started long ago, so since the start of the window"
        ),
        pytest.param(90.0, 100.0, 90.0, 5.0, id="started within the window, so since then"),
        pytest.param(100.0, 100.0, 100.0, 0.0, id="started at the end of the window"),
    ],
)
def test_a_counter_starts_with_the_first_known_window(
    started_at: float, at: float, since: float, seconds: float
) -> None:
    found = counters.new_counter(sample(at, CORE // 2), started_at=started_at)
    assert found.since == since
    assert found.nanoseconds == max(round(seconds * CORE), MIN_NANOSECONDS)


def test_a_running_container_has_used_some_cpu() -> None:
    assert counters.new_counter(sample(100, 0), started_at=0).nanoseconds > 0


def test_a_counter_grows_by_the_later_rate() -> None:
    first, second = through(sample(100, CORE), sample(160, CORE // 4))
    assert second.nanoseconds - first.nanoseconds == 60 * CORE // 4
    assert second.since == first.since


@pytest.mark.parametrize(
    "later", [pytest.param(100.0, id="the same sample"), pytest.param(90.0, id="an older sample")]
)
def test_a_sample_that_is_not_newer_changes_nothing(later: float) -> None:
    first, second = through(sample(100, CORE), sample(later, 5 * CORE))
    assert second is first


def test_a_restarted_container_has_a_new_counter() -> None:
    (before,) = through(sample(100, CORE), started_at=10.0)
    after = counters.add_sample(before, sample(115, CORE), started_at=110.0)
    assert after == counters.new_counter(sample(115, CORE), started_at=110.0)
    assert after.nanoseconds < before.nanoseconds
    assert after.since == 110.0


@pytest.mark.parametrize(
    ("gap", "restarts"),
    [
        pytest.param(counters.GAP_SECONDS, False, id="the longest allowed gap"),
        pytest.param(counters.GAP_SECONDS + 1, True, id="a longer gap"),
    ],
)
def test_a_long_gap_restarts_the_counter(gap: float, restarts: bool) -> None:
    first, second = through(sample(1000, CORE), sample(1000 + gap, CORE))
    assert (second.since > first.last.at) is restarts
    assert (second.nanoseconds < first.nanoseconds + gap * CORE) is restarts


SAMPLES = st.lists(
    st.builds(
        sample,
        st.floats(0, 10_000, allow_nan=False),
        st.integers(0, 512 * CORE),
        window=st.floats(0.001, 600, allow_nan=False),
    ),
    min_size=2,
    max_size=20,
)


@given(SAMPLES)
def test_a_counter_decreases_only_with_a_new_start_time(samples: list[Sample]) -> None:
    found = through(*samples)
    for before, after in itertools.pairwise(found):
        assert after.nanoseconds >= before.nanoseconds or after.since != before.since
        assert after.last.at >= before.last.at


@given(SAMPLES)
def test_dividing_returns_the_measured_rate(samples: list[Sample]) -> None:
    found = through(*samples)
    for before, after in itertools.pairwise(found):
        if after is not before and after.since == before.since:
            seconds = after.last.at - before.last.at
            rate = (after.nanoseconds - before.nanoseconds) / seconds
            assert rate == pytest.approx(after.last.nanocores, abs=1 / seconds)
