"""Times in objects, which can come from a foreign cluster."""

from __future__ import annotations

import pytest

from farlet.forge import timestamps


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("2026-01-02T03:04:05Z", 1767323045.0, id="metav1.Time"),
        pytest.param("2026-01-02T03:04:05.500000Z", 1767323045.5, id="metav1.MicroTime"),
        pytest.param("2026-01-02T04:04:05+01:00", 1767323045.0, id="with an offset"),
        pytest.param("1970-01-01T00:00:00Z", 0.0, id="the first one"),
        pytest.param("1969-12-31T23:59:59Z", None, id="before 1970"),
        pytest.param("0001-01-01T00:00:00Z", None, id="Go's zero time"),
        pytest.param("0001-01-01T00:00:00+23:59", None, id="before the year 1"),
        pytest.param("9999-12-31T23:59:59-23:59", None, id="after the year 9999"),
        pytest.param("2026-01-02T03:04:05", None, id="without a zone"),
        pytest.param("yesterday", None, id="not a time"),
        pytest.param("2026-01-02T03:04:05." + "0" * 1_000_000 + "Z", None, id="too long"),
        pytest.param("", None, id="empty"),
        pytest.param(None, None, id="absent"),
        pytest.param({"seconds": 1}, None, id="another type"),
    ],
)
def test_a_time_with_a_zone_has_epoch_seconds_and_nothing_else_has(
    text: object, seconds: float | None
) -> None:
    assert timestamps.epoch(text) == seconds


def test_a_written_time_is_in_utc_and_has_whole_seconds() -> None:
    assert timestamps.rfc3339(1767323045.9) == "2026-01-02T03:04:05Z"
