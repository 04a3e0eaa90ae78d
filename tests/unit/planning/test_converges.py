"""Whatever happens, in any order: nothing runs twice, nothing is left over, both sides converge.

Every part of farlet between its two API servers is the real one; Kubernetes is `model.py` and
`kubelet.py`. What must never happen is in `invariants.py`. A story that fails is printed as the
shortest one that does, and belongs in `KNOWN_STORIES` once it is understood.
"""

import ast
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from unit import examples
from unit.planning import kubelet, model, stories
from unit.planning.fake_cluster import Fault
from unit.planning.running import violations
from unit.planning.world import Step

pytestmark = pytest.mark.takes(50)


def _create(policy: str, mode: str = "disabled", then: float = 3.0) -> Step:
    return Step("create", ("a", policy, mode), then)


KNOWN_STORIES = {
    "the label of a mirror is removed": (_create("Always"), Step("forge_label", ("a",), 0.4)),
    "the label is removed and the watch lags": (
        _create("Never"),
        Step("lag", ("foreign", 4.0)),
        Step("forge_label", ("a",), 0.4),
        Step("exit", ("a", 0), 8.0),
    ),
    "an unrelated pod takes the name of a mirror that was deleted in the foreign cluster": (
        _create("Always"),
        Step("forge_owner", ("a",), 1.2),
        Step("discard", ("a", 1)),
        Step("lag", ("foreign", 4.0), 1.2),
        Step("intrude", ("a",), 0.06),
    ),
    "a pod is replaced by one of the same name that may run only once": (
        _create("Never"),
        Step("replace", ("a", "Never"), 1.2),
    ),
    "a pod is replaced while no watch is open": (
        _create("Never"),
        Step("gap", ("home",)),
        Step("outage", ("home",), 0.06),
        Step("replace", ("a", "Never"), 3.0),
    ),
    "the home pod ends while both sides are out of reach": (
        Step("outage", ("home",)),
        Step("outage", ("foreign",)),
        _create("Always", then=0.0),
        Step("delete", ("a",), 8.0),
    ),
    "ephemeral containers are added, and every other answer is lost": (
        _create("Always"),
        Step("fault", ("foreign", Fault.DONE, Fault.FINE, Fault.LATE, Fault.CONFLICT)),
        Step("debug", ("a", "debug"), 0.06),
        Step("debug", ("a", "second"), 3.0),
        Step("restart", (), 3.0),
    ),
    "a mirror with an ephemeral container is lost": (
        _create("Always"),
        Step("debug", ("a", "debug"), 3.0),
        Step("restart", (), 1.2),
        Step("discard", ("a", 0), 3.0),
        Step("debug", ("a", "second"), 3.0),
    ),
    "every answer is lost": (
        Step("fault", ("home", *[Fault.DONE] * 4)),
        Step("fault", ("foreign", *[Fault.DONE] * 6)),
        _create("Never", "home", 8.0),
        Step("exit", ("a", 0), 3.0),
        Step("delete", ("a",), 3.0),
    ),
    "every write comes late": (
        Step("fault", ("home", *[Fault.LATE] * 4)),
        Step("fault", ("foreign", *[Fault.LATE] * 6)),
        _create("OnFailure", "home", 8.0),
        Step("exit", ("a", 1), 3.0),
        Step("exit", ("a", 0), 3.0),
    ),
    "a pod is changed while farlet does not run": (
        _create("Always"),
        Step("kill"),
        Step("change", ("a", "x"), 1.2),
        Step("change", ("a", "y")),
        Step("start", (), 3.0),
    ),
    "a pod is changed again and again and every answer is lost": (
        _create("Always", "home"),
        Step("fault", ("foreign", Fault.DONE, Fault.LATE, Fault.CONFLICT, Fault.LOST)),
        Step("change", ("a", "x"), 0.06),
        Step("change", ("a", "y"), 0.4),
        Step("change", ("a", "x"), 8.0),
    ),
    "a pod is changed while its mirror is not scheduled": (
        Step("freeze", (True,)),
        _create("Never", then=0.4),
        Step("change", ("a", "x"), 3.0),
        Step("freeze", (False,), 3.0),
    ),
    "a finalizer is removed by others while a pod is deleted": (
        _create("Never"),
        Step("delete", ("a",), 0.06),
        Step("strip", ("a",), 3.0),
    ),
    "the label is removed after the grace period of a mirror": (
        _create("Never"),
        Step("delete", ("a",)),
        Step("discard", ("a", 0)),
        Step("forge_label", ("a",), 3.0),
    ),
    "the label of a finished mirror is removed while its namespace is deleted": (
        _create("OnFailure", then=1.2),
        Step("end_namespace"),
        Step("outage", ("home",)),
        Step("create", ("b", "Always", "disabled")),
        Step("evict", ("a",), 3.0),
        Step("forge_label", ("a",)),
    ),
    "a pod is replaced whose mirror has lost its label, and the namespace is deleted": (
        Step("create", ("a", "OnFailure", "disabled"), 1.2),
        Step("forge_label", ("a",)),
        Step("replace", ("a", "Always")),
        Step("end_namespace"),
    ),
    "farlet dies between the mirror and its Secret": (
        _create("Always", "home", 0.028),
        Step("restart", (), 3.0),
    ),
}


@pytest.mark.parametrize("story", KNOWN_STORIES.values(), ids=KNOWN_STORIES)
def test_a_known_story_ends_well(story: Sequence[Step]) -> None:
    assert violations(story) == []


@pytest.mark.parametrize("count", examples.parts(30, of=600))
def test_every_story_ends_well(count: int) -> None:
    assert len(_kinds_of_steps(stories.STORIES, count)) == stories.KINDS


@pytest.mark.parametrize("count", examples.parts(8, of=150))
def test_every_story_in_which_pods_are_changed_ends_well(count: int) -> None:
    assert "change" in _kinds_of_steps(stories.WITH_CHANGES, count)


def _kinds_of_steps(strategy: st.SearchStrategy[list[Step]], count: int) -> set[str]:
    """The kinds of steps in so many stories, each of which ends well."""
    kinds: set[str] = set()

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        # Without the phase that explains: it takes many times longer than all others.
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(strategy)
    def every_story_ends_well(story: Sequence[Step]) -> None:
        kinds.update(step.what for step in story)
        assert violations(story) == []

    every_story_ends_well()
    return kinds


def test_an_empty_story_ends_well() -> None:
    assert violations(()) == []


@pytest.mark.parametrize("module", [model, kubelet], ids=["server", "kubelet"])
def test_the_model_knows_nothing_of_farlet(module: object) -> None:
    tree = ast.parse(Path(str(module.__file__)).read_text())  # type: ignore[attr-defined]
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    imported |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert not [name for name in imported if name is not None and name.startswith("farlet")]
