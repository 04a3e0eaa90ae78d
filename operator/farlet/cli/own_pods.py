"""Why pods of farlet itself do not run in the home cluster, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from farlet.cli.reading import Absent, clean
from farlet.constants import JSON, ObjectKey
from farlet.k8s_types import Pod
from farlet.manager import rollout
from farlet.manager.virtual_node import FARLET, MANAGER

_EXITS = ("CrashLoopBackOff", "exit code", "OOMKilled")


@dataclass(frozen=True, slots=True)
class NotRunning:
    """Why pods do not run, and what to do."""

    why: str
    fix: str

    def __str__(self) -> str:
        return f"{self.why}. {self.fix}"


def of_pod(pod: Pod, *, kubectl: str = "kubectl") -> NotRunning | None:
    """`None`: it runs, has ended, or has not started for long enough to say why.

    `kubectl`: the beginning of a command in the home cluster.
    """
    why = rollout.pod_problem(pod) if rollout.can_serve(pod) else None  # type: ignore[arg-type]
    return None if why is None else NotRunning(clean(why), _fix(why, pod, kubectl))


def _fix(why: str, pod: Pod, kubectl: str) -> str:
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    if rollout.lacks_image(why):
        image = pod["spec"]["containers"][0].get("image", "")
        return (
            f"The home cluster cannot pull the image {clean(image, most=500)}: push it to a "
            "registry that both clusters can pull from, and run farlet connect again with --image"
        )
    if any(text in why.partition(":")[0] for text in _EXITS):
        return f"For its last lines: {kubectl} logs -n {namespace} {name} --previous"
    return f"For its Events: {kubectl} describe pod -n {namespace} {name}"


def of_manager(
    deployment: JSON | Absent,
    pods: Sequence[Pod],
    *,
    namespace: str = FARLET,
    kubectl: str = "kubectl",
) -> tuple[NotRunning, ...]:
    """Why the manager, without which no virtual node is created or changed, does not run."""
    key = ObjectKey(namespace, MANAGER)
    if isinstance(deployment, Absent):
        return (
            NotRunning(
                f"the manager is not installed: the Deployment {key} does not exist",
                "Run farlet connect again with the same flags, or install the manager "
                "(docs/how-to/manager.md)",
            ),
        )
    return of_deployment(key, deployment, pods, what="the manager", kubectl=kubectl)


def of_deployment(
    key: ObjectKey,
    deployment: JSON,
    pods: Sequence[Pod],
    *,
    what: str = "farlet",
    kubectl: str = "kubectl",
) -> tuple[NotRunning, ...]:
    """Why not all pods of a Deployment, in which `what` runs, run: what they say, or else what it
    says itself."""
    found = [(pod["metadata"]["name"], of_pod(pod, kubectl=kubectl)) for pod in pods]
    if own := tuple(NotRunning(f"{name}: {one.why}", one.fix) for name, one in found if one):
        return own
    if deployment["spec"].get("replicas") == 0:
        fix = f"{kubectl} scale deployment -n {key.namespace} {key.name} --replicas 1"
        why = f"{what} does not run: the Deployment {key} is scaled to 0"
        return (NotRunning(why, f"To start it: {fix}"),)
    why = rollout.unfinished(deployment)
    if not why:
        return ()
    logs = f"{kubectl} logs -n {key.namespace} deployment/{key.name}"
    events = f"{kubectl} describe deployment -n {key.namespace} {key.name}"
    text = f"{what} is not ready: Deployment {key}: {clean(why)}"
    return (NotRunning(text, f"See {logs}, and {events}"),)
