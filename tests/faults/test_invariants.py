"""`differences`, on which all fault tests rely, reports every kind of difference."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from faults import manifests
from faults.environment import Observation, differences


def consistent() -> Observation:
    """A running pod with mirror and Secret, an ended pod, and a rejected pod."""
    mirrors = [_mirror("runs", "Running"), _mirror("ended", "Succeeded")]
    secret = {"metadata": {"name": "s", "ownerReferences": [{"uid": "m-runs", "name": "runs"}]}}
    pods = [_pod("runs", "Running"), _pod("ended", "Succeeded"), _pod("refused", "Pending")]
    pods[2]["status"]["reason"] = "InvalidAPIServerSupport"
    return Observation(pods, mirrors, [secret])


def _pod(name: str, phase: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"h-{name}"}, "status": {"phase": phase}}


def _mirror(name: str, phase: str) -> dict[str, Any]:
    annotations = {manifests.HOME_UID: f"h-{name}", "farlet.io/api-access": "home"}
    return {
        "metadata": {"name": name, "uid": f"m-{name}", "annotations": annotations},
        "status": {"phase": phase},
    }


def test_consistent_clusters_have_no_differences() -> None:
    assert differences(consistent()) == []


DIFFERENCES: dict[str, tuple[Callable[[Observation], object], str]] = {
    "a lost mirror": (lambda s: s.mirrors.pop(0), "has 0 mirrors"),
    "two mirrors": (lambda s: s.mirrors.append(copy.deepcopy(s.mirrors[0])), "has 2 mirrors"),
    "an extra mirror": (lambda s: s.pods.pop(0), "has no home pod"),
    "a mirror of a rejected pod": (
        lambda s: s.mirrors.append(_mirror("refused", "Running")),
        "is rejected but has a mirror",
    ),
    "an extra Secret": (
        lambda s: s.secrets[0]["metadata"]["ownerReferences"][0].update(uid="old"),
        "has no mirror",
    ),
    "a missing Secret": (lambda s: s.secrets.clear(), "has no Secret"),
    "another phase": (
        lambda s: s.mirrors[0]["status"].update(phase="Failed"),
        "its mirror Failed",
    ),
    "a mirror that runs although its home pod has ended": (
        lambda s: s.mirrors[1]["status"].update(phase="Running"),
        "has ended and its mirror has not",
    ),
    "a remaining finalizer": (
        lambda s: s.mirrors[1]["metadata"].update(finalizers=[manifests.OBSERVED]),
        "the finalizer remains",
    ),
    "a home pod whose deletion hangs": (
        lambda s: s.pods[0]["metadata"].update(deletionTimestamp="now"),
        "home pod runs is still being deleted",
    ),
    "a mirror whose deletion hangs": (
        lambda s: s.mirrors[0]["metadata"].update(deletionTimestamp="now"),
        "mirror runs is still being deleted",
    ),
}


@pytest.mark.parametrize(
    ("spoil", "expected"), [pytest.param(*case, id=name) for name, case in DIFFERENCES.items()]
)
def test_a_difference_is_reported(spoil: Callable[[Observation], object], expected: str) -> None:
    observation = consistent()
    spoil(observation)
    assert any(expected in word for word in differences(observation)), differences(observation)
