"""Why pods of farlet itself do not run in the home cluster, and what to do. Pure.

Commands begin with `kubectl` and the context of the home cluster, as `commands.Connection` has it.
"""

from __future__ import annotations

from farlet.cli.reading import Absent, Unread, clean
from farlet.cli.status.facts import Facts, Manager
from farlet.constants import JSON
from farlet.k8s_types import Pod
from farlet.manager import rollout
from farlet.manager.virtual_node import INSTANCE_LABEL, MANAGER, object_name

_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName"})
_EXITS = ("CrashLoopBackOff", "exit code", "OOMKilled")


def problem(pod: Pod, kubectl: str) -> str:
    """Empty: it runs, has ended, or has not started for long enough to say why."""
    why = rollout.pod_problem(pod) if rollout.can_serve(pod) else None  # type: ignore[arg-type]
    return "" if why is None else f"{clean(why)}. {_fix(why, pod, kubectl)}"


def _fix(why: str, pod: Pod, kubectl: str) -> str:
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    if why.partition(":")[0].partition(",")[0] in _IMAGE:
        image = pod["spec"]["containers"][0].get("image", "")
        return (
            f"The home cluster cannot pull the image {clean(image, most=500)}: push it to a "
            "registry that both clusters can pull from, and run farlet connect again with --image"
        )
    if any(text in why.partition(":")[0] for text in _EXITS):
        return f"For its last lines: {kubectl} logs -n {namespace} {name} --previous"
    return f"For its Events: {kubectl} describe pod -n {namespace} {name}"


def manager_problems(facts: Facts, kubectl: str) -> tuple[str, ...]:
    """Why the manager, without which no virtual node is created or changed, does not run.

    Nodes that were installed by hand need none.
    """
    manager, declared = facts.manager, facts.virtual_nodes
    by_hand = isinstance(declared, Absent | Unread) or (facts.nodes and not declared)
    if by_hand or isinstance(manager.deployment, Unread):
        return ()
    name = f"Deployment {facts.namespace}/{MANAGER}"
    if isinstance(manager.deployment, Absent):
        text = f"the manager is not installed: the {name} does not exist. Run farlet connect again "
        return (f"{text}with the same flags, or install the manager (docs/how-to/manager.md)",)
    problems = ((pod["metadata"]["name"], problem(pod, kubectl)) for pod in manager.pods)
    found = [f"{pod}: {why}" for pod, why in problems if why]
    return tuple(found) or _rollout(manager, name, facts.namespace, kubectl)


def _rollout(manager: Manager, name: str, namespace: str, kubectl: str) -> tuple[str, ...]:
    """What the Deployment says where no pod says why."""
    assert isinstance(manager.deployment, dict)
    if manager.deployment["spec"].get("replicas") == 0:
        fix = _scale(namespace, MANAGER, kubectl)
        return (f"the manager does not run: the {name} is scaled to 0. To start it: {fix}",)
    why = rollout.unfinished(manager.deployment)
    if not why:
        return ()
    logs = f"{kubectl} logs -n {namespace} deployment/{MANAGER}"
    events = f"{kubectl} describe deployment -n {namespace} {MANAGER}"
    return (f"the manager is not ready: {name}: {clean(why)}. See {logs}, and {events}",)


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
