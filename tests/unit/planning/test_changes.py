"""The write that brings a change of a home pod to its mirror."""

from __future__ import annotations

import dataclasses
from typing import Any

import orjson
import pytest

from farlet.constants import APPLIED
from farlet.context import Context, MirrorPatch
from farlet.forge import applied
from unit.planning import objects
from unit.planning.changed_pods import SOON, TWO, due, home, mirror_of, sent
from unit.planning.objects import CONTEXT

KEEPING = dataclasses.replace(CONTEXT, keep_labels=("kept/",), keep_annotations=("kept/",))
PATCHING = dataclasses.replace(CONTEXT, mirror_patch=MirrorPatch(labels={"team": "platform"}))
GPU = {"key": "gpu", "operator": "Exists"}
CASES: dict[str, tuple[dict[str, Any], Any]] = {
    "nothing": ({}, None),
    "a label": (
        {"metadata__labels": {"app": "api"}},
        {"metadata": {"labels": {"app": "api"}}},
    ),
    "an annotation": (
        {"metadata__annotations": {"go": "yes"}},
        {"metadata": {"annotations": {"go": "yes"}}},
    ),
    "a mark of farlet": ({"metadata__annotations": {"farlet.io/foreign-pod-ip": "10.0.0.1"}}, None),
    "one image of several": (
        {
            "spec__containers": [
                {"name": "main", "image": "example.org/app:2"},
                {"name": "proxy", "image": "example.org/proxy:1"},
            ]
        },
        {"spec": {"containers": [{"name": "main", "image": "example.org/app:2"}]}},
    ),
    "the image of an init container": (
        {"spec__initContainers": [{"name": "first", "image": "example.org/first:2"}]},
        {"spec": {"initContainers": [{"name": "first", "image": "example.org/first:2"}]}},
    ),
    "a further toleration": (
        {"spec__tolerations": [{**SOON, "tolerationSeconds": 300}, GPU]},
        {"spec": {"tolerations": [{**SOON, "tolerationSeconds": 300}, GPU]}},
    ),
    "other seconds of a toleration": (
        {"spec__tolerations": [{**SOON, "tolerationSeconds": 5}]},
        {"spec": {"tolerations": [{**SOON, "tolerationSeconds": 5}]}},
    ),
    "a toleration of the virtual node": (
        {
            "spec__tolerations": [
                {**SOON, "tolerationSeconds": 300},
                {"key": "farlet.io/virtual-node", "operator": "Exists"},
            ]
        },
        {},
    ),
    "a deadline": (
        {"spec__activeDeadlineSeconds": 60},
        {"spec": {"activeDeadlineSeconds": 60}},
    ),
    "all in one": (
        {
            "metadata__labels": {"app": "api"},
            "metadata__annotations": {"go": "yes"},
            "spec__activeDeadlineSeconds": 60,
        },
        {
            "metadata": {"labels": {"app": "api"}, "annotations": {"go": "yes"}},
            "spec": {"activeDeadlineSeconds": 60},
        },
    ),
    "a field that Kubernetes does not let change": (
        {"spec__terminationGracePeriodSeconds": 5},
        None,
    ),
}


@pytest.mark.parametrize(("changed", "body"), CASES.values(), ids=CASES)
def test_a_change_is_sent(changed: dict[str, Any], body: Any) -> None:
    assert sent(home(**changed), mirror_of(home())) == body


@pytest.mark.parametrize(
    "ctx",
    [
        KEEPING,
        PATCHING,
        dataclasses.replace(CONTEXT, home_api=objects.CONTEXT.home_api, home_ca=""),
    ],
    ids=["kept prefixes", "labels of the administrator", "another CA"],
)
def test_a_changed_setting_sends_nothing(ctx: Context) -> None:
    assert sent(home(), mirror_of(home()), ctx) is None
    assert sent(home(), mirror_of(home(), ctx)) is None


def test_a_mirror_of_an_older_farlet_gets_nothing() -> None:
    mirror = mirror_of(home())
    del mirror["metadata"]["annotations"][APPLIED]
    assert sent(home(metadata__labels={"app": "api"}), mirror) is None


def test_a_path_of_a_later_farlet_has_not_changed_and_stays_in_the_record() -> None:
    mirror = mirror_of(home())
    record = orjson.loads(mirror["metadata"]["annotations"][APPLIED])
    record["digests"]["spec.later"] = "48c8539e841b39c4"
    mirror["metadata"]["annotations"][APPLIED] = orjson.dumps(record).decode()
    assert sent(home(), mirror) is None
    pod = home(metadata__labels={"app": "api"}, spec__resources=TWO)
    found = due(pod, mirror)
    assert found.update is not None
    assert found.resize is not None
    assert found.update.fields == ("metadata.labels",)
    mirror["metadata"]["annotations"] |= found.update.body["metadata"]["annotations"]
    for written in (applied.read(mirror), found.resize.record):
        assert written is not None
        assert written.digests["spec.later"] == "48c8539e841b39c4"


def test_what_home_removed_is_removed_and_what_others_added_stays() -> None:
    mirror = mirror_of(home(), metadata__labels={"sidecar": "injected"})
    pod = home()
    pod["metadata"]["labels"] = {}
    assert sent(pod, mirror) == {"metadata": {"labels": {"app": None, "kept/queue": None}}}


