"""The desired Node object, and the patches that turn the existing one into it.

Follows a kubelet (`pkg/kubelet/kubelet_node_status.go`, `pkg/kubelet/nodestatus`): labels are
written at registration; capacity, addresses and versions are kept as desired; a condition keeps
the time of its last transition; a heartbeat alone causes no write. What others put on the Node
(labels, annotations, taints, conditions, a cordon) stays.

Pure: the state of the clusters and the time are arguments.
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
from farlet.forge.node_health import DesiredNodeCondition

DECLARED_FEATURES = (
    "InPlacePodLevelResourcesVerticalScaling",
    "InPlacePodVerticalScalingInitContainers",
)
"""Sorted. The home API server requires them of a node for a resize of a running pod, and the
scheduler for nothing (`component-helpers/nodedeclaredfeatures/features/inplacepodresize`). Whether
the foreign cluster has them is answered by its own API server."""


class Taint(NamedTuple):
    """A taint; `str` is its form in `kubectl taint`."""

    key: str
    value: str
    effect: str

    def __str__(self) -> str:
        return (
            f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"
        )


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What the settings say about the Node."""

    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    taints: tuple[Taint, ...]
    provider_id: str | None
    machine_id: str
    """32 hexadecimal digits: the value of the label `farlet.io/virtual-node-id` on mirrors."""
    runtime: str
    """The container runtime version that the Node reports: `farlet://<version>`."""
    port: int | None
    """Port of the kubelet API; `None`: farlet does not serve it."""


@dataclass(frozen=True, slots=True)
class NodeObservation:
    """What farlet read from the clusters about the Node; `None` if it is not known (yet)."""

    address: str
    """Empty if it is not known."""
    version: str | None
    """Version of the foreign API server; the Node reports it as the kubelet's."""
    resources: Resources | None
    platform: Platform


def new(
    config: NodeConfig,
    observed: NodeObservation,
    desired: Iterable[DesiredNodeCondition],
    now: datetime,
) -> JSON:
    """The Node to create. API servers accept the status of a Node on creation."""
    desired_labels = labels(config, observed.platform)
    metadata: JSON = {
        "name": config.name,
        "labels": {key: value for key, value in desired_labels.items() if value is not None},
    }
    if config.annotations:
        metadata["annotations"] = dict(config.annotations)
    spec: JSON = {"taints": [_taint(taint) for taint in config.taints]}
    if config.provider_id is not None:
        spec["providerID"] = config.provider_id
    status = _status(config, observed) | {
        "conditions": node_health.conditions(None, desired, now),
        "declaredFeatures": list(DECLARED_FEATURES),
    }
    if observed.resources is None:
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
    """The Node is a virtual one. Its Lease shows which process it belongs to."""
    label = node["metadata"].get("labels", {}).get(VIRTUAL_NODE_LABEL)
    return label == VIRTUAL_NODE_LABEL_VALUE


def labels(config: NodeConfig, platform: Platform) -> dict[str, str | None]:
    """The labels that the Node must have; with `None`, those that it must not have.

    Labels for a platform that is not known are left as they are.
    """
    from_platform = {OS_LABEL: platform.os, ARCH_LABEL: platform.arch}
    return {
        VIRTUAL_NODE_LABEL: VIRTUAL_NODE_LABEL_VALUE,
        HOSTNAME_LABEL: config.name,
        NO_LOAD_BALANCER_LABEL: "true",
        **{key: value or None for key, value in from_platform.items() if value is not None},
        **config.labels,
    }


def labels_patch(node: k8s_types.Node, desired: Mapping[str, str | None]) -> JSON | None:
    """Sets the desired labels; `None` if the Node has them."""
    missing = _missing(node["metadata"].get("labels", {}), desired)
    return _patch(node, {"labels": missing}) if missing else None


def annotations_patch(node: k8s_types.Node, desired: Mapping[str, str | None]) -> JSON | None:
    """Sets the desired annotations of the Node of this version; `None` if it has them."""
    missing = _missing(node["metadata"].get("annotations", {}), desired)
    return _patch(node, {"annotations": missing}, this_version=True) if missing else None


def adoption_patch(node: k8s_types.Node, config: NodeConfig, platform: Platform) -> JSON | None:
    """What registration writes to an existing Node, except its taints; `None` for nothing."""
    metadata: JSON = {}
    before = node["metadata"]
    if missing := _missing(before.get("labels", {}), labels(config, platform)):
        metadata["labels"] = missing
    if missing := _missing(before.get("annotations", {}), config.annotations):
        metadata["annotations"] = missing
    spec: JSON = {}
    if config.provider_id is not None and config.provider_id != node.get("spec", {}).get(
        "providerID"
    ):
        spec["providerID"] = config.provider_id
    if not metadata and not spec:
        return None
    return _patch(node, metadata) | ({"spec": spec} if spec else {})


