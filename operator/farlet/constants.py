"""Names that farlet shares with Kubernetes or with its users, in one place.

Names of labels, annotations, conditions, finalizers and reasons are a public contract: users
select by them, alert on them and write them into manifests. Each is spelled once, here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

JSON: TypeAlias = dict[str, Any]
"""A JSON object whose content farlet does not read."""


class ObjectKey(NamedTuple):
    """Name of a namespaced object; events and the work queue contain only these."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


RESERVED = "farlet.io/"
"""Prefix of the labels and annotations that farlet uses."""

TOKEN_BINDING = "farlet-token"  # noqa: S105
"""Secret in the foreign system namespace to which the token of farlet is bound, and the Role with
which farlet renews it. Deleting the Secret revokes the token."""

TOPOLOGY_LABELS = frozenset({"topology.kubernetes.io/region", "topology.kubernetes.io/zone"})
"""Labels that an API server copies from a node to the pods that are bound to it
(`plugin/pkg/admission/podtopologylabels`, on by default since Kubernetes 1.35)."""

# --- what users write -------------------------------------------------------------------------

API_SERVER_SUPPORT = "liqo.io/api-server-support"
"""Annotation on a home pod: which API it may reach (`home`, `remote`, `disabled`)."""

REMOTE = "remote"
"""Value of that annotation: the pod is one of the foreign cluster."""

REMOTE_SERVICE_ACCOUNT_NAME = "liqo.io/remote-service-account-name"
"""Annotation on a home pod: the foreign ServiceAccount, only with `remote`."""

KEEP_AT_HOME = "farlet.io/keep-at-home"
"""Label (value `true`) on a home ConfigMap or Secret: it never leaves the home cluster."""

OFFLOADABLE_ACCOUNT = "farlet.io/offloadable"
"""Label (value `true`) on a foreign ServiceAccount, for `--remote-service-accounts=labelled`."""

# --- what farlet writes on foreign objects ----------------------------------------------------

VIRTUAL_NODE_ID = "farlet.io/virtual-node-id"
"""Label: hash of (home id, node name). farlet selects all its foreign objects by it."""

HOME_NAMESPACE = "farlet.io/home-namespace"
HOME_NAME = "farlet.io/home-name"
HOME_UID = "farlet.io/home-uid"
HOME_NODE = "farlet.io/home-node"
HOME_SERVICE_ACCOUNT = "farlet.io/home-service-account"
"""Annotations on a mirror that identify the home pod; labels are too short for pod names."""

ACCESS = "farlet.io/api-access"
"""Annotation on a mirror: the access mode of its pod."""

ACCESS_MODE = "farlet.io/access-mode"
"""Label on a mirror: its access mode, by which foreign NetworkPolicies select it. farlet itself
reads the annotation `ACCESS`."""

APPLIED = "farlet.io/applied"
"""Annotation on a mirror: JSON, which version of the home pod's changeable fields it has
(`forge.applied`)."""

TOKENS = "farlet.io/tokens"
"""Annotation on a mirror: JSON, Secret key -> [issued, expires] in epoch seconds."""

HOME_NAMESPACE_CONFIG_MAP = "farlet-home-namespace"
"""ConfigMap in a foreign namespace: the home namespace that it belongs to."""

HOME_API_SETTINGS = (
    "--home-api-server-host and --home-api-server-port (spec.homeAPIServer of a VirtualNode)"
)
"""In messages: the settings with the address at which pods reach the home API server."""
CREATED_NAMESPACE = "farlet.io/created-namespace"
"""Label (value `true`) on foreign namespaces that farlet created; it deletes no others. The shipped
policy lets it create and delete namespaces with this label only."""

GATEWAY_SELECTOR = "app.kubernetes.io/name=farlet-gateway"
"""Pods in farlet's own foreign namespace that forward connections to the home cluster."""

HOME_API_SERVICE = "home-api"
"""Service in farlet's own foreign namespace at which pods reach the home API server."""

HOME_API = "farlet.io/home-api"
"""Annotation on a mirror: the endpoint of the home API server in its spec."""

HOME_CA = "farlet.io/home-ca"
"""Annotation on a mirror's Secret: hash of the CA bundle that it contains."""

METADATA_FILES = "farlet.io/metadata-files"
"""Annotation on a mirror's Secret: hash of the files with the pod's labels and annotations."""

USED_BY = "farlet.io/used-by-"
"""Prefix of a label (value `true`) on a copy of a ConfigMap or Secret; a virtual node id follows.
The last virtual node that uses the copy deletes it."""

HOME_VERSION = "farlet.io/home-version"
"""Annotation on a copy: the resourceVersion of the home object that it contains."""

REFLECTED = "farlet.io/reflected"
"""Label (value `true`) on foreign Services and EndpointSlices that farlet keeps as they are in the
home namespace."""

HOME_STATE = "farlet.io/home-state"
"""Annotation on a reflected object: uid and resourceVersion of the home object that it shows."""

RESTARTS = "farlet.io/restarts"
"""Annotation on a recreated mirror: JSON, container name -> restarts before this mirror.

Read once: from then on the condition `farlet.io/Mirrored` of the home pod contains them."""

OBSERVED = "farlet.io/observed"
"""Finalizer on mirrors that have restartPolicy Never or OnFailure, or a container with one of them;
farlet removes it once the home pod has the final status."""

# --- volumes --------------------------------------------------------------------------------------

PROVISIONER = "farlet.io/foreign"
"""Provisioner of home StorageClasses whose volumes are in a foreign cluster."""

