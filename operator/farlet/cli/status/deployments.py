"""Why Deployments of farlet and of its manager do not run, for `farlet status`. Pure.

Commands begin with `kubectl` and the context of the home cluster, as `commands.Connection` has it.
"""

from __future__ import annotations

from farlet.cli import own_pods
from farlet.cli.reading import Absent, Unread, clean
from farlet.cli.status.facts import Facts
from farlet.constants import JSON
from farlet.k8s_types import Pod
from farlet.manager import rollout
from farlet.manager.virtual_node import INSTANCE_LABEL, MANAGER, object_name


def problem(pod: Pod, kubectl: str) -> str:
    """Empty: it runs, has ended, or has not started for long enough to say why."""
    found = own_pods.of_pod(pod, kubectl=kubectl)
    return "" if found is None else str(found)


def manager_problems(facts: Facts, kubectl: str) -> tuple[str, ...]:
    """Why the manager, without which no virtual node is created or changed, does not run.

    Nodes that were installed by hand need none.
    """
    manager, declared = facts.manager, facts.virtual_nodes
    by_hand = isinstance(declared, Absent | Unread) or (facts.nodes and not declared)
    if by_hand or isinstance(manager.deployment, Unread):
        return ()
    found = own_pods.of_manager(
        manager.deployment, manager.pods, namespace=facts.namespace, kubectl=kubectl
    )
    return tuple(str(one) for one in found)


def _scale(namespace: str, name: str, kubectl: str) -> str:
    return f"{kubectl} scale deployment -n {namespace} {name} --replicas 1"


def stopped(node: str, facts: Facts, *, declared: bool, kubectl: str) -> str:
    """What the Deployment of a node says that no farlet serves, and what starts one.

    `declared`: the node has a VirtualNode, whose manager restores that Deployment. Empty: farlet
    runs elsewhere, or nothing is known.
    """
    namespace, found = facts.namespace, _deployment(node, facts)
    if found is None:
        if not declared or isinstance(facts.deployments, Unread):
            return ""
        name = f"{namespace}/{object_name(node)}"
        return f"the Deployment {name} does not exist. {_restored(facts, kubectl)}"
    own = clean(found["metadata"]["name"], most=253)
    if found["spec"].get("replicas") == 0:
        text = f"the Deployment {namespace}/{own} is scaled to 0"
        start = f"To start it: {_scale(namespace, own, kubectl)}"
        return f"{text}. {_restored(facts, kubectl) if declared else start}"
    why = rollout.unfinished(found)
    logs = f"{kubectl} logs -n {namespace} deployment/{own}"
    return f"the Deployment {namespace}/{own}: {clean(why)}. See {logs}" if why else f"See {logs}"


def _deployment(node: str, facts: Facts) -> JSON | None:
    if isinstance(facts.deployments, Absent | Unread):
        return None
    for one in facts.deployments:
        if (one["metadata"].get("labels") or {}).get(INSTANCE_LABEL, node) == node:
            return one
    return None


def _restored(facts: Facts, kubectl: str) -> str:
    """How the manager comes to restore a Deployment."""
    manager = facts.manager.deployment
    if not manager_problems(facts, kubectl):
        return "The manager restores it"
    if isinstance(manager, dict) and manager["spec"].get("replicas") == 0:
        fix = _scale(facts.namespace, MANAGER, kubectl)
        return f"The manager restores it once it runs. To start the manager: {fix}"
    return "The manager restores it once it runs: see its problem above"
