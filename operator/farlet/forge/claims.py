"""PersistentVolumeClaims of home pods, and what stands for them in both clusters.

A home claim of a mapped StorageClass has a claim in the foreign cluster, which has the data, and a
placeholder PersistentVolume at home, by which the home cluster binds the claim and keeps its pods
on this node. Nothing mounts the placeholder: no node of the home cluster has its driver. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast

from farlet import names
from farlet.access.changes import ChangeLog
from farlet.constants import (
    HOME_NAME,
    HOME_NAMESPACE,
    HOME_UID,
    HOSTNAME_LABEL,
    JSON,
    PROVISIONER,
    VIRTUAL_NODE_ID,
    VOLUME_DRIVER,
    ObjectKey,
    Reason,
)
from farlet.context import Context
from farlet.errors import Refused
from farlet.forge import quantities
from farlet.k8s_types import PersistentVolume, PersistentVolumeClaim, Pod, PodSpec

SELECTED_NODE = "volume.kubernetes.io/selected-node"
"""The home scheduler writes it on a claim; `AnnSelectedNode`, as the names below, in
`k8s.io/component-helpers/storage/volume/pv_helpers.go`."""
_STORAGE_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"

_UID = re.compile(r"[0-9a-zA-Z-]{1,64}")
"""API servers write UUIDs."""

_WHY = "farlet provides it for the claim of the home namespace"


class ClaimKey(NamedTuple):
    """One home claim. A claim that was recreated has another uid."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class HomeClaim:
    """What farlet needs of a PersistentVolumeClaim in the home cluster."""

    key: ClaimKey
    version: str
    storage_class: str
    access_modes: tuple[str, ...]
    volume_mode: str
    requested: str
    """Amount of storage, as the claim's owner wrote it."""
    capacity: str
    """`status.capacity`; empty: not bound yet."""
    volume: str
    """The PersistentVolume that it is bound to; empty: none."""
    selected_node: str
    provisioner: str
    deleting: bool
    unsupported: tuple[str, ...]
    """Fields with which no other cluster can provide a volume."""

    @classmethod
    def of(cls, obj: PersistentVolumeClaim) -> HomeClaim:
        metadata, spec = obj["metadata"], obj["spec"]
        annotations = metadata.get("annotations") or {}
        return cls(
            ClaimKey(metadata["namespace"], metadata["name"], metadata["uid"]),
            metadata.get("resourceVersion", ""),
            spec.get("storageClassName") or "",
            tuple(spec.get("accessModes") or ()),
            spec.get("volumeMode") or "Filesystem",
            _storage((spec.get("resources") or {}).get("requests")),
            _storage((obj.get("status") or {}).get("capacity")),
            spec.get("volumeName") or "",
            annotations.get(SELECTED_NODE, ""),
            annotations.get(_STORAGE_PROVISIONER, ""),
            "deletionTimestamp" in metadata,
            tuple(
                field
                for field in ("dataSource", "dataSourceRef", "selector")
                if cast("JSON", spec).get(field)
            )
            + (("volumeAttributesClassName",) if spec.get("volumeAttributesClassName") else ()),
        )


@dataclass(frozen=True, slots=True)
class HomeVolume:
    """What farlet needs of a placeholder PersistentVolume in the home cluster."""

    key: ClaimKey
    """The claim that it was created for."""
    uid: str
    version: str
    phase: str
    reclaim_policy: str
    capacity: str
    foreign: str
    """`NAMESPACE/NAME` of the foreign claim."""

    @classmethod
    def of(cls, obj: PersistentVolume) -> HomeVolume | None:
        """`None`: it is not a placeholder."""
        metadata, spec = obj["metadata"], obj["spec"]
        csi, claim = spec.get("csi"), spec.get("claimRef") or {}
        key = ClaimKey(claim.get("namespace", ""), claim.get("name", ""), claim.get("uid", ""))
        if (
            csi is None
            or csi["driver"] != VOLUME_DRIVER
            or metadata["name"] != names.volume_name(key.uid)
        ):
            return None
        return cls(
            key,
            metadata["uid"],
            metadata.get("resourceVersion", ""),
            (obj.get("status") or {}).get("phase", ""),
            spec.get("persistentVolumeReclaimPolicy") or "Retain",
            _storage(spec.get("capacity")),
            csi["volumeHandle"],
        )


@dataclass(frozen=True, slots=True)
class ForeignClaim:
    """What farlet needs of the claim in the foreign cluster."""

    key: ClaimKey
    """The home claim that it was created for."""
    uid: str
    version: str
    phase: str
    requested: str
    capacity: str
    deleting: bool

    @classmethod
    def of(cls, obj: PersistentVolumeClaim, *, home: str, ctx: Context) -> ForeignClaim | None:
        """`None`: farlet did not create it for a claim of the home namespace `home`."""
        metadata, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
        annotations = metadata.get("annotations") or {}
        key = ClaimKey(home, annotations.get(HOME_NAME, ""), annotations.get(HOME_UID, ""))
        node = (metadata.get("labels") or {}).get(VIRTUAL_NODE_ID)
        if not names.is_subdomain(key.name) or _UID.fullmatch(key.uid) is None:
            return None  # users of the foreign cluster can write annotations
        if node != ctx.virtual_node_id or metadata["name"] != foreign_name(key, ctx):
            return None
        return cls(
            key,
            metadata["uid"],
            metadata.get("resourceVersion", ""),
            status.get("phase", ""),
            _storage((spec.get("resources") or {}).get("requests")),
            _storage(status.get("capacity")),
            "deletionTimestamp" in metadata,
        )


