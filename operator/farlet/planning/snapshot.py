"""The input of `plan`: all that is known about one home pod at one moment.

Facts only; what follows from them is decided in `plan`. A fact is never changed to get another
decision. Durations are monotonic seconds. `now` is the wall clock, which is required to compare
with times in objects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from farlet.access import AccessStrategy
from farlet.constants import ObjectKey
from farlet.errors import FarletError, Refused
from farlet.forge.conditions import Rejection
from farlet.forge.copies import Source
from farlet.k8s_types import ObjectMeta, OwnerReference, Pod
from farlet.planning.actions import Action, Step

STATUS_SECONDS = 1.0
"""The home status of one pod is written at most once in this time, but for `plan.STATUS_BURST`."""
LASTING_SECONDS = 600.0
"""A mirror that existed for this time ends a series of mirrors that did not last."""


class Missing(Enum):
    """Why an object is not in a snapshot."""

    ABSENT = "absent"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, *, in_sync: bool) -> Missing:
        """What an object is that a watch does not show. `in_sync`: the watch shows all."""
        return cls.ABSENT if in_sync else cls.UNKNOWN


class Copied(Enum):
    """Whether the copy of a ConfigMap or Secret is as a new mirror needs it."""

    SETTLED = "settled"
    """It contains what the home object does; or the home object does not exist."""
    PENDING = "pending"


CopyState = Copied | Refused
"""`Refused`: why it is not, for the owner of the pod."""


ClaimState = str | Refused | Missing
"""Name of the foreign claim; why a pod cannot use it; unknown: not yet."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A write that an API server has accepted."""

    wish: bytes
    """Equal for two writes that ask for the same."""
    version: str
    """The resourceVersion in the answer."""


class Sign(Enum):
    """What showed that a mirror is gone."""

    NOT_FOUND = "a DELETE or PATCH of that uid was answered with 404"
    ANSWER = "the answer to a DELETE or PATCH contains it for the last time"
    EVENT = "a watch sent DELETED, which it also does for a mirror without our label"
    LIST = "a list does not contain it"


@dataclass(frozen=True, slots=True)
class Departure:
    """How the last mirror of H left, and what came after that, in this process."""

    last: Pod
    """The mirror as it was last seen."""
    sign: Sign
    shown: ObjectMeta
    """The mirror's metadata in this answer or event."""
    posted: bool = False
    """Afterwards a mirror of that name was requested, whatever the answer was."""
    doubted: bool = False
    """Afterwards the identity of the foreign cluster was in doubt, or its versions went back."""


@dataclass(frozen=True, slots=True)
class Ages:
    """Seconds since these events of the home pod in this process; infinite: no such event."""

    first_seen: float = math.inf
    """It was first seen without a mirror, and still has none."""
    mirror_created: float = math.inf
    """Its mirror was created."""
    reason_written: float = math.inf
    """A reason was written into its status."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An action that has just failed."""

    action: Action
    step: Step
    error: FarletError


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is known about one key at one moment."""

    key: ObjectKey
    now: float
    """Epoch seconds."""
    home: Pod | Missing
    mirror: Pod | Missing
    mirror_key: ObjectKey | None = None
    """Namespace and name of the mirror; `None`: the home namespace is not offloaded."""
    access: AccessStrategy | Refused | None = None
    """The access mode that H selects, or why its selection is not valid; `None` without H."""
    home_gone: bool = False
    """A live list lacks it, or a watch showed the deletion of its uid."""
    mirrors_in_sync: bool = True
    """The list of mirrors is complete and its watch is open: M is as it is now, or as it was when a
    connection died that is not known to be dead yet."""
    mirror_gone: bool = False
    """A live GET answered 404."""
    mirror_read: bool = False
    """A live GET answered with M in this pass."""
    departure: Departure | None = None
    """How the last mirror of H left in this process's lifetime, if it did."""
    secret: ObjectMeta | Missing = Missing.UNKNOWN
    secret_failed: bool = False
    """Its last write failed. The pod's status does not wait for it."""
    accounts: Mapping[str, ObjectMeta] | Missing = Missing.UNKNOWN
    """ServiceAccounts of the foreign namespace by name."""
    copies: Mapping[Source, CopyState] | None = None
    """By ConfigMap and Secret that H refers to; `None`: farlet does not follow them yet."""
    claims: Mapping[str, ClaimState] = field(default_factory=dict)
    """By claim of H, while H has no mirror; empty without `--storage-class-map`."""
    services_ready: bool = True
    """Services of the home namespace are reflected, or are not to be."""
    services_problem: Refused | None = None
    """Why they are not."""
    namespace_open: bool = True
    """farlet watches the foreign namespace; otherwise it reads nothing there."""
    namespace_unused: bool = False
    """The inventory was read and does not list the namespace: no mirror was created there."""
    foreign_confirmed: bool = True
    """The foreign API server is that of the cluster that has this node's mirrors."""
    anchor: OwnerReference | None = None
    """The foreign namespace as the owner of its mirrors; `None` while it is not known."""
    anchor_doubted: bool = False
    """A sign that the namespace was deleted came after the request that read the anchor."""
    namespace_missing: bool = False
    """The foreign namespace does not exist, farlet is to create it when a pod needs it, and has not
    begun to."""
    problem: Refused | None = None
    """Why the foreign namespace cannot be read or used now."""
    ages: Ages = field(default_factory=Ages)
    creations: int = 0
    """Mirrors that this process created for H, each before the one before it had lasted."""
    recent_statuses: float = 0.0
    """Statuses of H that this process wrote, less one for each `STATUS_SECONDS` since then."""
    delivered: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By `TokenSpec.key`: issue and expiry of the tokens that this process wrote to M's Secret."""
    answered: frozenset[Answered] = frozenset()
    """The last accepted write of each kind for this H, and the version in its answer."""
    rejected: Mapping[str, Rejection] = field(default_factory=dict)
    """By `wanted` of `UpdateMirror` and `ResizeMirror`: why the foreign API server rejected the
    last one of H."""
    held_back: Mapping[str, float] = field(default_factory=dict)
    """By `wanted` of such a change that has failed: seconds until it is sent again."""
    failure: Failure | None = None
    """The action decided on these facts, if it failed."""

    @property
    def last(self) -> Pod | None:
        """The mirror as it was last seen before it vanished."""
        return None if self.departure is None else self.departure.last
