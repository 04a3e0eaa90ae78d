"""Every kind of object that farlet reads or writes: its path, its shape, and what to ask for.

A resource is what RBAC calls one: a subresource has an entry of its own. `rbac.TABLE` has a row
for each of them, and no other module contains the path of an API.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import quote

from farlet import k8s_types
from farlet.constants import JSON
from farlet.k8s_types import ConfigMap, Event, Node, PartialObject, Pod

T = TypeVar("T")

JSON_BODY = "application/json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
"""The body can be JSON, which is YAML."""
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


@dataclass(frozen=True)
class Resource(Generic[T]):
    """One kind of object; `T` is the shape of one of them as it is on the wire.

    `subresource` is reached below the name of an object. A `partial` one is asked for its
    metadata alone.
    """

    group: str
    version: str
    plural: str
    subresource: str = ""
    partial: bool = False
    shape: type | None = None
    """The `TypedDict` of an object, which `shapes` checks; `None`: any object."""
    bookmarks: bool = True
    """API servers send bookmarks in a watch of it; otherwise an idle watch is silent."""

    def path(self, namespace: str = "", name: str = "") -> str:
        """The path of one object, or of the collection without a `name`.

        `PODS.path("shop", "web")` is `/api/v1/namespaces/shop/pods/web`. Without a `namespace`
        it is that of the whole cluster.
        """
        base = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if namespace:
            base = f"{base}/namespaces/{quote(namespace, safe='')}"
        if name:
            tail = f"/{self.subresource}" if self.subresource else ""
            return f"{base}/{self.plural}/{quote(name, safe='')}{tail}"
        return f"{base}/{self.plural}"

    @property
    def rbac_name(self) -> str:
        """As a rule of a Role writes it: `pods/status`."""
        return f"{self.plural}/{self.subresource}" if self.subresource else self.plural

    @property
    def metadata_only(self) -> Resource[PartialObject]:
        """The same objects without their spec, status and data."""
        return Resource(
            self.group,
            self.version,
            self.plural,
            self.subresource,
            partial=True,
            shape=k8s_types.PartialShape,
        )

    def below(self, subresource: str) -> Resource[JSON]:
        """A subresource of these objects."""
        return Resource(self.group, self.version, self.plural, subresource)

    @property
    def accept(self) -> str | None:
        """The `Accept` for one object or a watch; `None`: JSON."""
        return METADATA if self.partial else None

    @property
    def accept_list(self) -> str | None:
        """The `Accept` for a list; `None`: JSON."""
        return METADATA_LIST if self.partial else None


class ObjectList(NamedTuple, Generic[T]):
    """A list as of one version of the collection."""

    items: Sequence[T]
    version: str


def query(*, label_selector: str = "", field_selector: str = "", limit: int = 0) -> str:
    """The query of a list or watch; empty if nothing is selected."""
    parts = []
    if label_selector:
        parts.append(f"labelSelector={quote(label_selector)}")
    if field_selector:
        parts.append(f"fieldSelector={quote(field_selector)}")
    if limit:
        parts.append(f"limit={limit}")
    return "&".join(parts)


PODS = Resource[Pod]("", "v1", "pods", shape=Pod)
POD_STATUS = dataclasses.replace(PODS, subresource="status")
POD_EPHEMERAL_CONTAINERS = dataclasses.replace(PODS, subresource="ephemeralcontainers")
POD_RESIZE = dataclasses.replace(PODS, subresource="resize")
POD_EVICTIONS = PODS.below("eviction")
POD_LOGS = PODS.below("log")
POD_EXEC = PODS.below("exec")
POD_ATTACH = PODS.below("attach")
POD_PORT_FORWARD = PODS.below("portforward")
NODES = Resource[Node]("", "v1", "nodes", shape=Node)
NODE_STATUS = dataclasses.replace(NODES, subresource="status")
SECRETS = Resource[PartialObject]("", "v1", "secrets", shape=k8s_types.PartialShape)
CONFIG_MAPS = Resource[ConfigMap]("", "v1", "configmaps", shape=ConfigMap)
WHOLE_SECRETS = Resource[JSON]("", "v1", "secrets", shape=k8s_types.PartialShape)
WHOLE_CONFIG_MAPS = Resource[JSON]("", "v1", "configmaps", shape=k8s_types.PartialShape)
"""With their content, which is copied as it is."""
NAMESPACES = Resource[PartialObject]("", "v1", "namespaces", shape=k8s_types.PartialShape)
RESOURCE_QUOTAS = Resource[JSON]("", "v1", "resourcequotas")
NETWORK_POLICIES = Resource[JSON]("networking.k8s.io", "v1", "networkpolicies")
ROLE_BINDINGS = Resource[JSON]("rbac.authorization.k8s.io", "v1", "rolebindings")
SERVICES = Resource[JSON]("", "v1", "services", shape=k8s_types.Service)
CLAIMS = Resource[k8s_types.PersistentVolumeClaim](
    "", "v1", "persistentvolumeclaims", shape=k8s_types.PersistentVolumeClaim
)
CLAIM_STATUS = dataclasses.replace(CLAIMS, subresource="status")
VOLUMES = Resource[k8s_types.PersistentVolume](
    "", "v1", "persistentvolumes", shape=k8s_types.PersistentVolume
)
STORAGE_CLASSES = Resource[k8s_types.StorageClass](
    "storage.k8s.io", "v1", "storageclasses", shape=k8s_types.StorageClass
)
ENDPOINT_SLICES = Resource[JSON](
    "discovery.k8s.io", "v1", "endpointslices", shape=k8s_types.PartialShape
)
EVENTS = Resource[JSON]("", "v1", "events")
WATCHED_EVENTS = Resource[Event]("", "v1", "events", shape=Event, bookmarks=False)
"""Events as farlet reads them. API servers keep no watch cache for them
(`DefaultWatchCacheSizes` in `pkg/kubeapiserver`), which would send the bookmarks."""
SERVICE_ACCOUNTS = Resource[JSON]("", "v1", "serviceaccounts")
TOKEN_REQUESTS = SERVICE_ACCOUNTS.below("token")
LEASES = Resource[k8s_types.Lease]("coordination.k8s.io", "v1", "leases", shape=k8s_types.Lease)
SIGNING_REQUESTS = Resource[JSON](
    "certificates.k8s.io",
    "v1",
    "certificatesigningrequests",
    shape=k8s_types.SigningRequest,
)
TOKEN_REVIEWS = Resource[JSON](
    "authentication.k8s.io", "v1", "tokenreviews", shape=k8s_types.TokenReview
)
SELF_REVIEWS = Resource[JSON](
    "authentication.k8s.io", "v1", "selfsubjectreviews", shape=k8s_types.SelfSubjectReview
)
SELF_ACCESS_REVIEWS = Resource[JSON](
    "authorization.k8s.io",
    "v1",
    "selfsubjectaccessreviews",
    shape=k8s_types.SelfSubjectAccessReview,
)
ACCESS_REVIEWS = Resource[JSON]("authorization.k8s.io", "v1", "subjectaccessreviews")
POD_METRICS = Resource[JSON]("metrics.k8s.io", "v1beta1", "pods")
