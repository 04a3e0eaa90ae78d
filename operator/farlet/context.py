"""What the pure packages know about this process and its two clusters.

`homeapi.discovery` builds the context from the settings and from what it finds in the clusters.
`access`, `forge` and `planning` get it as an argument. It is frozen: a change (another CA, another
endpoint) is a new context.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from typing import ClassVar, TypeAlias

from farlet.constants import (
    HOSTNAME_LABEL,
    JSON,
    NO_LOAD_BALANCER_LABEL,
    VIRTUAL_NODE_LABEL,
    VIRTUAL_NODE_TAINT,
    Reason,
)
from farlet.errors import UsageError


class Allowance(StrEnum):
    """Pod features that farlet refuses unless `--allow-pod-feature` names them."""

    HOST_NETWORK = "host-network"
    HOST_PID = "host-pid"
    HOST_IPC = "host-ipc"
    HOST_PATH = "host-path"
    HOST_PORTS = "host-ports"
    HOST_PROBES = "host-probes"
    PRIVILEGED = "privileged"
    CAPABILITIES = "capabilities"
    DEBUG_TRACING = "debug-tracing"
    PROC_MOUNT = "proc-mount"
    SYSCTLS = "sysctls"
    SECCOMP = "seccomp"
    APPARMOR = "apparmor"
    SELINUX = "selinux"
    WINDOWS_HOST_PROCESS = "windows-host-process"
    INLINE_CSI = "inline-csi"
    FLEX_VOLUME = "flex-volume"
    NETWORK_VOLUMES = "network-volumes"
    CRITICAL_PRIORITY = "critical-priority"
    CONTROL_PLANE_NODES = "control-plane-nodes"
    CLUSTER_TRUST_BUNDLE = "cluster-trust-bundle"
    POD_CERTIFICATE = "pod-certificate"
    RESOURCE_CLAIMS = "resource-claims"
    LEGACY_TOKEN_SECRETS = "legacy-token-secrets"  # noqa: S105


KEEP_LABELS = (
    "admission.datadoghq.com/",
    "azure.workload.identity/",
    "istio.io/",
    "kueue.x-k8s.io/",
    "kuma.io/",
    "linkerd.io/",
    "sidecar.istio.io/",
)
KEEP_ANNOTATIONS = (
    "admission.datadoghq.com/",
    "azure.workload.identity/",
    "cni.projectcalico.org/",
    "config.linkerd.io/",
    "consul.hashicorp.com/",
    "dapr.io/",
    "eks.amazonaws.com/",
    "iam.amazonaws.com/",
    "instrumentation.opentelemetry.io/",
    "ipam.antrea.io/",
    "ipam.cilium.io/",
    "ipam.spidernet.io/",
    "istio.io/",
    "k8s.ovn.org/",
    "k8s.v1.cni.cncf.io/",
    "kueue.x-k8s.io/",
    "kuma.io/",
    "linkerd.io/",
    "networking.gke.io/",
    "ovn.kubernetes.io/",
    "sidecar.istio.io/",
    "sidecar.opentelemetry.io/",
    "vault.hashicorp.com/",
    "vpc.amazonaws.com/",
)
"""Prefixes of labels and annotations on which controllers act: they inject sidecars, give cloud
identities, queue pods, choose addresses, or record what a network plugin did. In the home cluster
they have done so; those of the foreign cluster must not do it again for a home pod."""


class RemoteServiceAccounts(StrEnum):
    """Foreign ServiceAccounts that pods in mode `remote` are allowed to use."""

    ALL = "all"
    SAME_NAME = "same-name"
    LABELLED = "labelled"


class PodNetwork(StrEnum):
    """Whether the home cluster can route to the IPs of mirrors."""

    ISOLATED = "isolated"
    CONNECTED = "connected"


class SCCRanges(StrEnum):
    """What becomes of user ids and SELinux levels that OpenShift chose for a home namespace."""

    KEEP = "keep"
    DROP = "drop"


class DaemonSetPods(StrEnum):
    """What farlet does with DaemonSet pods on the virtual node."""

    RUN = "run"
    REFUSE = "refuse"


DROP = "drop"
"""In place of a class in the foreign cluster: mirrors have none."""
ANY = "*"
"""In place of a class of the home cluster: all that are not named."""


class Reflection(StrEnum):
    """Home objects that farlet copies to the foreign namespace and keeps up to date."""

    SERVICES = "services"


@dataclass(frozen=True, slots=True)
class MirrorPatch:
    """What every mirror gets in addition, in the form of a Pod's fields."""

    labels: Mapping[str, str] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[JSON, ...] = ()
    affinity: JSON | None = None
    runtime_class_name: str | None = None


