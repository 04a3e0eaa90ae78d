"""The record of what a mirror has of its home pod."""

from __future__ import annotations

import copy
from typing import Any, cast

import orjson
import pytest

from farlet.constants import APPLIED
from farlet.forge import applied
from farlet.k8s_types import Pod
from unit.planning import objects

WEB: dict[str, Any] = {
    "metadata": {
        "generation": 3,
        "labels": {"app": "web", "farlet.io/mark": "x"},
        "annotations": {"team": "a"},
    },
    "spec": {
        "activeDeadlineSeconds": 600,
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "initContainers": [{"name": "first", "image": "example.org/first"}],
        "containers": [{"name": "main", "image": "example.org/app:1", "command": ["run"]}],
        "ephemeralContainers": [{"name": "debug", "image": "example.org/debug"}],
    },
}
PATHS = {
    "metadata.labels": "48c8539e841b39c4",
    "metadata.annotations": "96ddd20c6244de5a",
    "spec.tolerations": "1ab6cb768deb1167",
    "spec.activeDeadlineSeconds": "e71bf3f0c7e84c7e",
    "spec.initContainers[first].image": "25b7ed0fdd0eaea1",
    "spec.containers[main].image": "4262bdf03e9a2cc5",
    "spec.initContainers[first].resources": "01e7b720ff566d53",
    "spec.containers[main].resources": "01e7b720ff566d53",
    "spec.resources": "01e7b720ff566d53",
}
"""What 0.1.0 wrote. A farlet that computes other digests would write to each running mirror."""


def _pod(**changes: Any) -> Pod:
    pod = copy.deepcopy(WEB)
    for path, value in changes.items():
        part, field = path.split("__")
        pod[part][field] = value
    return cast("Pod", pod)


def _recorded(home: Pod, **more: Any) -> Pod:
    given: dict[str, Any] = {"mirror": 1, "labels": ["app"], "annotations": ["team"], **more}
    mirror = objects.mirror()
    record = applied.encoded(applied.record(home, **given))
    assert record is not None
    mirror["metadata"]["annotations"][APPLIED] = record
    return mirror


def test_digests_are_those_of_all_earlier_versions() -> None:
    assert applied.digests(_pod()) == PATHS
    sized = _pod(spec__resources={"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}})
    assert applied.digests(sized)["spec.resources"] == "a95fc8db2e7c49c7"


def test_a_record_is_read_as_it_was_written() -> None:
    mirror = _recorded(_pod(), mirror=7)
    assert applied.read(mirror) == applied.Applied(3, 7, PATHS, ("app",), ("team",))


@pytest.mark.parametrize(
    ("changes", "paths"),
    [
        pytest.param({}, set(), id="nothing"),
        pytest.param({"metadata__labels": {"app": "w"}}, {"metadata.labels"}, id="a label"),
        pytest.param(
            {"metadata__labels": {"app": "web", "farlet.io/mark": "y"}},
            set(),
            id="a reserved label",
        ),
        pytest.param(
            {"metadata__annotations": {"team": "a", "farlet.io/foreign-pod-ip": "10.0.0.1"}},
            set(),
            id="what farlet writes itself",
        ),
        pytest.param({"metadata__annotations": None}, {"metadata.annotations"}, id="annotations"),
        pytest.param({"spec__tolerations": []}, {"spec.tolerations"}, id="tolerations"),
        pytest.param(
            {"spec__activeDeadlineSeconds": 300}, {"spec.activeDeadlineSeconds"}, id="the deadline"
        ),
        pytest.param(
            {"spec__containers": [{"name": "main", "image": "example.org/app:2"}]},
            {"spec.containers[main].image"},
            id="an image",
        ),
        pytest.param(
            {"spec__containers": [{"name": "main", "image": "example.org/app:1"}]},
            set(),
            id="what cannot change",
        ),
        pytest.param({"spec__ephemeralContainers": []}, set(), id="ephemeral containers"),
        pytest.param(
            {"spec__resources": {"limits": {"cpu": "2"}}}, {"spec.resources"}, id="the pod's limits"
        ),
        pytest.param(
            {
                "spec__containers": [
                    {
                        "name": "main",
                        "image": "example.org/app:1",
                        "resources": {"limits": {"cpu": "2"}, "claims": [{"name": "gpu"}]},
                    }
                ]
            },
            {"spec.containers[main].resources"},
            id="the limits of a container",
        ),
        pytest.param({"metadata__generation": 4}, set(), id="the generation alone"),
    ],
)
def test_a_change_is_found_by_its_path(changes: dict[str, Any], paths: set[str]) -> None:
    record = applied.read(_recorded(_pod()))
    assert record is not None
    assert applied.changed(_pod(**changes), record) == paths


def test_a_path_that_an_older_version_did_not_record_has_not_changed() -> None:
    record = applied.Applied(3, 1, {"metadata.labels": PATHS["metadata.labels"]})
    assert applied.changed(_pod(metadata__annotations={"team": "b"}), record) == set()


@pytest.mark.parametrize(
    "found",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"home": "1", "mirror": 1, "digests": {}, "labels": [], "annotations": []}',
        '{"home": 1, "mirror": -1, "digests": {}, "labels": [], "annotations": []}',
        '{"home": 1, "mirror": 9999999999999999999, "digests": {}, "labels": [], "annotations":[]}',
        '{"home": 1, "mirror": true, "digests": {}, "labels": [], "annotations": []}',
        '{"home": 1, "mirror": 1, "digests": [], "labels": [], "annotations": []}',
        '{"home": 1, "mirror": 1, "digests": {"a": 1}, "labels": [], "annotations": []}',
        '{"home": 1, "mirror": 1, "digests": {}, "labels": [1], "annotations": []}',
        '{"home": 1, "mirror": 1, "digests": {}, "labels": null, "annotations": []}',
        "[" * 100_000,
        " " * 40_000 + '{"home": 1, "mirror": 1, "digests": {}, "labels": [], "annotations": []}',
    ],
    ids=lambda found: found[:40] or "empty",
)
def test_what_farlet_did_not_write_is_no_record(found: str) -> None:
    mirror = objects.mirror()
    mirror["metadata"]["annotations"][APPLIED] = found
    assert applied.read(mirror) is None


