"""Counters of CPU time made of rates: they never go back, and dividing gives the rate again."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farlet.kubelet.usage import counters
from farlet.kubelet.usage.counters import LEAST_NANOSECONDS, Counter, Sample

CORE = 10**9


def sample(at: float, nanocores: int, *, window: float = 15.0) -> Sample:
    return Sample(at, window, nanocores=nanocores, memory=1)


def through(*samples: Sample, born: float = 0.0) -> list[Counter]:
    """The counter after each sample."""
    found: list[Counter] = []
    for one in samples:
        found.append(counters.counted(found[-1] if found else None, one, born=born))
    return found


@pytest.mark.parametrize(
    ("born", "at", "since", "seconds"),
    [
        pytest.param(0.0, 100.0, 85.0, 7.5, id="begun long ago: since the window began"),
        pytest.param(90.0, 100.0, 90.0, 5.0, id="begun within the window: since then"),
        pytest.param(100.0, 100.0, 100.0, 0.0, id="begun as the window ended"),
    ],
)
def test_a_counter_begins_where_something_is_known(
    born: float, at: float, since: float, seconds: float
) -> None:
    found = counters.begun(sample(at, CORE // 2), born=born)
    assert found.since == since
    assert found.nanoseconds == max(round(seconds * CORE), LEAST_NANOSECONDS)


def test_what_runs_has_used_some() -> None:
    assert counters.begun(sample(100, 0), born=0).nanoseconds > 0


def test_between_two_samples_it_grows_by_the_later_rate() -> None:
    first, second = through(sample(100, CORE), sample(160, CORE // 4))
    assert second.nanoseconds - first.nanoseconds == 60 * CORE // 4
    assert second.since == first.since


@pytest.mark.parametrize(
    "later", [pytest.param(100.0, id="the same one"), pytest.param(90.0, id="an older one")]
)
def test_a_sample_that_is_not_newer_changes_nothing(later: float) -> None:
    first, second = through(sample(100, CORE), sample(later, 5 * CORE))
    assert second is first


def test_what_was_begun_anew_is_counted_anew() -> None:
    (before,) = through(sample(100, CORE), born=10.0)
    after = counters.counted(before, sample(115, CORE), born=110.0)
    assert after == counters.begun(sample(115, CORE), born=110.0)
    assert after.nanoseconds < before.nanoseconds
    assert after.since == 110.0


@pytest.mark.parametrize(
    ("gap", "anew"),
    [
        pytest.param(counters.GAP_SECONDS, False, id="just short enough"),
        pytest.param(counters.GAP_SECONDS + 1, True, id="too long to guess"),
    ],
)
def test_nothing_is_assumed_of_a_time_when_nobody_asked(gap: float, anew: bool) -> None:
    first, second = through(sample(1000, CORE), sample(1000 + gap, CORE))
    assert (second.since > first.last.at) is anew
    assert (second.nanoseconds < first.nanoseconds + gap * CORE) is anew


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
def test_a_counter_never_goes_back_but_with_a_new_start(samples: list[Sample]) -> None:
    found = through(*samples)
    for before, after in itertools.pairwise(found):
        assert after.nanoseconds >= before.nanoseconds or after.since != before.since
        assert after.last.at >= before.last.at


@given(SAMPLES)
def test_who_divides_gets_the_rate_that_was_measured(samples: list[Sample]) -> None:
    found = through(*samples)
    for before, after in itertools.pairwise(found):
        if after is not before and after.since == before.since:
            seconds = after.last.at - before.last.at
            rate = (after.nanoseconds - before.nanoseconds) / seconds
            assert rate == pytest.approx(after.last.nanocores, abs=1 / seconds)
