"""The table of docs/pods.md, row by row."""

import copy

import pytest

from farlet.planning import plan
from unit.planning import rows


@pytest.mark.parametrize("row", rows.EVERY, ids=lambda row: row.says)
def test_the_plan_answers_as_the_row_says(row: rows.Row) -> None:
    holds, got = row.holds(plan.decide)
    assert holds, got


@pytest.mark.parametrize("row", rows.EVERY, ids=lambda row: row.says)
def test_the_plan_leaves_what_it_read_as_it_was(row: rows.Row) -> None:
    before = copy.deepcopy((row.given.home, row.given.mirror, row.given.last, row.given.secret))
    plan.decide(row.given, ctx=row.ctx)
    assert (row.given.home, row.given.mirror, row.given.last, row.given.secret) == before


def test_no_two_rows_say_the_same() -> None:
    said = [row.says for row in rows.EVERY]
    assert sorted(set(said)) == sorted(said)
