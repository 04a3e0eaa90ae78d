"""The objects of `farlet manager` in the home cluster. Pure.

The Namespace and the CustomResourceDefinition are apart from the others: when they are deleted,
all VirtualNodes are deleted with them.
"""

from __future__ import annotations

from collections.abc import Sequence

from farlet.constants import JSON
from farlet.manager import permissions, pod_template, schema
from farlet.manager.permissions import Scope
from farlet.manager.virtual_node import FARLET, GROUP, MANAGER, NAME_LABEL, PLURAL

NODE_ADMINISTRATOR = "farlet-node-administrator"
"""ClusterRole for administrators of VirtualNodes. It is not aggregated to `admin` or `edit`:
anyone who can write VirtualNodes decides which image runs with the credentials of each node."""

NAME = schema.NAME
"""Name of the CustomResourceDefinition."""

_RBAC = "rbac.authorization.k8s.io"
_LABELS = {NAME_LABEL: MANAGER}


def namespace(name: str = FARLET) -> JSON:
    """A namespace with pods of farlet: that of the manager, of all VirtualNodes and their farlets,
    or the system namespace of a virtual node.
    """
    modes = ("enforce", "warn", "audit")
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in modes}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def custom_resource_definition() -> JSON:
    """The CustomResourceDefinition of VirtualNode."""
    return schema.custom_resource_definition()


def objects(*, image: str, namespace: str = FARLET) -> Sequence[JSON]:
    """Everything else, in the order in which it is applied."""
    return [
        _account(namespace),
        *_roles(namespace),
        node_administrator(),
        _network_policy(namespace),
        deployment(image=image, namespace=namespace),
    ]


def node_administrator() -> JSON:
    """The ClusterRole for administrators of VirtualNodes; they bind it themselves."""
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": NODE_ADMINISTRATOR, "labels": _LABELS},
        "rules": [
            {
                "apiGroups": [GROUP],
                "resources": [PLURAL],
                "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
            }
        ],
    }


def deployment(*, image: str, namespace: str = FARLET) -> JSON:
    """One replica: while it restarts, farlets keep serving their nodes."""
    container = {
        "name": "manager",
        "image": image,
        "args": ["manager"],
        "env": [
            {
                "name": "FARLET_NAMESPACE",
                "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}},
            },
            {
                "name": "FARLET_POD_NAME",
                "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
            },
        ],
        "ports": [{"name": "probes", "containerPort": pod_template.PROBES_PORT}],
        **pod_template.probes(),
        "resources": {
            "requests": {"cpu": "50m", "memory": "96Mi"},
            "limits": {"memory": "512Mi"},
        },
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],  # noqa: S108
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(namespace),
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": _LABELS},
            "template": pod_template.pod_template(
                labels=_LABELS,
                container=container,
                # Keys of credentials, for the moments in which a TLS library reads them.
                volumes=[pod_template.memory_volume("scratch", "16Mi")],
                serviceAccountName=MANAGER,
                automountServiceAccountToken=True,
            ),
        },
    }


def _account(namespace: str) -> JSON:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(namespace)}


def _roles(namespace: str) -> list[JSON]:
    made: list[JSON] = []
    for scope, kind in ((Scope.NAMESPACE, "Role"), (Scope.CLUSTER, "ClusterRole")):
        metadata = _metadata(namespace) if scope is Scope.NAMESPACE else _cluster_metadata()
        rules = [row.rule() for row in permissions.TABLE if row.scope is scope]
        made.append(
            {"apiVersion": f"{_RBAC}/v1", "kind": kind, "metadata": metadata, "rules": rules}
        )
        made.append(
            {
                "apiVersion": f"{_RBAC}/v1",
                "kind": f"{kind}Binding",
                "metadata": metadata,
                "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": MANAGER},
                "subjects": [{"kind": "ServiceAccount", "name": MANAGER, "namespace": namespace}],
            }
        )
    return made


def _network_policy(namespace: str) -> JSON:
    """Only the kubelet connects to the manager, for probes, which no policy can prevent."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(namespace),
        "spec": {"podSelector": {"matchLabels": _LABELS}, "policyTypes": ["Ingress"]},
    }


def _metadata(namespace: str) -> JSON:
    return {"name": MANAGER, "namespace": namespace, "labels": _LABELS}


def _cluster_metadata() -> JSON:
    return {"name": MANAGER, "labels": _LABELS}