def test_what_others_changed_stays_until_home_changes_labels_itself() -> None:
    mirror = mirror_of(home(), metadata__labels={"app": "theirs"})
    assert sent(home(), mirror) is None
    assert sent(home(metadata__annotations={"go": "yes"}), mirror) == {
        "metadata": {"annotations": {"go": "yes"}}
    }
    assert sent(home(metadata__labels={"new": "x"}), mirror) == {
        "metadata": {"labels": {"app": "web", "new": "x"}}
    }


def test_a_label_that_the_administrator_sets_wins() -> None:
    pod = home(metadata__labels={"team": "shop", "new": "x"})
    mirror = mirror_of(home(metadata__labels={"team": "a"}), PATCHING)
    assert sent(pod, mirror, PATCHING) == {"metadata": {"labels": {"new": "x"}}}


@pytest.mark.parametrize("mode", ["home", "disabled"])
def test_a_label_that_is_kept_at_home_does_not_travel(mode: str) -> None:
    mirror = mirror_of(home(mode), KEEPING)
    pod = home(mode, metadata__labels={"kept/queue": "b"}, metadata__annotations={"kept/new": "b"})
    assert sent(pod, mirror, KEEPING, mode) == {}  # the record alone
    assert sent(home(mode), mirror, KEEPING, mode) is None


@pytest.mark.parametrize(
    ("selected", "marked", "travels"),
    [("remote", "remote", True), ("home", "remote", False), ("remote", "home", False)],
)
def test_marks_travel_to_mirrors_of_mode_remote(selected: str, marked: str, travels: bool) -> None:
    mirror = mirror_of(
        home("remote"), KEEPING, metadata__annotations={"farlet.io/api-access": marked}
    )
    body = sent(home("remote", metadata__labels={"kept/queue": "b"}), mirror, KEEPING, selected)
    assert body == ({"metadata": {"labels": {"kept/queue": "b"}}} if travels else {})


@pytest.mark.parametrize("mode", ["home", "remote"])
def test_a_change_leaves_the_zone_that_the_foreign_cluster_has_set(mode: str) -> None:
    zone = "topology.kubernetes.io/zone"
    mirror = mirror_of(home(mode, metadata__labels={zone: "home-1"}))
    mirror["metadata"]["labels"][zone] = "foreign-1"
    pod = home(mode, metadata__labels={zone: "home-1", "app": "api"})
    assert sent(pod, mirror, mode=mode) == {"metadata": {"labels": {"app": "api"}}}


@pytest.mark.parametrize(
    "ctx",
    [KEEPING, dataclasses.replace(CONTEXT, mirror_patch=MirrorPatch(labels={"kept/queue": "c"}))],
    ids=["kept prefixes", "labels of the administrator"],
)
def test_a_changed_setting_removes_no_label_that_home_still_has(ctx: Context) -> None:
    mirror = mirror_of(home())
    pod = home(metadata__labels={"app": "api"}, metadata__annotations={"go": "yes"})
    action = due(pod, mirror, ctx).update
    assert action is not None
    assert action.body["metadata"]["labels"] == {"app": "api"}
    assert set(action.body["metadata"]["annotations"]) == {"go", APPLIED}
    mirror["metadata"]["annotations"] |= action.body["metadata"]["annotations"]
    mirror["metadata"]["labels"] |= action.body["metadata"]["labels"]
    del pod["metadata"]["labels"]["kept/queue"]
    del pod["metadata"]["annotations"]["kept/address"]
    body = sent(pod, mirror, ctx)["metadata"]
    assert body["labels"] == {"kept/queue": None}
    assert body["annotations"] == {"kept/address": None}


def test_tolerations_that_the_foreign_cluster_added_stay() -> None:
    added = {"key": "foreign", "operator": "Exists"}
    mirror = mirror_of(home(), spec__tolerations=[added, {**SOON, "tolerationSeconds": 300}])
    body = sent(home(spec__tolerations=[GPU, {**SOON, "tolerationSeconds": 30}]), mirror)
    merged = [added, {**SOON, "tolerationSeconds": 30}, GPU]
    assert body == {"spec": {"tolerations": merged}}


@pytest.mark.parametrize(
    ("changed", "generation"),
    [({"metadata__labels": {"app": "api"}}, 1), ({"spec__activeDeadlineSeconds": 60}, 5)],
    ids=["labels", "spec"],
)
def test_the_record_names_the_generation_that_follows(
    changed: dict[str, Any], generation: int
) -> None:
    pod = home(**changed, metadata__generation=9)
    mirror = mirror_of(home(), metadata__generation=4)
    action = due(pod, mirror).update
    assert action is not None
    record = orjson.loads(action.body["metadata"]["annotations"][APPLIED])
    assert (record["home"], record["mirror"]) == (9, generation)
    assert record["labels"] == sorted(pod["metadata"]["labels"])


def test_two_equal_changes_are_wanted_alike() -> None:
    def wanted(**changed: Any) -> tuple[str | None, ...]:
        pod, mirror = home(**changed), mirror_of(home())
        found = due(pod, mirror)
        return tuple(None if one is None else one.wanted for one in found)

    once = wanted(metadata__labels={"app": "api"})
    assert once == wanted(metadata__labels={"app": "api"})
    assert once != wanted(metadata__labels={"app": "other"})
    bigger = wanted(spec__resources={"limits": {"cpu": "2"}})
    both = wanted(metadata__labels={"app": "api"}, spec__resources={"limits": {"cpu": "2"}})
    assert (once, bigger) == ((both[0], None), (None, both[1]))
