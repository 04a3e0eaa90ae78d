"""Objects of a form that no API server sends are recognised, whatever is wrong with them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from farlet.client import resources, shapes
from farlet.constants import ObjectKey
from farlet.k8s_types import PartialObject
from unit.planning import objects

POD: Any = objects.home(phase="Running", state=objects.RUNNING)


def _with(path: str, value: object) -> Any:
    pod = copy.deepcopy(POD)
    *parents, last = path.split(".")
    part = pod
    for parent in parents:
        part = part[int(parent)] if isinstance(part, list) else part[parent]
    part[last] = value
    return pod


def _nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"a": value}
    return value


INVALID: dict[str, Any] = {
    "no object": [],
    "nothing": None,
    "without metadata": {"spec": {}},
    "metadata that is a list": _with("metadata", []),
    "a spec that is null": _with("spec", None),
    "a spec that is a word": _with("spec", "none"),
    "a status that is a list": _with("status", []),
    "a version that is a word": _with("metadata.resourceVersion", "new"),
    "a version that is negative": _with("metadata.resourceVersion", "-1"),
    "a version of digits that are no numbers": _with("metadata.resourceVersion", "²"),
    "a version of a thousand digits": _with("metadata.resourceVersion", "1" * 1000),
    "a version that is a number": _with("metadata.resourceVersion", 7),
    "a uid that is null": _with("metadata.uid", None),
    "annotations that are numbers": _with("metadata.annotations", {"a": 1}),
    "a grace period that is a word": _with("metadata.deletionGracePeriodSeconds", "30"),
    "restarts that are a truth": _with("status.containerStatuses.0.restartCount", True),
    "restarts that are a fraction": _with("status.containerStatuses.0.restartCount", 0.5),
    "a field that JSON cannot write again": _with("spec.newField", _nested(300)),
    "a bad field and one that is nested deeply": {
        **_with("spec", 7),
        "x": _nested(990),
    },
    "a state that is a word": _with("status.containerStatuses.0.state", "running"),
}


@pytest.mark.parametrize("obj", INVALID.values(), ids=INVALID)
def test_a_pod_is_not_valid_with(obj: Any) -> None:
    assert shapes.problem(resources.PODS.shape, obj) is not None


VALID: dict[str, Any] = {
    "as it is": POD,
    "a null where Kubernetes writes zero times": _with("metadata.creationTimestamp", None),
    "a status that is null": _with("status", None),
    "an unknown field": _with("spec.newField", {"a": [1]}),
    "no version": {**POD, "metadata": {"name": "a", "namespace": "b", "uid": "c"}},
}


@pytest.mark.parametrize("obj", VALID.values(), ids=VALID)
def test_a_pod_is_valid_with(obj: Any) -> None:
    assert shapes.problem(resources.PODS.shape, obj) is None


KINDS: dict[str, resources.Resource[Any]] = {
    "a pod": resources.PODS,
    "the metadata of a pod": resources.PODS.metadata_only,
    "a Service": resources.SERVICES,
    "an EndpointSlice": resources.ENDPOINT_SLICES,
    "a whole Secret": resources.WHOLE_SECRETS,
}


@pytest.mark.parametrize("field", ["annotations", "labels"])
@pytest.mark.parametrize("resource", KINDS.values(), ids=KINDS)
def test_a_field_that_is_null_is_missing_behind_the_check_of(
    resource: resources.Resource[Any], field: str
) -> None:
    obj = _with(f"metadata.{field}", None)
    expected = copy.deepcopy(obj)
    del expected["metadata"][field]
    found = shapes.read(resource.shape, obj)
    assert found == (expected, None)
    assert obj["metadata"][field] is None, "the object itself is as it was"


def test_an_object_without_nulls_is_not_copied() -> None:
    assert shapes.read(resources.PODS.shape, POD).obj is POD


def test_a_problem_contains_no_value() -> None:
    problem = shapes.problem(resources.PODS.shape, _with("spec", "eyJhbGciOiJSUzI1NiJ9"))
    assert problem == "spec: Input should be a valid dictionary"


@pytest.mark.parametrize(
    ("obj", "key"),
    [
        ({"metadata": {"name": "a", "namespace": "b"}}, ObjectKey("b", "a")),
        ({"metadata": {"name": "a"}}, ObjectKey("", "a")),
        ({"metadata": {"name": 1}}, None),
        ({"metadata": None}, None),
        (None, None),
    ],
)
def test_the_key_of_an_object_of_any_form(obj: object, key: ObjectKey | None) -> None:
    assert shapes.key(obj) == key


@pytest.mark.parametrize("field", ["name", "namespace", "uid"])
def test_an_object_is_not_valid_with_a_long(field: str) -> None:
    metadata = {"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "7"}
    assert shapes.problem(PartialObject, {"metadata": metadata}) is None
    metadata[field] = "x" * 1025
    found = shapes.problem(PartialObject, {"metadata": metadata})
    assert found == f"metadata.{field}: it is longer than 1024 characters"
