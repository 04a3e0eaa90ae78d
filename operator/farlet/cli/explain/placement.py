"""Why the home scheduler binds a pod to none of the virtual nodes, as far as their Nodes say. Pure.

The scheduler's own message counts nodes and names none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from farlet.cli import new_pods
from farlet.cli.commands import Connection
from farlet.constants import JSON
from farlet.k8s_types import Node, Pod

_OF_STATE = "node.kubernetes.io/"
"""Prefix of taints that follow from the state of a node, which `new_pods` explains."""
_BINDING = frozenset({"NoSchedule", "NoExecute"})


def obstacles(pod: Pod, nodes: Sequence[Node], home: Connection) -> Mapping[str, Sequence[str]]:
    """The virtual nodes that the pod is meant for by name, and why it is not bound to each.

    Empty reasons: its Node does not say why. `home`: for commands.
    """
    found = {}
    for node in nodes:
        untolerated = [taint for taint in _taints(node) if not _tolerates(pod, taint)]
        if _selects(pod, node) and (pod["spec"].get("nodeSelector") or not untolerated):
            name = node["metadata"]["name"]
            found[name] = [
                *(_untolerated(name, taint) for taint in untolerated),
                *(
                    _closed(name, one, home)
                    for one in new_pods.obstacles(node, kubectl=home.kubectl)
                ),
            ]
    return found


def _closed(name: str, obstacle: new_pods.Obstacle, home: Connection) -> str:
    cause = f": {obstacle.cause}" if obstacle.cause else ""
    fix = obstacle.fix or f"See farlet status{home.flags}"
    return f"The Node {name} takes no new pods: {obstacle.what}{cause}. {fix}"


def _selects(pod: Pod, node: Node) -> bool:
    """By the node selector; the scheduler also decides by affinity."""
    labels = node["metadata"].get("labels") or {}
    return labels.items() >= (pod["spec"].get("nodeSelector") or {}).items()


def _taints(node: Node) -> list[JSON]:
    return [
        dict(taint)
        for taint in (node.get("spec") or {}).get("taints") or ()
        if taint["effect"] in _BINDING and not taint["key"].startswith(_OF_STATE)
    ]


def _tolerates(pod: Pod, taint: JSON) -> bool:
    """As `ToleratesTaint` in `component-helpers/scheduling/corev1`; a comparison of a later version
    counts as one that matches."""
    return any(
        toleration.get("effect", "") in ("", taint["effect"])
        and toleration.get("key", "") in ("", taint["key"])
        and (
            toleration.get("operator", "Equal") != "Equal"
            or toleration.get("value", "") == taint.get("value", "")
        )
        for toleration in pod["spec"].get("tolerations") or ()
    )


def _untolerated(name: str, taint: JSON) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return (
        f"The pod does not tolerate the taint {taint['key']}{value}:{taint['effect']} of the Node "
        f'{name}. Add to its spec: tolerations: [{{"key": "{taint["key"]}", "operator": "Exists"}}]'
    )
