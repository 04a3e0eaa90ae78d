"""The answers of `plan`: data, no behaviour.

An `Action` is one write, or one live read, on one of the two API servers. It carries the objects
it was decided on, so that the executor needs no other facts. H is the home pod, M its mirror.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from farlet.access import AccessStrategy, TokenSpec
from farlet.constants import JSON, ObjectKey, Reason
from farlet.forge.applied import Applied
from farlet.forge.copies import Source
from farlet.k8s_types import Container, NewObjectMeta, NewPod, ObjectMeta, Pod


class Step(Enum):
    """What a request was for, so that its failure can be explained."""

    TOKEN = auto()
    """A home token for the mirror."""
    MIRROR = auto()
    SECRET = auto()
    """The mirror's Secret."""
    CLAIM = auto()
    """A claim in the foreign cluster."""
    COPY = auto()
    """The copy of a ConfigMap or Secret that the pod refers to."""
    CHANGE = auto()
    """A change of the home pod, for the mirror that stands."""
    EPHEMERAL_CONTAINER = auto()
    """An ephemeral container of the mirror."""
    REMOVAL = auto()
    """The end of the mirror, and the removal of its finalizer."""
    NAMESPACE = auto()
    """The foreign namespace: its anchor, its lists and watches."""
    HOME = auto()
    """The home pod; a failure says nothing to its owner."""


@dataclass(frozen=True, slots=True)
class ConfirmHomeGone:
    """List home pods of this name that are bound to our node."""

    key: ObjectKey


@dataclass(frozen=True, slots=True)
class ConfirmMirrorGone:
    """GET the mirror by name: it is gone, or as it is now."""

    key: ObjectKey


@dataclass(frozen=True, slots=True)
class CreateMirror:
    """Request the tokens, then POST the mirror (with their times in an annotation)."""

    home: Pod
    pod: NewPod
    strategy: AccessStrategy
    token_specs: tuple[TokenSpec, ...]
    notices: tuple[str, ...] = ()
    """What was changed in the spec beyond the routine, for one Event."""
    unknown_fields: tuple[str, ...] = ()
    continues: tuple[Reason, str] | None = None
    """The Event for a pod that has waited with a reason."""


@dataclass(frozen=True, slots=True)
class ProvideSecret:
    """Request the tokens that are not held, write the Secret, record the times on the mirror."""

    home: Pod
    mirror: Pod
    strategy: AccessStrategy
    token_specs: tuple[TokenSpec, ...]
    existing: ObjectMeta | None
    """The Secret to patch; `None`: create it."""
    wanted: Sequence[NewObjectMeta]
    """The metadata that it shall have."""
    overdue: bool = False
    """The old token is past `WARN_AT` of its life."""


@dataclass(frozen=True, slots=True)
class AddEphemeralContainer:
    """PATCH `pods/ephemeralcontainers` of the mirror, in the version that it was decided on."""

    home: Pod
    mirror: Pod
    container: Container


@dataclass(frozen=True, slots=True)
class ReclaimMirror:
    """Put our label and annotations back on a mirror that H names by uid."""

    home: Pod
    mirror: Pod
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class UpdateMirror:
    """Bring changes of the home pod to the mirror that stands."""

    home: Pod
    mirror: Pod
    body: JSON
    """A strategic merge patch."""
    fields: tuple[str, ...]
    """Paths of what has changed, for an Event."""
    wanted: str
    """Equal for two writes that ask for the same."""


@dataclass(frozen=True, slots=True)
class ResizeMirror:
    """Bring the resources of the home pod to the mirror by `resize`, then record that."""

    home: Pod
    mirror: Pod
    body: JSON
    """A strategic merge patch of `pods/resize`, which does not change annotations."""
    record: Applied
    """But for the generation of the mirror, which is in the answer."""
    wanted: str
    """As in `UpdateMirror`."""


@dataclass(frozen=True, slots=True)
class DeleteMirror:
    """DELETE the mirror; `grace` None leaves it its own grace period."""

    mirror: Pod
    grace: int | None


@dataclass(frozen=True, slots=True)
class ReleaseMirror:
    """Remove our finalizer."""

    mirror: Pod


@dataclass(frozen=True, slots=True)
class PatchStatus:
    """PATCH the home pod's status; `event` is recorded once the patch has been accepted."""

    home: Pod
    body: JSON
    event: tuple[Reason, str] | None = None


@dataclass(frozen=True, slots=True)
class DeleteHome:
    """DELETE the home pod with grace 0: its containers are gone."""

    home: Pod


@dataclass(frozen=True, slots=True)
class EvictHome:
    """DELETE the home pod with its own grace period: nothing ends its mirror."""

    home: Pod


Action = (
    ConfirmHomeGone
    | ConfirmMirrorGone
    | CreateMirror
    | ProvideSecret
    | AddEphemeralContainer
    | ReclaimMirror
    | UpdateMirror
    | ResizeMirror
    | DeleteMirror
    | ReleaseMirror
    | PatchStatus
    | DeleteHome
    | EvictHome
)


@dataclass(frozen=True, slots=True)
class RecheckAnchor:
    """Read the anchor, the foreign namespace, again; nothing is created there before."""


@dataclass(frozen=True, slots=True)
class CreateNamespace:
    """Create the foreign namespace, which does not exist."""


@dataclass(frozen=True, slots=True)
class FollowSources:
    """Watch the ConfigMaps and Secrets that H refers to, and keep copies of them."""

    sources: frozenset[Source]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do now; decide again after this many seconds at the latest."""

    seconds: float
    unreported: bool = False
    """Home does not show yet all that is known of the pod."""


@dataclass(frozen=True, slots=True)
class Decision:
    """At most one action, and whether to try again after the queue's growing backoff."""

    action: Action | RecheckAnchor | CreateNamespace | FollowSources | Wait | None = None
    retry: bool = False
    """No watch shows what the pod waits for. With `Wait`: not before that time."""
    note: tuple[Reason, str] | None = None
    """An Event for the owner of H, beside what the status says."""


NOTHING = Decision()
