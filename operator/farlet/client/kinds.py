"""Objects of any kind that `farlet connect`, `farlet disconnect` and the manager work with.

A running farlet sends no requests for the kinds that only this module contains, so `rbac.TABLE` has
no rows for them.
"""

from __future__ import annotations

from farlet.client.resources import Resource
from farlet.constants import JSON

_RBAC = "rbac.authorization.k8s.io"

VIRTUAL_NODES = Resource[JSON]("farlet.io", "v1alpha1", "virtualnodes")
NAMESPACES = Resource[JSON]("", "v1", "namespaces")
NODES = Resource[JSON]("", "v1", "nodes")
PODS = Resource[JSON]("", "v1", "pods")
POD_EVICTIONS = PODS.below("eviction")
CONFIG_MAPS = Resource[JSON]("", "v1", "configmaps")
SECRETS = Resource[JSON]("", "v1", "secrets")
SERVICES = Resource[JSON]("", "v1", "services")
SERVICE_ACCOUNTS = Resource[JSON]("", "v1", "serviceaccounts")
TOKEN_REQUESTS = SERVICE_ACCOUNTS.below("token")
CLAIMS = Resource[JSON]("", "v1", "persistentvolumeclaims")
VOLUMES = Resource[JSON]("", "v1", "persistentvolumes")
LEASES = Resource[JSON]("coordination.k8s.io", "v1", "leases")
ENDPOINT_SLICES = Resource[JSON]("discovery.k8s.io", "v1", "endpointslices")
NETWORK_POLICIES = Resource[JSON]("networking.k8s.io", "v1", "networkpolicies")
DEFINITIONS = Resource[JSON]("apiextensions.k8s.io", "v1", "customresourcedefinitions")
DEPLOYMENTS = Resource[JSON]("apps", "v1", "deployments")
DISRUPTION_BUDGETS = Resource[JSON]("policy", "v1", "poddisruptionbudgets")
ROLES = Resource[JSON](_RBAC, "v1", "roles")
ROLE_BINDINGS = Resource[JSON](_RBAC, "v1", "rolebindings")
CLUSTER_ROLES = Resource[JSON](_RBAC, "v1", "clusterroles")
CLUSTER_ROLE_BINDINGS = Resource[JSON](_RBAC, "v1", "clusterrolebindings")
SIGNING_REQUESTS = Resource[JSON]("certificates.k8s.io", "v1", "certificatesigningrequests")
SIGNING_REQUEST_APPROVALS = SIGNING_REQUESTS.below("approval")

_BY_KIND = {
    "VirtualNode": VIRTUAL_NODES,
    "CustomResourceDefinition": DEFINITIONS,
    "Deployment": DEPLOYMENTS,
    "PodDisruptionBudget": DISRUPTION_BUDGETS,
    "Role": ROLES,
    "RoleBinding": ROLE_BINDINGS,
    "ClusterRole": CLUSTER_ROLES,
    "ClusterRoleBinding": CLUSTER_ROLE_BINDINGS,
    "Namespace": NAMESPACES,
    "ServiceAccount": SERVICE_ACCOUNTS,
    "Secret": SECRETS,
    "Service": SERVICES,
    "NetworkPolicy": NETWORK_POLICIES,
}


def of(kind: str) -> Resource[JSON]:
    """The resource of a kind. Raises `KeyError` for one that nothing here works with."""
    return _BY_KIND[kind]
