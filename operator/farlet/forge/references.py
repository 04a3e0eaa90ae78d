"""All references of a pod to Secrets and ConfigMaps.

The same fields as `VisitPodSecretNames` and `VisitPodConfigmapNames` in `pkg/api/v1/pod/util.go` of
Kubernetes, which the node authorizer uses, too. References of other objects (a claim's volume, a
ServiceAccount) are not the pod's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
            path = f"spec.{group}[{container['name']}]"
            for index, source in enumerate(container.get("envFrom") or ()):
                yield from _in(source, _ENV_FROM, f"{path}.envFrom[{index}]")
            for variable in container.get("env") or ():
                if source := variable.get("valueFrom"):
                    at = f"{path}.env[{variable['name']}].valueFrom"
                    yield from _in(source, _VALUE_FROM, at)


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
