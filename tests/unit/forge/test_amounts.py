"""A mirror never makes a home pod use more resources at home than it requests."""

from __future__ import annotations

import pytest

from farlet.forge import amounts

CASES: dict[str, tuple[dict[str, object], dict[str, object], dict[str, object], object]] = {
    "what home asks for is shown": ({"cpu": "1"}, {"cpu": "1"}, {}, {"cpu": "1"}),
    "less is shown as it is": ({"cpu": "500m"}, {"cpu": "1"}, {}, {"cpu": "500m"}),
    "another notation is equal": ({"cpu": "1000m"}, {"cpu": "1"}, {}, {"cpu": "1000m"}),
    "more is cut": ({"cpu": "1M"}, {"cpu": "1"}, {}, {"cpu": "1"}),
    "what home does not ask for is left out": ({"memory": "1Gi"}, {"cpu": "1"}, {}, {}),
    "a pod that was resized to less shows what it showed": (
        {"cpu": "2"},
        {"cpu": "1"},
        {"cpu": "2"},
        {"cpu": "2"},
    ),
    "a mirror never raises what is shown": (
        {"cpu": "3"},
        {"cpu": "1"},
        {"cpu": "2"},
        {"cpu": "2"},
    ),
    "a word counts as what home asks for": ({"cpu": "many"}, {"cpu": "1"}, {}, {"cpu": "1"}),
    "a huge exponent counts as what home asks for": (
        {"cpu": "1e999999999"},
        {"cpu": "1"},
        {},
        {"cpu": "1"},
    ),
    "a negative amount counts as what home asks for": (
        {"cpu": "-1"},
        {"cpu": "1"},
        {},
        {"cpu": "1"},
    ),
}


@pytest.mark.parametrize(("reported", "asked", "shown", "expected"), CASES.values(), ids=CASES)
def test_amounts(
    reported: dict[str, object],
    asked: dict[str, object],
    shown: dict[str, object],
    expected: object,
) -> None:
    assert amounts.bounded(reported, asked=asked, shown=shown) == expected


def test_requests_and_limits_are_bounded_each_by_its_own() -> None:
    reported = {"requests": {"cpu": "9"}, "limits": {"cpu": "9", "memory": "9"}, "claims": []}
    asked = {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}
    assert amounts.resources(reported, asked=asked, shown={}) == {
        "requests": {"cpu": "1"},
        "limits": {"cpu": "2"},
        "claims": [],
    }
