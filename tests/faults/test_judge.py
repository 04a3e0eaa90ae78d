"""The judge of all tests of faults sees what it is there to see."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from faults import manifests
from faults.stage import Sight, differences


def well() -> Sight:
    """A running pod with its mirror and Secret, an ended one, and a refused one."""
    mirrors = [_mirror("runs", "Running"), _mirror("ended", "Succeeded")]
    secret = {"metadata": {"name": "s", "ownerReferences": [{"uid": "m-runs", "name": "runs"}]}}
    pods = [_pod("runs", "Running"), _pod("ended", "Succeeded"), _pod("refused", "Pending")]
    pods[2]["status"]["reason"] = "InvalidAPIServerSupport"
    return Sight(pods, mirrors, [secret])


def _pod(name: str, phase: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"h-{name}"}, "status": {"phase": phase}}


def _mirror(name: str, phase: str) -> dict[str, Any]:
    annotations = {manifests.HOME_UID: f"h-{name}", "farlet.io/api-access": "home"}
    return {
        "metadata": {"name": name, "uid": f"m-{name}", "annotations": annotations},
        "status": {"phase": phase},
    }


def test_a_world_that_is_well_has_no_differences() -> None:
    assert differences(well()) == []


WRONG: dict[str, tuple[Callable[[Sight], object], str]] = {
    "a lost mirror": (lambda s: s.mirrors.pop(0), "has 0 mirrors"),
    "two mirrors": (lambda s: s.mirrors.append(copy.deepcopy(s.mirrors[0])), "has 2 mirrors"),
    "a mirror too many": (lambda s: s.pods.pop(0), "has no home pod"),
    "a mirror of a refused pod": (
        lambda s: s.mirrors.append(_mirror("refused", "Running")),
        "is refused and has a mirror",
    ),
    "a Secret too many": (
        lambda s: s.secrets[0]["metadata"]["ownerReferences"][0].update(uid="old"),
        "has no mirror",
    ),
    "a missing Secret": (lambda s: s.secrets.clear(), "has no Secret"),
    "another phase": (
        lambda s: s.mirrors[0]["status"].update(phase="Failed"),
        "its mirror Failed",
    ),
    "an ended pod that runs": (
        lambda s: s.mirrors[1]["status"].update(phase="Running"),
        "has ended and its mirror has not",
    ),
    "a finalizer that stays": (
        lambda s: s.mirrors[1]["metadata"].update(finalizers=[manifests.OBSERVED]),
        "the finalizer stands still",
    ),
    "a deletion that hangs at home": (
        lambda s: s.pods[0]["metadata"].update(deletionTimestamp="now"),
        "home pod runs is being deleted",
    ),
    "a deletion that hangs abroad": (
        lambda s: s.mirrors[0]["metadata"].update(deletionTimestamp="now"),
        "mirror runs is being deleted",
    ),
}


@pytest.mark.parametrize(
    ("spoil", "told"), [pytest.param(*case, id=name) for name, case in WRONG.items()]
)
def test_the_judge_tells(spoil: Callable[[Sight], object], told: str) -> None:
    sight = well()
    spoil(sight)
    assert any(told in word for word in differences(sight)), differences(sight)
