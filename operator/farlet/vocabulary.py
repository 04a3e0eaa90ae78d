"""Every word that farlet shares with Kubernetes or with its users, in one place.

Names of labels, annotations, conditions, finalizers and reasons are a contract: people
select by them, alert on them and put them into manifests. So each is spelled once, here.
The `TypedDict`s describe the parts of Kubernetes JSON that farlet reads or writes; they are
raw wire objects (camelCase), never converted to classes on the hot path.

Nothing in this module does anything.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple, NotRequired, TypeAlias, TypedDict

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

OWNER = "farlet.io/owner"
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
    HOST_ACCESS_REFUSED = "HostAccessRefused"
    # The administrator of farlet can cure these.
    NAMESPACE_NOT_ALLOWED = "NamespaceNotAllowed"
    NAMESPACE_NOT_FOUND = "ForeignNamespaceNotFound"
    FOREIGN_FORBIDDEN = "ForeignForbidden"
    FOREIGN_REJECTED = "ForeignRejected"
    FOREIGN_QUOTA_EXCEEDED = "ForeignQuotaExceeded"
    FOREIGN_UNREACHABLE = "ForeignUnreachable"
    HOME_API_NOT_CONFIGURED = "HomeAPINotConfigured"
    HOME_API_CERTIFICATE = "HomeAPICertificate"
    HOME_API_UNVERIFIED = "HomeAPIUnverified"
    TOKEN_REFUSED = "TokenRefused"  # noqa: S105
    NAME_CONFLICT = "NameConflict"
    # farlet tells what it did or met.
    MIRROR_LOST = "MirrorLost"
    MIRROR_CREATED = "MirrorCreated"
    STATUS_REJECTED = "StatusRejected"
    SPEC_CHANGED = "SpecChanged"
    TOKEN_NOT_REFRESHED = "TokenNotRefreshed"  # noqa: S105
    INTERNAL_ERROR = "InternalError"


# --- Kubernetes JSON --------------------------------------------------------------------------


class OwnerReference(TypedDict, total=False):
    apiVersion: str
    kind: str
    name: str
    uid: str
    controller: bool
    blockOwnerDeletion: bool


class ObjectMeta(TypedDict, total=False):
    name: str
    namespace: str
    uid: str
    resourceVersion: str
    generation: int
    generateName: str
    creationTimestamp: str
    deletionTimestamp: str
    deletionGracePeriodSeconds: int
    labels: dict[str, str]
    annotations: dict[str, str]
    finalizers: list[str]
    ownerReferences: list[OwnerReference]
    managedFields: list[JSON]


class KeyToPath(TypedDict, total=False):
    key: str
    path: str
    mode: int


class ObjectFieldSelector(TypedDict, total=False):
    apiVersion: str
    fieldPath: str


class EnvVar(TypedDict, total=False):
    name: str
    value: str
    valueFrom: JSON


class VolumeMount(TypedDict, total=False):
    name: str
    mountPath: str
    subPath: str
    subPathExpr: str
    readOnly: bool


class Container(TypedDict, total=False):
    name: str
    image: str
    command: list[str]
    args: list[str]
    env: list[EnvVar]
    envFrom: list[JSON]
    ports: list[JSON]
    resources: JSON
    lifecycle: JSON
    restartPolicy: str
    restartPolicyRules: list[JSON]
    securityContext: JSON
    volumeMounts: list[VolumeMount]


class DownwardAPIItem(TypedDict, total=False):
    path: str
    fieldRef: ObjectFieldSelector
    resourceFieldRef: JSON
    mode: int


class ServiceAccountTokenProjection(TypedDict, total=False):
    audience: str
    expirationSeconds: int
    path: str


class VolumeProjection(TypedDict, total=False):
    """One source of a projected volume; exactly one key is set."""

    serviceAccountToken: ServiceAccountTokenProjection
    configMap: JSON
    secret: JSON
    downwardAPI: JSON
    clusterTrustBundle: JSON
    podCertificate: JSON


class ProjectedVolume(TypedDict, total=False):
    sources: list[VolumeProjection]
    defaultMode: int


class Volume(TypedDict, total=False):
    name: str
    projected: ProjectedVolume
    downwardAPI: JSON
    configMap: JSON
    secret: JSON
    hostPath: JSON
    emptyDir: JSON


class HostAlias(TypedDict, total=False):
    ip: str
    hostnames: list[str]


class PodSpec(TypedDict, total=False):
    """The fields that farlet reads; `forge/pod.py` has the table of all of them."""

    nodeName: str
    containers: list[Container]
    initContainers: list[Container]
    ephemeralContainers: list[JSON]
    volumes: list[Volume]
    hostAliases: list[HostAlias]
    restartPolicy: str
    serviceAccountName: str
    serviceAccount: str
    automountServiceAccountToken: bool
    securityContext: JSON
    tolerations: list[JSON]
    nodeSelector: dict[str, str]
    affinity: JSON
    topologySpreadConstraints: list[JSON]
    readinessGates: list[JSON]
    hostNetwork: bool
    resources: JSON
    terminationGracePeriodSeconds: int


class Condition(TypedDict, total=False):
    type: str
    status: str
    reason: str
    message: str
    lastProbeTime: str | None
    lastTransitionTime: str
    observedGeneration: int


class ContainerStateTerminated(TypedDict, total=False):
    exitCode: int
    signal: int
    reason: str
    message: str
    startedAt: str | None
    finishedAt: str | None
    containerID: str


class ContainerState(TypedDict, total=False):
    waiting: JSON
    running: JSON
    terminated: ContainerStateTerminated


class ContainerStatus(TypedDict, total=False):
    name: str
    image: str
    imageID: str
    containerID: str
    ready: bool
    started: bool
    restartCount: int
    state: ContainerState
    lastState: ContainerState
    allocatedResources: dict[str, str]
    resources: JSON
    volumeMounts: list[JSON]
    user: JSON
    allocatedResourcesStatus: list[JSON]
    stopSignal: str


class PodStatus(TypedDict, total=False):
    phase: str
    reason: str | None
    message: str | None
    conditions: list[Condition]
    startTime: str
    hostIP: str
    hostIPs: list[dict[str, str]]
    podIP: str
    podIPs: list[dict[str, str]]
    containerStatuses: list[ContainerStatus]
    initContainerStatuses: list[ContainerStatus]
    ephemeralContainerStatuses: list[ContainerStatus]
    qosClass: str
    observedGeneration: int
    allocatedResources: dict[str, str]
    resources: JSON


class Pod(TypedDict):
    metadata: ObjectMeta
    spec: NotRequired[PodSpec]
    status: NotRequired[PodStatus]
    apiVersion: NotRequired[str]
    kind: NotRequired[str]


class Secret(TypedDict):
    apiVersion: str
    kind: str
    metadata: ObjectMeta
    type: NotRequired[str]
    data: NotRequired[dict[str, str]]


class PartialObject(TypedDict):
    """What a metadata-only list or watch returns (`meta.k8s.io/v1` PartialObjectMetadata)."""

    metadata: ObjectMeta
