"""Amounts are read, added and written as `resource.Quantity` does."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farlet.forge import quantities

SUFFIXES = {
    "": Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "k": Fraction(1000),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(1024),
    "Mi": Fraction(1024**2),
    "Gi": Fraction(1024**3),
    "Ti": Fraction(1024**4),
    "Pi": Fraction(1024**5),
    "Ei": Fraction(1024**6),
    "e3": Fraction(1000),
    "E-2": Fraction(1, 100),
    "e+6": Fraction(10**6),
}


def worth(text: str) -> Fraction:
    """The amount that a text states, in billionths, from its number and suffix alone."""
    suffix = max((s for s in SUFFIXES if text.endswith(s)), key=len)
    exact = Fraction(text.removesuffix(suffix)) * SUFFIXES[suffix] * 10**9
    rounded = math.ceil(exact) if exact > 0 else math.floor(exact)
    return Fraction(rounded, 10**9)


numbers = st.builds(
    lambda whole, rest: f"{whole}.{rest}" if rest else str(whole),
    st.integers(-(10**9), 10**9),
    st.one_of(st.just(""), st.integers(0, 999).map(lambda n: f"{n:03}")),
)
amounts = st.builds(lambda number, suffix: number + suffix, numbers, st.sampled_from([*SUFFIXES]))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        pytest.param("0", "0", id="zero"),
        pytest.param("0Gi", "0", id="zero with a suffix"),
        pytest.param("1.5", "1500m", id="a fraction"),
        pytest.param("1.5Gi", "1536Mi", id="a binary fraction"),
        pytest.param("0.5Gi", "512Mi", id="half"),
        pytest.param("1024", "1024", id="a decimal stays decimal"),
        pytest.param("1000", "1k", id="the largest suffix"),
        pytest.param("12000m", "12", id="whole again"),
        pytest.param("1Ki", "1Ki", id="one"),
        pytest.param("1023Ki", "1023Ki", id="not more than a suffix"),
        pytest.param("2048Ki", "2Mi", id="the largest binary suffix"),
        pytest.param("0.5Ki", "512", id="small binary amounts are decimal"),
        pytest.param("1024.5Ki", "1049088", id="not a multiple of the suffix"),
        pytest.param("1e3", "1e3", id="an exponent stays"),
        pytest.param("1E3", "1e3", id="a capital exponent"),
        pytest.param("12e2", "1200", id="exponents are multiples of three"),
        pytest.param("1E", "1E", id="one exa"),
        pytest.param("100u", "100u", id="small ones"),
        pytest.param("0.1n", "1n", id="rounded away from zero"),
        pytest.param("-1.5", "-1500m", id="negative"),
        pytest.param("+3", "3", id="a redundant sign"),
        pytest.param("5.", "5", id="a redundant point"),
        pytest.param(".5", "500m", id="nothing before the point"),
        pytest.param("16Ei", "9223372036854775807", id="clamped to int64"),
        pytest.param("00012", "12", id="leading zeros"),
    ],
)
def test_an_amount_is_written_in_canonical_form(text: str, canonical: str) -> None:
    assert str(quantities.parse(text)) == canonical


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ".", "+", "-", "Gi", "1 Gi", "1\n", "1.2.3", "1,5", "0x10", "٣"),
        *("1gi", "1KI", "1ki", "1Mib", "1e", "1e1.5", "1e999", "NaN", "Infinity", "1" * 65),
    ],
    ids=repr,
)
def test_an_invalid_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        quantities.parse(text)


@pytest.mark.parametrize(
    ("texts", "total"),
    [
        pytest.param([], "0", id="of none"),
        pytest.param(["1", "500m"], "1500m", id="cpu"),
        pytest.param(["32780Ki", "32780Ki"], "65560Ki", id="memory"),
        pytest.param(["1Gi", "1G"], "2073741824", id="the first notation, as long as it is exact"),
        pytest.param(["1Gi", "1024"], "1048577Ki", id="binary with decimal"),
        pytest.param(["0", "1Gi"], "1Gi", id="zero has no notation"),
        pytest.param(["1e3", "1k"], "2e3", id="exponents"),
        pytest.param(["9007199254740993", "1m"], "9007199254740993001m", id="beyond floats"),
    ],
)
def test_amounts_are_added(texts: list[str], total: str) -> None:
    assert str(quantities.total(map(quantities.parse, texts))) == total


@given(amounts)
def test_the_canonical_form_loses_nothing(text: str) -> None:
    canonical = str(quantities.parse(text))
    if abs(worth(text)) < 2**63 - 1:
        assert worth(canonical) == worth(text)
    assert str(quantities.parse(canonical)) == canonical
    assert "." not in canonical


@given(st.lists(amounts, max_size=20))
def test_a_sum_is_worth_its_parts_in_any_order(texts: list[str]) -> None:
    parts = [quantities.parse(text) for text in texts]
    total = quantities.total(parts)
    assert total.nanos == sum(part.nanos for part in parts)
    assert quantities.total(reversed(parts)).nanos == total.nanos
