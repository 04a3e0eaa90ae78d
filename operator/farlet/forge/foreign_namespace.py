"""Desired objects of a foreign namespace that farlet creates: pure.

The namespace itself, the binding of farlet's ClusterRole in it, and what the administrator has set
as defaults.
"""

from __future__ import annotations

import re

from farlet import rbac, roles
from farlet.constants import CREATED_NAMESPACE, HOME_CLUSTER, HOME_NAMESPACE, JSON
from farlet.context import NewNamespaces

ENFORCE = "pod-security.kubernetes.io/enforce"
NAME_LABEL = "kubernetes.io/metadata.name"
"""Label that the API server sets on each namespace."""

_GROUP = "rbac.authorization.k8s.io"
_ACCOUNT = re.compile(r"system:serviceaccount:(?P<namespace>[^:]+):(?P<name>[^:]+)")


def namespace(name: str, *, home: str, home_id: str, new: NewNamespaces) -> JSON:
    """The namespace, with the home namespace that it is for."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name,
            "labels": {**new.labels, ENFORCE: new.pod_security_level, CREATED_NAMESPACE: "true"},
            "annotations": {**new.annotations, HOME_CLUSTER: home_id, HOME_NAMESPACE: home},
        },
    }


def role_binding(user: str) -> JSON:
    """The binding for farlet, whom the foreign API server knows as `user`."""
    account = _ACCOUNT.fullmatch(user)
    subject: JSON = {"apiGroup": _GROUP, "kind": "User", "name": user}
    if account is not None:
        subject = {"kind": "ServiceAccount", **account.groupdict()}
    return {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": roles.NAME},
        "roleRef": {"apiGroup": _GROUP, "kind": "ClusterRole", "name": rbac.OFFLOADED_ROLE},
        "subjects": [subject],
    }


def resource_quota(new: NewNamespaces) -> JSON | None:
    """The ResourceQuota, if one is set."""
    return _object("v1", "ResourceQuota", new.resource_quota)


def network_policy(new: NewNamespaces) -> JSON | None:
    """The NetworkPolicy, if one is set."""
    return _object("networking.k8s.io/v1", "NetworkPolicy", new.network_policy)


def _object(version: str, kind: str, spec: JSON | None) -> JSON | None:
    if spec is None:
        return None
    return {"apiVersion": version, "kind": kind, "metadata": {"name": roles.NAME}, "spec": spec}
