"""The parts of Kubernetes JSON that farlet reads or writes, as `TypedDict`s.

These are the objects as an API server sends them (camelCase); the hot path never converts them to
classes. A field whose content farlet does not read is `JSON`. A key is `Required` where an API
server always sends it: it has no `omitempty`, or validation demands it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NotRequired, Required

# pydantic, which checks these shapes, accepts no `typing.TypedDict` before Python 3.12.
from typing_extensions import TypedDict

from farlet.constants import JSON


class PodPhase(StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


class ClaimPhase(StrEnum):
    PENDING = "Pending"
    BOUND = "Bound"


RELEASED = "Released"
"""Phase of a PersistentVolume whose claim is gone."""


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class OwnerReference(TypedDict, total=False):
    apiVersion: Required[str]
    kind: Required[str]
    name: Required[str]
    uid: Required[str]
    controller: bool
    blockOwnerDeletion: bool


class ObjectMeta(TypedDict, total=False):
    """Metadata as an API server returns it."""

    name: Required[str]
    uid: Required[str]
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


class NamespacedMeta(ObjectMeta, total=False):
    namespace: Required[str]


class NewObjectMeta(TypedDict):
    """Metadata of an object that farlet is about to create."""

    name: str
    namespace: str
    labels: dict[str, str]
    annotations: dict[str, str]
    finalizers: NotRequired[list[str]]
    ownerReferences: NotRequired[list[OwnerReference]]


class KeyToPath(TypedDict, total=False):
    key: Required[str]
    path: Required[str]
    mode: int
    user: int


class ObjectFieldSelector(TypedDict, total=False):
    apiVersion: str
    fieldPath: Required[str]


class EnvVar(TypedDict, total=False):
    name: Required[str]
    value: str
    valueFrom: JSON


class VolumeMount(TypedDict, total=False):
    name: Required[str]
    mountPath: Required[str]
    subPath: str
    subPathExpr: str
    readOnly: bool


class Container(TypedDict, total=False):
    name: Required[str]
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
    path: Required[str]
    fieldRef: ObjectFieldSelector
    resourceFieldRef: JSON
    mode: int


class ServiceAccountTokenProjection(TypedDict, total=False):
    audience: str
    expirationSeconds: int
    path: Required[str]
    user: int


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
    name: Required[str]
    projected: ProjectedVolume
    downwardAPI: JSON
    configMap: JSON
    secret: JSON
    hostPath: JSON
    emptyDir: JSON


class HostAlias(TypedDict, total=False):
    ip: Required[str]
    hostnames: list[str]


class PodSpec(TypedDict, total=False):
    """The fields that farlet reads; `forge/pod.py` has the table of all of them."""

    nodeName: str
    containers: list[Container]
    initContainers: list[Container]
    ephemeralContainers: list[Container]
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
    activeDeadlineSeconds: int


class Condition(TypedDict, total=False):
    type: Required[str]
    status: Required[str]
    reason: str
    message: str
    lastProbeTime: str | None
    lastTransitionTime: str
    observedGeneration: int


class ContainerStateTerminated(TypedDict, total=False):
    exitCode: Required[int]
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
    name: Required[str]
    image: Required[str]
    imageID: Required[str]
    containerID: str
    ready: Required[bool]
    started: bool
    restartCount: Required[int]
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
    metadata: NamespacedMeta
    spec: PodSpec
    status: NotRequired[PodStatus]
    apiVersion: NotRequired[str]
    kind: NotRequired[str]


class NewPod(TypedDict):
    """A Pod that farlet is about to create."""

    apiVersion: str
    kind: str
    metadata: NewObjectMeta
    spec: PodSpec


class Secret(TypedDict):
    """A Secret that farlet is about to create."""

    apiVersion: str
    kind: str
    metadata: NewObjectMeta
    type: str
    data: dict[str, str]


class ConfigMap(TypedDict):
    metadata: ObjectMeta
    data: NotRequired[dict[str, str]]
    apiVersion: NotRequired[str]
    kind: NotRequired[str]


class LeaseSpec(TypedDict, total=False):
    """`coordination.k8s.io/v1`; times are RFC 3339 with microseconds."""

    holderIdentity: str
    leaseDurationSeconds: int
    acquireTime: str
    renewTime: str
    leaseTransitions: int


class Lease(TypedDict):
    apiVersion: str
    kind: str
    metadata: ObjectMeta
    spec: NotRequired[LeaseSpec]


class PartialObject(TypedDict):
    """An item of a metadata-only list or watch (`meta.k8s.io/v1` PartialObjectMetadata)."""

    metadata: NamespacedMeta


class PartialShape(TypedDict):
    """Like `PartialObject`, of a cluster-scoped kind as well."""

    metadata: ObjectMeta


class Taint(TypedDict, total=False):
    key: Required[str]
    value: str
    effect: Required[str]
    timeAdded: str


class NodeCondition(TypedDict, total=False):
    type: Required[str]
    status: Required[str]
    reason: str
    message: str
    lastHeartbeatTime: str | None
    lastTransitionTime: str | None


class NodeSpec(TypedDict, total=False):
    taints: list[Taint]
    unschedulable: bool
    providerID: str


class NodeSystemInfo(TypedDict, total=False):
    """The fields that farlet reads."""

    operatingSystem: str
    architecture: str
    kernelVersion: str
    osImage: str


class NodeStatus(TypedDict, total=False):
    capacity: dict[str, str]
    allocatable: dict[str, str]
    conditions: list[NodeCondition]
    addresses: list[dict[str, str]]
    daemonEndpoints: JSON
    nodeInfo: NodeSystemInfo


class Node(TypedDict):
    metadata: ObjectMeta
    spec: NotRequired[NodeSpec]
    status: NotRequired[NodeStatus]
    apiVersion: NotRequired[str]
    kind: NotRequired[str]


class SigningRequestStatus(TypedDict, total=False):
    conditions: list[Condition]
    certificate: str


class SigningRequest(TypedDict):
    """`certificates.k8s.io/v1` CertificateSigningRequest; farlet reads no spec."""

    metadata: ObjectMeta
    status: NotRequired[SigningRequestStatus]


class UserInfo(TypedDict, total=False):
    """Who a request is from; anonymous requests have a name, too."""

    username: Required[str]
    groups: list[str]


class TokenUser(TypedDict, total=False):
    username: str
    uid: str
    groups: list[str]
    extra: dict[str, list[str]]


class TokenReviewStatus(TypedDict, total=False):
    authenticated: bool
    user: TokenUser
    error: str


class TokenReview(TypedDict):
    """`authentication.k8s.io/v1`, as it is answered."""

    status: NotRequired[TokenReviewStatus]


class SelfSubjectReviewStatus(TypedDict):
    userInfo: UserInfo


class SelfSubjectReview(TypedDict):
    """`authentication.k8s.io/v1`, as it is answered."""

    status: SelfSubjectReviewStatus


class SelfSubjectAccessReviewStatus(TypedDict):
    allowed: bool


class SelfSubjectAccessReview(TypedDict):
    """`authorization.k8s.io/v1`, as it is answered."""

    status: SelfSubjectAccessReviewStatus


class ServicePort(TypedDict, total=False):
    name: str
    protocol: str
    port: Required[int]
    targetPort: int | str


class ServiceSpec(TypedDict, total=False):
    type: str
    clusterIP: str
    clusterIPs: list[str]
    ports: list[ServicePort]
    selector: dict[str, str]


class Service(TypedDict):
    """The fields that farlet reads."""

    metadata: NamespacedMeta
    spec: NotRequired[ServiceSpec]


class ObjectReference(TypedDict, total=False):
    """The fields that farlet reads."""

    kind: str
    namespace: str
    name: str
    uid: str
    fieldPath: str


class EventSource(TypedDict, total=False):
    component: str
    host: str


class EventSeries(TypedDict, total=False):
    count: int
    lastObservedTime: str | None


class Event(TypedDict, total=False):
    """The fields that farlet reads. client-go's older recorder writes `count` and timestamps, the
    newer one `eventTime` and `series`.
    """

    metadata: Required[NamespacedMeta]
    involvedObject: Required[ObjectReference]
    reason: str
    message: str
    type: str
    source: EventSource
    reportingComponent: str
    firstTimestamp: str | None
    lastTimestamp: str | None
    eventTime: str | None
    count: int
    series: EventSeries


class StorageResources(TypedDict, total=False):
    requests: dict[str, str]


class PersistentVolumeClaimSpec(TypedDict, total=False):
    """The fields that farlet reads."""

    accessModes: list[str]
    resources: StorageResources
    storageClassName: str
    volumeMode: str
    volumeName: str
    selector: JSON
    dataSource: JSON
    dataSourceRef: JSON
    volumeAttributesClassName: str


class PersistentVolumeClaimStatus(TypedDict, total=False):
    phase: str
    capacity: dict[str, str]


class PersistentVolumeClaim(TypedDict, total=False):
    metadata: Required[NamespacedMeta]
    spec: Required[PersistentVolumeClaimSpec]
    status: PersistentVolumeClaimStatus


class CSISource(TypedDict, total=False):
    driver: Required[str]
    volumeHandle: Required[str]


class ClaimReference(TypedDict, total=False):
    namespace: str
    name: str
    uid: str


class PersistentVolumeSpec(TypedDict, total=False):
    """The fields that farlet reads."""

    capacity: dict[str, str]
    claimRef: ClaimReference
    csi: CSISource
    persistentVolumeReclaimPolicy: str


class PersistentVolumeStatus(TypedDict, total=False):
    phase: str


class PersistentVolume(TypedDict, total=False):
    metadata: Required[ObjectMeta]
    spec: Required[PersistentVolumeSpec]
    status: PersistentVolumeStatus


class StorageClass(TypedDict, total=False):
    metadata: Required[ObjectMeta]
    provisioner: Required[str]
    reclaimPolicy: str
    volumeBindingMode: str
