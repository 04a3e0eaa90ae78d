"""The Secret beside a mirror: whether it exists, belongs to the mirror and is up to date.

H is the home pod and M its mirror; both are alive. Pure.
"""

from __future__ import annotations

from farlet import constants
from farlet.access import AccessStrategy, metadata_files
from farlet.constants import Reason
from farlet.context import Context
from farlet.errors import Refused
from farlet.k8s_types import ObjectMeta, Pod, Secret
from farlet.planning import predicates, token_rotation, wishes
from farlet.planning.actions import NOTHING, Decision, ProvideSecret, Wait
from farlet.planning.predicates import uid
from farlet.planning.snapshot import Missing, Snapshot

_ONLY_FOR_NEW_PODS = frozenset(
    {
        Reason.HOME_API_NOT_CONFIGURED,
        Reason.HOME_API_UNVERIFIED,
        Reason.FOREIGN_UNREACHABLE,
        Reason.FOREIGN_UNAUTHORIZED,
    }
)
"""Reasons that keep new pods waiting for an address; the address of a running pod stays valid."""


def decide(s: Snapshot, home: Pod, mirror: Pod, *, ctx: Context) -> Decision:
    """M's Secret: it exists, belongs to M, and its content is up to date."""
    strategy = s.access
    if strategy is None or isinstance(strategy, Refused):
        return NOTHING
    if mirror["metadata"].get("annotations", {}).get(constants.ACCESS) != strategy.name:
        # The annotation of H has changed since M was created: a running pod keeps its mode. And an
        # annotation that is written in the foreign cluster never fetches a home token.
        return NOTHING
    secret = s.secret
    owner = predicates.reference(mirror)
    try:
        _still_required(strategy, home, ctx)
        token_specs = strategy.token_specs(home, ctx)
        required = strategy.objects(home, {}, ctx, owner)
        if not required:
            return NOTHING
        wanted = [one["metadata"] for one in required]
        if secret is Missing.UNKNOWN:
            return Decision(note=_unwatched(s))
        if secret is Missing.ABSENT:
            return Decision(ProvideSecret(home, mirror, strategy, token_specs, None, wanted))
        if not predicates.owned_by(secret, uid(mirror)):
            provide = ProvideSecret(home, mirror, strategy, token_specs, secret, wanted)
            if not wishes.in_vain(provide, secret, s.answered):
                return Decision(provide)
    except Refused:
        # It was allowed when M was created. A running pod keeps its files and gets no new token.
        return NOTHING
    due = token_rotation.due(token_specs, mirror, delivered=s.delivered, uid=uid(home), now=s.now)
    if due.token_specs:
        return Decision(
            ProvideSecret(
                home, mirror, strategy, due.token_specs, secret, wanted, overdue=due.overdue
            )
        )
    if not predicates.holds(secret, required):
        provide = ProvideSecret(home, mirror, strategy, (), secret, wanted)
        if not wishes.in_vain(provide, secret, s.answered):
            return Decision(provide)
    wait = None if due.again_at is None else Wait(due.again_at - s.now)
    return Decision(wait, note=_files_too_large(secret, required))


def _unwatched(s: Snapshot) -> tuple[Reason, str] | None:
    """The Event for a mirror whose Secret cannot be watched: it gets no new tokens.

    An outage concerns all pods and is reported on the Node.
    """
    if s.problem is None or s.problem.reason is Reason.FOREIGN_UNREACHABLE:
        return None
    return s.problem.reason, s.problem.message


def _files_too_large(secret: ObjectMeta, required: tuple[Secret, ...]) -> tuple[Reason, str] | None:
    """The Event for labels and annotations that M has in files, and that no longer fit."""
    marks = required[0]["metadata"]["annotations"]
    before = secret.get("annotations", {})
    if constants.METADATA_FILES in marks or constants.METADATA_FILES not in before:
        return None
    return Reason.UNSUPPORTED_POD, metadata_files.not_followed()


def _still_required(strategy: AccessStrategy, home: Pod, ctx: Context) -> None:
    """Raises `Refused` if a running pod must not get a new token."""
    try:
        strategy.requirements(home, ctx)
    except Refused as refused:
        if refused.reason not in _ONLY_FOR_NEW_PODS or not ctx.home_ca:
            raise
