"""The resource VirtualNode (`farlet.io/v1alpha1`): one farlet, and so one Node, for each.

The fields are defined here once: `schema` derives the CustomResourceDefinition from them. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from farlet.constants import JSON, ObjectKey
from farlet.context import Allowance, PodNetwork
from farlet.planning.mirror_events import Shown

GROUP = "farlet.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "VirtualNode"
PLURAL = "virtualnodes"

LONGEST_NAME = 40
"""Names of objects in both clusters consist of this name, a prefix and a suffix."""

MANAGER = "farlet-manager"
"""Name of the manager's own objects."""

NAME_LABEL = "app.kubernetes.io/name"
INSTANCE_LABEL = "app.kubernetes.io/instance"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
FARLET = "farlet"

_LABEL_PATTERN = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_HOST_RULE = {
    "rule": f"isIP(self) || self.matches('^{_LABEL_PATTERN}([.]{_LABEL_PATTERN})*$')",
    "message": "expected an IP address without brackets or a DNS name in lower case, without "
    "scheme and port",
}
_IMMUTABLE = {
    "rule": "self == oldSelf",
    "message": "is immutable: delete this VirtualNode and create another one",
}
RULES = "x-kubernetes-validations"

_DNSLabel = Annotated[str, Field(pattern=f"^{_LABEL_PATTERN}$", max_length=63)]
_DNSName = Annotated[
    str, Field(pattern=f"^{_LABEL_PATTERN}([.]{_LABEL_PATTERN})*$", max_length=253)
]
_Quantity = Annotated[
    str,
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
            r"(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
            "x-kubernetes-int-or-string": True,
        }
    ),
]
"""As controller-gen writes a `resource.Quantity`."""


