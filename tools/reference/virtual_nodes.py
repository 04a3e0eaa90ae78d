"""The page with all fields of a VirtualNode, from its schema."""

from __future__ import annotations

import json
from collections.abc import Iterator

from farlet.constants import JSON
from farlet.manager import schema
from farlet.manager.virtual_node import Spec

_INTRO = """\
# Fields of a VirtualNode

All fields of `spec`. [VirtualNodes and the manager](../virtual-nodes.md) describes what they do.
`kubectl explain virtualnode.spec` prints them too. A list of objects has `[]`.

"""


def page() -> str:
    """The whole page."""
    rows = [
        "| Field | Type | Default | Meaning |\n| --- | --- | --- | --- |\n",
        *(
            f"| `{path}` | {_type(found)} | {_default(found)} | {_meaning(found)} |\n"
            for path, found in _fields(schema.structural(Spec))
        ),
    ]
    return _INTRO + "".join(rows)


def _fields(found: JSON, path: str = "") -> Iterator[tuple[str, JSON]]:
    for name, one in found["properties"].items():
        where = f"{path}.{name}" if path else name
        inner = one.get("items", one)
        if "properties" in inner:
            if one["type"] == "array":
                where += "[]"
            yield from _fields(inner, where)
        else:
            yield where, one


def _type(found: JSON) -> str:
    if found.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "enum" in found:
        return "string"
    if found["type"] == "array":
        return f"list of {_type(found['items'])}"
    if found["type"] == "object":
        return f"map to {_type(found['additionalProperties'])}"
    kind: str = found["type"]
    return kind


def _default(found: JSON) -> str:
    value = found.get("default", "")
    text = value if isinstance(value, str) else json.dumps(value)
    return f"`{text}`" if text else ""


def _meaning(found: JSON) -> str:
    text: str = found["description"]
    if "enum" in found:
        text += " One of " + ", ".join(f"`{value}`" for value in found["enum"]) + "."
    if any(rule["rule"] == "self == oldSelf" for rule in found.get("x-kubernetes-validations", ())):
        text += " Immutable."
    return text.replace("|", "\\|")
