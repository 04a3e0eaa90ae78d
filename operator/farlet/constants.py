"""Every word that farlet shares with Kubernetes or with its users, in one place.

Names of labels, annotations, conditions, finalizers and reasons are a contract: people
select by them, alert on them and put them into manifests. So each is spelled once, here.
Nothing in this module does anything.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

JSON: TypeAlias = dict[str, Any]
"""A JSON object whose shape farlet does not look into."""


class ObjectKey(NamedTuple):
    """Name of a namespaced object; what an event carries and the work queue holds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


# --- what users write -------------------------------------------------------------------------

API_SERVER_SUPPORT = "liqo.io/api-server-support"
"""Annotation on a home pod: which API it may reach (`home`, `remote`, `disabled`)."""

REMOTE_SERVICE_ACCOUNT_NAME = "liqo.io/remote-service-account-name"
"""Annotation on a home pod: the foreign ServiceAccount, only with `remote`."""

OFFLOADABLE_ACCOUNT = "farlet.io/offloadable"
"""Label (value `true`) on a foreign ServiceAccount, for `--remote-service-accounts=labelled`."""

# --- what farlet writes on foreign objects ----------------------------------------------------

VIRTUAL_NODE_ID = "farlet.io/virtual-node-id"
"""Label: hash of (home id, node name). Everything of ours abroad is selected by it."""

HOME_NAMESPACE = "farlet.io/home-namespace"
HOME_NAME = "farlet.io/home-name"
HOME_UID = "farlet.io/home-uid"
HOME_NODE = "farlet.io/home-node"
HOME_SERVICE_ACCOUNT = "farlet.io/home-service-account"
"""Annotations on a mirror: the home pod in full (labels are too short for pod names)."""

ACCESS = "farlet.io/api-access"
"""Annotation on a mirror: the name of the access strategy that shaped it."""

TOKENS = "farlet.io/tokens"
"""Annotation on a mirror: JSON, Secret key -> [issued, expires] in epoch seconds."""

GATEWAY_SELECTOR = "app.kubernetes.io/name=farlet-gateway"
"""Pods in farlet's own foreign namespace that carry connections to home."""

HOME_API_SERVICE = "home-api"
"""Service in farlet's own foreign namespace at which pods reach the home API server."""

HOME_API = "farlet.io/home-api"
"""Annotation on a mirror: where it reaches the home API server, as long as it runs."""

HOME_CA = "farlet.io/home-ca"
"""Annotation on a mirror's Secret: which CA it holds, as a hash."""

RESTARTS = "farlet.io/restarts"
"""Annotation on a mirror made again: JSON, container name -> restarts before this mirror.

Read once: what home then writes into its condition `farlet.io/Mirrored` counts."""

OBSERVED = "farlet.io/observed"
"""Finalizer on mirrors of restartPolicy Never and OnFailure; gone once home knows the end."""

# --- what farlet writes on home objects -------------------------------------------------------

FOREIGN_POD_IP = "farlet.io/foreign-pod-ip"
"""Annotation on a home pod: the mirror's IP, which home must not route to."""

VIRTUAL_NODE_TAINT = "farlet.io/virtual-node"
VIRTUAL_NODE_LABEL = "type"
VIRTUAL_NODE_LABEL_VALUE = "virtual-kubelet"
"""Label of every virtual node, whoever runs it; farlet touches no Node without it."""

HOSTNAME_LABEL = "kubernetes.io/hostname"
OS_LABEL = "kubernetes.io/os"
ARCH_LABEL = "kubernetes.io/arch"
NO_LOAD_BALANCER_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"
"""Nothing listens at node ports of a virtual node."""

CORDONED = "farlet.io/cordoned"
"""Annotation on the Node: farlet made it unschedulable, and why. A cordon without it stays."""


