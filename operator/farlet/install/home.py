"""Objects of one virtual node in the home cluster that the manager does not create: pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from farlet import names, roles
from farlet.constants import JSON, ObjectKey
from farlet.install.connection import HOME_SYSTEM, Connection
from farlet.manager.virtual_node import API_VERSION, KIND, Identity

KUBECONFIG = "kubeconfig"
"""Key of a Secret with credentials."""

_GROUP = "rbac.authorization.k8s.io"


def bindings(connection: Connection) -> tuple[JSON, ...]:
    """What farlet is allowed to do in the home cluster beyond what a node is.

    Bindings are granted by an administrator: the manager creates none.
    """
    if connection.identity is Identity.NODE:
        return connection.labelled((_client_authority(connection), _renewal(connection)))
    return connection.labelled(tuple(_account_roles(connection)))


def foreign_secret(connection: Connection, kubeconfig: str) -> JSON:
    """farlet's credentials in the foreign cluster."""
    return _secret(connection, "foreign", {KUBECONFIG: kubeconfig})


def gateway_secret(connection: Connection, items: Mapping[str, str]) -> JSON:
    """The home half of the keys of the gateway."""
    return _secret(connection, "gateway", items)


def virtual_node(connection: Connection) -> JSON:
    """The VirtualNode. Its image is that of the manager, so that both are upgraded together."""
    spec: JSON = {
        "identity": connection.identity.value,
        "foreign": {
            "kubeconfigSecret": {"name": f"{connection.name}-foreign"},
            "systemNamespace": connection.system,
        },
        "namespaces": {"homeName": connection.home_name},
    }
    if connection.gateway:
        spec["gateway"] = {"keysSecret": {"name": f"{connection.name}-gateway"}}
    else:
        endpoint = {"host": connection.home_api_host, "port": connection.home_api_port}
        spec["homeAPIServer"] = {key: value for key, value in endpoint.items() if value is not None}
    if connection.capacity:
        spec["capacity"] = dict(connection.capacity)
    (node,) = connection.labelled(
        (
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "metadata": {"name": connection.node, "namespace": HOME_SYSTEM},
                "spec": spec,
            },
        )
    )
    return node


def _secret(connection: Connection, what: str, items: Mapping[str, str]) -> JSON:
    key = ObjectKey(HOME_SYSTEM, f"{connection.name}-{what}")
    return connection.secret(key, items)


def _client_authority(connection: Connection) -> JSON:
    """The one permission that a node lacks: `manifests/home/node-identity`."""
    return {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"{connection.name}-client-authority", "namespace": "kube-system"},
        "roleRef": {
            "apiGroup": _GROUP,
            "kind": "Role",
            "name": "extension-apiserver-authentication-reader",
        },
        "subjects": [
            {"apiGroup": _GROUP, "kind": "User", "name": names.node_user(connection.node)}
        ],
    }


def _renewal(connection: Connection) -> JSON:
    """kube-controller-manager approves the renewal of a client certificate that the node itself
    requests, so that no person is needed for it.
    """
    return {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"{connection.name}-renewal"},
        "roleRef": {
            "apiGroup": _GROUP,
            "kind": "ClusterRole",
            "name": "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        },
        "subjects": [
            {"apiGroup": _GROUP, "kind": "User", "name": names.node_user(connection.node)}
        ],
    }


def _account_roles(connection: Connection) -> Iterator[JSON]:
    for role in roles.home(connection.name):
        yield role.manifest(node=connection.node)
        yield role.binding()
    pods = roles.home_offloaded(connection.name)
    yield pods.manifest(node=connection.node)
    for namespace in connection.namespaces:
        yield {
            **pods.binding(),
            "kind": "RoleBinding",
            "metadata": {"name": connection.name, "namespace": namespace},
        }