def _storage(amounts: Mapping[str, str] | None) -> str:
    return (amounts or {}).get("storage", "")


def foreign_name(key: ClaimKey, ctx: Context) -> str:
    """The name of the foreign claim."""
    return names.claim_name(key.name, home_id=ctx.home_id, namespace=key.namespace, uid=key.uid)


def foreign_key(key: ClaimKey, ctx: Context) -> ObjectKey | None:
    """Namespace and name of the foreign claim; `None`: the home namespace is not offloaded."""
    namespace = ctx.namespaces.foreign(key.namespace)
    return None if namespace is None else ObjectKey(namespace, foreign_name(key, ctx))


def is_larger(one: str, other: str) -> bool:
    """Whether an amount of storage is larger than another one; amounts that are not valid never."""
    try:
        return quantities.parse(one).nanos > quantities.parse(other).nanos
    except ValueError:
        return False


# --- desired objects --------------------------------------------------------------------------


def forge_claim(claim: HomeClaim, ctx: Context) -> JSON:
    """The foreign claim, without its namespace. Raises `Refused` for what it cannot be."""
    if claim.unsupported:
        raise Refused(
            Reason.PROVISIONING_FAILED,
            f"the claim has {', '.join(claim.unsupported)}, which refers to objects of the home "
            "cluster. Recreate the claim without it",
        )
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": foreign_name(claim.key, ctx),
            "labels": {VIRTUAL_NODE_ID: ctx.virtual_node_id},
            "annotations": {
                HOME_NAMESPACE: claim.key.namespace,
                HOME_NAME: claim.key.name,
                HOME_UID: claim.key.uid,
            },
        },
        "spec": {
            "accessModes": list(claim.access_modes),
            "volumeMode": claim.volume_mode,
            "storageClassName": dict(ctx.storage_class_map)[claim.storage_class],
            "resources": {"requests": {"storage": claim.requested}},
        },
    }


def forge_volume(claim: HomeClaim, foreign: ObjectKey, *, policy: str, ctx: Context) -> JSON:
    """The placeholder of the foreign claim `foreign`, bound to `claim` and usable on this node.

    `policy` is the reclaim policy of the home StorageClass.
    """
    terms = [{"key": HOSTNAME_LABEL, "operator": "In", "values": [ctx.node]}]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": names.volume_name(claim.key.uid),
            "labels": {VIRTUAL_NODE_ID: ctx.virtual_node_id},
            "annotations": {_PROVISIONED_BY: PROVISIONER},
        },
        "spec": {
            "accessModes": list(claim.access_modes),
            "capacity": {"storage": claim.requested},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": claim.key.namespace,
                "name": claim.key.name,
                "uid": claim.key.uid,
            },
            "csi": {"driver": VOLUME_DRIVER, "volumeHandle": str(foreign)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": terms}]}},
            "persistentVolumeReclaimPolicy": policy,
            "storageClassName": claim.storage_class,
            "volumeMode": claim.volume_mode,
        },
    }


# --- pods -------------------------------------------------------------------------------------


def claim_names(pod: Pod) -> frozenset[str]:
    """The claims of a pod; a generic ephemeral volume has one, too."""
    return frozenset(name for _, name in _volumes(pod["spec"], pod["metadata"]["name"]))


def rewritten(spec: PodSpec, pod: str, foreign: Mapping[str, str], changes: ChangeLog) -> PodSpec:
    """The spec of the mirror of `pod`, with foreign claims. `foreign`: their names by home name.

    A generic ephemeral volume becomes an ordinary one: the home cluster has created its claim.
    """
    replaced = dict(_volumes(spec, pod)) if foreign else {}
    if not replaced:
        return spec
    volumes: list[JSON] = []
    for volume in cast("list[JSON]", spec.get("volumes") or []):
        name = replaced.get(volume["name"])
        if name is None:
            volumes.append(volume)
            continue
        source = volume.get("persistentVolumeClaim") or {}
        rest = {k: v for k, v in volume.items() if k != "ephemeral"}
        volumes.append({**rest, "persistentVolumeClaim": {**source, "claimName": foreign[name]}})
        changes.rewritten(f"spec.volumes[{volume['name']}]", _WHY, routine=True)
    return cast("PodSpec", {**spec, "volumes": volumes})


def _volumes(spec: PodSpec, pod: str) -> Iterator[tuple[str, str]]:
    """(volume, claim) of each volume with a claim."""
    for volume in cast("list[JSON]", spec.get("volumes") or []):
        if source := volume.get("persistentVolumeClaim"):
            yield volume["name"], source["claimName"]
        elif volume.get("ephemeral"):
            # `VolumeClaimName` in `k8s.io/component-helpers/storage/ephemeral`.
            yield volume["name"], f"{pod}-{volume['name']}"