class NodeCondition(StrEnum):
    """Condition types on the Node that farlet owns; all others are left alone."""

    READY = "Ready"
    MEMORY_PRESSURE = "MemoryPressure"
    DISK_PRESSURE = "DiskPressure"
    PID_PRESSURE = "PIDPressure"
    NETWORK_UNAVAILABLE = "NetworkUnavailable"
    FOREIGN_REACHABLE = "farlet.io/ForeignReachable"
    HOME_API_REACHABLE = "farlet.io/HomeAPIReachable"


KUBE_ROOT_CA = "kube-root-ca.crt"
"""ConfigMap that every namespace has and that pods mount as `ca.crt`."""

API_ACCESS_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Directory in which client libraries look for `token`, `ca.crt` and `namespace`."""

DEFAULT_AUDIENCE_EXTENDED_SECONDS = 3607
"""An API server turns a token request of just this life into a token of one year
(`--service-account-extend-token-expiration`; `WarnOnlyBoundTokenExpirationPeriod` in
`pkg/serviceaccount`)."""


class PodCondition(StrEnum):
    """Condition types on home pods that farlet owns; all others are left alone."""

    MIRRORED = "farlet.io/Mirrored"
    HOME_API_VERIFIED = "farlet.io/HomeAPIVerified"
    POD_SCHEDULED = "PodScheduled"
    READY_TO_START_CONTAINERS = "PodReadyToStartContainers"
    INITIALIZED = "Initialized"
    CONTAINERS_READY = "ContainersReady"
    READY = "Ready"
    DISRUPTION_TARGET = "DisruptionTarget"
    RESIZE_PENDING = "PodResizePending"
    RESIZE_IN_PROGRESS = "PodResizeInProgress"
    ALL_CONTAINERS_RESTARTING = "AllContainersRestarting"


class Reason(StrEnum):
    """Why a pod waits or ended: `status.reason`, and the reason of the Event that tells it."""

    # The owner of the pod can cure these.
    INVALID_API_SERVER_SUPPORT = "InvalidAPIServerSupport"
    INVALID_REMOTE_SERVICE_ACCOUNT = "InvalidRemoteServiceAccount"
    SERVICE_ACCOUNT_NOT_FOUND = "ServiceAccountNotFound"
    SERVICE_ACCOUNT_NOT_ALLOWED = "ServiceAccountNotAllowed"
    UNSUPPORTED_POD = "UnsupportedPod"
    POD_FEATURE_NOT_ALLOWED = "PodFeatureNotAllowed"
    # The administrator of farlet can cure these.
    DAEMONSET_NOT_ALLOWED = "DaemonSetNotAllowed"
    NAMESPACE_NOT_OFFLOADED = "NamespaceNotOffloaded"
    NAMESPACE_NOT_FOUND = "ForeignNamespaceNotFound"
    FOREIGN_FORBIDDEN = "ForeignForbidden"
    FOREIGN_REJECTED = "ForeignRejected"
    FOREIGN_QUOTA_EXCEEDED = "ForeignQuotaExceeded"
    FOREIGN_UNREACHABLE = "ForeignUnreachable"
    HOME_API_NOT_CONFIGURED = "HomeAPINotConfigured"
    HOME_API_CERTIFICATE_INVALID = "HomeAPICertificateInvalid"
    HOME_API_UNVERIFIED = "HomeAPIUnverified"
    HOME_API_ENDPOINT_CHANGED = "HomeAPIEndpointChanged"
    TOKEN_REQUEST_FAILED = "TokenRequestFailed"  # noqa: S105
    NAME_CONFLICT = "NameConflict"
    # farlet tells what it did or met.
    MIRROR_LOST = "MirrorLost"
    MIRROR_CREATED = "MirrorCreated"
    STATUS_REJECTED = "StatusRejected"
    SPEC_ADJUSTED = "SpecAdjusted"
    TOKEN_REFRESH_FAILED = "TokenRefreshFailed"  # noqa: S105
    INTERNAL_ERROR = "InternalError"
