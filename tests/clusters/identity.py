"""Who farlet is at home: the node that it serves, or an account with the rights shipped for one.

The node is the usual case: a certificate of `system:node:NAME`, with what the Node authorizer and
NodeRestriction leave to a kubelet. An account is a ServiceAccount of its own for each farlet, so
that the audit log tells them apart, with the rules in `manifests/home` and a token, no certificate.
"""

import enum
from pathlib import Path
from typing import Any

import yaml

from clusters import errors, kubeconfig
from clusters.cluster import Cluster

NAMESPACE = "farlet"
MANIFESTS = Path(__file__).parents[2] / "manifests" / "home"
_NODE, _ACCOUNT = "system:node:", f"system:serviceaccount:{NAMESPACE}:"
_ACCOUNTS = f"system:serviceaccounts:{NAMESPACE}"
_TOKEN_LIFE = "24h"  # no test run takes longer


class Identity(enum.Enum):
    """One of the two ways to log in at home."""

    NODE = "node"
    ACCOUNT = "account"

    def user(self, node: str) -> str:
        """What API servers and their audit logs call the farlet of a node."""
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


def is_farlet(user: str) -> bool:
    """Whether a user of home is the farlet of some virtual node, whichever way it logs in."""
    return user.startswith((_NODE, _ACCOUNT))


def _make_account(cluster: Cluster, name: str) -> None:
    """A ServiceAccount, and the shipped rights for all of their namespace, should they lack."""
    if not cluster.kubectl("get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name"):
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    marker = cluster.folder / "logins" / "rights-of-accounts"
    if not marker.exists():
        cluster.apply(*_rights())
        marker.parent.mkdir(exist_ok=True)
        marker.touch()
    where = {"name": name, "namespace": NAMESPACE}
    cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where})


def _rights() -> list[dict[str, Any]]:
    """The shipped ClusterRoles and Roles, each with a binding to every account of the namespace."""
    documents = [
        document
        for path in sorted(MANIFESTS.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if document is not None and document["kind"] in {"ClusterRole", "Role"}
    ]
    if not documents:
        raise errors.HarnessError(f"{MANIFESTS} holds no ClusterRole that an account could have")
    return [one for role in documents for one in (role, _binding(role))]


def _binding(role: dict[str, Any]) -> dict[str, Any]:
    api = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{api}/v1",
        "kind": f"{role['kind']}Binding",
        "metadata": {**role["metadata"], "name": f"{role['metadata']['name']}-of-tests"},
        "roleRef": {"apiGroup": api, "kind": role["kind"], "name": role["metadata"]["name"]},
        "subjects": [{"kind": "Group", "apiGroup": api, "name": _ACCOUNTS}],
    }