class _Fields(BaseModel):
    """Fields in camelCase on the wire. The API server prunes unknown ones."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        coerce_numbers_to_str=True,
    )


class Identity(StrEnum):
    """With which identity farlet authenticates in the home cluster."""

    NODE = "Node"
    SERVICE_ACCOUNT = "ServiceAccount"


class SecretReference(_Fields):
    """A Secret in the namespace of the VirtualNode."""

    name: _DNSName = Field(description="Name of a Secret in the namespace of the VirtualNode.")


class OptionalSecretReference(_Fields):
    """A Secret that has a name by default."""

    name: _DNSName | None = Field(
        default=None,
        description="Name of a Secret in the namespace of the VirtualNode. By default "
        "farlet-NAME-foreign.",
    )


class Foreign(_Fields):
    """The foreign cluster."""

    kubeconfig_secret: OptionalSecretReference | None = Field(
        default=None,
        description="The Secret whose key `kubeconfig` contains the credentials of farlet in the "
        "foreign cluster. exec plugins, auth providers and paths of files are refused.",
    )
    system_namespace: Annotated[_DNSLabel, Field(json_schema_extra={RULES: [_IMMUTABLE]})] = Field(
        default=FARLET,
        description="Foreign namespace of farlet's own objects; it never receives pods.",
    )


class HomeAPIServer(_Fields):
    """Where pods in the foreign cluster reach the home API server."""

    host: Annotated[str, Field(max_length=253, json_schema_extra={RULES: [_HOST_RULE]})] | None = (
        Field(
            default=None,
            description="IP address or DNS name at which pods in the foreign cluster reach the "
            "home API server. The server's certificate must contain it (SAN).",
        )
    )
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None,
        description="Port at which pods in the foreign cluster reach the home API server.",
    )


class Gateway(_Fields):
    """The gateway in the foreign cluster, to which farlet connects."""

    keys_secret: SecretReference = Field(
        description="The Secret with the home half of what `farlet gateway-keys` created."
    )


class Taint(_Fields):
    """A taint of the Node."""

    key: str = Field(min_length=1, max_length=317, description="Key of the taint.")
    value: str = Field(default="", max_length=63, description="Value of the taint.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        description="What happens to pods that do not tolerate the taint."
    )


class Namespaces(_Fields):
    """Which foreign namespace the pods of a home namespace run in."""

    home_name: Annotated[_DNSLabel, Field(json_schema_extra={RULES: [_IMMUTABLE]})] = Field(
        default="home",
        description="Name of the home cluster in the names of foreign namespaces. Each home "
        "cluster that uses the same foreign cluster needs its own.",
    )
    template: Annotated[str, Field(max_length=63)] = Field(
        default="{namespace}-{home}",
        description="Template for the name of the foreign namespace of a home namespace. 'none': "
        "only the namespaces of `map` are offloaded.",
    )
    map: Annotated[dict[str, _DNSLabel], Field(json_schema_extra={"maxProperties": 1000})] = Field(
        default_factory=dict,
        description="Home namespaces and their foreign namespaces; takes precedence over the "
        "template.",
    )
    create: bool = Field(
        default=False,
        description="Create the foreign namespace of a home namespace when its first pod needs it, "
        "and delete it when the home namespace is gone. Requires permissions that "
        "docs/namespaces.md describes.",
    )


class Access(_Fields):
    """Which API server pods reach."""

    default: _DNSLabel = Field(
        default="home",
        description="Access mode of pods without the annotation liqo.io/api-server-support: home, "
        "remote, disabled, or one that the image of farlet adds.",
    )


class Reflection(_Fields):
    """What farlet shows of one cluster in the other."""

    services: bool = Field(
        default=False,
        description="Copy Services and their endpoints to the foreign namespace, and keep them up "
        "to date. Requires podNetwork connected, and permissions that docs/network.md describes.",
    )
    events: Shown = Field(
        default=Shown.ALL, description="Events of mirror pods shown on home pods."
    )


class Resources(_Fields):
    """Requests and limits of the container of farlet."""

    requests: dict[str, _Quantity] = Field(
        default_factory=dict, description="Requests by resource, such as memory."
    )
    limits: dict[str, _Quantity] = Field(
        default_factory=dict, description="Limits by resource, such as memory."
    )


class Spec(_Fields):
    """What the administrator wants."""

    image: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        default=None, description="Image of farlet. By default the image of the manager."
    )
    replicas: Annotated[int, Field(ge=1, le=5)] = Field(
        default=2, description="Number of farlet pods, of which one serves the node."
    )
    resources: Resources | None = Field(
        default=None,
        description="Resources of a farlet pod. docs/performance.md contains measurements.",
    )
    identity: Annotated[Identity, Field(json_schema_extra={RULES: [_IMMUTABLE]})] = Field(
        default=Identity.NODE,
        description="Identity of farlet in the home cluster. Node: the certificate of a node, in "
        "the Secret farlet-NAME-home. ServiceAccount: the ServiceAccount farlet-NAME, which needs "
        "more permissions than a node (docs/reference/rbac.md).",
    )
    foreign: Foreign = Field(default=Foreign(), description="The foreign cluster.")
    home_api_server: HomeAPIServer | None = Field(
        default=None,
        alias="homeAPIServer",
        description="Address at which pods in the foreign cluster reach the home API server. "
        "Without it, and without a gateway, farlet uses the Service home-api in its foreign "
        "system namespace.",
        json_schema_extra={"minProperties": 1},
    )
    gateway: Gateway | None = Field(
        default=None,
        description="Connect to the gateway in the foreign cluster, through which pods reach the "
        "home API server.",
    )
    capacity: dict[str, _Quantity] | None = Field(
        default=None,
        description="Capacity of the Node; cpu, memory and pods are required. By default the sum "
        "over all foreign nodes, for which farlet needs permission to list them.",
    )
    labels: dict[str, str] = Field(
        default_factory=dict, description="Additional labels of the Node."
    )
    taints: Annotated[list[Taint], Field(max_length=50)] | None = Field(
        default=None,
        description="Taints of the Node. By default farlet.io/virtual-node:NoSchedule; an empty "
        "list for none.",
    )
    namespaces: Namespaces = Field(
        default=Namespaces(), description="Which foreign namespaces the pods run in."
    )
    access: Access = Field(default=Access(), description="Which API server pods reach.")
    allow_pod_features: Annotated[
        list[Allowance],
        Field(max_length=len(Allowance), json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = Field(
        default_factory=list,
        description="Pod features that farlet otherwise refuses (docs/pod-features.md).",
    )
    reflection: Reflection = Field(
        default=Reflection(), description="What farlet shows of one cluster in the other."
    )
    pod_network: PodNetwork = Field(
        default=PodNetwork.ISOLATED,
        description="Whether the home cluster can route to the IPs of mirror pods.",
    )
    extra_args: Annotated[
        list[Annotated[str, Field(max_length=4096, pattern="^--[a-z][a-z0-9-]*=")]],
        Field(max_length=100),
    ] = Field(
        default_factory=list,
        description="Further flags of `farlet run`, each as --flag=value. Flags with a field in "
        "this spec, and flags that name files, are refused.",
    )


class ConditionStatus(_Fields):
    """A condition, as `metav1.Condition`."""

    type: str = Field(description="Type of the condition.", max_length=316)
    status: Literal["True", "False", "Unknown"] = Field(description="Status of the condition.")
    observed_generation: int = Field(
        default=0,
        description="metadata.generation of the VirtualNode that the condition describes.",
    )
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})] = Field(
        description="When the status last changed."
    )
    reason: str = Field(description="Why, as one word.", min_length=1, max_length=1024)
    message: str = Field(default="", description="Why, and what to do.", max_length=32768)


class Status(_Fields):
    """What the manager observed."""

    observed_generation: int | None = Field(
        default=None, description="metadata.generation that the manager has applied."
    )
    conditions: Annotated[
        list[ConditionStatus],
        Field(
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            }
        ),
    ] = Field(default_factory=list, description="Conditions of the virtual node.")
    leader: str | None = Field(default=None, description="The pod that serves the node.")
    foreign_cluster: str | None = Field(
        default=None, description="uid of farlet's namespace in the foreign cluster."
    )
    foreign_server: str | None = Field(default=None, description="URL of the foreign API server.")
    foreign_credentials_expire: (
        Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None
    ) = Field(
        default=None,
        description="When the foreign credentials expire that the farlet pods use now, which can "
        "be older ones than the Secret contains.",
    )
    pods: int | None = Field(default=None, description="Number of pods on the node.")


def object_name(node: str) -> str:
    """Name and prefix of the objects of a virtual node."""
    return f"{FARLET}-{node}"


def foreign_secret(declared: Mapping[str, Any]) -> str:
    """Name of the Secret with the foreign credentials of a VirtualNode, also of a later version."""
    foreign = (declared.get("spec") or {}).get("foreign") or {}
    named = (foreign.get("kubeconfigSecret") or {}).get("name")
    return str(named or f"{object_name(declared['metadata']['name'])}-foreign")


class VirtualNode(BaseModel):
    """One VirtualNode, without its status."""

    model_config = ConfigDict(frozen=True)

    name: str
    namespace: str
    uid: str
    generation: int
    spec: Spec

    @classmethod
    def parse(cls, found: Mapping[str, Any]) -> Self:
        """From the object of the API server. Raises `ValidationError`."""
        metadata = found["metadata"]
        return cls(
            name=metadata["name"],
            namespace=metadata["namespace"],
            uid=metadata["uid"],
            generation=metadata.get("generation", 0),
            spec=Spec.model_validate(found.get("spec") or {}),
        )

    @property
    def key(self) -> ObjectKey:
        """Namespace and name."""
        return ObjectKey(self.namespace, self.name)

    @property
    def object_name(self) -> str:
        """Name of its Deployment, ServiceAccount, PodDisruptionBudget and NetworkPolicy."""
        return object_name(self.name)

    @property
    def home_secret(self) -> str:
        """Name of the Secret with the node's credentials in the home cluster."""
        return f"{self.object_name}-home"

    @property
    def foreign_secret(self) -> str:
        """Name of the Secret with the credentials in the foreign cluster."""
        named = self.spec.foreign.kubeconfig_secret
        return (named.name if named else None) or f"{self.object_name}-foreign"

    @property
    def gateway_secret(self) -> str | None:
        """Name of the Secret with the keys for the gateway; `None` without a gateway."""
        return None if self.spec.gateway is None else self.spec.gateway.keys_secret.name

    @property
    def secrets(self) -> frozenset[str]:
        """Names of all Secrets that its pods mount."""
        names = {self.foreign_secret, self.gateway_secret}
        if self.spec.identity is Identity.NODE:
            names.add(self.home_secret)
        return frozenset(name for name in names if name is not None)

    @property
    def labels(self) -> dict[str, str]:
        """Labels of all of its objects."""
        return {**self.selector, MANAGED_BY_LABEL: MANAGER}

    @property
    def selector(self) -> dict[str, str]:
        """Labels by which its pods are selected."""
        return {NAME_LABEL: FARLET, INSTANCE_LABEL: self.name}

    @property
    def owner(self) -> JSON:
        """The owner reference on its objects. It never blocks a deletion."""
        return {"apiVersion": API_VERSION, "kind": KIND, "name": self.name, "uid": self.uid}


def manifest(name: str, spec: Mapping[str, object], *, namespace: str = FARLET) -> JSON:
    """A VirtualNode as YAML contains it."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": dict(spec),
    }
