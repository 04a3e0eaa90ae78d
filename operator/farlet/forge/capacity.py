"""How much fits on the virtual node, and what kind of machine it is: the sum of foreign nodes.

Only nodes that an ordinary mirror could land on count as room. What kind they are is said only
where all of them agree, since the home scheduler takes a label for the truth about each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from farlet.constants import VIRTUAL_NODE_LABEL, VIRTUAL_NODE_LABEL_VALUE
from farlet.forge import quantities
from farlet.forge.quantities import Quantity
from farlet.k8s_types import Node

CONTROL_PLANE_TAINTS = frozenset(
    {"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"}
)
"""Nodes that keep ordinary pods away for good. Other taints (of GPU nodes, say) are for pods to
tolerate, and tolerations travel."""

NEEDED = ("cpu", "memory", "pods")
"""Without one of these the scheduler places nothing on a node."""


@dataclass(frozen=True, slots=True)
class Resources:
    """Resource name to amount, in canonical form."""

    capacity: Mapping[str, str]
    allocatable: Mapping[str, str]


EMPTY: Mapping[str, str] = dict.fromkeys(NEEDED, "0")
"""Nothing fits."""


@dataclass(frozen=True, slots=True)
class Platform:
    """What kind of machines stand behind the virtual node.

    A value is empty where they differ, and `None` where it is not known.
    """

    os: str | None = None
    arch: str | None = None
    kernel: str | None = None
    image: str | None = None


@dataclass(frozen=True, slots=True)
class ForeignNode:
    """What counts of one foreign node."""

    name: str
    usable: bool
    """Ready, and not cordoned."""
    capacity: Mapping[str, Quantity]
    allocatable: Mapping[str, Quantity]
    kind: Platform


def machine(node: Node) -> ForeignNode | None:
    """What counts of a foreign node; `None` for one that mirrors never run on.

    Those are nodes of the control plane, and virtual ones: what runs on those is counted where it
    runs, and two clusters that offload to each other would count without end. Raises `ValueError`
    for an amount that is none.
    """
    metadata, spec, status = node["metadata"], node.get("spec", {}), node.get("status", {})
    if metadata.get("labels", {}).get(VIRTUAL_NODE_LABEL) == VIRTUAL_NODE_LABEL_VALUE:
        return None
    taints = spec.get("taints", ())
    if any(t["key"] in CONTROL_PLANE_TAINTS and t["effect"] != "PreferNoSchedule" for t in taints):
        return None
    ready = any(
        c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ())
    )
    info = status.get("nodeInfo", {})
    return ForeignNode(
        name=metadata["name"],
        usable=ready and not spec.get("unschedulable", False),
        capacity=_parsed(status.get("capacity", {})),
        allocatable=_parsed(status.get("allocatable", {})),
        kind=Platform(
            os=info.get("operatingSystem", ""),
            arch=info.get("architecture", ""),
            kernel=info.get("kernelVersion", ""),
            image=info.get("osImage", ""),
        ),
    )


def room(machines: Iterable[ForeignNode]) -> Resources:
    """What fits on all usable machines together."""
    # A sum is written as its first part is: always in the same order.
    usable = sorted((m for m in machines if m.usable), key=lambda m: m.name)
    return Resources(_sum(m.capacity for m in usable), _sum(m.allocatable for m in usable))


def kind(machines: Iterable[ForeignNode]) -> Platform:
    """What all machines agree on, usable or not, so that one that reboots changes nothing."""
    kinds = [m.kind for m in machines]
    return Platform(
        os=_agreed(k.os for k in kinds),
        arch=_agreed(k.arch for k in kinds),
        kernel=_agreed(k.kernel for k in kinds),
        image=_agreed(k.image for k in kinds),
    )


def fixed(amounts: Iterable[tuple[str, str]]) -> Resources:
    """Exactly these, in canonical form."""
    given = dict(amounts)
    return Resources(given, given)


def _parsed(amounts: Mapping[str, str]) -> dict[str, Quantity]:
    return {name: quantities.parse(amount) for name, amount in amounts.items()}


def _sum(rooms: Iterable[Mapping[str, Quantity]]) -> dict[str, str]:
    parts: dict[str, list[Quantity]] = {name: [] for name in NEEDED}
    for amounts in rooms:
        for name, amount in amounts.items():
            parts.setdefault(name, []).append(amount)
    return {name: str(quantities.total(amounts)) for name, amounts in sorted(parts.items())}


def _agreed(values: Iterable[str | None]) -> str | None:
    found = set(values)
    if not found:
        return None
    return found.pop() if len(found) == 1 else ""