def missing_taints(node: k8s_types.Node, config: NodeConfig) -> list[Taint]:
    """Taints of the settings that the Node lacks or has with another value."""
    present = {
        Taint(t["key"], t.get("value", ""), t["effect"])
        for t in node.get("spec", {}).get("taints", ())
    }
    return [taint for taint in config.taints if taint not in present]


def taints_patch(node: k8s_types.Node, missing: Sequence[Taint]) -> JSON:
    """Adds the missing taints to those of the Node. Servers do not merge the list of taints."""
    replaced = {(taint.key, taint.effect) for taint in missing}
    kept = [
        t for t in node.get("spec", {}).get("taints", ()) if (t["key"], t["effect"]) not in replaced
    ]
    return _patch(node, {}, this_version=True) | {
        "spec": {"taints": [*kept, *(_taint(taint) for taint in missing)]}
    }


def status_patch(
    node: k8s_types.Node,
    config: NodeConfig,
    observed: NodeObservation,
    desired: Sequence[DesiredNodeCondition],
    now: datetime,
    *,
    due: bool,
) -> JSON | None:
    """The desired status with new heartbeats; `None` if nothing differs and none is `due`."""
    before: JSON = {**node.get("status", {})}
    changes: JSON = {}
    for key, desired_value in _status(config, observed).items():
        present = before.get(key)
        if present == desired_value:
            continue
        if key == "addresses":
            # Servers merge them by type: the old address of a type would stay beside the new one.
            changes[key] = [{"$patch": "replace"}, *desired_value]
        elif key in ("capacity", "allocatable"):
            # Removes resources that foreign nodes no longer have: only farlet writes them.
            changes[key] = dict.fromkeys(present or ()) | desired_value
        elif missing := _missing(present or {}, desired_value):
            changes[key] = missing
    conditions = node_health.conditions(node, desired, now)
    if (
        not changes
        and not due
        and all(node_health.is_current(node, condition) for condition in conditions)
    ):
        return None
    if before.get("declaredFeatures") != list(DECLARED_FEATURES):
        # With another write: a home API server before 1.36 does not keep it.
        changes["declaredFeatures"] = list(DECLARED_FEATURES)
    return _patch(node, {}) | {"status": {**changes, "conditions": conditions}}


HELD = "foreign-unreachable"
DRAINED = "drain"
"""Why farlet cordons the Node, in its annotation."""


def cordon_patch(node: k8s_types.Node, why: str) -> JSON | None:
    """Makes the Node unschedulable; `None` if it is, or if it was uncordoned since farlet did."""
    if node.get("spec", {}).get("unschedulable") or cordoned_by_us(node):
        return None
    return _patch(node, {"annotations": {CORDONED: why}}, this_version=True) | {
        "spec": {"unschedulable": True}
    }


def uncordon_patch(node: k8s_types.Node) -> JSON | None:
    """Removes farlet's own cordon; `None` if the Node has none."""
    if not cordoned_by_us(node):
        return None
    return _patch(node, {"annotations": {CORDONED: None}}, this_version=True) | {
        "spec": {"unschedulable": None}
    }


def cordoned_by_us(node: k8s_types.Node) -> bool:
    """farlet made the Node unschedulable, and has not reverted it."""
    return CORDONED in node["metadata"].get("annotations", {})


def _patch(node: k8s_types.Node, metadata: JSON, *, this_version: bool = False) -> JSON:
    """A patch for the Node with this uid; `this_version`: with this resourceVersion, too."""
    before = node["metadata"]
    of = {"uid": before["uid"]} | (
        {"resourceVersion": before["resourceVersion"]} if this_version else {}
    )
    return {"metadata": {**of, **metadata}}


def _missing(present: Mapping[str, object], desired: Mapping[str, object]) -> JSON:
    return {key: value for key, value in desired.items() if present.get(key) != value}


def _status(config: NodeConfig, observed: NodeObservation) -> JSON:
    """The status without conditions, as far as it is known."""
    status: JSON = {
        "daemonEndpoints": {"kubeletEndpoint": {"Port": config.port or 0}},
        "nodeInfo": {
            "machineID": config.machine_id,
            "systemUUID": str(UUID(config.machine_id)),
            "bootID": "",
            "containerRuntimeVersion": config.runtime,
            "kubeProxyVersion": "",
            **_known(
                kubeletVersion=observed.version,
                operatingSystem=observed.platform.os,
                architecture=observed.platform.arch,
                kernelVersion=observed.platform.kernel,
                osImage=observed.platform.image,
            ),
        },
    }
    if observed.address:
        # No Hostname: API servers would try that first, and it might not resolve.
        status["addresses"] = [{"type": "InternalIP", "address": observed.address}]
    if observed.resources is not None:
        status["capacity"] = dict(observed.resources.capacity)
        status["allocatable"] = dict(observed.resources.allocatable)
    return status


def _known(**values: str | None) -> dict[str, str]:
    return {key: value for key, value in values.items() if value is not None}


def _taint(taint: Taint) -> JSON:
    return {"key": taint.key, "value": taint.value, "effect": taint.effect}
