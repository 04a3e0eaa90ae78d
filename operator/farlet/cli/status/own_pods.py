"""Why pods of farlet itself do not run in the home cluster, and what to do. Pure."""

from __future__ import annotations

from farlet.cli.reading import Absent, Unread, clean
from farlet.cli.status.facts import Facts, Manager
from farlet.k8s_types import Pod
from farlet.manager import rollout
from farlet.manager.virtual_node import MANAGER

_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName"})
_EXITS = ("CrashLoopBackOff", "exit code", "OOMKilled")


def problem(pod: Pod) -> str:
    """Empty: it runs, has ended, or has not started for long enough to say why."""
    why = rollout.pod_problem(pod) if rollout.can_serve(pod) else None  # type: ignore[arg-type]
    return "" if why is None else f"{clean(why)}. {_fix(why, pod)}"


def _fix(why: str, pod: Pod) -> str:
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    if why.partition(":")[0].partition(",")[0] in _IMAGE:
        image = pod["spec"]["containers"][0].get("image", "")
        return (
            f"The home cluster cannot pull the image {clean(image, most=500)}: push it to a "
            "registry that both clusters can pull from, and run farlet connect again with --image"
        )
    if any(text in why.partition(":")[0] for text in _EXITS):
        return f"For its last lines: kubectl logs -n {namespace} {name} --previous"
    return f"For its Events: kubectl describe pod -n {namespace} {name}"


def manager_problems(facts: Facts) -> tuple[str, ...]:
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
    found = [f"{pod['metadata']['name']}: {why}" for pod in manager.pods if (why := problem(pod))]
    return tuple(found) or _rollout(manager, name, facts.namespace)


def _rollout(manager: Manager, name: str, namespace: str) -> tuple[str, ...]:
    """What the Deployment says where no pod says why."""
    assert isinstance(manager.deployment, dict)
    if manager.deployment["spec"].get("replicas") == 0:
        fix = f"kubectl scale deployment -n {namespace} {MANAGER} --replicas 1"
        return (f"the manager does not run: the {name} is scaled to 0. To start it: {fix}",)
    why = rollout.unfinished(manager.deployment)
    if not why:
        return ()
    logs = f"kubectl logs -n {namespace} deployment/{MANAGER}"
    events = f"kubectl describe deployment -n {namespace} {MANAGER}"
    return (f"the manager is not ready: {name}: {clean(why)}. See {logs}, and {events}",)
