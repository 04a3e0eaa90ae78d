"""Bodies that ask an API server whose token it is, or whether a request would be allowed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from farlet.constants import JSON

_NODE = re.compile(r"system:node:([a-z0-9.-]{1,253})")
_ACCOUNT = re.compile(r"system:serviceaccount:([a-z0-9-]{1,63}:[a-z0-9.-]{1,253})")


@dataclass(frozen=True, slots=True)
class User:
    """A user as an API server knows it."""

    name: str
    groups: frozenset[str]

    @property
    def node(self) -> str | None:
        """The name of the node, if it is one."""
        found = _NODE.fullmatch(self.name)
        return None if found is None else found[1]

    @property
    def account(self) -> str | None:
        """`NAMESPACE:NAME`, if it is a ServiceAccount."""
        found = _ACCOUNT.fullmatch(self.name)
        return None if found is None else found[1]


def user(info: JSON) -> User:
    """From Kubernetes' `UserInfo`, which is untrusted."""
    return User(str(info.get("username", ""))[:300], frozenset(map(str, info.get("groups") or ())))


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


def access(user: User, attributes: JSON) -> JSON:
    """For `resources.ACCESS_REVIEWS`. `attributes`: Kubernetes' `ResourceAttributes`."""
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": user.name,
            "groups": sorted(user.groups),
            "resourceAttributes": attributes,
        },
    }
