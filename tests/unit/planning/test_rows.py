"""The table of docs/pods.md, row by row."""

import copy

import pytest

from farlet.planning import plan
from unit.planning import rows


@pytest.mark.parametrize("row", rows.EVERY, ids=lambda row: row.sentence)
def test_the_plan_decides_as_the_row_expects(row: rows.Row) -> None:
    holds, got = row.holds(plan.decide)
    assert holds, got


@pytest.mark.parametrize("row", rows.EVERY, ids=lambda row: row.sentence)
def test_the_plan_does_not_change_its_snapshot(row: rows.Row) -> None:
    before = copy.deepcopy((row.given.home, row.given.mirror, row.given.last, row.given.secret))
    plan.decide(row.given, ctx=row.ctx)
    assert (row.given.home, row.given.mirror, row.given.last, row.given.secret) == before


def test_no_two_rows_have_the_same_sentence() -> None:
    sentences = [row.sentence for row in rows.EVERY]
    assert sorted(set(sentences)) == sorted(sentences)