VOLUME_DRIVER = "foreign.farlet.io"
"""CSI driver of placeholder PersistentVolumes. No kubelet has it: nothing mounts them at home."""

# --- what farlet writes on home objects -------------------------------------------------------

FOREIGN_POD_IP = "farlet.io/foreign-pod-ip"
"""Annotation on a home pod: the mirror's IP, to which the home cluster has no route."""

VIRTUAL_NODE_TAINT = "farlet.io/virtual-node"
VIRTUAL_NODE_LABEL = "type"
VIRTUAL_NODE_LABEL_VALUE = "virtual-kubelet"
"""Label of virtual nodes, of farlet and other programs; farlet changes no Node without it."""

HOSTNAME_LABEL = "kubernetes.io/hostname"
OS_LABEL = "kubernetes.io/os"
ARCH_LABEL = "kubernetes.io/arch"
NO_LOAD_BALANCER_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"
"""Excludes the Node from load balancers: a virtual node does not serve node ports."""

CORDONED = "farlet.io/cordoned"
"""Annotation on the Node: why farlet made it unschedulable. farlet removes no other
cordon."""

FOREIGN_CLUSTER = "farlet.io/foreign-cluster-uid"
"""Annotation on the Node: uid of farlet's system namespace in the foreign cluster that has this
node's mirrors."""

HOME_CLUSTER = "farlet.io/home-cluster-id"
"""Annotation on the Node: the home id with which farlet served it. On a foreign namespace that
farlet created: the home id of its home namespace."""

TERM = "farlet.io/term"
"""Annotation on the inventory: a random value of the process that writes to the foreign cluster.
On the Node: the last value that farlet has read there."""

PENDING_TERM = "farlet.io/pending-term"
"""Annotation on the Node: the value that a process writes to the inventory next."""


class Signer(StrEnum):
    """Signers for nodes (KEP-1513), by the names that a CSR uses."""

    SERVING = "kubernetes.io/kubelet-serving"
    CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"


class NodeCondition(StrEnum):
    """Condition types on the Node that farlet owns; it changes no others."""

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
"""An API server answers a token request with exactly this lifetime with a token for one year
(`--service-account-extend-token-expiration`; `WarnOnlyBoundTokenExpirationPeriod` in
`pkg/serviceaccount`)."""


class PodCondition(StrEnum):
    """Condition types on home pods that farlet owns; it changes no others."""

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
    """Why a pod waits or has ended: `status.reason`, and the reason of the Event about it."""

    # The owner of the pod can fix these.
    INVALID_API_SERVER_SUPPORT = "InvalidAPIServerSupport"
    INVALID_REMOTE_SERVICE_ACCOUNT = "InvalidRemoteServiceAccount"
    SERVICE_ACCOUNT_NOT_FOUND = "ServiceAccountNotFound"
    SERVICE_ACCOUNT_NOT_ALLOWED = "ServiceAccountNotAllowed"
    UNSUPPORTED_POD = "UnsupportedPod"
    KEPT_AT_HOME = "KeptAtHome"
    POD_FEATURE_NOT_ALLOWED = "PodFeatureNotAllowed"
    # The administrator of farlet can fix these.
    DAEMONSET_NOT_ALLOWED = "DaemonSetNotAllowed"
    NAMESPACE_NOT_OFFLOADED = "NamespaceNotOffloaded"
    NAMESPACE_NOT_FOUND = "ForeignNamespaceNotFound"
    FOREIGN_NAMESPACE_IN_USE = "ForeignNamespaceInUse"
    FOREIGN_NAMESPACE_KEPT = "ForeignNamespaceKept"
    FOREIGN_UNAUTHORIZED = "ForeignUnauthorized"
    FOREIGN_FORBIDDEN = "ForeignForbidden"
    FOREIGN_REJECTED = "ForeignRejected"
    FOREIGN_QUOTA_EXCEEDED = "ForeignQuotaExceeded"
    FOREIGN_UNREACHABLE = "ForeignUnreachable"
    FOREIGN_CLUSTER_UNCONFIRMED = "ForeignClusterUnconfirmed"
    HOME_API_NOT_CONFIGURED = "HomeAPINotConfigured"
    HOME_API_CERTIFICATE_INVALID = "HomeAPICertificateInvalid"
    HOME_API_UNVERIFIED = "HomeAPIUnverified"
    HOME_API_ENDPOINT_CHANGED = "HomeAPIEndpointChanged"
    TOKEN_REQUEST_FAILED = "TokenRequestFailed"  # noqa: S105
    NAME_CONFLICT = "NameConflict"
    HOME_NAMESPACE_FORBIDDEN = "HomeNamespaceForbidden"
    UNKNOWN_ANNOTATION = "UnknownAnnotation"
    UNSCHEDULABLE = "Unschedulable"
    VOLUME_NOT_BOUND = "VolumeNotBound"
    PROVISIONING_FAILED = "ProvisioningFailed"
    # farlet reports what it did or observed.
    FOREIGN_REACHABLE = "ForeignReachable"
    MIRROR_LOST = "MirrorLost"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    MIRROR_BACK_OFF = "MirrorBackOff"
    MIRROR_CREATED = "MirrorCreated"
    STATUS_REJECTED = "StatusRejected"
    SPEC_ADJUSTED = "SpecAdjusted"
    SPEC_FIELDS_DROPPED = "SpecFieldsDropped"
    CHANGE_REJECTED = "ChangeRejected"
    EPHEMERAL_CONTAINER_REJECTED = "EphemeralContainerRejected"
    TOKEN_REFRESH_FAILED = "TokenRefreshFailed"  # noqa: S105
    INTERNAL_ERROR = "InternalError"
