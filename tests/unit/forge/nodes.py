"""The Node `far`: its settings, what is observed, and how the server stores it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from farlet.constants import Reason
from farlet.errors import Refused
from farlet.forge import capacity, node_health
from farlet.forge import node as forge
from farlet.forge.node_health import Foreign, ForeignUnreachable

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
TAINT = forge.Taint("farlet.io/virtual-node", "", "NoSchedule")
CONFIG = forge.NodeConfig(
    name="far",
    labels={"zone": "z1"},
    annotations={"note": "mine"},
    taints=(TAINT,),
    provider_id=None,
    machine_id="0123456789abcdef0123456789abcdef",
    runtime="farlet://1",
    port=10250,
)
RESOURCES = capacity.configured([("cpu", "8"), ("memory", "32Gi"), ("pods", "110")])
OBSERVED = forge.NodeObservation(
    "10.0.0.1", "v1.36.3", RESOURCES, capacity.Platform("linux", "amd64", "6.1", "Debian")
)
OURS = {
    "type": "virtual-kubelet",
    "kubernetes.io/hostname": "far",
    "node.kubernetes.io/exclude-from-external-load-balancers": "true",
    "zone": "z1",
}


def conditions(
    foreign: Foreign = Foreign.REACHABLE,
    *,
    problem: Refused | None = None,
    policy: ForeignUnreachable = ForeignUnreachable.HOLD,
    node: Any = None,
) -> tuple[node_health.DesiredNodeCondition, ...]:
    if problem is None and foreign in {Foreign.UNREACHABLE, Foreign.REFUSED}:
        problem = Refused(Reason.FOREIGN_UNREACHABLE, "no answer")
    return node_health.health(foreign, problem=problem, policy=policy, node=node)


def existing(observed: forge.NodeObservation = OBSERVED, **changes: Any) -> Any:
    """The Node as the server stores what `new` returns."""
    node = forge.new(CONFIG, observed, conditions(), NOW)
    node["metadata"] |= {"uid": "u", "resourceVersion": "7"}
    node["status"] |= changes.pop("status", {})
    node["spec"] |= changes.pop("spec", {})
    node["metadata"] |= changes
    return node