@dataclass(frozen=True, slots=True)
class NewNamespaces:
    """What the foreign namespaces get that farlet creates."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    pod_security_level: str = "baseline"
    """Level that the foreign API server enforces."""
    resource_quota: JSON | None = None
    """Spec of the ResourceQuota."""
    network_policy: JSON | None = None
    """Spec of the NetworkPolicy."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where foreign pods dial the home API server. An IPv6 address in `host` has no brackets."""

    host: str
    """What pods dial, and the name that the certificate must contain."""
    port: int
    addresses: tuple[str, ...] = ()
    """IP addresses to which host aliases resolve `host`; empty if DNS resolves it, or if it
    is an address."""

    @property
    def is_ip(self) -> bool:
        """Whether `host` is an address and not a name."""
        try:
            ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def aliased(self) -> tuple[str, ...]:
        """Addresses to which host aliases can resolve names of the home API server."""
        return self.addresses or ((self.host,) if self.is_ip else ())

    @property
    def netloc(self) -> str:
        """`host:port` as in a URL, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        """All fields, as the annotation of a mirror records them."""
        return " at ".join(part for part in (self.netloc, ",".join(self.addresses)) if part)


@dataclass(frozen=True, slots=True)
class NotConfigured:
    """No flag and no Service `home-api` gives an address; pods in mode `home` wait."""

    endpoint: ClassVar[None] = None
    was_verified: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Pods in mode `home` wait. They get `reason` and `message`."""

    reason: Reason
    message: str
    endpoint: Endpoint | None = None
    """The refused endpoint; `None` if no endpoint was found."""
    was_verified: bool = False


@dataclass(frozen=True, slots=True)
class Unverified:
    """Pods use the endpoint although farlet has not seen a home API server there."""

    endpoint: Endpoint
    message: str
    """Why farlet could not verify it."""
    was_verified: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Verified:
    """The home API server answers at the endpoint."""

    endpoint: Endpoint
    was_verified: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class OutOfReach:
    """The endpoint was verified and does not answer farlet now. Pods use it, as pods in the home
    cluster use an API server that is down.
    """

    endpoint: Endpoint
    message: str
    """Why it does not answer."""
    was_verified: ClassVar[bool] = True


HomeAPI: TypeAlias = NotConfigured | Refused | Unverified | Verified | OutOfReach
"""The home API server as pods in the foreign cluster reach it."""


_CUT = re.compile(r".{30}-[0-9a-f]{32}")
"""Names of 63 characters that only longer names are cut to."""


