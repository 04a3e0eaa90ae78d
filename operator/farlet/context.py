"""What the pure packages know about this process and its two clusters.

`homeapi.discovery` builds the context from the settings and from what it finds in the clusters.
`access`, `forge` and `planning` get it as an argument. It is frozen: a change (another CA, another
endpoint) is a new context.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from typing import ClassVar, TypeAlias

from farlet.constants import (
    HOSTNAME_LABEL,
    NO_LOAD_BALANCER_LABEL,
    VIRTUAL_NODE_LABEL,
    VIRTUAL_NODE_TAINT,
    Reason,
)
from farlet.errors import UsageError


class Allowance(StrEnum):
    """Kinds of pod that are refused unless `--allow-pod-feature` names them."""

    HOST_NETWORK = "host-network"
    HOST_PID = "host-pid"
    HOST_IPC = "host-ipc"
    HOST_PATH = "host-path"
    CLUSTER_TRUST_BUNDLE = "cluster-trust-bundle"
    POD_CERTIFICATE = "pod-certificate"
    RESOURCE_CLAIMS = "resource-claims"
    LEGACY_TOKEN_SECRETS = "legacy-token-secrets"  # noqa: S105


class RemoteServiceAccounts(StrEnum):
    """Which foreign accounts a home pod in mode `remote` may take."""

    ALL = "all"
    SAME_NAME = "same-name"
    LABELLED = "labelled"


class PodNetwork(StrEnum):
    """Whether home can route to the IPs of mirrors."""

    ISOLATED = "isolated"
    CONNECTED = "connected"


class DaemonSetPods(StrEnum):
    """What becomes of pods that a DaemonSet has put on the virtual node."""

    RUN = "run"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The home API server as pods abroad dial it. IPv6 stands bare in `host`."""

    host: str
    """What pods dial, and the name that the certificate must have."""
    port: int
    addresses: tuple[str, ...] = ()
    """IP addresses to which pods are to take the name `host`; empty where DNS knows it, or where
    it is an address itself."""

    @property
    def is_ip(self) -> bool:
        """Host aliases and SAN checks differ between addresses and names."""
        try:
            ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def aliased(self) -> tuple[str, ...]:
        """Addresses that host aliases can give to names of the home API server."""
        return self.addresses or ((self.host,) if self.is_ip else ())

    @property
    def netloc(self) -> str:
        """`host:port` as it stands in a URL; an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        """All of it, as a mirror remembers it."""
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
    """The refused endpoint; `None` where no endpoint was found."""
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


@dataclass(frozen=True, slots=True)
class NamespaceMap:
    """One to one between home and foreign namespaces.

    `pairs` are explicit (home -> foreign) and win; `template` makes the rest, where
    `{namespace}` and `{home}` stand for the home namespace and the home's name. `None` as
    template: only the pairs are offloaded. `own` is farlet's own foreign namespace, which
    never receives pods.
    """

    home: str
    own: str
    template: str | None = "{namespace}-{home}"
    pairs: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.template is not None and "{namespace}" not in self.template:
            raise UsageError(
                f"--foreign-namespace-template {self.template!r} lacks {{namespace}}: "
                "pods of different home namespaces would meet in one"
            )
        foreign = [f for _, f in self.pairs]
        if len(set(foreign)) != len(foreign) or len({h for h, _ in self.pairs}) != len(foreign):
            raise UsageError(
                "--namespace-map: every home and every foreign namespace may stand in one pair only"
            )

    def foreign(self, namespace: str) -> str | None:
        """The foreign namespace of a home one; `None` where it is not offloaded."""
        for home, foreign in self.pairs:
            if home == namespace:
                return foreign
        if self.template is None:
            return None
        name = self.template.format(namespace=namespace, home=self.home)
        if len(name) > 63:
            digest = hashlib.sha256(name.encode()).hexdigest()[:32]
            name = f"{name[:30].rstrip('-')}-{digest}"
        if name == self.own or name in {f for _, f in self.pairs}:
            return None
        return name


@dataclass(frozen=True, slots=True)
class Context:
    """All that shapes a mirror apart from its home pod."""

    node: str
    home_id: str
    namespaces: NamespaceMap
    home_api: HomeAPI = NotConfigured()
    home_ca: str = ""
    """PEM bundle that verifies the endpoint; pods read it as `ca.crt`."""
    cluster_domain: str = "cluster.local"
    access_default: str = "home"
    token_lifetime: int | None = None
    """Seconds for home tokens instead of what volumes ask; `None`: as asked, 3607 becoming 3600."""
    token_as_requested: bool = False
    """Keep 3607, and with it tokens of one year."""
    remote_service_accounts: RemoteServiceAccounts = RemoteServiceAccounts.ALL
    allow_pod_feature: frozenset[Allowance] = frozenset()
    daemonset_pods: DaemonSetPods = DaemonSetPods.REFUSE
    pod_network: PodNetwork = PodNetwork.ISOLATED
    to_home_ip: Callable[[str], str] = str
    """Pure translation of a mirror's IP into the one that home routes to, for a connected pod
    network; the same address unless a connectivity plugin says otherwise. Empty: not shown."""
    node_ip: str = ""
    """hostIP shown at home; empty: none is shown."""
    node_labels: frozenset[str] = frozenset(
        {VIRTUAL_NODE_LABEL, HOSTNAME_LABEL, NO_LOAD_BALANCER_LABEL}
    )
    """Label keys of the virtual node that foreign nodes lack; selectors on them do not travel."""
    taints: frozenset[str] = frozenset({VIRTUAL_NODE_TAINT})
    """Taint keys of the virtual node; tolerations of them do not travel."""

    virtual_node_id: str = field(init=False)
    """Hash of (home id, node name), the value of the label `farlet.io/virtual-node-id`. Computed
    once: it is read twenty times per pod."""
    home_ca_digest: str = field(init=False)
    """Tells one `home_ca` from another, for Secrets whose content is not read."""

    def __post_init__(self) -> None:
        ca = hashlib.sha256(self.home_ca.encode()).hexdigest()
        object.__setattr__(self, "home_ca_digest", ca[:32])
        digest = hashlib.sha256(f"{self.home_id}/{self.node}".encode()).hexdigest()
        object.__setattr__(self, "virtual_node_id", digest[:32])

    @property
    def endpoint(self) -> Endpoint | None:
        """The endpoint of `home_api`; `None` where there is none."""
        return self.home_api.endpoint
