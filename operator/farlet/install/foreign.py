"""Objects of one virtual node in the foreign cluster: pure.

Its system namespace contains all of them, except a Role in each namespace that receives mirror pods
and, without a given capacity, a ClusterRole for reading Nodes.
"""

from __future__ import annotations

from collections.abc import Mapping

from farlet import roles
from farlet.constants import JSON, TOKEN_BINDING, ObjectKey
from farlet.forge.foreign_namespace import ENFORCE
from farlet.install import gateway, manager
from farlet.install.connection import Connection
from farlet.roles import Role

ACCOUNT = roles.NAME
_GROUP = "rbac.authorization.k8s.io"


def namespaces(connection: Connection) -> tuple[JSON, ...]:
    """The system namespace, and those that receive mirror pods."""
    return connection.labelled(
        (
            manager.namespace(connection.system),
            *(_offloaded_namespace(name) for name in connection.foreign_namespaces),
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
                "metadata": {"name": TOKEN_BINDING, "namespace": system},
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


def _offloaded_namespace(name: str) -> JSON:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {ENFORCE: "baseline"}},
    }


def _granted(role: Role, connection: Connection) -> tuple[JSON, JSON]:
    return role.manifest(node=connection.node), role.binding()


def _token_role(system: str) -> tuple[JSON, JSON]:
    """farlet's own token, and no other one."""
    metadata = {"name": TOKEN_BINDING, "namespace": system}
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
                    "resourceNames": [TOKEN_BINDING],
                    "verbs": ["get"],
                },
            ],
        },
        {
            "apiVersion": f"{_GROUP}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": _GROUP, "kind": "Role", "name": TOKEN_BINDING},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": system}],
        },
    )
