"""The CustomResourceDefinition is a structural schema with the rules of VirtualNode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from farlet.constants import JSON
from farlet.manager import schema, virtual_node
from farlet.manager.virtual_node import VirtualNode
from unit.manager.nodes import found

CRD = schema.custom_resource_definition()
ROOT: JSON = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
SPEC: JSON = ROOT["properties"]["spec"]
FORBIDDEN = {"$ref", "$defs", "title", "const", "oneOf", "exclusiveMinimum", "nullable"}
"""Keys that a structural schema does not have, or that mean something else there."""


def schemas(found: JSON, path: str = "") -> Iterator[tuple[str, JSON]]:
    yield path, found
    for name, one in found.get("properties", {}).items():
        yield from schemas(one, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in found:
            yield from schemas(found[key], f"{path}[]")


def test_every_schema_is_structural() -> None:
    for path, one in schemas(ROOT):
        assert not FORBIDDEN & one.keys(), path
        assert "type" in one or one.get("x-kubernetes-int-or-string"), path
        assert not {"properties", "additionalProperties"} <= one.keys(), path


def test_every_field_has_a_description() -> None:
    for path, one in schemas(SPEC, "spec"):
        if not path.endswith("[]"):
            assert one["description"].endswith("."), path


def test_conditions_are_a_map_by_type() -> None:
    conditions = ROOT["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert "observedGeneration" in conditions["items"]["properties"]


def test_the_status_is_a_subresource() -> None:
    assert CRD["spec"]["versions"][0]["subresources"] == {"status": {}}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param("replicas", 2, id="replicas"),
        pytest.param("identity", "Node", id="identity"),
        pytest.param("foreign.systemNamespace", "farlet", id="system namespace"),
        pytest.param("namespaces.homeName", "home", id="home name"),
        pytest.param("namespaces.template", "{namespace}-{home}", id="template"),
        pytest.param("access.default", "home", id="access"),
        pytest.param("reflection.events", "all", id="events"),
        pytest.param("podNetwork", "isolated", id="pod network"),
    ],
)
def test_a_default_is_in_the_schema_and_applies_without_its_parent(path: str, value: Any) -> None:
    found = SPEC
    for name in path.split("."):
        assert found["default"] == {}
        found = found["properties"][name]
    assert found["default"] == value


@pytest.mark.parametrize("path", ["identity", "foreign.systemNamespace", "namespaces.homeName"])
def test_a_field_by_which_foreign_objects_are_found_is_immutable(path: str) -> None:
    found = SPEC
    for name in path.split("."):
        found = found["properties"][name]
    assert found[virtual_node.RULES][0]["rule"] == "self == oldSelf"


def test_a_node_without_a_spec_has_all_defaults() -> None:
    node = VirtualNode.parse({"metadata": found()["metadata"]})
    assert node.spec == virtual_node.Spec()
    assert node.object_name == "farlet-far"
    assert node.secrets == {"farlet-far-home", "farlet-far-foreign"}
    assert node.selector == {
        "app.kubernetes.io/name": "farlet",
        "app.kubernetes.io/instance": "far",
    }


def test_secrets_of_a_service_account_with_a_gateway() -> None:
    node = VirtualNode.parse(
        found(
            identity="ServiceAccount",
            foreign={"kubeconfigSecret": {"name": "mine"}},
            gateway={"keysSecret": {"name": "keys"}},
        )
    )
    assert node.secrets == {"mine", "keys"}


def test_a_quantity_may_be_a_number() -> None:
    assert VirtualNode.parse(found(capacity={"cpu": 8})).spec.capacity == {"cpu": "8"}


def test_an_unknown_field_of_a_newer_version_is_ignored() -> None:
    assert VirtualNode.parse(found(novel=1)).spec == virtual_node.Spec()


def test_a_value_that_the_schema_rejects_is_rejected_here_too() -> None:
    with pytest.raises(ValidationError, match="replicas"):
        VirtualNode.parse(found(replicas=9))


def test_the_owner_never_blocks_a_deletion() -> None:
    assert VirtualNode.parse(found()).owner == {
        "apiVersion": "farlet.io/v1alpha1",
        "kind": "VirtualNode",
        "name": "far",
        "uid": "uid-of-far",
    }
