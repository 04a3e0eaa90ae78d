"""What to do next for one home pod: a pure function of what is known of both sides.

`decide` reads a `Snapshot` and returns at most one `Action`. The reconciler performs it, what
came back enters the store, and `decide` is asked again, until nothing is left to do. So a
crash between two actions is no special case: the next process asks the same question.

The table is that of `docs/pods.md`. H is the home pod, M its mirror. Each side is present,
`ABSENT` or `UNKNOWN`; nothing that cannot be taken back follows from UNKNOWN, and before
such an action on ABSENT one live GET must answer 404 (`mirror_gone`, `home_gone`).

No I/O and no clock in here: `Snapshot.now` is the time.
"""

from __future__ import annotations

from collections.abc import Mapping

from farlet import constants
from farlet.access import AccessStrategy, choice
from farlet.constants import Reason
from farlet.context import Context
from farlet.errors import Refused
from farlet.forge import guards, status
from farlet.forge import pod as pods
from farlet.k8s_types import ObjectMeta, Pod
from farlet.planning import predicates, token_rotation
from farlet.planning.predicates import (
    is_deleting,
    is_finished,
    is_mirror_of,
    is_ours,
    is_terminal,
    uid,
)
from farlet.planning.snapshot import (
    NOTHING,
    ConfirmHomeGone,
    ConfirmMirrorGone,
    CreateMirror,
    Decision,
    DeleteHome,
    DeleteMirror,
    Missing,
    PatchStatus,
    ProvideSecret,
    ReclaimMirror,
    ReleaseMirror,
    Snapshot,
)


def decide(s: Snapshot, *, ctx: Context, strategies: Mapping[str, AccessStrategy]) -> Decision:
    """The row of the table that fits. Raises nothing: refusals become a status."""
    home, mirror = s.home, s.mirror
    if home is Missing.UNKNOWN:
        return NOTHING
    if home is Missing.ABSENT:
        return _orphaned(s, mirror, ctx=ctx)
    assert not isinstance(home, Missing)
    if isinstance(mirror, Missing):
        return _without_mirror(s, home, ctx=ctx, strategies=strategies)
    if not is_mirror_of(home, mirror, virtual_node_id=ctx.virtual_node_id):
        return _name_taken(s, home, mirror, ctx=ctx)
    return _with_mirror(s, home, mirror, ctx=ctx, strategies=strategies)


# --- rows ------------------------------------------------------------------------------------


def _orphaned(s: Snapshot, mirror: Pod | Missing, *, ctx: Context) -> Decision:
    """H is absent."""
    if isinstance(mirror, Missing) or not is_ours(mirror, virtual_node_id=ctx.virtual_node_id):
        return NOTHING
    if not s.home_gone:
        return Decision(ConfirmHomeGone())
    return _remove(mirror, grace=None)


def _name_taken(s: Snapshot, home: Pod, mirror: Pod, *, ctx: Context) -> Decision:
    """M's name belongs to an earlier uid of ours, or to a stranger."""
    if is_ours(mirror, virtual_node_id=ctx.virtual_node_id):
        return _remove(mirror, grace=None)
    if is_deleting(home) or is_terminal(home):
        return _without_mirror(_gone(s), home, ctx=ctx, strategies={})
    if (status.mirrored_uid(home) or s.last) and not predicates.runs_again(home, s.last):
        return _write(home, status.lost(home, ctx=ctx, now=s.now), Reason.MIRROR_LOST)
    refused = Refused(
        Reason.NAME_CONFLICT,
        f"the foreign namespace {mirror['metadata'].get('namespace')} has a pod of the name "
        f"{mirror['metadata']['name']} that is not farlet's. Rename or delete one of the two",
    )
    return _wait(s, home, refused, ctx=ctx, gone=True, retry=True)


def _without_mirror(
    s: Snapshot, home: Pod, *, ctx: Context, strategies: Mapping[str, AccessStrategy]
) -> Decision:
    """M is absent or unknown."""
    mirrored = status.mirrored_uid(home) is not None or s.last is not None
    if is_deleting(home):
        return _deleted(s, home, ctx=ctx, mirrored=mirrored)
    if is_terminal(home):
        # One that left our watch without being deleted may have lost no more than its label.
        doubtful = s.last is not None and not is_deleting(s.last) and not s.mirror_gone
        return Decision(ConfirmMirrorGone()) if doubtful else NOTHING
    if s.mirror is Missing.UNKNOWN:
        return _blind(s, home, ctx=ctx, strategies=strategies, mirrored=mirrored)
    if not mirrored:
        return _create(s, home, ctx=ctx, strategies=strategies, restarts={})
    if s.last is not None:
        seen = status.reflect(home, s.last, ctx=ctx, now=s.now)
        if predicates.tells_more(home, seen):
            return _write(home, seen)
    if not s.mirror_gone:
        return Decision(ConfirmMirrorGone())
    if not predicates.runs_again(home, s.last):
        return _write(home, status.lost(home, ctx=ctx, now=s.now), Reason.MIRROR_LOST)
    return _create(s, home, ctx=ctx, strategies=strategies, restarts=predicates.restarts(home))


