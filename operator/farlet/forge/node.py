"""The Node object as farlet wants it, and the patches that lead there from the one that is.

Follows a kubelet (`pkg/kubelet/kubelet_node_status.go`, `pkg/kubelet/nodestatus`): labels are
written at registration, capacity, addresses and versions are kept as wanted, a condition keeps
the time of its last transition, and a heartbeat alone is no reason to write. What others put on
the Node (labels, annotations, taints, conditions, a cordon) stays.

Pure: what is known of the clusters, and the time, are arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from farlet import k8s_types
from farlet.constants import (
    ARCH_LABEL,
    CORDONED,
    HOSTNAME_LABEL,
    JSON,
    NO_LOAD_BALANCER_LABEL,
    OS_LABEL,
    VIRTUAL_NODE_LABEL,
    VIRTUAL_NODE_LABEL_VALUE,
)
from farlet.forge import capacity, node_health
from farlet.forge.capacity import Platform, Resources
from farlet.forge.node_health import Say


class Taint(NamedTuple):
    """A taint; prints as kubectl takes it."""

    key: str
    value: str
    effect: str

    def __str__(self) -> str:
        return (
            f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"
        )


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What the settings say of the Node."""

    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    taints: tuple[Taint, ...]
    provider_id: str | None
    machine_id: str
    """32 hexadecimal digits; that of the owner label, so that they lead to the mirrors."""
    runtime: str
    """What stands for the container runtime: `farlet://<version>`."""
    port: int | None
    """Of the kubelet API; `None`: there is none."""


@dataclass(frozen=True, slots=True)
class NodeObservation:
    """What only the clusters can tell of the Node; `None` where it is not known (yet)."""

    address: str
    """Empty where it is not known."""
    version: str | None
    """Of the foreign API server; stands for the kubelet's."""
    room: Resources | None
    kind: Platform


def new(look: NodeConfig, found: NodeObservation, says: Iterable[Say], now: datetime) -> JSON:
    """The Node to create. API servers take the status of a Node with its creation."""
    wanted = labels(look, found.kind)
    metadata: JSON = {
        "name": look.name,
        "labels": {key: value for key, value in wanted.items() if value is not None},
    }
    if look.annotations:
        metadata["annotations"] = dict(look.annotations)
    spec: JSON = {"taints": [_taint(taint) for taint in look.taints]}
    if look.provider_id is not None:
        spec["providerID"] = look.provider_id
    status = _status(look, found) | {"conditions": node_health.conditions(None, says, now)}
    if found.room is None:
        nothing = dict(capacity.EMPTY)
        status |= {"capacity": nothing, "allocatable": nothing}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": metadata,
        "spec": spec,
        "status": status,
    }


def is_virtual(node: k8s_types.Node) -> bool:
    """The Node is no real machine. Whose it is, its Lease decides."""
    found = node["metadata"].get("labels", {}).get(VIRTUAL_NODE_LABEL)
    return found == VIRTUAL_NODE_LABEL_VALUE


def labels(look: NodeConfig, kind: Platform) -> dict[str, str | None]:
    """The labels that the Node has to have; with `None`, those that it must not have.

    An architecture that is not known is not spoken of.
    """
    machine = {OS_LABEL: kind.os, ARCH_LABEL: kind.arch}
    return {
        VIRTUAL_NODE_LABEL: VIRTUAL_NODE_LABEL_VALUE,
        HOSTNAME_LABEL: look.name,
        NO_LOAD_BALANCER_LABEL: "true",
        **{key: value or None for key, value in machine.items() if value is not None},
        **look.labels,
    }


def labels_patch(node: k8s_types.Node, wanted: Mapping[str, str | None]) -> JSON | None:
    """Labels as wanted; `None` where they are."""
    missing = _missing(node["metadata"].get("labels", {}), wanted)
    return _patch(node, {"labels": missing}) if missing else None


def adoption_patch(node: k8s_types.Node, look: NodeConfig, kind: Platform) -> JSON | None:
    """What registration writes on a Node that exists, but for its taints."""
    metadata: JSON = {}
    before = node["metadata"]
    if missing := _missing(before.get("labels", {}), labels(look, kind)):
        metadata["labels"] = missing
    if missing := _missing(before.get("annotations", {}), look.annotations):
        metadata["annotations"] = missing
    spec: JSON = {}
    if look.provider_id is not None and look.provider_id != node.get("spec", {}).get("providerID"):
        spec["providerID"] = look.provider_id
    if not metadata and not spec:
        return None
    return _patch(node, metadata) | ({"spec": spec} if spec else {})


