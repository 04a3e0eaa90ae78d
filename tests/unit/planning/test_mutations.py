"""The tests of the plan tell of every mistake that `mutations.py` seeds."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from farlet.planning import plan
from unit.planning import mutants, rows, stories
from unit.planning.mutations import MUTATIONS, Mutation
from unit.planning.telling import tell
from unit.planning.world import Step

BY_SENTENCE = {row.says: row for row in rows.EVERY}
TOLD = [mutation for mutation in MUTATIONS if mutation.story]
AT_RANDOM = [mutation for mutation in MUTATIONS if mutation.at_random]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.says)
def test_a_row_catches_a_plan_that(mutation: Mutation) -> None:
    row = BY_SENTENCE[mutation.row]
    assert row.holds(plan.decide)[0]
    holds, got = row.holds(mutants.plan(mutation).decide)
    assert not holds, got


@pytest.mark.parametrize("mutation", TOLD, ids=lambda mutation: mutation.says)
def test_a_story_ends_badly_with_a_plan_that(mutation: Mutation) -> None:
    assert tell(mutation.story) == []
    assert tell(mutation.story, plan=mutants.plan(mutation)) != []


@pytest.mark.parametrize("mutation", AT_RANDOM, ids=lambda mutation: mutation.says)
def test_random_stories_end_badly_with_a_plan_that(mutation: Mutation) -> None:
    mutant = mutants.plan(mutation)

    @settings(
        max_examples=600,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(stories.STORIES)
    def every_story_ends_well(story: Sequence[Step]) -> None:
        assert not tell(story, plan=mutant)

    with pytest.raises(AssertionError):
        every_story_ends_well()


def test_there_are_at_least_ten_mutations() -> None:
    assert len({mutation.says for mutation in MUTATIONS}) >= 10