@dataclass(frozen=True, slots=True)
class NamespaceMap:
    """Maps home namespaces to foreign namespaces, one to one.

    Explicit `pairs` (home -> foreign) win. For other namespaces, `template` gives the name, with
    `{namespace}` for the home namespace and `{home}` for the name of the home cluster; without a
    template only the pairs are offloaded. `own` is farlet's foreign system namespace, which never
    receives pods. Example: with the default template, `shop` of the home cluster `a` is `shop-a`.
    A name over 63 characters is cut, and ends with a hash of the whole name.
    """

    home: str
    own: str
    template: str | None = "{namespace}-{home}"
    pairs: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.template is not None and "{namespace}" not in self.template:
            raise UsageError(
                f"--foreign-namespace-template {self.template!r} does not "
                "contain {namespace}: all home namespaces would share one foreign namespace"
            )
        foreign = [f for _, f in self.pairs]
        if len(set(foreign)) != len(foreign) or len({h for h, _ in self.pairs}) != len(foreign):
            raise UsageError(
                "--namespace-map: each home and each foreign namespace can be in one pair only; "
                "remove the duplicate"
            )

    def foreign(self, namespace: str) -> str | None:
        """The foreign namespace for a home namespace; `None` if it is not offloaded."""
        for home, foreign in self.pairs:
            if home == namespace:
                return foreign
        if self.template is None:
            return None
        name = self.template.format(namespace=namespace, home=self.home)
        if len(name) > 63:
            digest = hashlib.sha256(name.encode()).hexdigest()[:32]
            name = f"{name[:30].rstrip('-'):0<30}-{digest}"
        elif _CUT.fullmatch(name):
            # It could be chosen to equal the name that a longer one was cut to.
            return None
        if name == self.own or name in {f for _, f in self.pairs}:
            return None
        return name


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that a mirror depends on, except its home pod."""

    node: str
    home_id: str
    namespaces: NamespaceMap
    home_api: HomeAPI = NotConfigured()
    home_ca: str = ""
    """PEM bundle with which pods verify the endpoint (`ca.crt`)."""
    cluster_domain: str = "cluster.local"
    access_default: str = "home"
    token_lifetime: int | None = None
    """Lifetime of home tokens in seconds; `None`: as the volume requests, but 3600 for 3607."""
    token_as_requested: bool = False
    """Request 3607 too, for which API servers grant tokens of one year."""
    remote_service_accounts: RemoteServiceAccounts = RemoteServiceAccounts.ALL
    allow_pod_feature: frozenset[Allowance] = frozenset()
    keep_labels: tuple[str, ...] = KEEP_LABELS
    """Prefixes of labels that mirrors do not have, except in mode `remote`."""
    keep_annotations: tuple[str, ...] = KEEP_ANNOTATIONS
    """The same for annotations."""
    priority_class_map: tuple[tuple[str, str], ...] = ()
    """(home class or `ANY`, foreign class or `DROP`). A class that is not in it keeps its name."""
    storage_class_map: tuple[tuple[str, str], ...] = ()
    """(home StorageClass, foreign StorageClass). Empty: claims of pods are not followed."""
    mirror_patch: MirrorPatch = MirrorPatch()
    scc_ranges: SCCRanges = SCCRanges.KEEP
    daemonset_pods: DaemonSetPods = DaemonSetPods.REFUSE
    pod_network: PodNetwork = PodNetwork.ISOLATED
    to_home_ip: Callable[[str], str] = str
    """Translates the IP of a mirror into the one that the home cluster routes to, in a connected
    pod network. It is the same address unless a connectivity plugin changes it; empty: no IP."""
    to_foreign_ip: Callable[[str], str] = str
    """The opposite: translates the address of an endpoint in the home cluster into the one that
    mirrors reach it at; empty: none."""
    reflect: frozenset[Reflection] = frozenset()
    node_ip: str = ""
    """hostIP of home pods; empty: none."""
    node_labels: frozenset[str] = frozenset(
        {VIRTUAL_NODE_LABEL, HOSTNAME_LABEL, NO_LOAD_BALANCER_LABEL}
    )
    """Label keys that only the virtual node has; mirrors have no selectors on them."""
    taints: frozenset[str] = frozenset({VIRTUAL_NODE_TAINT})
    """Taint keys of the virtual node; mirrors do not tolerate them."""

    virtual_node_id: str = field(init=False)
    """Hash of (home id, node name), the value of the label `farlet.io/virtual-node-id`. Computed
    once, since it is read twenty times per pod."""
    home_ca_digest: str = field(init=False)
    """Identifies a `home_ca` in annotations of Secrets, whose content farlet does not read."""

    def __post_init__(self) -> None:
        ca = hashlib.sha256(self.home_ca.encode()).hexdigest()
        object.__setattr__(self, "home_ca_digest", ca[:32])
        digest = hashlib.sha256(f"{self.home_id}/{self.node}".encode()).hexdigest()
        object.__setattr__(self, "virtual_node_id", digest[:32])

    def foreign_priority_class(self, name: str) -> str | None:
        """The class of the mirror of a pod with this class; `DROP`: none; `None`: not mapped."""
        classes = dict(self.priority_class_map)
        return classes.get(name, classes.get(ANY))

    @property
    def endpoint(self) -> Endpoint | None:
        """The endpoint of `home_api`; `None` if there is none."""
        return self.home_api.endpoint
