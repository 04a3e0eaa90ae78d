"""All permissions of the manager in the home cluster: every kind of request that it sends.

Its Role and ClusterRole, and their documentation, are generated from this table. It creates neither
Roles nor bindings, and cannot approve client certificates. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from farlet.constants import JSON


class Scope(StrEnum):
    """Where a permission holds."""

    NAMESPACE = "the manager's namespace"
    CLUSTER = "the whole cluster"


@dataclass(frozen=True, slots=True)
class ManagerPermission:
    """Verbs on one resource. `danger`: what an attacker with the manager's token can do."""

    scope: Scope
    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    danger: str
    name: str = ""
    audited: bool = True
    """False: the API server checks it within another request, so no audit log contains it."""

    def rule(self) -> JSON:
        """As a rule of a Role."""
        return {
            "apiGroups": [self.group],
            "resources": [self.resource],
            **({"resourceNames": [self.name]} if self.name else {}),
            "verbs": list(self.verbs),
        }


_CERTIFICATES = "certificates.k8s.io"
_WATCHED = ("get", "list", "watch")
_APPLIED = (*_WATCHED, "create", "patch")

TABLE = (
    ManagerPermission(
        Scope.NAMESPACE, "farlet.io", "virtualnodes", _WATCHED,
        "the nodes that farlet serves",
        "none",
    ),
    ManagerPermission(
        Scope.NAMESPACE, "farlet.io", "virtualnodes/status", ("patch",),
        "conditions of VirtualNodes",
        "show wrong conditions",
    ),
    ManagerPermission(
        Scope.NAMESPACE, "apps", "deployments", _APPLIED,
        "one Deployment of farlet for each VirtualNode",
        "run any pod in this namespace, with its Secrets and ServiceAccounts, within the limits of "
        "the Pod Security level restricted",
    ),
    ManagerPermission(
        Scope.NAMESPACE, "", "serviceaccounts", _APPLIED,
        "one ServiceAccount for each VirtualNode",
        "none: it grants no permissions to them",
    ),
    ManagerPermission(
        Scope.NAMESPACE, "policy", "poddisruptionbudgets", _APPLIED,
        "one PodDisruptionBudget for each VirtualNode",
        "block the drain of machines with pods of this namespace",
    ),
    ManagerPermission(
        Scope.NAMESPACE, "networking.k8s.io", "networkpolicies", _APPLIED,
        "one NetworkPolicy for each VirtualNode",
        "open or close ports of pods of this namespace",
    ),
    ManagerPermission(
        Scope.NAMESPACE, "", "pods", _WATCHED,
        "the state of the farlet pods, and the image of the manager",
        "none",
    ),
    ManagerPermission(
        Scope.NAMESPACE, "", "secrets", (*_WATCHED, "create", "patch"),
        "credentials of farlet in both clusters, which the manager checks and renews",
        "act as every virtual node in the home cluster, and as farlet in every foreign cluster",
    ),
    ManagerPermission(
        Scope.CLUSTER, _CERTIFICATES, "certificatesigningrequests", (*_WATCHED, "create"),
        "requests for serving certificates of farlet pods, and for the first client certificate of "
        "a node",
        "read all requests of the cluster, which contain no private keys",
    ),
    ManagerPermission(
        Scope.CLUSTER, _CERTIFICATES, "certificatesigningrequests/approval", ("update",),
        "approve requests for serving certificates of farlet pods",
        "approve nothing without a permission for the signer",
    ),
    ManagerPermission(
        Scope.CLUSTER, _CERTIFICATES, "signers", ("approve",),
        "only requests to this signer",
        "get a serving certificate with name and address of any kubelet, and pose as it towards "
        "the API server: kubectl exec and logs would reach the attacker. It is not accepted as a "
        "client certificate",
        name="kubernetes.io/kubelet-serving",
        audited=False,
    ),
)  # fmt: skip