def _deleted(s: Snapshot, home: Pod, *, ctx: Context, mirrored: bool) -> Decision:
    """H is being deleted and no mirror is known."""
    if home["metadata"].get("deletionGracePeriodSeconds") == 0:
        # Others' finalizers hold it; there is nothing left that a kubelet would do.
        return NOTHING
    if not s.mirror_gone:
        return Decision(ConfirmMirrorGone())
    if mirrored:
        written = _write(home, status.ended(home, s.last, ctx=ctx, now=s.now))
        if written.action is not None:
            return written
    return Decision(DeleteHome(uid(home)))


def _blind(
    s: Snapshot,
    home: Pod,
    *,
    ctx: Context,
    strategies: Mapping[str, AccessStrategy],
    mirrored: bool,
) -> Decision:
    """The foreign side cannot be seen: say so on pods that never ran, touch no others."""
    if mirrored:
        return NOTHING
    try:
        guards.check_controller(home, ctx)
        choice.choose(home, strategies, ctx).requirements(home, ctx)
    except Refused as refused:
        return _wait(s, home, refused, ctx=ctx)
    return NOTHING if s.problem is None else _wait(s, home, s.problem, ctx=ctx)


def _create(
    s: Snapshot,
    home: Pod,
    *,
    ctx: Context,
    strategies: Mapping[str, AccessStrategy],
    restarts: Mapping[str, int],
) -> Decision:
    """Nothing of H runs, and something should."""
    try:
        guards.check_controller(home, ctx)
        strategy = choice.choose(home, strategies, ctx)
        for account in strategy.requirements(home, ctx):
            if isinstance(s.accounts, Missing):
                return NOTHING if s.problem is None else _wait(s, home, s.problem, ctx=ctx)
            _require(
                account.name, account.label, s.accounts, ctx.namespaces.foreign(s.key.namespace)
            )
        forged = pods.forge_mirror(
            home,
            strategy=strategy,
            ctx=ctx,
            anchor=s.anchor,
            token_times={},
            restarts=restarts,
        )
        token_specs = strategy.token_specs(home, ctx)
    except Refused as refused:
        return _wait(s, home, refused, ctx=ctx, gone=True)
    notices = tuple(str(change) for change in forged.changes if not change.routine)
    return Decision(CreateMirror(forged.pod, strategy, token_specs, notices, forged.unknown_fields))


def _with_mirror(
    s: Snapshot,
    home: Pod,
    mirror: Pod,
    *,
    ctx: Context,
    strategies: Mapping[str, AccessStrategy],
) -> Decision:
    """M is H's own."""
    if not is_ours(mirror, virtual_node_id=ctx.virtual_node_id):
        whose = {
            constants.HOME_NAMESPACE: s.key.namespace,
            constants.HOME_NAME: s.key.name,
            constants.HOME_UID: uid(home),
        }
        return Decision(
            ReclaimMirror(uid(mirror), {constants.VIRTUAL_NODE_ID: ctx.virtual_node_id}, whose)
        )
    if is_deleting(home) and predicates.grace_shorter(home, mirror):
        return Decision(
            DeleteMirror(uid(mirror), home["metadata"].get("deletionGracePeriodSeconds"))
        )
    over = is_terminal(mirror) or is_deleting(mirror)
    if is_terminal(home) and not is_deleting(home) and not over:
        return Decision(DeleteMirror(uid(mirror), None))

    again_at = note = None
    if not (over or s.secret_failed or is_terminal(home) or is_deleting(home)):
        provided = _secret(s, home, mirror, ctx=ctx, strategies=strategies)
        if provided.action is not None:
            return provided
        again_at = provided.again_at
        note = _left_behind(mirror, ctx)
    reflected = _write(home, status.reflect(home, mirror, ctx=ctx, now=s.now))
    if reflected.action is not None:
        return reflected
    if constants.OBSERVED in mirror["metadata"].get("finalizers", ()) and is_finished(mirror):
        # Home tells by now how it ended.
        return Decision(ReleaseMirror(mirror))
    return Decision(again_at=again_at, note=note)


def _left_behind(mirror: Pod, ctx: Context) -> tuple[Reason, str] | None:
    """M runs with an address of the home API server that is not the one for new pods."""
    dialled = mirror["metadata"].get("annotations", {}).get(constants.HOME_API)
    if dialled is None or ctx.endpoint is None or dialled == str(ctx.endpoint):
        return None
    message = (
        f"pods that start now reach the home API server at {ctx.endpoint}. This one keeps the "
        "address that it was started with, as its environment and hosts file cannot be changed: "
        "make it again if that address is to go"
    )
    return Reason.HOME_API_ENDPOINT_CHANGED, message


