"""What `farlet explain` reads of both clusters, and the shape of its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from farlet.cli.reading import Absent, Unread
from farlet.constants import ObjectKey
from farlet.context import Context
from farlet.k8s_types import Event, Lease, Node, Pod
from farlet.telemetry.state import State


@dataclass(frozen=True, slots=True)
class Requirement:
    """An object that the pod needs. `state`: `ok`, `missing` or `unknown`."""

    kind: str
    name: str
    state: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read. Parts that were not read are `Unread`; `None` if they do not apply."""

    key: ObjectKey
    pod: Pod | Absent | Unread
    node: Node | Absent | Unread | None = None
    lease: Lease | Absent | Unread | None = None
    """Of the node."""
    state: State | Unread | None = None
    """What the farlet that leads reports; `None`: no pod of farlet was found for the node."""
    identity: Unread | None = None
    """Why it is not known whether this is the foreign cluster of the node."""
    foreign_namespace: str | None = None
    """By the settings; `None`: not offloaded."""
    namespace: object = None
    """The foreign Namespace."""
    virtual_nodes: Sequence[Node] | Absent | Unread = ()
    """Those to which the scheduler can bind a pod that has no node; of a pod with one, none."""
    foreign_secrets: Mapping[str, str] = field(default_factory=dict)
    """Name of a virtual node to that of the Secret with its foreign credentials."""
    denied: str = ""
    """Why farlet cannot report on pods of the home namespace, as it reports on its Node."""
    mirror: Pod | Absent | Unread | None = None
    mode: str = ""
    """The access mode by annotation and settings."""
    virtual_node_id: str = ""
    ctx: Context | None = None
    """Context of the virtual node, as far as it is known."""
    requirements: tuple[Requirement, ...] = ()
    home_events: Sequence[Event] | Absent | Unread = ()
    foreign_events: Sequence[Event] | Absent | Unread = ()


@dataclass(frozen=True, slots=True)
class Moment:
    """An Event of either cluster. `time` is RFC 3339, empty if it is not known."""

    time: str
    cluster: str
    type: str
    reason: str
    message: str
    count: int


@dataclass(frozen=True, slots=True)
class Report:
    """The answer; the shape of `-o json`."""

    pod: str
    found: bool
    home: Mapping[str, str]
    requirements: Sequence[Requirement]
    mirror: Mapping[str, str]
    containers: Sequence[str]
    events: Sequence[Moment]
    events_omitted: int
    not_read: Sequence[str]
    advice: Sequence[str]
    """What to do, the most important first. Empty: nothing."""
