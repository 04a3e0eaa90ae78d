"""What to do next for one copy of a home ConfigMap or Secret, and what it means to a pod.

As `plan`, for objects that several pods can use: `decide` returns at most one action, and nothing
is changed or deleted on the word of a watch alone. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from farlet.constants import HOME_UID, HOME_VERSION, JSON, KEEP_AT_HOME, Reason
from farlet.context import Context
from farlet.errors import Refused
from farlet.forge import copies
from farlet.forge.copies import Source
from farlet.k8s_types import ObjectMeta
from farlet.planning.snapshot import Copied, CopyState, Missing


class HomeObject(NamedTuple):
    """What is known of an object in the home cluster; its content is never kept."""

    uid: str
    version: str
    kept: bool = False
    """Its label keeps it at home."""
    token: bool = False
    """It is a Secret with the token of a ServiceAccount; only a live read shows that."""

    @classmethod
    def of(cls, obj: JSON) -> HomeObject:
        """From a whole object, or from its metadata alone."""
        metadata = obj["metadata"]
        return cls(
            metadata["uid"],
            metadata["resourceVersion"],
            (metadata.get("labels") or {}).get(KEEP_AT_HOME) == "true",
            obj.get("type") == copies.SERVICE_ACCOUNT_TOKEN,
        )

    @property
    def leaves(self) -> bool:
        """Whether it may be copied."""
        return not (self.kept or self.token)


@dataclass(frozen=True, slots=True)
class CopySnapshot:
    """All that is known of one home object and its copy at one moment."""

    source: Source
    home: HomeObject | Missing
    """As its watch shows it."""
    copy: ObjectMeta | Missing
    used: bool | None
    """A pod on this node that has not ended refers to it; `None`: not all pods are known."""
    open: bool = True
    """The foreign namespace can be used: it is confirmed, exists, and is claimed."""
    live: HomeObject | Missing | None = None
    """As a GET in this pass has answered; absent: 404."""
    rejected: bool = False
    """The foreign API server did not accept a change of the copy, which is not its content: who
    can write there has made the copy immutable, for example."""
    problem: Refused | None = None
    """Why the last request failed."""


@dataclass(frozen=True, slots=True)
class ReadSource:
    """GET the home object."""


@dataclass(frozen=True, slots=True)
class WriteCopy:
    """Write what was read: create the copy, or replace the `existing` one."""

    existing: ObjectMeta | None


@dataclass(frozen=True, slots=True)
class DeleteCopy:
    """DELETE the copy of this uid and version."""

    copy: ObjectMeta


@dataclass(frozen=True, slots=True)
class UnmarkCopy:
    """Remove this node's mark; other virtual nodes still use the copy."""

    copy: ObjectMeta


CopyAction = ReadSource | WriteCopy | DeleteCopy | UnmarkCopy


def decide(s: CopySnapshot, *, ctx: Context) -> CopyAction | None:
    """The next action; `None` while nothing is to be done, or something is not known."""
    if not s.open or s.used is None or s.copy is Missing.UNKNOWN:
        return None
    copy = None if s.copy is Missing.ABSENT else s.copy
    if copy is not None and ("deletionTimestamp" in copy or not copies.marks(copy)):
        return None
    if not s.used:
        return None if copy is None else _release(copy, ctx=ctx)
    if s.home is Missing.UNKNOWN:
        return None
    if s.live is None:
        return None if _is_settled(s.home, copy, ctx=ctx) else ReadSource()
    if isinstance(s.live, Missing) or not s.live.leaves:
        return None if copy is None else DeleteCopy(copy)
    if copy is not None and (s.rejected or _annotation(copy, HOME_UID) != s.live.uid):
        # Its type and, if it is immutable, its content cannot be changed.
        return DeleteCopy(copy)
    return None if _is_settled(s.live, copy, ctx=ctx) else WriteCopy(copy)


def _is_settled(home: HomeObject | Missing, copy: ObjectMeta | None, *, ctx: Context) -> bool:
    """The copy is as it must be for this state of the home object."""
    if isinstance(home, Missing) or not home.leaves:
        return copy is None
    return copy is not None and _contains(copy, home) and copies.mark(ctx) in copies.marks(copy)


def _contains(copy: ObjectMeta, home: HomeObject) -> bool:
    found = (_annotation(copy, HOME_UID), _annotation(copy, HOME_VERSION))
    return found == (home.uid, home.version)


def _release(copy: ObjectMeta, *, ctx: Context) -> CopyAction | None:
    """No pod of this node uses it any more."""
    marks, ours = copies.marks(copy), copies.mark(ctx)
    if ours not in marks:
        return None
    return DeleteCopy(copy) if marks == {ours} else UnmarkCopy(copy)


def _annotation(copy: ObjectMeta, key: str) -> str:
    return copy.get("annotations", {}).get(key, "")


def state(s: CopySnapshot, *, ctx: Context) -> CopyState:
    """What the object means to a pod that refers to it and has no mirror yet."""
    if isinstance(s.home, HomeObject) and s.home.kept:
        return Refused(
            Reason.KEPT_AT_HOME,
            f"the pod refers to the {s.source}, whose label {KEEP_AT_HOME}=true keeps it in the "
            "home cluster. Remove the reference or the label, or keep the pod off this node",
        )
    if isinstance(s.home, HomeObject) and s.home.token:
        return Refused(
            Reason.UNSUPPORTED_POD,
            f"the pod refers to the {s.source}, which contains a ServiceAccount token that never "
            "expires; farlet does not copy it. Use a projected ServiceAccount token instead, or "
            "keep the pod off this node",
        )
    if s.home is Missing.ABSENT:
        # As at home: the kubelet waits for it, unless the reference is optional.
        return Copied.SETTLED
    copy = None if isinstance(s.copy, Missing) else s.copy
    if copy is not None and s.home is not Missing.UNKNOWN and _is_settled(s.home, copy, ctx=ctx):
        return Copied.SETTLED
    return Copied.PENDING if s.problem is None else s.problem


def conflict(s: CopySnapshot) -> Refused | None:
    """Why the copy cannot be written: another object has its name."""
    if isinstance(s.copy, Missing) or copies.marks(s.copy):
        return None
    return Refused(
        Reason.NAME_CONFLICT,
        f"the foreign namespace {s.copy.get('namespace')} has a {s.source.kind} "
        f"{s.copy.get('name')} that farlet did not create; the copy of the {s.source} needs this "
        "name. Delete it; the pod then starts automatically",
    )
