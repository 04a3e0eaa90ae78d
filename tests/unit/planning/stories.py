"""Stories for a world: any order of events and faults."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from unit.planning.fake_cluster import Fault
from unit.planning.world import Step

LONGEST = 25
"""Steps; shorter stories find the same, longer ones take longer."""

NAMES = st.sampled_from(("a", "a", "b"))
SIDES = st.sampled_from(("home", "foreign"))
POLICIES = st.sampled_from(("Always", "OnFailure", "Never"))
MODES = st.sampled_from(("disabled", "disabled", "home", "nearby"))
CODES = st.sampled_from((0, 1))
GRACES = st.sampled_from((None, None, 1, 0))
PAUSES = st.sampled_from((0.0, 0.003, 0.06, 0.4, 1.2, 3.0, 3.0, 8.0))
"""Shorter than a request, than a coalesced status, than a step of the kubelet, than a resync."""
YES_NO = st.booleans()


def _step(what: str, *args: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.builds(Step, st.just(what), st.tuples(*args), PAUSES)


_USUAL = (
    _step("create", NAMES, POLICIES, MODES),
    _step("delete", NAMES, GRACES),
    _step("replace", NAMES, POLICIES),
    _step("exit", NAMES, CODES),
    _step("discard", NAMES, GRACES),
    _step("restart"),
    _step("fault", SIDES, st.sampled_from(Fault), st.sampled_from(Fault)),
)
_RARE = (
    st.builds(
        lambda name, policy, pause: Step("create_held", (name, policy), pause),
        NAMES,
        POLICIES,
        PAUSES,
    ),
    _step("let_go", NAMES),
    _step("evict", NAMES),
    _step("stops_with", NAMES, CODES),
    _step("freeze", YES_NO),
    _step("strip", NAMES),
    _step("forge_label", NAMES),
    _step("forge_owner", NAMES),
    _step("intrude", NAMES),
    _step("retreat", NAMES),
    _step("burn", NAMES),
    _step("end_namespace"),
    _step("recreate_namespace"),
    _step("rest"),
    _step("kill"),
    _step("start"),
    _step("outage", SIDES),
    _step("back", SIDES),
    _step("cut", SIDES),
    _step("gap", SIDES),
    _step("lag", SIDES, st.sampled_from((0.0, 0.3, 4.0))),
    _step("repeat", SIDES, YES_NO),
)

_FIRST = st.builds(
    Step,
    st.just("create"),
    st.tuples(st.just("a"), POLICIES, MODES),
    st.sampled_from((0.0, 0.06, 1.2, 3.0, 3.0)),
)


def _stories(*steps: st.SearchStrategy[Step]) -> st.SearchStrategy[list[Step]]:
    return st.builds(
        lambda first, rest: [first, *rest],
        _FIRST,
        # Of equal strategies `one_of` would take each once only.
        st.lists(
            st.sampled_from(steps).flatmap(lambda step: step),
            min_size=5,
            max_size=LONGEST,
        ),
    )


STORIES = _stories(*_USUAL * 3, *_RARE)
KINDS = len(_USUAL) + len(_RARE)
"""How many kinds of steps they have."""

_CHANGE = _step("change", NAMES, st.sampled_from(("x", "y", "xx")))
WITH_CHANGES = _stories(*_USUAL * 2, *[_CHANGE] * 14, *_RARE)
"""In a third of the steps a user changes a pod. The seeds of mutations belong to `STORIES`."""