def test_a_pod_with_thousands_of_labels_has_no_record() -> None:
    labels = [f"label-{number}" for number in range(5_000)]
    record = applied.record(_pod(), mirror=1, labels=labels, annotations=())
    assert applied.encoded(record) is None


def test_a_record_names_no_value() -> None:
    text = _recorded(_pod())["metadata"]["annotations"][APPLIED]
    assert "web" not in text
    assert set(orjson.loads(text)) == {"home", "mirror", "digests", "labels", "annotations"}


@pytest.mark.parametrize(
    ("home", "live", "written", "mirror", "observed", "rejected", "shown"),
    [
        pytest.param({}, 0, 1, 1, None, False, 3, id="a new mirror"),
        pytest.param({}, 2, 2, 2, 1, False, 2, id="the kubelet has not seen the change"),
        pytest.param({}, 2, 2, 2, 2, False, 3, id="the kubelet has seen the change"),
        pytest.param({}, 2, 9, 2, 2, False, 3, id="a record from the future"),
        pytest.param(
            {"metadata__generation": 4, "spec__tolerations": []},
            3, 2, 2, 2, False, 3,
            id="the change is not written yet",
        ),
        pytest.param({"metadata__generation": 4}, 3, 2, 2, 2, False, 4, id="a debug container"),
        pytest.param(
            {"metadata__generation": 4, "spec__resources": {"limits": {"cpu": "2"}}},
            3, 2, 2, 2, False, 3,
            id="a resize that is not answered yet",
        ),
        pytest.param(
            {"metadata__generation": 4, "spec__resources": {"limits": {"cpu": "2"}}},
            3, 2, 2, 2, True, 4,
            id="a resize that was rejected",
        ),
        pytest.param(
            {
                "metadata__generation": 4,
                "spec__resources": {"limits": {"cpu": "2"}},
                "spec__tolerations": [],
            },
            3, 2, 2, 2, True, 3,
            id="a resize that was rejected beside a change that was not written",
        ),
        pytest.param({"metadata__deletionTimestamp": "x"}, 2, 1, 1, 1, False, 2, id="a deletion"),
        pytest.param({"metadata__generation": 0}, 0, 1, 1, 1, False, 0, id="home counts none"),
    ],
)  # fmt: skip
def test_the_generation_that_home_shows(
    home: dict[str, Any],
    live: int,
    written: int,
    mirror: int,
    observed: int | None,
    rejected: bool,
    shown: int,
) -> None:
    foreign = _recorded(_pod(), mirror=written)
    foreign["metadata"]["generation"] = mirror
    if observed is not None:
        cast("Any", foreign["status"])["observedGeneration"] = observed
    pod = _pod(**home)
    pod["status"] = cast("Any", {"observedGeneration": live} if live else {})
    assert applied.observed_generation(pod, foreign, resize_rejected=rejected) == shown


def test_a_mirror_of_an_older_version_shows_the_generation_of_home() -> None:
    shown = applied.observed_generation(_pod(), objects.mirror(), resize_rejected=False)
    assert shown == 3
