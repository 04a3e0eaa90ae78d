"""Objects of one virtual node in the foreign cluster: pure.

Its system namespace contains all of them, except a Role in each namespace that receives mirror pods
and, without a given capacity, a ClusterRole for reading Nodes.
"""

from __future__ import annotations

from collections.abc import Mapping

from farlet import roles
from farlet.constants import JSON, ObjectKey
from farlet.install import gateway
from farlet.install.connection import Connection
from farlet.roles import Role

ACCOUNT = roles.NAME
TOKEN = "farlet-token"  # noqa: S105
"""Secret to which the token of farlet is bound, and the Role with which farlet renews it. Deleting
the Secret revokes the token."""

_SECURITY = "pod-security.kubernetes.io/"
_GROUP = "rbac.authorization.k8s.io"


def namespaces(connection: Connection) -> tuple[JSON, ...]:
    """The system namespace, and those that receive mirror pods."""
    restricted = {f"{_SECURITY}{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    return connection.labelled(
        (
            _namespace(connection.system, restricted),
            *(
                _namespace(name, {f"{_SECURITY}enforce": "baseline"})
                for name in connection.foreign_namespaces
            ),
        )
    )


def objects(connection: Connection) -> tuple[JSON, ...]:
    """Everything else but the content of Secrets."""
    system = connection.system
    granted = [roles.foreign_system(system)]
    if not connection.capacity:
        granted.append(roles.foreign_capacity(system))
    return connection.labelled(
        (
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": ACCOUNT, "namespace": system},
            },
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": TOKEN, "namespace": system},
                "type": "Opaque",
            },
            *_token_role(system),
            *(one for role in granted for one in _granted(role, connection)),
            *(one for name in connection.foreign_namespaces for one in offloaded(name, connection)),
            *(gateway.objects(system, image=connection.image) if connection.gateway else ()),
        )
    )


def offloaded(namespace: str, connection: Connection) -> tuple[JSON, ...]:
    """What a foreign namespace needs that receives mirror pods."""
    return tuple(
        {**one, "metadata": {**one["metadata"], "namespace": namespace}}
        for one in _granted(roles.foreign_offloaded(connection.system), connection)
    )


def gateway_secret(connection: Connection, items: Mapping[str, str]) -> JSON:
    """The foreign half of the keys."""
    return connection.secret(ObjectKey(connection.system, gateway.NAME), items)


def _namespace(name: str, labels: dict[str, str]) -> JSON:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels},
    }


def _granted(role: Role, connection: Connection) -> tuple[JSON, JSON]:
    return role.manifest(node=connection.node), role.binding()


def _token_role(system: str) -> tuple[JSON, JSON]:
    """farlet's own token, and no other one."""
    metadata = {"name": TOKEN, "namespace": system}
    return (
        {
            "apiVersion": f"{_GROUP}/v1",
            "kind": "Role",
            "metadata": metadata,
            "rules": [
                {
                    "apiGroups": [""],
                    "resources": ["serviceaccounts/token"],
                    "resourceNames": [ACCOUNT],
                    "verbs": ["create"],
                },
                {
                    "apiGroups": [""],
                    "resources": ["secrets"],
                    "resourceNames": [TOKEN],
                    "verbs": ["get"],
                },
            ],
        },
        {
            "apiVersion": f"{_GROUP}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": _GROUP, "kind": "Role", "name": TOKEN},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": system}],
        },
    )
