"""farlet's identity in the home cluster: its node, or a ServiceAccount with the shipped Roles.

The node is the usual case: a certificate of `system:node:NAME`, with what the Node authorizer and
NodeRestriction allow a kubelet. An account is a separate ServiceAccount for each farlet, so that
the audit log distinguishes them, with the rules in `manifests/home/service-account` and a token,
no certificate. Rules for a named node apply to the node of that farlet.
"""

import enum
from pathlib import Path
from typing import Any

import yaml

from clusters import errors, kubeconfig
from clusters.cluster import Cluster

NAMESPACE = "farlet"
RIGHTS = Path(__file__).parents[2] / "manifests" / "home" / "service-account" / "roles.yaml"
_NODE, _ACCOUNT = "system:node:", f"system:serviceaccount:{NAMESPACE}:"
_NOT_FARLET = frozenset({"admin", f"{_ACCOUNT}farlet-manager"})
_PODS = "farlet-far-pods"  # the ClusterRole for pods in the manifests
_SHIPPED_NODE = "far"  # the virtual node's name in the manifests
_TOKEN_LIFE = "24h"  # no test run takes longer


class Identity(enum.Enum):
    """One of the two identities in the home cluster."""

    NODE = "node"
    ACCOUNT = "account"

    def user(self, node: str) -> str:
        """The user name of the farlet of a node."""
        return f"{_NODE if self is Identity.NODE else _ACCOUNT}{node}"

    def login(self, cluster: Cluster, node: str) -> Path:
        """The kubeconfig of the farlet of a node, as seen from the host."""
        if self is Identity.NODE:
            return cluster.login(self.user(node), groups=["system:nodes"])
        path = cluster.folder / "logins" / f"account-{node}.kubeconfig"
        if not path.exists():
            _make_account(cluster, node)
            token = cluster.kubectl(
                *("create", "token", node, f"--namespace={NAMESPACE}", f"--duration={_TOKEN_LIFE}")
            )
            access = kubeconfig.read(cluster.kubeconfig)
            kubeconfig.write(
                path,
                server=access.server,
                authority=access.authority,
                user=token.strip(),
                cluster=cluster.name,
            )
        return path


def bind_as_shipped(cluster: Cluster, node: str, *, namespace: str) -> None:
    """Let the account of a node handle pods in one namespace only, as an administrator does.

    `Identity.login` binds that ClusterRole in the whole cluster, for tests with other namespaces.
    """
    role = f"{_PODS}-{node}"
    cluster.kubectl("delete", "clusterrolebinding", role)
    account = f"--serviceaccount={NAMESPACE}:{node}"
    binding = ("create", "rolebinding", role, f"--clusterrole={role}", account)
    cluster.kubectl(*binding, f"--namespace={namespace}")


def is_farlet(user: str) -> bool:
    """Whether a user of home is the farlet of some virtual node, with either identity."""
    return user.startswith((_NODE, _ACCOUNT))


def is_other(user: str) -> bool:
    """Whether a user of farlet's client is not a farlet.

    Administrators use it in commands such as `farlet connect`, the manager has permissions of its
    own (`farlet.manager.permissions`), and operators in pods of tests use Kopf as well.
    """
    if user in _NOT_FARLET:
        return True
    return user.startswith("system:serviceaccount:") and not is_farlet(user)


def _make_account(cluster: Cluster, name: str) -> None:
    """A ServiceAccount with the shipped permissions, including the cluster-wide ones."""
    if not cluster.kubectl("get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name"):
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    where = {"name": name, "namespace": NAMESPACE}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}
    cluster.apply(account, *(one for role in _roles(name) for one in (role, _binding(role, name))))


def _roles(node: str) -> list[dict[str, Any]]:
    """The shipped ClusterRoles and Roles, as those of one virtual node."""
    documents = [
        document
        for document in yaml.safe_load_all(RIGHTS.read_text())
        if document["kind"] in {"ClusterRole", "Role"}
    ]
    if not documents:
        raise errors.HarnessError(f"{RIGHTS} holds no ClusterRole that an account could have")
    for document in documents:
        document["metadata"]["name"] += f"-{node}"
        for rule in document["rules"]:
            if rule.get("resourceNames") == [_SHIPPED_NODE]:
                rule["resourceNames"] = [node]
    return documents


def _binding(role: dict[str, Any], account: str) -> dict[str, Any]:
    api = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{api}/v1",
        "kind": f"{role['kind']}Binding",
        "metadata": role["metadata"],
        "roleRef": {"apiGroup": api, "kind": role["kind"], "name": role["metadata"]["name"]},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}],
    }
