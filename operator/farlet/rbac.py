"""Every kind of request that farlet makes, and so every right that it needs: one table.

Roles in `manifests/` and `docs/reference/rbac.md` are made from it, and a test compares it with
the audit logs of both API servers: no request without a row, no row without a request. A new
request is a new row first. Pure data: nothing here asks anybody.

At home farlet is either a node or a ServiceAccount. To a node the Node authorizer and
NodeRestriction give what is here, less what other nodes own (`plugin/pkg/auth/authorizer/node`,
`plugin/pkg/admission/noderestriction`); to a ServiceAccount RBAC must give it, and RBAC knows
neither field selectors nor which pod is on which node.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from farlet.constants import HOME_API_SERVICE

NODE = "NODE"
"""Stands for the name of the virtual node, as the name of an object."""


class Side(StrEnum):
    """Which API server is asked."""

    HOME = "home"
    FOREIGN = "foreign"


class Where(StrEnum):
    """Where in a cluster the objects are."""

    CLUSTER = "the whole cluster"
    OFFLOADED = "each namespace whose pods run abroad"
    OWN = "farlet's own namespace"
    DEFAULT = "default"
    KUBE_NODE_LEASE = "kube-node-lease"
    KUBE_SYSTEM = "kube-system"
    URL = "no object"
    """Paths that every authenticated user may GET (ClusterRoles `system:discovery` and
    `system:public-info-viewer`)."""


class Identity(StrEnum):
    """As whom farlet makes the request at home."""

    ANYBODY = "either"
    NODE = "node"
    ACCOUNT = "ServiceAccount"


@dataclass(frozen=True, slots=True)
class Permission:
    """Verbs on one resource in one place.

    `resource` has its subresource behind a slash, or is the beginning of a path for `Where.URL`.
    `name`: only this object. `needs`: the setting or the use without which it is never asked, as
    the end of a sentence; empty: always.
    """

    side: Side
    place: Where
    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    name: str = ""
    needs: str = ""
    who: Identity = Identity.ANYBODY
    asked: bool = True
    """False: an API server looks at it within another request, so no audit log shows it."""


_CORE = ""
_AUTHENTICATION = "authentication.k8s.io"
_AUTHORIZATION = "authorization.k8s.io"
_CERTIFICATES = "certificates.k8s.io"
_COORDINATION = "coordination.k8s.io"
_METRICS = "metrics.k8s.io"

_LOOK = ("list", "watch")

_NO_ADDRESS = "unless --home-api-server-host or --home-api-server-port is given"

_KUBELET_API = "unless --kubelet-bind-address is 0"

TABLE = (
    # --- home, the whole cluster ------------------------------------------------------------------
    Permission(
        Side.HOME, Where.CLUSTER, _CORE, "pods", _LOOK,
        "the pods bound to the virtual node, by the field selector spec.nodeName",
    ),
    Permission(
        Side.HOME, Where.CLUSTER, _CORE, "nodes", ("create",),
        "the virtual node, when it does not exist at the start",
    ),
    Permission(
        Side.HOME, Where.CLUSTER, _CORE, "nodes", ("get", *_LOOK, "patch"),
        "the virtual node: its labels, annotations, taints and cordon",
        name=NODE,
    ),
    Permission(
        Side.HOME, Where.CLUSTER, _CORE, "nodes/status", ("patch",),
        "conditions, capacity and addresses of the virtual node",
        name=NODE,
    ),
    Permission(
        Side.HOME, Where.CLUSTER, _AUTHENTICATION, "tokenreviews", ("create",),
        "who calls the kubelet API with a bearer token",
        needs=_KUBELET_API,
    ),
    Permission(
        Side.HOME, Where.CLUSTER, _AUTHORIZATION, "subjectaccessreviews", ("create",),
        "whether who calls the kubelet API may",
        needs=_KUBELET_API,
    ),
    Permission(
        Side.HOME, Where.CLUSTER, _CERTIFICATES, "certificatesigningrequests",
        ("create", "get", "watch"),
        "the serving certificate of the kubelet API; the next client certificate of a node",
        needs=_KUBELET_API,
    ),
    # --- home, each namespace ---------------------------------------------------------------------
    Permission(
        Side.HOME, Where.OFFLOADED, _CORE, "pods", ("get", "delete"),
        "a pod that home deletes is removed when its mirror has ended",
    ),
    Permission(
        Side.HOME, Where.OFFLOADED, _CORE, "pods/status", ("patch",),
        "what the mirror does is shown at home",
    ),
    Permission(
        Side.HOME, Where.OFFLOADED, _CORE, "serviceaccounts/token", ("create",),
        "home tokens of pods, each bound to its pod",
        needs="for pods of mode home",
    ),
    Permission(
        Side.HOME, Where.OFFLOADED, _CORE, "events", ("create",),
        "why a pod waits or what was changed in it",
    ),
    Permission(
        Side.HOME, Where.OFFLOADED, _CORE, "pods/eviction", ("create",),
        "the node is drained before farlet ends",
        needs="with --drain-on-exit",
    ),
    # --- home, single namespaces ------------------------------------------------------------------
    Permission(
        Side.HOME, Where.DEFAULT, _CORE, "services", ("get",),
        "its uid tells this home from others that share the foreign cluster",
        name="kubernetes",
        needs="unless --home-id is given",
    ),
    Permission(
        Side.HOME, Where.KUBE_NODE_LEASE, _COORDINATION, "leases", ("create",),
        "the heartbeat of the virtual node",
    ),
    Permission(
        Side.HOME, Where.KUBE_NODE_LEASE, _COORDINATION, "leases", ("get", "update"),
        "the heartbeat of the virtual node, and the lock of a node's leader election",
        name=NODE,
    ),
    Permission(
        Side.HOME, Where.OWN, _COORDINATION, "leases", ("create", "get", "update"),
        "the lock of leader election, where it is not the node's",
        needs="with --leader-elect-lease farlet/NAME",
        who=Identity.ACCOUNT,
    ),
    Permission(
        Side.HOME, Where.KUBE_SYSTEM, _CORE, "configmaps", ("get", "watch"),
        "the authority of client certificates that the kubelet API accepts",
        name="extension-apiserver-authentication",
        needs="unless --client-ca-file is given",
    ),
    # --- foreign ----------------------------------------------------------------------------------
    Permission(
        Side.FOREIGN, Where.OWN, _CORE, "configmaps", ("get", "create", "patch"),
        "the registry: which namespaces this node uses",
    ),
    Permission(
        Side.FOREIGN, Where.OWN, _CORE, "services", _LOOK,
        "where pods reach the home API server",
        name=HOME_API_SERVICE,
        needs=_NO_ADDRESS,
    ),
    Permission(
        Side.FOREIGN, Where.OWN, _CORE, "pods", _LOOK,
        "gateways to connect to, and who is behind that Service",
        needs=_NO_ADDRESS,
    ),
    Permission(
        Side.FOREIGN, Where.OWN, _CORE, "pods/portforward", ("get",),
        "connections to gateways, and a look at who answers behind that Service",
        needs=_NO_ADDRESS,
    ),
    Permission(
        Side.FOREIGN, Where.OWN, _CORE, "pods/portforward", ("create",),
        "what API servers since 1.35 want for the same",
        needs=_NO_ADDRESS,
        asked=False,
    ),
    Permission(
        Side.FOREIGN, Where.OFFLOADED, _CORE, "pods",
        ("get", "list", "watch", "create", "patch", "delete"),
        "mirrors",
    ),
    Permission(
        Side.FOREIGN, Where.OFFLOADED, _CORE, "secrets",
        ("get", "list", "watch", "create", "patch"),
        "one per mirror with home API access: its tokens and CA",
    ),
    Permission(
        Side.FOREIGN, Where.OFFLOADED, _CORE, "configmaps", ("get", "create"),
        "the anchor that owns the mirrors",
    ),
    Permission(
        Side.FOREIGN, Where.OFFLOADED, _CORE, "serviceaccounts", _LOOK,
        "the accounts that pods may take",
        needs="for pods of mode remote",
    ),
    Permission(
        Side.FOREIGN, Where.OFFLOADED, _CORE, "pods/log", ("get",),
        "kubectl logs at home",
        needs=_KUBELET_API,
    ),
    *(
        Permission(
            Side.FOREIGN, Where.OFFLOADED, _CORE, f"pods/{verb}", ("create", "get"),
            f"kubectl {kubectl} at home; get: by clients that speak an older WebSocket protocol",
            needs=_KUBELET_API,
        )
        for verb, kubectl in (
            ("exec", "exec and cp"), ("attach", "attach"), ("portforward", "port-forward")
        )
    ),
    Permission(
        Side.FOREIGN, Where.OFFLOADED, _METRICS, "pods", ("list",),
        "kubectl top and autoscaling at home",
        needs=_KUBELET_API,
    ),
    Permission(
        Side.FOREIGN, Where.CLUSTER, _CORE, "nodes", _LOOK,
        "capacity of the virtual node: the sum over the foreign nodes",
        needs="unless --capacity is given",
    ),
    # --- both -------------------------------------------------------------------------------------
    Permission(
        Side.HOME, Where.URL, _CORE, "/api", ("get",),
        "Kopf looks which resources there are",
    ),
    Permission(
        Side.HOME, Where.URL, _CORE, "/version", ("get",),
        "the home version is shown",
        needs="for farlet check",
    ),
    Permission(
        Side.FOREIGN, Where.URL, _CORE, "/version", ("get",),
        "the virtual node shows the foreign version",
    ),
)  # fmt: skip
