"""All references of a pod to Secrets and ConfigMaps.

The same fields as `VisitPodSecretNames` and `VisitPodConfigmapNames` in `pkg/api/v1/pod/util.go` of
Kubernetes, which the node authorizer uses, too. References of other objects (a claim's volume, a
ServiceAccount) are not the pod's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias, cast

from farlet.constants import JSON
from farlet.k8s_types import PodSpec


class Kind(StrEnum):
    """What a reference names, in the pod's own namespace."""

    SECRET = "Secret"  # noqa: S105
    CONFIG_MAP = "ConfigMap"


class Reference(NamedTuple):
    """`path` is the field that contains `name`."""

    kind: Kind
    path: str
    name: str


_Table: TypeAlias = Mapping[str, tuple[Kind, tuple[str, ...]]]
"""First key -> what is referred to, and the other keys down to its name."""

_VOLUMES: _Table = MappingProxyType(
    {
        "azureFile": (Kind.SECRET, ("secretName",)),
        "cephfs": (Kind.SECRET, ("secretRef", "name")),
        "cinder": (Kind.SECRET, ("secretRef", "name")),
        "configMap": (Kind.CONFIG_MAP, ("name",)),
        "csi": (Kind.SECRET, ("nodePublishSecretRef", "name")),
        "flexVolume": (Kind.SECRET, ("secretRef", "name")),
        "iscsi": (Kind.SECRET, ("secretRef", "name")),
        "rbd": (Kind.SECRET, ("secretRef", "name")),
        "scaleIO": (Kind.SECRET, ("secretRef", "name")),
        "secret": (Kind.SECRET, ("secretName",)),
        "storageos": (Kind.SECRET, ("secretRef", "name")),
    }
)
_PROJECTIONS: _Table = MappingProxyType(
    {"secret": (Kind.SECRET, ("name",)), "configMap": (Kind.CONFIG_MAP, ("name",))}
)
_ENV_FROM: _Table = MappingProxyType(
    {"secretRef": (Kind.SECRET, ("name",)), "configMapRef": (Kind.CONFIG_MAP, ("name",))}
)
_VALUE_FROM: _Table = MappingProxyType(
    {"secretKeyRef": (Kind.SECRET, ("name",)), "configMapKeyRef": (Kind.CONFIG_MAP, ("name",))}
)
_PULL_SECRET: _Table = MappingProxyType({"name": (Kind.SECRET, ())})


def references(spec: PodSpec) -> Iterator[Reference]:
    """Every reference with a name, of all containers (ephemeral ones too) and volumes."""
    raw = cast("JSON", spec)
    for index, secret in enumerate(raw.get("imagePullSecrets") or ()):
        yield from _in(secret, _PULL_SECRET, f"spec.imagePullSecrets[{index}]")
    for volume in raw.get("volumes") or ():
        path = f"spec.volumes[{volume['name']}]"
        yield from _in(volume, _VOLUMES, path)
        for index, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
            yield from _in(source, _PROJECTIONS, f"{path}.projected.sources[{index}]")
    for group in ("initContainers", "containers", "ephemeralContainers"):
        for container in raw.get(group) or ():
            yield from of_container(container, f"spec.{group}[{container['name']}]")


def of_container(container: JSON, path: str) -> Iterator[Reference]:
    """Every reference with a name of one container."""
    for index, source in enumerate(container.get("envFrom") or ()):
        yield from _in(source, _ENV_FROM, f"{path}.envFrom[{index}]")
    for variable in container.get("env") or ():
        if source := variable.get("valueFrom"):
            yield from _in(source, _VALUE_FROM, f"{path}.env[{variable['name']}].valueFrom")


def renamed(spec: PodSpec, rename: Callable[[Kind, str], str]) -> PodSpec:
    """The spec with another name in every reference; what has none is shared with `spec`."""
    raw = cast("JSON", spec)
    changed: JSON = {}
    for field, table in (("imagePullSecrets", _PULL_SECRET), ("volumes", _VOLUMES)):
        if raw.get(field):
            changed[field] = [_renamed(source, table, rename) for source in raw[field]]
    for index, volume in enumerate(changed.get("volumes", ())):
        projected = volume.get("projected") or {}
        if projected.get("sources"):
            sources = [_renamed(one, _PROJECTIONS, rename) for one in projected["sources"]]
            changed["volumes"][index] = {**volume, "projected": {**projected, "sources": sources}}
    for group in ("initContainers", "containers", "ephemeralContainers"):
        if raw.get(group):
            changed[group] = [_in_container(container, rename) for container in raw[group]]
    return cast("PodSpec", {**raw, **changed})


def _in_container(container: JSON, rename: Callable[[Kind, str], str]) -> JSON:
    changed: JSON = {}
    if container.get("envFrom"):
        changed["envFrom"] = [_renamed(one, _ENV_FROM, rename) for one in container["envFrom"]]
    if any(variable.get("valueFrom") for variable in container.get("env") or ()):
        changed["env"] = [
            {**variable, "valueFrom": _renamed(variable["valueFrom"], _VALUE_FROM, rename)}
            if variable.get("valueFrom")
            else variable
            for variable in container["env"]
        ]
    return {**container, **changed} if changed else container


def _renamed(source: JSON, table: _Table, rename: Callable[[Kind, str], str]) -> JSON:
    for first in table.keys() & source.keys():
        kind, keys = table[first]
        source = {**source, first: _replaced(source[first], keys, kind, rename)}
    return source


def _replaced(
    node: Any, keys: tuple[str, ...], kind: Kind, rename: Callable[[Kind, str], str]
) -> Any:
    if not node:
        return node
    if not keys:
        return rename(kind, node)
    if keys[0] not in node:
        return node
    return {**node, keys[0]: _replaced(node[keys[0]], keys[1:], kind, rename)}


def _in(source: JSON, table: _Table, path: str) -> Iterator[Reference]:
    for first in source:
        if first not in table:
            continue
        kind, keys = table[first]
        node: Any = source[first]
        for key in keys:
            node = node.get(key) if node else None
        if node:
            yield Reference(kind, ".".join((path, first, *keys)), node)
