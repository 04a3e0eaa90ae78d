"""The write that brings a change of a home pod to its mirror."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, cast

import orjson
import pytest

from farlet.constants import APPLIED
from farlet.context import Context, MirrorPatch
from farlet.forge import applied, conditions
from farlet.forge import pod as pods
from farlet.k8s_types import Pod
from farlet.planning import changes
from unit.planning import objects
from unit.planning.objects import ANCHOR, CONTEXT, MIRROR, NOW

KEEPING = dataclasses.replace(CONTEXT, keep_labels=("kept/",), keep_annotations=("kept/",))
PATCHING = dataclasses.replace(CONTEXT, mirror_patch=MirrorPatch(labels={"team": "platform"}))
SOON = {"effect": "NoExecute", "key": "node.kubernetes.io/not-ready", "operator": "Exists"}
GPU = {"key": "gpu", "operator": "Exists"}


def home(mode: str = "disabled", **changed: Any) -> Pod:
    """H; a name like `spec__tolerations` sets one of its fields."""
    pod = cast("Any", objects.home(annotations={"liqo.io/api-server-support": mode}))
    pod["metadata"] |= {"generation": 2, "labels": {"app": "web", "kept/queue": "a"}}
    pod["metadata"]["annotations"] |= {"go": "no", "kept/address": "a"}
    pod["spec"]["containers"] = [
        {"name": "main", "image": "example.org/app:1"},
        {"name": "proxy", "image": "example.org/proxy:1"},
    ]
    pod["spec"]["initContainers"] = [{"name": "first", "image": "example.org/first:1"}]
    pod["spec"]["tolerations"] = [{**SOON, "tolerationSeconds": 300}]
    for path, value in changed.items():
        part, field = path.split("__")
        merged = {**pod[part].get(field, {}), **value} if isinstance(value, dict) else value
        pod[part][field] = merged
    return cast("Pod", pod)


def mirror_of(pod: Pod, ctx: Context = CONTEXT, **changed: Any) -> Pod:
    """The mirror of H, as farlet created it and as the foreign cluster stores it."""
    forged = pods.forge_mirror(
        pod,
        strategy=objects.STRATEGIES[pod["metadata"]["annotations"]["liqo.io/api-server-support"]],
        ctx=ctx,
        anchor=ANCHOR,
        token_times={},
        restarts={},
    ).pod
    mirror = cast("Any", copy.deepcopy(forged))
    mirror["metadata"] |= {"uid": MIRROR, "resourceVersion": "7", "generation": 1}
    mirror["status"] = {"startTime": objects.STAMP}
    for path, value in changed.items():
        part, field = path.split("__")
        mirror[part][field] = (
            {**mirror[part].get(field, {}), **value} if isinstance(value, dict) else value
        )
    return cast("Pod", mirror)


def sent(pod: Pod, mirror: Pod, ctx: Context = CONTEXT, mode: str = "disabled") -> Any:
    """The body, without uid and record; `None` if nothing is sent."""
    action = changes.due(pod, mirror, selected=mode, ctx=ctx, now=NOW).update
    if action is None:
        return None
    body = copy.deepcopy(action.body)
    assert body["metadata"].pop("uid") == MIRROR
    assert body["metadata"]["annotations"].pop(APPLIED)
    assert (body["metadata"].pop("resourceVersion", None) == "7") is ("spec" in body)
    body["metadata"] = {key: value for key, value in body["metadata"].items() if value}
    return {key: value for key, value in body.items() if value}


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
    due = changes.due(pod, mirror, selected=None, ctx=CONTEXT, now=NOW)
    assert due.update is not None
    assert due.resize is not None
    assert due.update.fields == ("metadata.labels",)
    mirror["metadata"]["annotations"] |= due.update.body["metadata"]["annotations"]
    for found in (applied.read(mirror), due.resize.record):
        assert found is not None
        assert found.digests["spec.later"] == "48c8539e841b39c4"


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


@pytest.mark.parametrize(
    "ctx",
    [KEEPING, dataclasses.replace(CONTEXT, mirror_patch=MirrorPatch(labels={"kept/queue": "c"}))],
    ids=["kept prefixes", "labels of the administrator"],
)
def test_a_changed_setting_removes_no_label_that_home_still_has(ctx: Context) -> None:
    mirror = mirror_of(home())
    pod = home(metadata__labels={"app": "api"}, metadata__annotations={"go": "yes"})
    action = changes.due(pod, mirror, selected=None, ctx=ctx, now=NOW).update
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
    ("home_started", "mirror_started", "limit", "seconds"),
    [
        pytest.param(0, 0, None, 600, id="a first mirror"),
        pytest.param(-100, 0, None, 500, id="a mirror that started later"),
        pytest.param(-700, 0, None, 1, id="a deadline that has passed"),
        pytest.param(0, None, None, 600, id="a mirror that has not started"),
        pytest.param(None, 0, None, 600, id="a pod that home does not show as started"),
        pytest.param(0, 0, 400, None, id="a mirror that has less already"),
    ],
)
def test_a_deadline_counts_from_the_start_of_the_home_pod(
    home_started: int | None, mirror_started: int | None, limit: int | None, seconds: int | None
) -> None:
    pod, mirror = home(spec__activeDeadlineSeconds=600), mirror_of(home())
    pod["status"] = cast("Any", _started(home_started))
    mirror["status"] = cast("Any", _started(mirror_started))
    if limit is not None:
        mirror["spec"]["activeDeadlineSeconds"] = limit
    assert sent(pod, mirror) == (
        {} if seconds is None else {"spec": {"activeDeadlineSeconds": seconds}}
    )


def _started(offset: int | None) -> dict[str, Any]:
    stamps = {0: objects.STAMP, -100: "2026-01-02T03:02:25Z", -700: "2026-01-02T02:52:25Z"}
    return {} if offset is None else {"startTime": stamps[offset]}


def _waited(*, bound: float | None, started: float, ahead: float = 0.0) -> tuple[Pod, Any]:
    """H and M, which was created at `NOW`. Seconds after it: when M was bound, and when a kubelet
    started it, whose clock is `ahead`. H shows the start by farlet's clock.
    """
    pod = home(spec__activeDeadlineSeconds=600)
    mirror: Any = mirror_of(pod, metadata__creationTimestamp=conditions.rfc3339(NOW))
    pod["status"] = {"startTime": conditions.rfc3339(NOW + 2)}
    mirror["status"] = {"startTime": conditions.rfc3339(NOW + started + ahead)}
    if bound is not None:
        stamp = conditions.rfc3339(NOW + bound)
        condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp}
        mirror["status"]["conditions"] = [condition]
    return pod, mirror


def _corrected(pod: Pod, mirror: Pod, now: float) -> Any:
    action = changes.due(pod, mirror, selected=None, ctx=CONTEXT, now=now).update
    return None if action is None else action.body.get("spec")


@pytest.mark.parametrize("bound", [True, False], ids=["bound", "no time of the binding"])
@pytest.mark.parametrize(
    ("waited", "seconds"),
    [
        pytest.param(0, None, id="started at once"),
        pytest.param(5, None, id="started a moment later"),
        pytest.param(100, 500, id="waited for a node"),
        pytest.param(900, 1, id="waited for longer than it may run"),
    ],
)
def test_a_mirror_that_waited_for_its_node_gets_what_is_left_of_the_deadline(
    waited: int, seconds: int | None, bound: bool
) -> None:
    pod, mirror = _waited(bound=waited if bound else None, started=waited)
    body = None if seconds is None else {"activeDeadlineSeconds": seconds}
    assert _corrected(pod, mirror, NOW + waited) == body
    mirror["spec"].update(body or {})
    assert _corrected(pod, mirror, NOW + waited) is None, "once"
    mirror["spec"]["activeDeadlineSeconds"] = 600
    del mirror["status"]["startTime"]
    assert _corrected(pod, mirror, NOW + waited) is None, "no kubelet counts yet"


@pytest.mark.parametrize("later", [4, 400], ids=["at once", "when home's clock has caught up"])
def test_a_node_whose_clock_is_ahead_shortens_no_deadline(later: int) -> None:
    pod, mirror = _waited(bound=3, started=4, ahead=300)
    assert _corrected(pod, mirror, NOW + later) is None
    pod["spec"]["activeDeadlineSeconds"] = 500
    assert _corrected(pod, mirror, NOW + later) == {"activeDeadlineSeconds": 497}


def test_a_start_in_the_future_is_no_wait() -> None:
    pod, mirror = _waited(bound=None, started=4, ahead=300)
    assert _corrected(pod, mirror, NOW + 4) is None


def test_a_home_cluster_whose_clock_is_ahead_is_no_wait() -> None:
    pod, mirror = _waited(bound=1, started=1)
    pod["status"] = {"startTime": conditions.rfc3339(NOW - 300)}
    assert _corrected(pod, mirror, NOW + 4) is None


def test_the_deadline_of_a_mirror_that_waited_does_not_wait_for_a_rejected_change() -> None:
    pod, mirror = _waited(bound=100, started=100)
    pod["metadata"]["labels"] = {"app": "api"}
    asked: dict[str, Any] = {"selected": None, "ctx": CONTEXT, "now": NOW + 100}
    both = changes.due(pod, mirror, **asked).update
    assert both is not None
    assert both.fields == ("metadata.labels", "spec.activeDeadlineSeconds")
    alone = changes.due(pod, mirror, **asked, rejected={both.wanted}).update
    assert alone is not None
    assert alone.fields == ("spec.activeDeadlineSeconds",)
    assert alone.body["spec"] == {"activeDeadlineSeconds": 500}
    assert set(alone.body["metadata"]) == {"uid", "annotations", "resourceVersion"}
    mirror["metadata"]["annotations"] |= alone.body["metadata"]["annotations"]
    record = applied.read(mirror)
    assert record is not None
    assert applied.changed(pod, record) == {"metadata.labels"}
    assert "app" in record.labels
    rejected = {both.wanted, alone.wanted}
    assert changes.due(pod, mirror, **asked, rejected=rejected).update is None


@pytest.mark.parametrize(("started", "left"), [(None, 600), (0, 600), (-100, 500), (-700, 1)])
def test_a_further_mirror_gets_what_is_left_of_the_deadline(started: int | None, left: int) -> None:
    pod = home(spec__activeDeadlineSeconds=600)
    pod["status"] = cast("Any", _started(started))
    forged = cast("Any", mirror_of(pod))
    created = changes.with_deadline_left(forged, pod, now=NOW)
    assert created["spec"]["activeDeadlineSeconds"] == left


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
    action = changes.due(pod, mirror, selected=None, ctx=CONTEXT, now=NOW).update
    assert action is not None
    record = orjson.loads(action.body["metadata"]["annotations"][APPLIED])
    assert (record["home"], record["mirror"]) == (9, generation)
    assert record["labels"] == sorted(pod["metadata"]["labels"])


def test_two_equal_changes_are_wanted_alike() -> None:
    def wanted(**changed: Any) -> tuple[str | None, ...]:
        pod, mirror = home(**changed), mirror_of(home())
        found = changes.due(pod, mirror, selected=None, ctx=CONTEXT, now=NOW)
        return tuple(None if one is None else one.wanted for one in found)

    once = wanted(metadata__labels={"app": "api"})
    assert once == wanted(metadata__labels={"app": "api"})
    assert once != wanted(metadata__labels={"app": "other"})
    bigger = wanted(spec__resources={"limits": {"cpu": "2"}})
    both = wanted(metadata__labels={"app": "api"}, spec__resources={"limits": {"cpu": "2"}})
    assert (once, bigger) == ((both[0], None), (None, both[1]))


def _sized(main: Any = None, proxy: Any = None, first: Any = None) -> dict[str, Any]:
    """Fields of H with these requests and limits."""
    return {
        "spec__containers": [
            {"name": "main", "image": "example.org/app:1", "resources": main or {}},
            {"name": "proxy", "image": "example.org/proxy:1", "resources": proxy or {}},
        ],
        "spec__initContainers": [
            {"name": "first", "image": "example.org/first:1", "resources": first or {}}
        ],
    }


TWO = {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}


@pytest.mark.parametrize(
    ("changed", "spec"),
    [
        pytest.param(_sized(), None, id="nothing"),
        pytest.param(
            _sized(main=TWO),
            {"containers": [{"name": "main", "resources": TWO}]},
            id="a container",
        ),
        pytest.param(
            _sized(proxy={**TWO, "claims": [{"name": "gpu"}]}, first=TWO),
            {
                "containers": [{"name": "proxy", "resources": TWO}],
                "initContainers": [{"name": "first", "resources": TWO}],
            },
            id="a container and an init container",
        ),
        pytest.param({"spec__resources": TWO}, {"resources": TWO}, id="the pod"),
    ],
)
def test_resources_are_sent_to_the_subresource(changed: dict[str, Any], spec: Any) -> None:
    pod = home(**changed, metadata__generation=9)
    found = changes.due(pod, mirror_of(home()), selected=None, ctx=CONTEXT, now=NOW)
    assert found.update is None
    if spec is None:
        assert found.resize is None
        return
    assert found.resize is not None
    assert found.resize.body == {"metadata": {"uid": MIRROR}, "spec": spec}
    record = found.resize.record
    assert record.home == 9
    assert not applied.changed(pod, record)


def test_a_change_and_a_resize_record_only_what_they_have_written() -> None:
    pod = home(spec__resources=TWO, metadata__labels={"app": "api"}, metadata__generation=9)
    mirror = mirror_of(home())
    found = changes.due(pod, mirror, selected=None, ctx=CONTEXT, now=NOW)
    assert found.update is not None
    assert found.resize is not None
    mirror["metadata"]["annotations"] |= found.update.body["metadata"]["annotations"]
    record = applied.read(mirror)
    assert record is not None
    assert applied.changed(pod, record) == {"spec.resources"}
    assert applied.changed(pod, found.resize.record) == {"metadata.labels"}
    assert record.home == found.resize.record.home == 2
    after = changes.due(pod, mirror, selected=None, ctx=CONTEXT, now=NOW)
    assert after.update is None
    assert after.resize is not None
    assert applied.changed(pod, after.resize.record) == set()
    assert after.resize.record.home == 9


def test_resources_of_a_mirror_whose_record_lacks_them_are_not_written() -> None:
    mirror = mirror_of(home())
    record = orjson.loads(mirror["metadata"]["annotations"][APPLIED])
    record["digests"] = {k: v for k, v in record["digests"].items() if "resources" not in k}
    mirror["metadata"]["annotations"][APPLIED] = orjson.dumps(record).decode()
    pod = home(spec__resources=TWO)
    assert changes.due(pod, mirror, selected=None, ctx=CONTEXT, now=NOW) == changes.NOTHING_DUE
