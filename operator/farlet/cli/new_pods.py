"""Why a virtual node takes no new pods, from its Node. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from farlet.constants import CORDONED, NodeCondition
from farlet.forge import node as forge
from farlet.forge import node_health
from farlet.k8s_types import Node

NOT_READY = "it is not ready"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Texts are as they are in the Node."""

    what: str
    cause: str = ""
    """The message of a condition of the Node."""
    fix: str = ""


def obstacles(node: Node, *, kubectl: str = "kubectl") -> tuple[Obstacle, ...]:
    """Empty: the home scheduler can bind pods to it. `kubectl`: the beginning of its commands."""
    found = []
    ready = node_health.condition(node, NodeCondition.READY)
    if ready is None or ready["status"] != "True":
        message = "" if ready is None else ready.get("message", "")
        found.append(Obstacle(NOT_READY, message or "no farlet has reported yet"))
    if (node.get("spec") or {}).get("unschedulable"):
        found.append(_cordon(node, kubectl))
    return tuple(found)


def _cordon(node: Node, kubectl: str) -> Obstacle:
    name = node["metadata"]["name"]
    if not forge.cordoned_by_us(node):
        return Obstacle(
            "an administrator, a drain or an unfinished farlet disconnect has cordoned it",
            fix=f"To let it take pods again: {kubectl} uncordon {name}",
        )
    if node["metadata"]["annotations"][CORDONED] == forge.DRAINED:
        return Obstacle("farlet drains it before it stops", fix="The next start uncordons it")
    reachable = node_health.condition(node, NodeCondition.FOREIGN_REACHABLE)
    failed = reachable is not None and reachable["status"] == "False"
    return Obstacle(
        "farlet has cordoned it, since the foreign API server does not serve farlet",
        cause=reachable.get("message", "") if reachable is not None and failed else "",
        fix="farlet uncordons it as soon as that is over",
    )
