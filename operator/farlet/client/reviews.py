"""Bodies that ask an API server whose token it is, or whether a request would be allowed."""

from __future__ import annotations

from farlet.constants import JSON


def token(text: str) -> JSON:
    """For `resources.TOKEN_REVIEWS`."""
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": text},
    }


def own_access(attributes: JSON) -> JSON:
    """For `resources.SELF_ACCESS_REVIEWS`. `attributes`: Kubernetes' `ResourceAttributes`."""
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
