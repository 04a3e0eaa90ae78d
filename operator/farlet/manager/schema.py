"""The CustomResourceDefinition of VirtualNode, derived from `virtual_node`. Pure.

A structural schema has no references, and a field that may be absent is not nullable
(https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/
custom-resource-definitions/#specifying-a-structural-schema).
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from farlet.constants import JSON
from farlet.manager.virtual_node import (
    GROUP,
    KIND,
    LONGEST_NAME,
    PLURAL,
    RULES,
    VERSION,
    Spec,
    Status,
)

NAME = f"{PLURAL}.{GROUP}"

_NAME_RULES = (
    {
        "rule": f"self.metadata.name.size() <= {LONGEST_NAME} && "
        "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        "message": "metadata.name is the name of the Node: expected up to "
        f"{LONGEST_NAME} characters a-z, 0-9 and '-', beginning and ending with a letter or digit",
    },
    {
        "rule": "self.metadata.name != 'manager'",
        "message": "the objects of a VirtualNode with the name manager would have the names of "
        "the manager's own: choose another name",
    },
)
_SPEC_RULES = (
    {
        "rule": "!(has(self.gateway) && has(self.homeAPIServer))",
        "message": "gateway and homeAPIServer exclude each other: with an address of "
        "homeAPIServer, farlet does not use the gateway",
    },
    {
        # The API server evaluates it for the default of spec too, before other defaults.
        "rule": "!has(self.reflection) || !has(self.reflection.services) || "
        "!self.reflection.services || (has(self.podNetwork) && self.podNetwork == 'connected')",
        "message": "reflection.services requires podNetwork connected: without a route between "
        "the pod networks, endpoints of home Services are not reachable for mirror pods",
    },
)
_COLUMNS = (
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
    ("Node", "string", ".metadata.name"),
    ("Foreign", "string", ".status.foreignServer"),
    ("Pods", "integer", ".status.pods"),
    ("Age", "date", ".metadata.creationTimestamp"),
)


def custom_resource_definition() -> JSON:
    """The object, as `crds/farlet.io_virtualnodes.yaml` contains it."""
    columns = [{"name": name, "type": type_, "jsonPath": path} for name, type_, path in _COLUMNS]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["vn"],
                "categories": ["farlet"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": _root()},
                }
            ],
        },
    }


def _root() -> JSON:
    spec = structural(Spec)
    spec["default"] = {}
    spec[RULES] = list(_SPEC_RULES)
    return {
        "type": "object",
        "description": "A foreign cluster as a node of this cluster. The manager runs a farlet for "
        "each VirtualNode in its own namespace; metadata.name is the name of the Node.",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": structural(Status),
        },
        RULES: list(_NAME_RULES),
    }


def structural(model: type[BaseModel]) -> JSON:
    """The schema of a model, with defaults, without references and titles."""
    found = model.model_json_schema(by_alias=True)
    result: JSON = _plain(found, found.get("$defs", {}))
    return result


def _plain(found: JSON, definitions: JSON) -> JSON:
    """One schema and those within it."""
    if (reference := found.get("$ref")) is not None:
        named = definitions[reference.rpartition("/")[2]]
        return _plain({**named, **{k: v for k, v in found.items() if k != "$ref"}}, definitions)
    if (either := found.get("anyOf")) is not None and {"type": "null"} in either:
        (one,) = (option for option in either if option != {"type": "null"})
        rest = {k: v for k, v in found.items() if k not in ("anyOf", "default")}
        return _plain({**one, **rest}, definitions)
    result: JSON = {}
    for key, value in found.items():
        match key:
            case "title" | "$defs" | "propertyNames":
                continue
            case "const":
                result["enum"] = [value]
            case "properties":
                result[key] = {name: _plain(one, definitions) for name, one in value.items()}
            case "items":
                result[key] = _plain(value, definitions)
            case "additionalProperties" if isinstance(value, dict):
                result[key] = _plain(value, definitions)
            case "additionalProperties":
                continue
            case _:
                result[key] = value
    if "properties" in result:
        # Defaults within an object apply only if the object exists.
        result.pop("default", None)
        if _has_defaults(result):
            result["default"] = {}
    return result


def _has_defaults(schema: JSON) -> bool:
    """Whether an object with these properties may be empty, and then gets defaults."""
    properties: dict[str, Any] = schema["properties"]
    return not schema.get("required") and any("default" in one for one in properties.values())
