"""A first part of a test runs in `make unit`, the whole in `make test`: two tests of one function.

`@pytest.mark.parametrize("count", examples.parts(60, of=600))` is for random stories:
`settings(max_examples=count)`. `@pytest.mark.parametrize("every", examples.each(5, "write"))` is
for a campaign: `range(0, writes, every)`. The whole has the marker `thorough`.
"""

from __future__ import annotations

from typing import Any

import pytest


def parts(first: int, *, of: int) -> list[Any]:
    """The numbers of examples of both tests."""
    return [
        pytest.param(first, id=f"the first {first}"),
        pytest.param(of, id=f"all {of}", marks=pytest.mark.thorough),
    ]


def each(first: int, what: str) -> list[Any]:
    """The steps of both tests: some of the places, and each of them."""
    return [
        pytest.param(first, id=f"one {what} in {first}"),
        pytest.param(1, id=f"each {what}", marks=pytest.mark.thorough),
    ]
