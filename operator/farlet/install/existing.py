"""Why a VirtualNode that exists does not become the wanted one: pure.

The API server refuses such a change too (`manager.virtual_node`, `manager.schema`), but only when
`connect` has changed permissions, gateway and credentials in both clusters already.
"""

from __future__ import annotations

from farlet.constants import JSON
from farlet.install.connection import CONNECT
from farlet.planning.api_refusals import AT_HOME, CONTEXTS

IMMUTABLE = {
    ("identity",): "--identity",
    ("foreign", "systemNamespace"): "--foreign-system-namespace",
    ("namespaces", "homeName"): "--home-name",
}
"""Immutable fields of the spec, and the flag of `connect` that sets each."""

_FLAG_VALUES = {"Node": "node", "ServiceAccount": "service-account"}
_ENDPOINTS = {"gateway": "--gateway", "homeAPIServer": "--home-api-server-host"}
"""Fields of the spec that exclude each other, and the flag of `connect` that sets each."""


def refusal(found: JSON, wanted: JSON) -> str | None:
    """Both are VirtualNodes of the same name. The text says what to do."""
    return _of_immutable(found, wanted) or _of_endpoint(found, wanted)


def _of_immutable(found: JSON, wanted: JSON) -> str | None:
    differences, flags = [], []
    for path, flag in IMMUTABLE.items():
        present, value = _at(found, path), _at(wanted, path)
        if present is None or present == value:
            continue
        differences.append(f"spec.{'.'.join(path)} is {present}, not {value}")
        flags.append(f"{flag} {_FLAG_VALUES.get(str(present), present)}")
    if not differences:
        return None
    immutable = "This field is immutable" if len(flags) == 1 else "These fields are immutable"
    return (
        f"{_shown(found)} exists, and its {', and its '.join(differences)}. {immutable}. To keep "
        f"the virtual node, add {' '.join(flags)}; to change it, first remove it: farlet "
        f"disconnect {CONTEXTS} --node {found['metadata']['name']}"
    )


def _of_endpoint(found: JSON, wanted: JSON) -> str | None:
    """Server-side apply removes a field that only `connect` has set, and no other one."""
    for field in _ENDPOINTS:
        owners = sorted(_owners(found, field) - {CONNECT})
        if field in wanted["spec"] or field not in (found.get("spec") or {}) or not owners:
            continue
        (other,) = set(_ENDPOINTS) - {field}
        metadata = found["metadata"]
        patch = f'[{{"op":"remove","path":"/spec/{field}"}}]'
        return (
            f"{_shown(found)} has spec.{field}, which {', '.join(owners)} has set and which "
            f"excludes spec.{other}. To keep it, leave out {_ENDPOINTS[other]}; "
            f"to remove it: {AT_HOME} -n {metadata['namespace']} patch virtualnode "
            f"{metadata['name']} --type=json -p '{patch}'"
        )
    return None


def _owners(found: JSON, field: str) -> set[str]:
    """The field managers that have set a field of the spec."""
    return {
        str(one.get("manager"))
        for one in found["metadata"].get("managedFields") or ()
        if f"f:{field}" in ((one.get("fieldsV1") or {}).get("f:spec") or {})
    }


def _at(obj: JSON, path: tuple[str, ...]) -> object:
    value: object = obj.get("spec")
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _shown(found: JSON) -> str:
    metadata = found["metadata"]
    return f"the VirtualNode {metadata['namespace']}/{metadata['name']}"
