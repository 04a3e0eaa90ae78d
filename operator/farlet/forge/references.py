"""All references of a pod to Secrets and ConfigMaps.

The same fields as `VisitPodSecretNames` and `VisitPodConfigmapNames` in `pkg/api/v1/pod/util.go` of
Kubernetes, which the node authorizer uses, too. References of other objects (a claim's volume, a
ServiceAccount) are not the pod's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NamedTuple, cast

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


_VOLUMES: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    (Kind.SECRET, ("azureFile", "secretName")),
    (Kind.SECRET, ("cephfs", "secretRef", "name")),
    (Kind.SECRET, ("cinder", "secretRef", "name")),
    (Kind.SECRET, ("csi", "nodePublishSecretRef", "name")),
    (Kind.SECRET, ("flexVolume", "secretRef", "name")),
    (Kind.SECRET, ("iscsi", "secretRef", "name")),
    (Kind.SECRET, ("rbd", "secretRef", "name")),
    (Kind.SECRET, ("scaleIO", "secretRef", "name")),
    (Kind.SECRET, ("secret", "secretName")),
    (Kind.SECRET, ("storageos", "secretRef", "name")),
    (Kind.CONFIG_MAP, ("configMap", "name")),
)
_PROJECTIONS = ((Kind.SECRET, ("secret", "name")), (Kind.CONFIG_MAP, ("configMap", "name")))
_ENV_FROM = ((Kind.SECRET, ("secretRef", "name")), (Kind.CONFIG_MAP, ("configMapRef", "name")))
_ENV = (
    (Kind.SECRET, ("valueFrom", "secretKeyRef", "name")),
    (Kind.CONFIG_MAP, ("valueFrom", "configMapKeyRef", "name")),
)


def references(spec: PodSpec) -> Iterator[Reference]:
    """Every reference with a name, of all containers (ephemeral ones too) and volumes."""
    raw = cast("JSON", spec)
    for index, secret in enumerate(raw.get("imagePullSecrets") or ()):
        yield from _at(Kind.SECRET, ("name",), secret, f"spec.imagePullSecrets[{index}]")
    for volume in raw.get("volumes") or ():
        path = f"spec.volumes[{volume['name']}]"
        for kind, keys in _VOLUMES:
            yield from _at(kind, keys, volume, path)
        for index, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
            for kind, keys in _PROJECTIONS:
                yield from _at(kind, keys, source, f"{path}.projected.sources[{index}]")
    for group in ("initContainers", "containers", "ephemeralContainers"):
        for container in raw.get(group) or ():
            path = f"spec.{group}[{container['name']}]"
            for index, source in enumerate(container.get("envFrom") or ()):
                for kind, keys in _ENV_FROM:
                    yield from _at(kind, keys, source, f"{path}.envFrom[{index}]")
            for variable in container.get("env") or ():
                for kind, keys in _ENV:
                    yield from _at(kind, keys, variable, f"{path}.env[{variable['name']}]")


def _at(kind: Kind, keys: tuple[str, ...], node: Any, path: str) -> Iterator[Reference]:
    for key in keys:
        node = node.get(key)
        if not node:
            return
        path = f"{path}.{key}"
    yield Reference(kind, path, node)
