"""The tests of the plan find every mistake that `mutations.py` seeds."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from farlet.planning import plan
from unit.planning import mutants, rows, stories
from unit.planning.mutations import MUTATIONS, Mutation
from unit.planning.running import violations
from unit.planning.world import Step

BY_SENTENCE = {row.sentence: row for row in rows.EVERY}
WITH_STORY = [mutation for mutation in MUTATIONS if mutation.story]
AT_RANDOM = [mutation for mutation in MUTATIONS if mutation.seed is not None]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.sentence)
def test_a_row_catches_a_plan_that(mutation: Mutation) -> None:
    row = BY_SENTENCE[mutation.row]
    assert row.holds(plan.decide)[0]
    holds, got = row.holds(mutants.plan(mutation.changes).decide)
    assert not holds, got


@pytest.mark.parametrize("mutation", WITH_STORY, ids=lambda mutation: mutation.sentence)
def test_a_story_ends_badly_with_a_plan_that(mutation: Mutation) -> None:
    assert violations(mutation.story) == []
    assert violations(mutation.story, plan=mutants.plan(mutation.changes)) != []


@pytest.mark.parametrize("mutation", AT_RANDOM, ids=lambda mutation: mutation.sentence)
def test_random_stories_end_badly_with_a_plan_that(mutation: Mutation) -> None:
    mutant = mutants.plan(mutation.changes)

    @seed(mutation.seed)
    @settings(
        max_examples=600,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(stories.STORIES)
    def every_story_ends_well(story: Sequence[Step]) -> None:
        assert not violations(story, plan=mutant)

    with pytest.raises(AssertionError):
        every_story_ends_well()


def test_no_two_mutations_have_the_same_sentence() -> None:
    assert len({mutation.sentence for mutation in MUTATIONS}) == len(MUTATIONS)


def test_a_change_that_fits_no_place_is_an_error() -> None:
    with pytest.raises(AssertionError, match="fits 0 places"):
        mutants.plan((mutants.Skipped("_row", "home is None"),))


def test_formatting_does_not_matter_to_a_change() -> None:
    assert mutants.plan((mutants.Skipped("_deleted", "(not   gone)"),))
