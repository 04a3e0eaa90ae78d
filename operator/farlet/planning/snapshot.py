"""The question that `plan` is asked, and the answers it may give: data, no behaviour.

A `Snapshot` is all that is known about one home pod at one moment; an `Action` is one write, or
one live look, that `reconcile` performs. H is the home pod, M its mirror.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from farlet.access import AccessStrategy, Token, TokenSpec
from farlet.constants import JSON, ObjectKey, Reason
from farlet.errors import Refused
from farlet.k8s_types import NewPod, ObjectMeta, OwnerReference, Pod


class Missing(Enum):
    """Why an object is not in a snapshot."""

    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is known about one key at one moment."""

    key: ObjectKey
    now: float
    home: Pod | Missing
    mirror: Pod | Missing
    home_gone: bool = False
    """A live GET answered 404 or another uid, or the deletion of the very uid was seen."""
    mirror_gone: bool = False
    """A live GET answered 404, or nothing of ours was ever made in that namespace."""
    last: Pod | None = None
    """The mirror as it was last seen before it vanished in this process's lifetime."""
    secret: ObjectMeta | Missing = Missing.UNKNOWN
    secret_failed: bool = False
    """It could not be provided a moment ago; the rest of the pod must not wait for it."""
    accounts: Mapping[str, ObjectMeta] | Missing = Missing.UNKNOWN
    """ServiceAccounts of the foreign namespace by name."""
    tokens: Mapping[str, Token] | None = None
    """Tokens granted and not yet delivered, by `TokenSpec.key`."""
    anchor: OwnerReference | None = None
    problem: Refused | None = None
    """Why the foreign namespace cannot be used or seen now."""


@dataclass(frozen=True, slots=True)
class ConfirmHomeGone:
    """Look whether a home pod of this name is bound to our node."""


@dataclass(frozen=True, slots=True)
class ConfirmMirrorGone:
    """GET the mirror by name."""


@dataclass(frozen=True, slots=True)
class CreateMirror:
    """Request the tokens, then POST the mirror (with their times in an annotation)."""

    pod: NewPod
    strategy: AccessStrategy
    token_specs: tuple[TokenSpec, ...]
    notices: tuple[str, ...] = ()
    """What was changed in the spec beyond the routine, for one Event."""
    unknown_fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProvideSecret:
    """Request the tokens that are not held, write the Secret, record the times on the mirror."""

    strategy: AccessStrategy
    token_specs: tuple[TokenSpec, ...]
    exists: bool
    overdue: bool = False
    """The old token is past `WARN_AT` of its life."""


@dataclass(frozen=True, slots=True)
class ReclaimMirror:
    """Put our label and annotations back on a mirror that H names by uid."""

    uid: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DeleteMirror:
    """DELETE the mirror of this uid; `grace` None leaves it its own."""

    uid: str
    grace: int | None


@dataclass(frozen=True, slots=True)
class ReleaseMirror:
    """Remove our finalizer."""

    mirror: Pod


@dataclass(frozen=True, slots=True)
class PatchStatus:
    """PATCH the home pod's status; `event` is told once the patch has been accepted."""

    body: JSON
    event: tuple[Reason, str] | None = None


@dataclass(frozen=True, slots=True)
class DeleteHome:
    """DELETE the home pod of this uid with grace 0: its containers are gone."""

    uid: str


Action = (
    ConfirmHomeGone
    | ConfirmMirrorGone
    | CreateMirror
    | ProvideSecret
    | ReclaimMirror
    | DeleteMirror
    | ReleaseMirror
    | PatchStatus
    | DeleteHome
)


@dataclass(frozen=True, slots=True)
class Decision:
    """At most one action; when to look again at the latest; whether to try again by itself."""

    action: Action | None = None
    again_at: float | None = None
    retry: bool = False
    """What is waited for shows in no watch: come again after a backoff."""
    note: tuple[Reason, str] | None = None
    """An Event for the owner of H, beside what the status says."""


NOTHING = Decision()
