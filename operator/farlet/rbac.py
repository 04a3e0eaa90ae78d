"""All permissions of farlet in one table: every kind of request that it sends.

The roles in `manifests/` and `docs/reference/rbac.md` are generated from this table, and the
integration tests compare it with the audit logs of both API servers: every request has a row, every
row has a request. Add the row before you add the request. The manager has a table of its own
(`manager.permissions`).

In the home cluster farlet is a node or a ServiceAccount. The Node authorizer and NodeRestriction
grant a node these permissions for its own objects only (`plugin/pkg/auth/authorizer/node`,
`plugin/pkg/admission/noderestriction`). A ServiceAccount gets them from RBAC, which can restrict
neither field selectors nor pods of a node.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from farlet.constants import HOME_API_SERVICE

OFFLOADED_ROLE = "farlet-offloaded"
"""The ClusterRole that farlet binds in each foreign namespace that it creates."""

NODE = "NODE"
"""Placeholder for the name of the virtual node in `Permission.name`."""


class Side(StrEnum):
    """The API server."""

    HOME = "home"
    FOREIGN = "foreign"


class Where(StrEnum):
    """The scope of a permission within a cluster."""

    CLUSTER = "the whole cluster"
    OFFLOADED = "each offloaded namespace"
    CREATED = "each foreign namespace that farlet creates"
    OWN = "farlet's own namespace"
    DEFAULT = "default"
    KUBE_NODE_LEASE = "kube-node-lease"
    KUBE_SYSTEM = "kube-system"
    ANYONE = "every authenticated user"
    """What the ClusterRole `system:basic-user` grants."""
    URL = "no object"
    """Paths that every authenticated user may read (ClusterRoles `system:discovery` and
    `system:public-info-viewer`)."""


class Identity(StrEnum):
    """The identity of farlet in the home cluster that sends the request."""

    EITHER = "either"
    NODE = "node"
    ACCOUNT = "ServiceAccount"
    STORAGE = "ServiceAccount for volumes"
    """That of `--home-storage-kubeconfig`, which can be the same one."""


class When(StrEnum):
    """The condition under which farlet sends a request, as the end of a sentence."""

    ALWAYS = ""
    SERVES_KUBELET_API = "unless --kubelet-bind-address is 0"
    FINDS_HOME_API = "unless --home-api-server-host or --home-api-server-port is set"
    FINDS_HOME_ID = "unless --home-id is set"
    FINDS_CLIENT_CA = "unless --client-ca-file is set"
    SUMS_CAPACITY = "unless --capacity is set"
    MAPS_STORAGE_CLASSES = "with --storage-class-map"
    SHOWS_EVENTS = "unless --mirror-events is none"
    DRAINS = "with --drain-on-exit"
    OTHER_LEASE = "with --leader-elect-lease farlet/NAME"
    MODE_HOME = "for pods of mode home"
    MODE_REMOTE = "for pods of mode remote"
    CREATES_NAMESPACES = "with --create-namespaces"
    REFLECTS_SERVICES = "with --reflect=services"
    CHECK = "for farlet check"
    REFLECTS_OR_CHECK = "with --reflect=services, and for farlet check"
    CREATES_OR_CHECK = "with --create-namespaces, and for farlet check"
    STANDBY_OR_CHECK = "with --leader-elect or --create-namespaces, and for farlet check"


@dataclass(frozen=True, slots=True)
class Permission:
    """Verbs on one resource in one scope.

    `resource` is `RESOURCE` or `RESOURCE/SUBRESOURCE`, and a path prefix for `Where.URL`. `name`
    restricts it to one object, `fields` to those that the field selector selects; the Node
    authorizer requires it. RBAC cannot.
    """

    side: Side
    where: Where
    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    name: str = ""
    fields: str = ""
    when: When = When.ALWAYS
    identity: Identity = Identity.EITHER
    audited: bool = True
    """False: the API server checks it within another request, so no audit log contains it."""


_CORE = ""
_AUTHENTICATION = "authentication.k8s.io"
_AUTHORIZATION = "authorization.k8s.io"
_CERTIFICATES = "certificates.k8s.io"
_COORDINATION = "coordination.k8s.io"
_DISCOVERY = "discovery.k8s.io"
_METRICS = "metrics.k8s.io"
_NETWORKING = "networking.k8s.io"
_RBAC = "rbac.authorization.k8s.io"
_STORAGE = "storage.k8s.io"

_LIST_WATCH = ("list", "watch")

TABLE = (
    # --- home, the whole cluster ------------------------------------------------------------------
    Permission(
        Side.HOME, Where.CLUSTER, _CORE, "pods", _LIST_WATCH,
        "pods bound to the virtual node, by the field selector spec.nodeName",
        fields=f"spec.nodeName={NODE}",
    ),
    Permission(
        Side.HOME, Where.CLUSTER, _CORE, "nodes", ("create",),
        "create the virtual node, if it does not exist",
    ),
    Permission(
        Side.HOME, Where.CLUSTER, _CORE, "nodes", ("get", *_LIST_WATCH, "patch"),
        "labels, annotations, taints and cordon of the virtual node",
        name=NODE,
    ),
    Permission(
        Side.HOME, Where.CLUSTER, _CORE, "nodes/status", ("patch",),
        "conditions, capacity and addresses of the virtual node",
        name=NODE,
    ),
    Permission(
        Side.HOME, Where.CLUSTER, _AUTHENTICATION, "tokenreviews", ("create",),
        "authenticate clients of the kubelet API by bearer token; review the foreign "
        "ServiceAccount token at the start: home must not accept it; review the token of "
        "--home-storage-kubeconfig: home must accept it",
    ),
    Permission(
        Side.HOME, Where.CLUSTER, _AUTHORIZATION, "subjectaccessreviews", ("create",),
        "authorize clients of the kubelet API",
        when=When.SERVES_KUBELET_API,
    ),
    Permission(
        Side.HOME, Where.CLUSTER, _CERTIFICATES, "certificatesigningrequests",
        ("create", "get", "watch"),
        "serving certificate of the kubelet API; renewal of the node's client certificate",
        when=When.SERVES_KUBELET_API,
    ),
    Permission(
        Side.HOME, Where.CLUSTER, _CORE, "namespaces", ("get",),
        "whether a home namespace is gone, so that the foreign namespace that farlet created for "
        "it can be deleted",
        when=When.CREATES_NAMESPACES,
    ),
    *(
        Permission(
            Side.HOME, Where.CLUSTER, group, resource, _LIST_WATCH,
            f"{resource} of offloaded namespaces, for the foreign namespace",
            when=When.REFLECTS_SERVICES,
        )
        for group, resource in ((_CORE, "services"), (_DISCOVERY, "endpointslices"))
    ),
    # --- home, volumes ----------------------------------------------------------------------------
    Permission(
        Side.HOME, Where.CLUSTER, _CORE, "persistentvolumeclaims", ("get", *_LIST_WATCH),
        "claims for which the scheduler selected this node, and claims of its pods",
        when=When.MAPS_STORAGE_CLASSES,
        identity=Identity.STORAGE,
    ),
    Permission(
        Side.HOME, Where.CLUSTER, _CORE, "persistentvolumeclaims/status", ("patch",),
        "show the size of a volume that has grown",
        when=When.MAPS_STORAGE_CLASSES,
        identity=Identity.STORAGE,
    ),
    Permission(
        Side.HOME, Where.CLUSTER, _CORE, "persistentvolumes",
        ("get", *_LIST_WATCH, "create", "patch", "delete"),
        "placeholders for foreign claims, by which home claims are bound",
        when=When.MAPS_STORAGE_CLASSES,
        identity=Identity.STORAGE,
    ),
    Permission(
        Side.HOME, Where.CLUSTER, _STORAGE, "storageclasses", ("get",),
        "provisioner and reclaim policy of mapped classes",
        when=When.MAPS_STORAGE_CLASSES,
        identity=Identity.STORAGE,
    ),
    # --- home, every authenticated user -----------------------------------------------------------
    Permission(
        Side.HOME, Where.ANYONE, _AUTHENTICATION, "selfsubjectreviews", ("create",),
        "show the identity of farlet",
        when=When.CHECK,
    ),
    Permission(
        Side.HOME, Where.ANYONE, _AUTHORIZATION, "selfsubjectaccessreviews", ("create",),
        "verify farlet's own permissions",
        when=When.REFLECTS_OR_CHECK,
    ),
    # --- home, each namespace ---------------------------------------------------------------------
    Permission(
        Side.HOME, Where.OFFLOADED, _CORE, "pods", ("get", "delete"),
        "remove a deleted home pod once its mirror pod has ended; delete a home pod whose deleted "
        "mirror pod does not end because its foreign node is lost",
    ),
    Permission(
        Side.HOME, Where.OFFLOADED, _CORE, "pods/status", ("patch",),
        "report the status of the mirror pod",
    ),
    Permission(
        Side.HOME, Where.OFFLOADED, _CORE, "serviceaccounts/token", ("create",),
        "tokens for mirror pods, each bound to its home pod",
        when=When.MODE_HOME,
    ),
    Permission(
        Side.HOME, Where.OFFLOADED, _CORE, "events", ("create",),
        "report why a pod waits or which fields farlet adjusted; show Events of mirror pods",
    ),
    Permission(
        Side.HOME, Where.OFFLOADED, _CORE, "events", ("patch",),
        "count repeated Events of mirror pods",
        when=When.SHOWS_EVENTS,
    ),
    *(
        Permission(
            Side.HOME, Where.OFFLOADED, _CORE, resource, ("get", *_LIST_WATCH),
            f"{resource} that pods refer to, each by the field selector metadata.name",
            fields="metadata.name=NAME",
        )
        for resource in ("configmaps", "secrets")
    ),
    Permission(
        Side.HOME, Where.OFFLOADED, _CORE, "pods/eviction", ("create",),
        "drain the node before farlet exits",
        when=When.DRAINS,
    ),
    # --- home, single namespaces ------------------------------------------------------------------
    Permission(
        Side.HOME, Where.DEFAULT, _CORE, "services", ("get",),
        "its uid identifies this home cluster within the foreign cluster",
        name="kubernetes",
        when=When.FINDS_HOME_ID,
    ),
    Permission(
        Side.HOME, Where.DEFAULT, _CORE, "events", ("create",),
        "report on the virtual node that the foreign API server does not serve farlet, or does "
        "again",
    ),
    Permission(
        Side.HOME, Where.KUBE_NODE_LEASE, _COORDINATION, "leases", ("create",),
        "heartbeat of the virtual node",
    ),
    Permission(
        Side.HOME, Where.KUBE_NODE_LEASE, _COORDINATION, "leases", ("get", "update"),
        "heartbeat of the virtual node, and leader election of a node identity",
        name=NODE,
    ),
    Permission(
        Side.HOME, Where.OWN, _COORDINATION, "leases", ("create", "get", "update"),
        "leader election with a Lease other than the node's",
        when=When.OTHER_LEASE,
        identity=Identity.ACCOUNT,
    ),
    Permission(
        Side.HOME, Where.KUBE_SYSTEM, _CORE, "configmaps", ("get", "watch"),
        "CA of the client certificates that the kubelet API accepts",
        name="extension-apiserver-authentication",
        when=When.FINDS_CLIENT_CA,
    ),
    # --- foreign ----------------------------------------------------------------------------------
    Permission(
        Side.FOREIGN, Where.OWN, _CORE, "configmaps", ("get", "create", "patch"),
        "inventory of the namespaces that this node uses",
    ),
    Permission(
        Side.FOREIGN, Where.OWN, _CORE, "namespaces", ("get",),
        "its uid identifies the foreign cluster; the Role allows no other one",
    ),
    Permission(
        Side.FOREIGN, Where.OWN, _CORE, "services", _LIST_WATCH,
        "address at which pods reach the home API server",
        name=HOME_API_SERVICE,
        when=When.FINDS_HOME_API,
    ),
    Permission(
        Side.FOREIGN, Where.OWN, _CORE, "pods", _LIST_WATCH,
        "gateways, and the pods behind that Service",
        when=When.FINDS_HOME_API,
    ),
    Permission(
        Side.FOREIGN, Where.OWN, _CORE, "pods/portforward", ("get",),
        "connect to gateways, and verify the endpoint behind that Service",
        when=When.FINDS_HOME_API,
    ),
    Permission(
        Side.FOREIGN, Where.OWN, _CORE, "pods/portforward", ("create",),
        "API servers since 1.35 require create for the same request",
        when=When.FINDS_HOME_API,
        audited=False,
    ),
    Permission(
        Side.FOREIGN, Where.OFFLOADED, _CORE, "pods",
        ("get", "list", "watch", "create", "patch", "delete"),
        "mirror pods",
    ),
    Permission(
        Side.FOREIGN, Where.OFFLOADED, _CORE, "pods/resize", ("patch",),
        "resize mirror pods whose home pods are resized",
    ),
    Permission(
        Side.FOREIGN, Where.OFFLOADED, _CORE, "secrets",
        ("get", *_LIST_WATCH, "create", "update", "patch", "delete"),
        "one per mirror pod of mode home: its tokens and CA; copies of Secrets that pods refer to",
    ),
    Permission(
        Side.FOREIGN, Where.OFFLOADED, _CORE, "namespaces", ("get",),
        "the namespace itself, the owner of its mirror pods; the Role allows no other one",
    ),
    Permission(
        Side.FOREIGN, Where.OFFLOADED, _CORE, "configmaps",
        ("get", *_LIST_WATCH, "create", "update", "patch", "delete"),
        "the home namespace that the foreign namespace belongs to; copies of ConfigMaps that pods "
        "refer to",
    ),
    Permission(
        Side.FOREIGN, Where.OFFLOADED, _CORE, "persistentvolumeclaims",
        ("get", *_LIST_WATCH, "create", "patch", "delete"),
        "the volumes of home claims; farlet deletes no namespace that contains a claim",
        when=When.MAPS_STORAGE_CLASSES,
    ),
    Permission(
        Side.FOREIGN, Where.OFFLOADED, _CORE, "serviceaccounts", _LIST_WATCH,
        "ServiceAccounts of mirror pods",
        when=When.MODE_REMOTE,
    ),
    Permission(
        Side.FOREIGN, Where.OFFLOADED, _CORE, "events", _LIST_WATCH,
        "show Events of mirror pods on their home pods",
        when=When.SHOWS_EVENTS,
    ),
    Permission(
        Side.FOREIGN, Where.OFFLOADED, _CORE, "pods/log", ("get",),
        "kubectl logs in the home cluster",
        when=When.SERVES_KUBELET_API,
    ),
    Permission(
        Side.FOREIGN, Where.OFFLOADED, _CORE, "pods/ephemeralcontainers", ("patch",),
        "kubectl debug in the home cluster",
    ),
    *(
        Permission(
            Side.FOREIGN, Where.OFFLOADED, _CORE, f"pods/{verb}", ("create", "get"),
            f"kubectl {kubectl} in the home cluster; get: for clients with an older WebSocket "
            "protocol",
            when=When.SERVES_KUBELET_API,
        )
        for verb, kubectl in (
            ("exec", "exec and cp"), ("attach", "attach"), ("portforward", "port-forward")
        )
    ),
    Permission(
        Side.FOREIGN, Where.OFFLOADED, _METRICS, "pods", ("list",),
        "kubectl top and autoscaling in the home cluster",
        when=When.SERVES_KUBELET_API,
    ),
    *(
        Permission(
            Side.FOREIGN, Where.OFFLOADED, group, resource,
            (*_LIST_WATCH, "create", "update", "delete"),
            f"{resource} of the home namespace{more}",
            when=When.REFLECTS_SERVICES,
        )
        for group, resource, more in (
            (_CORE, "services", "; farlet deletes no namespace that contains a Service"),
            (_DISCOVERY, "endpointslices", ""),
        )
    ),
    Permission(
        Side.FOREIGN, Where.CLUSTER, _CORE, "nodes", _LIST_WATCH,
        "capacity of the virtual node, the sum of the foreign nodes",
        when=When.SUMS_CAPACITY,
    ),
    Permission(
        Side.FOREIGN, Where.CLUSTER, _CORE, "namespaces", ("get", "create", "delete"),
        "create the foreign namespace that the first pod of a home namespace needs; delete it when "
        "the home namespace is gone",
        when=When.CREATES_NAMESPACES,
    ),
    Permission(
        Side.FOREIGN, Where.CLUSTER, _RBAC, "rolebindings", ("create",),
        "bind that ClusterRole in these namespaces",
        when=When.CREATES_NAMESPACES,
    ),
    Permission(
        Side.FOREIGN, Where.CLUSTER, _RBAC, "clusterroles", ("bind",),
        "the ClusterRole with farlet's permissions in these namespaces",
        name=OFFLOADED_ROLE,
        when=When.CREATES_NAMESPACES,
        audited=False,
    ),
    Permission(
        Side.FOREIGN, Where.CREATED, _CORE, "resourcequotas", ("create",),
        "the ResourceQuota of --namespace-defaults",
        when=When.CREATES_NAMESPACES,
    ),
    Permission(
        Side.FOREIGN, Where.CREATED, _NETWORKING, "networkpolicies", ("create",),
        "the NetworkPolicy of --namespace-defaults",
        when=When.CREATES_NAMESPACES,
    ),
    Permission(
        Side.FOREIGN, Where.ANYONE, _AUTHORIZATION, "selfsubjectaccessreviews", ("create",),
        "verify farlet's own permissions before it becomes the leader, and in a namespace that it "
        "has created",
        when=When.STANDBY_OR_CHECK,
    ),
    Permission(
        Side.FOREIGN, Where.ANYONE, _AUTHENTICATION, "selfsubjectreviews", ("create",),
        "the identity of farlet, the subject of its RoleBindings",
        when=When.CREATES_OR_CHECK,
    ),
    # --- both -------------------------------------------------------------------------------------
    Permission(
        Side.HOME, Where.URL, _CORE, "/api", ("get",),
        "discovery of resources by Kopf",
    ),
    Permission(
        Side.HOME, Where.URL, _CORE, "/version", ("get",),
        "show the version of the home API server",
        when=When.CHECK,
    ),
    Permission(
        Side.FOREIGN, Where.URL, _CORE, "/version", ("get",),
        "version of the foreign API server, shown by the virtual node",
    ),
)  # fmt: skip
