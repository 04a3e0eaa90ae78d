"""How far a Deployment is rolled out, and what keeps its pods from running: pure.

The manager writes it into the status of a VirtualNode; `farlet connect` prints it.
"""

from __future__ import annotations

from collections.abc import Sequence

from farlet.constants import JSON
from farlet.forge import phases

_IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName"})
"""Of a container that waits (`pkg/kubelet/images/types.go`)."""


def image_of(deployment: JSON) -> str:
    """The image of its only container."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return str(containers[0]["image"])


def unfinished(deployment: JSON | None, image: str | None = None) -> str:
    """Why it does not run this image, or any if `None`, in all pods; empty: it does.

    As `kubectl rollout status` decides it (`pkg/polymorphichelpers/rollout_status.go`). Until then
    the status of what its pods report can be that of pods before its last change.
    """
    if deployment is None:
        return "it does not exist yet"
    if image is not None and image_of(deployment) != image:
        return f"it has the image {image_of(deployment)}, not yet {image}"
    status = deployment.get("status") or {}
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return "its controller has not seen the last change yet"
    wanted = deployment["spec"].get("replicas", 1)
    total, updated, available = (
        status.get(field) or 0 for field in ("replicas", "updatedReplicas", "availableReplicas")
    )
    if updated < wanted:
        return _joined(f"{updated} of {wanted} pods are updated", refusal(deployment))
    if total > updated:
        return f"{total - updated} old pods have not ended"
    if available < updated:
        return f"{available} of {updated} pods are available"
    return ""


def refusal(deployment: JSON | None) -> str:
    """Why the API server does not admit pods of a Deployment, such as a quota; empty: it does.

    Kubernetes copies this condition from the ReplicaSet (`getReplicaFailures` in
    `pkg/controller/deployment/progress.go`).
    """
    for one in _list((deployment or {}).get("status"), "conditions"):
        if one.get("type") == "ReplicaFailure" and one.get("status") == "True":
            return _joined(one.get("reason") or "", one.get("message") or "", separator=": ")
    return ""


def can_serve(pod: JSON) -> bool:
    """Whether its container can run now or later: it has neither ended nor been deleted.

    The address of one that has ended can be that of another pod.
    """
    ended = (pod.get("status") or {}).get("phase") in phases.TERMINAL
    return not ended and not pod["metadata"].get("deletionTimestamp")


def pod_problem(pod: JSON) -> str | None:
    """Why the container of a pod does not run, and how it ended last."""
    status = pod.get("status")
    for condition in _list(status, "conditions"):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"{condition.get('reason')}: {condition.get('message')}"
    for container in _list(status, "containerStatuses"):
        state = container.get("state") or {}
        waiting = state.get("waiting")
        ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
        if waiting is None and state.get("terminated") is None:
            continue
        text = _joined(
            _joined((waiting or {}).get("reason") or "", _end(ended), separator=", "),
            _last_line((ended or {}).get("message")) or (waiting or {}).get("message") or "",
            separator=": ",
        )
        if text:
            return text
    return None


def pod_problems(pods: Sequence[JSON]) -> dict[str, str]:
    """Name of a pod to its problem, for those that have one."""
    found = {pod["metadata"]["name"]: pod_problem(pod) for pod in pods if can_serve(pod)}
    return {name: problem for name, problem in sorted(found.items()) if problem is not None}


def lacks_image(problem: str) -> bool:
    """Whether a problem of a pod is that its image cannot be pulled."""
    return problem.partition(":")[0].partition(",")[0] in _IMAGE_REASONS


def _end(ended: JSON | None) -> str:
    """`OOMKilled with exit code 137`, or `exit code 1`: Error says nothing more."""
    if ended is None or "exitCode" not in ended:
        return ""
    reason = ended.get("reason")
    named = f"{reason} with " if reason and reason != "Error" else ""
    return f"{named}exit code {ended['exitCode']}"


def _last_line(message: str | None) -> str:
    lines = [line.strip() for line in (message or "").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("farlet: ")]
    return (errors or lines or [""])[-1].removeprefix("farlet: ")


def _list(status: JSON | None, field: str) -> Sequence[JSON]:
    return (status or {}).get(field) or ()


def _joined(*parts: str, separator: str = "; ") -> str:
    return separator.join(part for part in parts if part)
