"""Parses, adds and prints amounts of resources as Kubernetes does.

The rules are those of `resource.Quantity` (`apimachinery/pkg/api/resource/quantity.go`): amounts
are rounded away from zero to billionths, a sum keeps the notation of its first operand that is not
zero, and the canonical form has no fraction and the largest suffix without loss. API servers
store the canonical form, so two amounts are equal if their texts are.
"""

from __future__ import annotations

import decimal
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

_LONGEST = 64
"""Characters; no meaningful amount is longer."""

_NANO = 10**9

_LARGEST = (2**63 - 1) * _NANO
"""API servers clamp amounts in binary notation to this."""

_SYNTAX = re.compile(
    r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+))"
    r"(?:(?P<binary>[KMGTPE]i)|(?P<decimal>[numkMGTPE])|[eE](?P<exponent>[+-]?\d{1,2}))?",
    re.ASCII,
)

_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY_SUFFIX = {power: suffix for suffix, power in _BINARY.items()} | {0: ""}
_DECIMAL_SUFFIX = {power: suffix for suffix, power in _DECIMAL.items()}

_EXACT = decimal.Context(prec=2 * _LONGEST + 100, rounding=decimal.ROUND_UP)


class Notation(StrEnum):
    """How an amount is written; `Format` in Kubernetes."""

    DECIMAL = "DecimalSI"
    BINARY = "BinarySI"
    EXPONENT = "DecimalExponent"


@dataclass(frozen=True, slots=True)
class Quantity:
    """An amount in billionths, and the notation it was written in."""

    nanos: int
    notation: Notation = Notation.DECIMAL

    def __str__(self) -> str:
        """The canonical form."""
        if self.nanos == 0:
            return "0"
        whole, rest = divmod(self.nanos, _NANO)
        # Small amounts and fractions have no exact binary form.
        if self.notation is Notation.BINARY and rest == 0 and abs(whole) >= 1024:
            power = 0
            while whole % 1024 == 0 and power < max(_BINARY_SUFFIX):
                whole, power = whole // 1024, power + 1
            return f"{whole}{_BINARY_SUFFIX[power]}"
        number, exponent = self.nanos, -9
        while number % 1000 == 0 and exponent < max(_DECIMAL_SUFFIX):
            number, exponent = number // 1000, exponent + 3
        if self.notation is Notation.EXPONENT:
            return f"{number}e{exponent}" if exponent else str(number)
        return f"{number}{_DECIMAL_SUFFIX[exponent]}"

    @property
    def whole(self) -> bool:
        """Whether it has no fraction."""
        return self.nanos % _NANO == 0


def parse(text: str) -> Quantity:
    """Parses amounts such as `500m`, `1.5Gi` or `2e3`. Raises `ValueError` for other texts."""
    found = _SYNTAX.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        raise ValueError(
            f"{text[:_LONGEST]!r} is not a quantity: expected a number, optionally with one of the "
            "suffixes m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei"
        )
    if found["binary"]:
        notation, factor = Notation.BINARY, Decimal(1024 ** _BINARY[found["binary"]])
    elif found["exponent"]:
        notation, factor = Notation.EXPONENT, Decimal(10) ** int(found["exponent"])
    else:
        notation, factor = Notation.DECIMAL, Decimal(10) ** _DECIMAL[found["decimal"] or ""]
    exact = _EXACT.multiply(_EXACT.multiply(Decimal(found["number"]), factor), Decimal(_NANO))
    nanos = int(exact.to_integral_value(context=_EXACT))
    if notation is Notation.BINARY:
        nanos = max(-_LARGEST, min(_LARGEST, nanos))
        if 0 < abs(nanos) < _NANO:
            notation = Notation.DECIMAL
    return Quantity(nanos, notation)


def total(quantities: Iterable[Quantity]) -> Quantity:
    """The sum; zero for an empty iterable."""
    result = Quantity(0)
    for one in quantities:
        result = Quantity(
            result.nanos + one.nanos, result.notation if result.nanos else one.notation
        )
    return result