def missing_taints(node: k8s_types.Node, look: NodeConfig) -> list[Taint]:
    """Taints of the settings that the Node lacks, or has with another value."""
    present = {
        Taint(t["key"], t.get("value", ""), t["effect"])
        for t in node.get("spec", {}).get("taints", ())
    }
    return [taint for taint in look.taints if taint not in present]


def taints_patch(node: k8s_types.Node, missing: Sequence[Taint]) -> JSON:
    """Those taints beside the ones that are there. Taints are one list: no merging by servers."""
    replaced = {(taint.key, taint.effect) for taint in missing}
    kept = [
        t for t in node.get("spec", {}).get("taints", ()) if (t["key"], t["effect"]) not in replaced
    ]
    return _patch(node, {}, certain=True) | {
        "spec": {"taints": [*kept, *(_taint(taint) for taint in missing)]}
    }


def status_patch(
    node: k8s_types.Node,
    look: NodeConfig,
    found: NodeObservation,
    says: Sequence[Say],
    now: datetime,
    *,
    due: bool,
) -> JSON | None:
    """The status as it should be, heartbeats renewed; `None` where it is and none is `due`."""
    before: JSON = {**node.get("status", {})}
    changes: JSON = {}
    for key, wanted in _status(look, found).items():
        present = before.get(key)
        if present == wanted:
            continue
        if key == "addresses":
            # They merge by type, so that another address of a type would stay beside the new.
            changes[key] = [{"$patch": "replace"}, *wanted]
        elif key in ("capacity", "allocatable"):
            # What is there no more goes: nobody else knows what fits abroad.
            changes[key] = dict.fromkeys(present or ()) | wanted
        elif missing := _missing(present or {}, wanted):
            changes[key] = missing
    conditions = node_health.conditions(node, says, now)
    if not changes and not due and all(node_health.stands(node, wanted) for wanted in conditions):
        return None
    return _patch(node, {}) | {"status": {**changes, "conditions": conditions}}


def cordon_patch(node: k8s_types.Node, why: str) -> JSON | None:
    """Take the Node out of scheduling; `None` if it is, or if someone put it back since."""
    if node.get("spec", {}).get("unschedulable") or cordoned_by_us(node):
        return None
    return _patch(node, {"annotations": {CORDONED: why}}, certain=True) | {
        "spec": {"unschedulable": True}
    }


def uncordon_patch(node: k8s_types.Node) -> JSON | None:
    """Take our own cordon back; `None` where there is none."""
    if not cordoned_by_us(node):
        return None
    return _patch(node, {"annotations": {CORDONED: None}}, certain=True) | {
        "spec": {"unschedulable": None}
    }


def cordoned_by_us(node: k8s_types.Node) -> bool:
    """farlet made it unschedulable, and has not taken that back."""
    return CORDONED in node["metadata"].get("annotations", {})


def _patch(node: k8s_types.Node, metadata: JSON, *, certain: bool = False) -> JSON:
    """A patch for this very Node; `certain`: for this very version of it."""
    before = node["metadata"]
    of = {"uid": before["uid"]} | (
        {"resourceVersion": before["resourceVersion"]} if certain else {}
    )
    return {"metadata": {**of, **metadata}}


def _missing(present: Mapping[str, object], wanted: Mapping[str, object]) -> JSON:
    return {key: value for key, value in wanted.items() if present.get(key) != value}


def _status(look: NodeConfig, found: NodeObservation) -> JSON:
    """What is known of the status, but for the conditions."""
    status: JSON = {
        "daemonEndpoints": {"kubeletEndpoint": {"Port": look.port or 0}},
        "nodeInfo": {
            "machineID": look.machine_id,
            "systemUUID": str(UUID(look.machine_id)),
            "bootID": "",
            "containerRuntimeVersion": look.runtime,
            "kubeProxyVersion": "",
            **_known(
                kubeletVersion=found.version,
                operatingSystem=found.kind.os,
                architecture=found.kind.arch,
                kernelVersion=found.kind.kernel,
                osImage=found.kind.image,
            ),
        },
    }
    if found.address:
        # No Hostname: API servers would try that first, and it need not resolve.
        status["addresses"] = [{"type": "InternalIP", "address": found.address}]
    if found.room is not None:
        status["capacity"] = dict(found.room.capacity)
        status["allocatable"] = dict(found.room.allocatable)
    return status


def _known(**values: str | None) -> dict[str, str]:
    return {key: value for key, value in values.items() if value is not None}


def _taint(taint: Taint) -> JSON:
    return {"key": taint.key, "value": taint.value, "effect": taint.effect}
