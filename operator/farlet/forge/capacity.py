"""Capacity and platform of the virtual node: the sum of the foreign nodes.

Only nodes that an ordinary mirror could run on count. A property of the platform is reported only
where all of them agree, since the home scheduler takes a label as true for each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from farlet.constants import VIRTUAL_NODE_LABEL, VIRTUAL_NODE_LABEL_VALUE, NodeCondition
from farlet.forge import quantities
from farlet.forge.quantities import Quantity
from farlet.k8s_types import ConditionStatus, Node

CONTROL_PLANE_TAINTS = frozenset(
    {"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"}
)
"""Ordinary pods never tolerate these. Pods may tolerate others (of GPU nodes, for example), and
mirrors keep their tolerations."""

REQUIRED = ("cpu", "memory", "pods")
"""The scheduler places nothing on a node that lacks one of these."""


@dataclass(frozen=True, slots=True)
class Resources:
    """Resource name to amount, in canonical form."""

    capacity: Mapping[str, str]
    allocatable: Mapping[str, str]


EMPTY: Mapping[str, str] = dict.fromkeys(REQUIRED, "0")
"""Nothing fits."""


@dataclass(frozen=True, slots=True)
class Platform:
    """Operating system and hardware of the foreign nodes.

    A value is empty if they differ, and `None` if it is not known.
    """

    os: str | None = None
    arch: str | None = None
    kernel: str | None = None
    image: str | None = None


@dataclass(frozen=True, slots=True)
class ForeignNode:
    """What farlet reads of one foreign node."""

    name: str
    usable: bool
    """Ready, and not cordoned."""
    capacity: Mapping[str, Quantity]
    allocatable: Mapping[str, Quantity]
    platform: Platform


def foreign_node(node: Node) -> ForeignNode | None:
    """A foreign node as farlet counts it; `None` for one that mirrors never run on.

    Those are control plane nodes, and virtual ones: their pods count on the nodes they really run
    on, and two clusters that offload to each other would add up their capacities without end.
    Raises `ValueError` for an amount that is not a quantity.
    """
    metadata, spec, status = node["metadata"], node.get("spec", {}), node.get("status", {})
    if metadata.get("labels", {}).get(VIRTUAL_NODE_LABEL) == VIRTUAL_NODE_LABEL_VALUE:
        return None
    taints = spec.get("taints", ())
    if any(t["key"] in CONTROL_PLANE_TAINTS and t["effect"] != "PreferNoSchedule" for t in taints):
        return None
    ready = any(
        c["type"] == NodeCondition.READY and c["status"] == ConditionStatus.TRUE
        for c in status.get("conditions", ())
    )
    info = status.get("nodeInfo", {})
    return ForeignNode(
        name=metadata["name"],
        usable=ready and not spec.get("unschedulable", False),
        capacity=_parsed(status.get("capacity", {})),
        allocatable=_parsed(status.get("allocatable", {})),
        platform=Platform(
            os=info.get("operatingSystem", ""),
            arch=info.get("architecture", ""),
            kernel=info.get("kernelVersion", ""),
            image=info.get("osImage", ""),
        ),
    )


def total(nodes: Iterable[ForeignNode]) -> Resources:
    """The resources of all usable nodes together."""
    # A sum keeps the notation of its first operand: always add in the same order.
    usable = sorted((node for node in nodes if node.usable), key=lambda node: node.name)
    return Resources(_sum(n.capacity for n in usable), _sum(n.allocatable for n in usable))


def common_platform(nodes: Iterable[ForeignNode]) -> Platform:
    """What all nodes have in common, usable or not, so that a reboot of one changes nothing."""
    platforms = [node.platform for node in nodes]
    return Platform(
        os=_common(p.os for p in platforms),
        arch=_common(p.arch for p in platforms),
        kernel=_common(p.kernel for p in platforms),
        image=_common(p.image for p in platforms),
    )


def configured(amounts: Iterable[tuple[str, str]]) -> Resources:
    """The amounts of `--capacity`, which are in canonical form."""
    given = dict(amounts)
    return Resources(given, given)


def _parsed(amounts: Mapping[str, str]) -> dict[str, Quantity]:
    return {name: quantities.parse(amount) for name, amount in amounts.items()}


def _sum(addends: Iterable[Mapping[str, Quantity]]) -> dict[str, str]:
    parts: dict[str, list[Quantity]] = {name: [] for name in REQUIRED}
    for amounts in addends:
        for name, amount in amounts.items():
            parts.setdefault(name, []).append(amount)
    return {name: str(quantities.total(amounts)) for name, amounts in sorted(parts.items())}


def _common(values: Iterable[str | None]) -> str | None:
    distinct = set(values)
    if not distinct:
        return None
    return distinct.pop() if len(distinct) == 1 else ""
