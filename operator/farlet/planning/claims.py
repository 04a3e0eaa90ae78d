"""What to do next for one home claim of a mapped StorageClass, and what it means to a pod.

As `plan`, for claims: `decide` returns at most one action. What has data is deleted only if the
home cluster has released it with the reclaim policy Delete, as live reads confirm; what was never
bound has no data. A foreign claim that is lost is never created again: its data would be gone
without a sign. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from farlet import names
from farlet.constants import PROVISIONER, Reason
from farlet.context import Context
from farlet.errors import Refused
from farlet.forge import claims
from farlet.forge.claims import ClaimKey, ForeignClaim, HomeClaim, HomeVolume
from farlet.k8s_types import RELEASED, ClaimPhase
from farlet.planning.actions import CreateNamespace
from farlet.planning.snapshot import ClaimState, Missing


@dataclass(frozen=True, slots=True)
class Live:
    """What GETs at home have answered in this pass."""

    claim: HomeClaim | Missing
    """Absent also where another claim has the name now."""
    volume: HomeVolume | Missing


@dataclass(frozen=True, slots=True)
class ClaimSnapshot:
    """All that is known of one home claim at one moment."""

    key: ClaimKey
    claim: HomeClaim | Missing
    """That of this uid."""
    volume: HomeVolume | Missing
    """The placeholder that this node created for it."""
    foreign: ForeignClaim | Missing
    """The claim that this node created for it."""
    open: bool = True
    """The foreign namespace can be used: it is confirmed, exists, and is claimed."""
    namespace_missing: bool = False
    """The foreign namespace does not exist, and farlet creates those (`--create-namespaces`)."""
    live: Live | None = None
    foreign_gone: bool = False
    """A GET answered 404, and the foreign cluster was confirmed after it."""
    rejected: Mapping[type[Growth], str] = field(default_factory=dict)
    """For each step, the size that a cluster refused, or accepted without effect."""


@dataclass(frozen=True, slots=True)
class CreateClaim:
    """POST the foreign claim."""

    claim: HomeClaim


@dataclass(frozen=True, slots=True)
class CreateVolume:
    """POST the placeholder at home."""

    claim: HomeClaim


@dataclass(frozen=True, slots=True)
class ExpandClaim:
    """PATCH the request of the foreign claim."""

    foreign: ForeignClaim
    size: str


@dataclass(frozen=True, slots=True)
class ExpandVolume:
    """PATCH the capacity of the placeholder: the foreign claim has this size."""

    volume: HomeVolume
    size: str


@dataclass(frozen=True, slots=True)
class ShowCapacity:
    """PATCH the capacity in the status of the home claim."""

    claim: HomeClaim
    size: str


Growth = ExpandClaim | ExpandVolume | ShowCapacity
"""The steps by which a claim grows."""


@dataclass(frozen=True, slots=True)
class ReadHome:
    """GET claim and placeholder at home."""


@dataclass(frozen=True, slots=True)
class ReadForeign:
    """GET the foreign claim; after a 404, confirm the foreign cluster."""


@dataclass(frozen=True, slots=True)
class DeleteClaim:
    """DELETE the foreign claim of this uid and, if it was never bound, of this version."""

    foreign: ForeignClaim
    unused: bool


@dataclass(frozen=True, slots=True)
class DeleteVolume:
    """DELETE the placeholder of this uid and version."""

    volume: HomeVolume


ClaimAction = (
    CreateNamespace
    | CreateClaim
    | CreateVolume
    | ExpandClaim
    | ExpandVolume
    | ShowCapacity
    | ReadHome
    | ReadForeign
    | DeleteClaim
    | DeleteVolume
)


def is_selected(claim: HomeClaim, ctx: Context) -> bool:
    """The home scheduler chose this node for a claim that has no volume yet."""
    return (
        claim.selected_node == ctx.node
        and claim.provisioner == PROVISIONER
        and not claim.volume
        and not claim.deleting
        and claim.storage_class in dict(ctx.storage_class_map)
    )


def concerns(claim: HomeClaim | Missing, volume: HomeVolume | Missing, *, ctx: Context) -> bool:
    """Whether anything in the foreign cluster matters for this claim: not for a retained volume."""
    if isinstance(volume, HomeVolume):
        present = isinstance(claim, HomeClaim)
        return present or (claim is Missing.ABSENT and _is_released(volume))
    return isinstance(claim, HomeClaim) and is_selected(claim, ctx)


def decide(s: ClaimSnapshot, *, ctx: Context) -> ClaimAction | None:
    """The next action; `None` while nothing is to be done, or something is not known."""
    selected = isinstance(s.claim, HomeClaim) and is_selected(s.claim, ctx)
    if s.namespace_missing and selected and s.volume is Missing.ABSENT:
        return CreateNamespace()  # the first pod, which would cause it, waits for its claim
    # A foreign claim is gone with its namespace; a read confirms that before the volume is deleted.
    lost = s.namespace_missing and s.claim is Missing.ABSENT and isinstance(s.volume, HomeVolume)
    foreign = Missing.ABSENT if lost else s.foreign
    if not (s.open or lost) or Missing.UNKNOWN in (s.claim, s.volume, foreign):
        return None
    if isinstance(s.volume, Missing):
        if isinstance(s.claim, HomeClaim) and is_selected(s.claim, ctx):
            return _provide(s, s.claim)
        return _discard(s, ctx=ctx)
    if s.volume.foreign != str(claims.foreign_key(s.key, ctx)):
        return None  # it is in a foreign namespace that other settings named
    if isinstance(s.claim, HomeClaim):
        return _resize(s, s.claim, s.volume)
    return _reclaim(s, s.volume, foreign)


def _provide(s: ClaimSnapshot, claim: HomeClaim) -> ClaimAction | None:
    if isinstance(s.foreign, Missing):
        return CreateClaim(claim)
    return None if s.foreign.deleting else CreateVolume(claim)


def _discard(s: ClaimSnapshot, *, ctx: Context) -> ClaimAction | None:
    """A foreign claim without a placeholder: no pod was ever bound to this node with it.

    One that was bound is kept: an administrator may have deleted the placeholder alone.
    """
    if (
        isinstance(s.foreign, Missing)
        or s.foreign.deleting
        or s.foreign.phase != ClaimPhase.PENDING
    ):
        return None
    if s.live is None:
        return ReadHome()
    wanted = isinstance(s.live.claim, HomeClaim) and is_selected(s.live.claim, ctx)
    if wanted or s.live.volume is not Missing.ABSENT:
        return None
    return DeleteClaim(s.foreign, unused=True)


def _reclaim(
    s: ClaimSnapshot, volume: HomeVolume, foreign: ForeignClaim | Missing
) -> ClaimAction | None:
    """The home claim is gone."""
    if not _is_released(volume):
        return None
    if s.live is None:
        return ReadHome()
    live = s.live.volume
    if s.live.claim is not Missing.ABSENT or isinstance(live, Missing):
        return None
    if live.uid != volume.uid or not _is_released(live):
        return None
    if isinstance(foreign, ForeignClaim):
        return None if foreign.deleting else DeleteClaim(foreign, unused=False)
    return DeleteVolume(live) if s.foreign_gone else ReadForeign()


def _is_released(volume: HomeVolume) -> bool:
    return volume.phase == RELEASED and volume.reclaim_policy == "Delete"


def _resize(s: ClaimSnapshot, claim: HomeClaim, volume: HomeVolume) -> ClaimAction | None:
    """The home claim and its placeholder exist. A step that failed for this size is the last."""
    step = _growth(s, claim, volume)
    return None if step is None or s.rejected.get(type(step)) == step.size else step


def _growth(s: ClaimSnapshot, claim: HomeClaim, volume: HomeVolume) -> Growth | None:
    size, foreign = claim.requested, s.foreign
    if isinstance(foreign, Missing) or foreign.phase != ClaimPhase.BOUND or not claim.capacity:
        return None
    if claims.is_larger(size, foreign.requested):
        return ExpandClaim(foreign, size)
    if claims.is_larger(size, foreign.capacity):
        return None
    if claims.is_larger(size, volume.capacity):
        return ExpandVolume(volume, size)
    return ShowCapacity(claim, size) if claims.is_larger(size, claim.capacity) else None


def state(
    name: str,
    namespace: str,
    claim: HomeClaim | Missing,
    volume: HomeVolume | Missing,
    *,
    ctx: Context,
) -> ClaimState:
    """What the claim `name` means to a pod that has no mirror yet."""
    if Missing.UNKNOWN in (claim, volume):
        return Missing.UNKNOWN
    if isinstance(claim, Missing):
        classes = ", ".join(sorted(dict(ctx.storage_class_map)))
        return Refused(
            Reason.UNSUPPORTED_POD,
            f"the claim {namespace}/{name} does not exist, or its StorageClass is not one with "
            f"volumes in the foreign cluster (--storage-class-map: {classes}). Create the claim "
            "with one of these classes, or keep the pod off this node",
        )
    if isinstance(volume, HomeVolume) and claim.volume == names.volume_name(claim.key.uid):
        foreign = claims.foreign_key(claim.key, ctx)
        if foreign is not None and volume.foreign == str(foreign):
            return foreign.name
        return Refused(
            Reason.UNSUPPORTED_POD,
            f"the volume of the claim {claim.key} is the foreign claim {volume.foreign}, which is "
            "not in the foreign namespace of the pod. Restore the former --namespace-map, "
            "--foreign-namespace-template, --home-name or --home-id",
        )
    if claim.selected_node == ctx.node and claim.volume in ("", names.volume_name(claim.key.uid)):
        return Missing.UNKNOWN  # it is being provided, or its volume was not seen yet
    if claim.volume:
        return Refused(
            Reason.UNSUPPORTED_POD,
            f"the claim {claim.key} is bound to the volume {claim.volume}, which this node "
            "did not provide. Let the scheduler place the pod, or keep it off this node",
        )
    return Refused(
        Reason.VOLUME_NOT_BOUND,
        f"the claim {claim.key} has no volume: the home scheduler has not selected this node for "
        "it. Create the pod without spec.nodeName",
    )