def _secret(
    s: Snapshot,
    home: Pod,
    mirror: Pod,
    *,
    ctx: Context,
    strategies: Mapping[str, AccessStrategy],
) -> Decision:
    """The Secret beside M: there, M's own, its tokens fresh."""
    strategy = strategies.get(mirror["metadata"].get("annotations", {}).get(constants.ACCESS, ""))
    try:
        chosen = choice.choose(home, strategies, ctx)
        if strategy is None or chosen.name != strategy.name:
            # The owner has changed the annotation since: a running pod keeps what it has, and
            # what anybody writes abroad never fetches a home token.
            return NOTHING
        _still_required(strategy, home, ctx)
        token_specs = strategy.token_specs(home, ctx)
        secret = s.secret
        if secret is Missing.UNKNOWN:
            return NOTHING
        owner = predicates.reference(mirror)
        if isinstance(secret, Missing) or not predicates.owned_by(secret, uid(mirror)):
            if strategy.objects(home, {}, ctx, owner):
                return Decision(
                    ProvideSecret(strategy, token_specs, exists=secret is not Missing.ABSENT)
                )
            return NOTHING
    except Refused:
        # It was allowed when M was made; what runs keeps what it has, and gets no new token.
        return NOTHING
    due = token_rotation.due(token_specs, mirror, uid=uid(home), now=s.now)
    if due.token_specs:
        return Decision(ProvideSecret(strategy, due.token_specs, exists=True, overdue=due.overdue))
    if not predicates.holds(secret, strategy.objects(home, {}, ctx, owner)):
        return Decision(ProvideSecret(strategy, (), exists=True))
    return Decision(again_at=due.again_at)


_OUT_OF_SIGHT = frozenset(
    {Reason.HOME_API_NOT_CONFIGURED, Reason.HOME_API_UNVERIFIED, Reason.FOREIGN_UNREACHABLE}
)
"""Why new pods get no address, while nothing speaks against the one that a running pod has."""


def _still_required(strategy: AccessStrategy, home: Pod, ctx: Context) -> None:
    """Raises `Refused` where a running pod is to get no new token."""
    try:
        strategy.requirements(home, ctx)
    except Refused as refused:
        if refused.reason not in _OUT_OF_SIGHT or not ctx.home_ca:
            raise


# --- parts of rows ----------------------------------------------------------------------------


def _wait(
    s: Snapshot,
    home: Pod,
    refused: Refused,
    *,
    ctx: Context,
    gone: bool = False,
    retry: bool = False,
) -> Decision:
    """Say why H waits; `gone`: nothing of it runs for certain."""
    say = status.stranded if gone else status.waiting
    wanted = say(home, reason=refused.reason, message=refused.message, ctx=ctx, now=s.now)
    body = status.patch(home, wanted)
    event = (refused.reason, refused.message)
    return Decision(None if body is None else PatchStatus(body, event), retry=retry)


def waiting(s: Snapshot, refused: Refused, *, ctx: Context) -> PatchStatus | None:
    """The status of a pod that an API server has just refused; `None` where it shows already."""
    if isinstance(s.home, Missing) or is_terminal(s.home) or is_deleting(s.home):
        return None
    action = _wait(s, s.home, refused, ctx=ctx).action
    return action if isinstance(action, PatchStatus) else None


def _write(home: Pod, wanted: status.DesiredStatus, reason: Reason | None = None) -> Decision:
    body = status.patch(home, wanted)
    if body is None:
        return NOTHING
    event = None if reason is None else (reason, str(wanted.status.get("message", "")))
    return Decision(PatchStatus(body, event))


def _remove(mirror: Pod, *, grace: int | None) -> Decision:
    """M has no home pod any more: end it, and let it go."""
    if not is_deleting(mirror):
        return Decision(DeleteMirror(uid(mirror), grace))
    if constants.OBSERVED in mirror["metadata"].get("finalizers", ()):
        return Decision(ReleaseMirror(mirror))
    return NOTHING


def _require(
    name: str, label: str | None, accounts: Mapping[str, ObjectMeta], namespace: str | None
) -> None:
    account = accounts.get(name)
    if account is None:
        raise Refused(
            Reason.SERVICE_ACCOUNT_NOT_FOUND,
            f"the ServiceAccount {name} does not exist in the foreign namespace {namespace}. "
            "Create it there and the pod goes on by itself, or name another with the annotation "
            f"{constants.REMOTE_SERVICE_ACCOUNT_NAME}",
        )
    if label is not None and account.get("labels", {}).get(label) != "true":
        raise Refused(
            Reason.SERVICE_ACCOUNT_NOT_ALLOWED,
            f"the ServiceAccount {name} in the foreign namespace {namespace} lacks the label "
            f"{label}=true, and --remote-service-accounts=labelled asks for it",
        )


def _gone(s: Snapshot) -> Snapshot:
    """The same moment with the stranger taken for what it is: no mirror."""
    return Snapshot(
        key=s.key,
        now=s.now,
        home=s.home,
        mirror=Missing.ABSENT,
        mirror_gone=True,
        last=s.last,
    )
