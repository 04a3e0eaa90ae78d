"""What `farlet status` reads of the home cluster, and the shape of its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from farlet.cli.reading import Absent, Unread
from farlet.constants import JSON
from farlet.k8s_types import Lease, Node, Pod
from farlet.telemetry.state import State


@dataclass(frozen=True, slots=True)
class Process:
    """One farlet pod, and what it reports."""

    pod: Pod
    state: State | Unread


@dataclass(frozen=True, slots=True)
class Manager:
    """The Deployment of the manager, and its pods as far as they were read."""

    deployment: JSON | Absent | Unread
    pods: Sequence[Pod] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read. Mappings are by name of the virtual node."""

    namespace: str
    nodes: Sequence[Node] | Absent | Unread
    leases: Mapping[str, Lease | Absent | Unread]
    virtual_nodes: Sequence[JSON] | Absent | Unread
    """Absent: the cluster has no such resource."""
    processes: Sequence[Process] | Absent | Unread
    waiting: Mapping[str, Sequence[Pod] | Absent | Unread]
    """Pending pods, bounded."""
    manager: Manager
    deployments: Sequence[JSON] | Absent | Unread = ()
    """Of farlets, not of the manager."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A pod that waits."""

    pod: str
    reason: str
    message: str
    age: str


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong and what to do, and all that it affects."""

    cause: str
    affects: Sequence[str]


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One virtual node. Texts and lists are bounded."""

    name: str
    ready: bool
    """Pods can be scheduled to it, and a farlet serves them, as far as is known."""
    message: str
    """Why not."""
    leader: str
    """The pod that serves the node; empty if there is none, or none is known."""
    renewed_seconds: float | None
    """Since the Lease was renewed."""
    processes: Mapping[str, str]
    """Phase and version by pod."""
    foreign: str
    home_api: str
    pods: Mapping[str, Mapping[str, int]] | None
    """By access mode and phase; `None`: the leader did not report it."""
    waiting: Mapping[str, int]
    """By reason."""
    waiting_pods: Sequence[Waiting]
    namespaces: Sequence[str]
    blocked: Sequence[str]
    """Home namespaces whose pods cannot run."""
    expires_seconds: Mapping[str, float]
    """Until what expires first of each kind."""
    renewed: Sequence[str]
    """The kinds that are renewed automatically."""
    rejected: Sequence[str]
    """The kinds that the API server does not accept, whenever they expire."""
    problems: Sequence[Problem]
    not_read: Sequence[str]


@dataclass(frozen=True, slots=True)
class Report:
    """The answer; the shape of `-o json`."""

    ok: bool
    """There is a virtual node, all are ready, and pods of all their namespaces can run."""
    installed: bool
    """The cluster has the definition of VirtualNode, as far as is known."""
    manager_problems: Sequence[str]
    """Why the manager does not run, and what to do. Farlets serve their nodes without it."""
    nodes: Sequence[NodeReport]
    not_read: Sequence[str]
