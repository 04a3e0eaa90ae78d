"""Whether all pods of a Deployment are those of its last change: pure, as `kubectl rollout status`.

Until then the status of what they report can be that of pods before the change.
"""

from __future__ import annotations

from farlet.constants import JSON


def image_of(deployment: JSON) -> str:
    """The image of its only container."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return str(containers[0]["image"])


def unfinished(deployment: JSON | None, image: str | None) -> str:
    """Why it does not run this image, or any if `None`, in all pods; empty: it does."""
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
        return f"{updated} of {wanted} pods are updated"
    if total > updated:
        return f"{total - updated} old pods have not ended"
    if available < updated:
        return f"{available} of {updated} pods are available"
    return ""
