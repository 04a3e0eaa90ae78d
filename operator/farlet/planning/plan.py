"""What to do next for one home pod: a pure function of what is known of both sides.

`decide` reads a `Snapshot` and returns at most one `Action`. The reconciler performs the action,
puts the answer into the store and calls `decide` again, until nothing is left to do. So a crash
between two actions needs no special case: the next process starts from the same facts.

The table is that of `docs/pods.md`. H is the home pod, M its mirror. Each side is present,
`ABSENT` or `UNKNOWN`. Nothing irreversible follows from UNKNOWN, and before an irreversible
action on ABSENT one live GET must answer 404 (`mirror_gone`, `home_gone`), unless the end of M was
seen (`departure`). Before the deadline ends a pod that has a mirror, one live GET reads the mirror
(`mirror_read`).

This module does no I/O and reads no clock: `Snapshot.now` is the time, and durations are facts of
the snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from farlet import constants
from farlet.access import AccessStrategy, metadata_files
from farlet.constants import ObjectKey, Reason
from farlet.context import Context
from farlet.errors import FarletError, Refused, Throttled, Unconfirmed
from farlet.forge import claims, conditions, copies, guards, status
from farlet.forge import pod as pods
from farlet.k8s_types import ObjectMeta, Pod
from farlet.planning import (
    api_refusals,
    changes,
    deadline,
    ephemeral,
    pod_secret,
    predicates,
    wishes,
)
from farlet.planning.actions import (
    NOTHING,
    AddEphemeralContainer,
    ConfirmHomeGone,
    ConfirmMirrorGone,
    CreateMirror,
    CreateNamespace,
    Decision,
    DeleteHome,
    DeleteMirror,
    EvictHome,
    FollowSources,
    PatchStatus,
    ProvideSecret,
    RecheckAnchor,
    ReclaimMirror,
    ReleaseMirror,
    Step,
    Wait,
)
from farlet.planning.predicates import (
    is_deleting,
    is_finished,
    is_mirror_of,
    is_ours,
    is_terminal,
    uid,
)
from farlet.planning.snapshot import (
    LASTING_SECONDS,
    STATUS_SECONDS,
    Copied,
    Departure,
    Failure,
    Missing,
    Sign,
    Snapshot,
)

LAG_SECONDS = 10.0
"""The caches of the home API server may lack a pod that was bound less than this time ago."""
LAG_FIRST_SECONDS = 0.01
LAG_LAST_SECONDS = 0.1
"""A retry waits as long as the pod has been known, within these limits: the pauses double."""

STATUS_BURST = 10
"""This many statuses of one pod are written as they come, then one in each `STATUS_SECONDS`. A
start with all its init containers is less. Pods that change all the time do not delay others."""

FIRST_STATUS_SECONDS = 2.0
"""A new mirror is scheduled before a kubelet reports its containers. For this time that step alone
is not written to home, since it would cost a request, and a watch event for each home watcher."""

RECREATE_FIRST_SECONDS = 1.0
RECREATE_LAST_SECONDS = 300.0
"""The pause between two mirrors of one pod doubles while they do not last (`LASTING_SECONDS`)."""
REPORTED_PAUSE_SECONDS = 8.0
"""A shorter pause is not worth the two writes of a report."""

ORPHAN_GRACE_SECONDS = 30
"""The longest grace period of a mirror whose home pod is gone, as after a forced deletion. It is
Kubernetes' default. Otherwise it could run, and keep its name taken, for years."""

OVERDUE_SECONDS = 60.0
"""A deleted mirror that has not ended this long after its grace period is on a lost node. More than
clocks differ and than a kubelet takes to report the end."""
LONGEST_WAIT_SECONDS = 3600.0
"""A time that objects of the foreign cluster name is waited for in steps of this."""

REWRITE_SECONDS = 60.0
"""The message of an unchanged reason is not written more often than this."""

_WAIT_REASONS = frozenset(Reason) - {Reason.UNSCHEDULABLE}
"""Reasons of a pod without a mirror, not those of the foreign scheduler."""

_ANNOTATIONS = (constants.API_SERVER_SUPPORT, constants.REMOTE_SERVICE_ACCOUNT_NAME)
_SIMILAR = ("liqo.io/api-server", "liqo.io/remote-service-account")

_NO_LONGER_OFFLOADED = (
    "this pod has run in the foreign cluster, and its namespace is not offloaded any more: farlet "
    "cannot check whether its mirror is gone. Offload the namespace again (--namespace-map); or, "
    "if you know that none of its containers run, remove the pod with kubectl delete --force"
)

_UNLABELLED = (
    f"the foreign cluster removes the label {constants.VIRTUAL_NODE_ID} from the mirror of this "
    "pod, so that farlet cannot watch it and reads it every few seconds. Find the policy there "
    "that removes it, and exempt the labels and annotations of farlet.io"
)


def decide(s: Snapshot, *, ctx: Context) -> Decision:
    """The decision of the matching row. Raises nothing: refusals become a status."""
    if s.failure is not None:
        return _failed(s, s.failure, ctx=ctx)
    decision = _row(s, ctx=ctx)
    if isinstance(decision.action, PatchStatus):
        decision = _paced(s, decision.action, retry=decision.retry)
    decision = _until_deadline(s, decision)
    if decision.note is None and (decision.action is None or isinstance(decision.action, Wait)):
        note = _unknown_annotation(s.home)
        return decision if note is None else replace(decision, note=note)
    return decision


def _unknown_annotation(home: Pod | Missing) -> tuple[Reason, str] | None:
    """The Event for a key that is probably a misspelled one of `_ANNOTATIONS`."""
    if isinstance(home, Missing) or is_deleting(home):
        return None
    for key in home["metadata"].get("annotations") or ():
        if key.lower().startswith(_SIMILAR) and key not in _ANNOTATIONS:
            message = (
                f"farlet ignores the annotation {key}; it knows {' and '.join(_ANNOTATIONS)}. "
                "Recreate the pod with the right key"
            )
            return Reason.UNKNOWN_ANNOTATION, message
    return None


def needs_namespace(home: Pod, *, ctx: Context) -> bool:
    """Whether farlet must open the foreign namespace for H.

    A DaemonSet pod that never runs there does not need it. Otherwise the DaemonSets of the home
    kube-system would make farlet open the foreign one.
    """
    try:
        guards.check_controller(home, ctx)
    except Refused:
        return status.mirrored_uid(home) is not None
    return True


def _row(s: Snapshot, *, ctx: Context) -> Decision:
    home, mirror = s.home, s.mirror
    if home is Missing.UNKNOWN:
        return NOTHING
    if not s.foreign_confirmed:
        return _unconfirmed(s, home, ctx=ctx)
    if home is Missing.ABSENT:
        return _orphaned(s, mirror, ctx=ctx)
    if isinstance(mirror, Missing):
        return _without_mirror(s, home, ctx=ctx)
    if not is_mirror_of(home, mirror, virtual_node_id=ctx.virtual_node_id):
        return _name_taken(s, home, mirror, ctx=ctx)
    return _with_mirror(s, home, mirror, ctx=ctx)


# --- pace of status writes, and failed actions ------------------------------------------------


def _until_deadline(s: Snapshot, decision: Decision) -> Decision:
    """Decide again when the active deadline of H passes, where no watch shows it."""
    waits = decision.action
    if isinstance(s.home, Missing) or not (waits is None or isinstance(waits, Wait)):
        return decision
    left = deadline.left(s.home, s.mirror, now=s.now)
    if left is None or left <= 0:
        return decision
    wait = Wait(min(left, LONGEST_WAIT_SECONDS))
    if waits is not None:
        wait = replace(waits, seconds=min(waits.seconds, wait.seconds))
    return replace(decision, action=wait)


def _paced(s: Snapshot, patch: PatchStatus, *, retry: bool) -> Decision:
    """Write the status now or later."""
    if _repeats(s, patch):
        return Decision(retry=True) if retry else Decision(Wait(REWRITE_SECONDS))
    held = FIRST_STATUS_SECONDS - s.ages.mirror_created
    if held > 0 and _only_scheduled(s):
        return Decision(Wait(held, unreported=True))
    excess = s.recent_statuses - (STATUS_BURST - 1)
    if excess > 0 and not is_deleting(patch.home):
        return Decision(Wait(excess * STATUS_SECONDS, unreported=True), retry=retry)
    return Decision(patch, retry=retry)


def _repeats(s: Snapshot, patch: PatchStatus) -> bool:
    """Only the message differs from what H shows, and the reason was written a short time ago."""
    return (
        patch.event is not None
        and patch.home.get("status", {}).get("reason") == patch.event[0]
        and s.ages.reason_written < REWRITE_SECONDS
    )


def _only_scheduled(s: Snapshot) -> bool:
    return not isinstance(s.mirror, Missing) and predicates.is_only_scheduled(s.mirror)


def _failed(s: Snapshot, failure: Failure, *, ctx: Context) -> Decision:
    """An action has failed: when to try again, and what to report to the owner of H."""
    err = failure.error
    if isinstance(err, Unconfirmed):
        s = replace(s, problem=err)
        return replace(_unconfirmed(s, s.home, ctx=ctx), retry=True)
    overdue = _overdue(failure)
    if api_refusals.lags(err, name=s.key.name) and s.ages.first_seen < LAG_SECONDS:
        pause = min(max(s.ages.first_seen, LAG_FIRST_SECONDS), LAG_LAST_SECONDS)
        return Decision(Wait(pause), note=overdue)
    if isinstance(err, Throttled):
        return Decision(Wait(err.retry_after), retry=True, note=overdue)
    if overdue is not None:
        # One Event. A second reason, in turn with this one, would be a new Event at each retry.
        return Decision(retry=True, note=overdue)
    refused = api_refusals.of(err, step=failure.step, home=s.key.namespace)
    if isinstance(failure.action, AddEphemeralContainer):
        rejected = _rejected(s, failure.action, err, refused, ctx=ctx)
        if rejected is not None:
            return rejected
    if refused is None or isinstance(s.home, Missing):
        return Decision(retry=True)
    if not isinstance(s.mirror, Missing) or is_deleting(s.home):
        # The status shows the state of M, or the end of H. The failure is an Event only.
        return Decision(retry=True, note=(refused.reason, refused.message))
    if is_terminal(s.home):
        return Decision(retry=True)
    waits = _wait(s, s.home, refused, ctx=ctx, retry=True)
    return _paced(s, waits.action, retry=True) if isinstance(waits.action, PatchStatus) else waits


def _rejected(
    s: Snapshot,
    action: AddEphemeralContainer,
    err: FarletError,
    refused: Refused | None,
    *,
    ctx: Context,
) -> Decision | None:
    """The foreign cluster rejects an ephemeral container for good: its status says so."""
    rejected = ephemeral.rejected(action, err, refused)
    if rejected is None:
        return None
    _, held = ephemeral.decide(s, action.home, action.mirror, ctx=ctx)
    due = _due(s, action.home, action.mirror, ctx=ctx)
    desired = _reflected(s, action.home, action.mirror, due, ctx=ctx)
    return replace(_show(s, action.home, desired, (rejected, *held)), retry=True)


def _overdue(failure: Failure) -> tuple[Reason, str] | None:
    """The Event for a token that is past `WARN_AT` of its life and could not be refreshed."""
    action = failure.action
    if not isinstance(action, ProvideSecret):
        return None
    if failure.step is not Step.TOKEN or not action.overdue:
        return None
    message = (
        "farlet failed to refresh the pod's home token, which is past 80 % of its lifetime: "
        f"{failure.error}"
    )
    return Reason.TOKEN_REFRESH_FAILED, message


# --- rows ------------------------------------------------------------------------------------


def _is_ours(s: Snapshot, mirror: Pod, *, ctx: Context) -> bool:
    namespace = s.key.namespace
    return is_ours(mirror, home_namespace=namespace, virtual_node_id=ctx.virtual_node_id)


def _unconfirmed(s: Snapshot, home: Pod | Missing, *, ctx: Context) -> Decision:
    """Everything that is known of the foreign side can be of another cluster.

    So H keeps what it shows, its mirror and its Secret are not touched, and no deletion is
    finished. Only a pod that never ran reports the cause in its status.
    """
    if isinstance(home, Missing) or is_terminal(home):
        return NOTHING
    if is_deleting(home):
        note = None if s.problem is None else (s.problem.reason, s.problem.message)
        return Decision(note=note)
    mirrored = status.mirrored_uid(home) is not None or s.last is not None
    return _foreign_side_unknown(s, home, ctx=ctx, mirrored=mirrored)


def _orphaned(s: Snapshot, mirror: Pod | Missing, *, ctx: Context) -> Decision:
    """H is absent."""
    if isinstance(mirror, Missing) or not _is_ours(s, mirror, ctx=ctx):
        return NOTHING
    if not s.home_gone:
        return Decision(ConfirmHomeGone(s.key))
    return _remove(mirror)


def _name_taken(s: Snapshot, home: Pod, mirror: Pod, *, ctx: Context) -> Decision:
    """M's name belongs to the mirror of an earlier pod, or to an unrelated pod."""
    if _is_ours(s, mirror, ctx=ctx):
        return _remove(mirror)
    if is_deleting(home) or is_terminal(home):
        return _without_mirror(s, home, ctx=ctx, taken=True)
    if (status.mirrored_uid(home) or s.last) and not predicates.runs_again(home, s.last):
        return _lost(s, home, ctx=ctx)
    if _is_overdue(s, home, Missing.ABSENT):
        return _exceeded(s, home, None, ctx=ctx)
    refused = Refused(
        Reason.NAME_CONFLICT,
        f"the foreign namespace {mirror['metadata'].get('namespace')} has a pod named "
        f"{mirror['metadata']['name']} that farlet did not create. Rename or delete one of the two",
    )
    return _wait(s, home, refused, ctx=ctx, gone=True, retry=True)


def _without_mirror(s: Snapshot, home: Pod, *, ctx: Context, taken: bool = False) -> Decision:
    """M is absent or unknown. `taken`: an unrelated pod has its name."""
    gone = taken or _certainly_gone(s, home)
    mirrored = status.mirrored_uid(home) is not None or s.last is not None
    if is_deleting(home):
        return _deleted(s, home, ctx=ctx, gone=gone)
    if is_terminal(home):
        # A mirror that left the watch without its end may only have lost its label. One that is
        # being deleted then keeps our finalizer, and holds up its namespace.
        released = s.last is not None and predicates.is_released(s.last["metadata"])
        unconfirmed = s.last is not None and not released and not gone
        return _confirm_mirror_gone(s) if unconfirmed else NOTHING
    if s.mirror is Missing.UNKNOWN and (s.namespace_open or not gone):
        return _foreign_side_unknown(s, home, ctx=ctx, mirrored=mirrored)
    overdue = _is_overdue(s, home, Missing.ABSENT)
    if not mirrored and not overdue:
        return _create(s, home, ctx=ctx, restarts={})
    if s.last is not None:
        seen = status.reflect(home, s.last, ctx=ctx, now=s.now)
        if predicates.shows_more(home, seen):
            return _write(s, home, seen)
    if not gone:
        return _confirm_mirror_gone(s)
    if mirrored and not predicates.runs_again(home, s.last):
        return _lost(s, home, ctx=ctx)
    if overdue:
        return _exceeded(s, home, None, ctx=ctx)
    return _create(s, home, ctx=ctx, restarts=predicates.restarts(home))


def _lost(s: Snapshot, home: Pod, *, ctx: Context) -> Decision:
    """H does not run again."""
    desired = status.lost(home, last=s.last, ctx=ctx, now=s.now)
    return _write(s, home, desired, Reason.MIRROR_LOST)


def _is_overdue(s: Snapshot, home: Pod, mirror: Pod | Missing) -> bool:
    left = deadline.left(home, mirror, now=s.now)
    return left is not None and left <= 0


def _exceeded(s: Snapshot, home: Pod, mirror: Pod | None, *, ctx: Context) -> Decision:
    """The active deadline of H has passed, and no foreign kubelet ends it."""
    desired = status.exceeded(home, mirror, ctx=ctx, now=s.now)
    return _write(s, home, desired, Reason.DEADLINE_EXCEEDED)


def _certainly_gone(s: Snapshot, home: Pod) -> bool:
    """A live GET answered 404, neither the inventory nor H's status knows of a mirror, or its end
    was seen."""
    if s.mirror_gone or (s.namespace_unused and status.mirrored_uid(home) is None):
        return True
    return s.mirror is Missing.ABSENT and s.departure is not None and _ended(s.departure, home)


def _ended(departure: Departure, home: Pod) -> bool:
    """The mirror that H names has ended, and none was requested since: no GET is required.

    Nothing else that a watch or a list lacks is evidence: M can have lost its label, or farlet the
    answer to a POST.
    """
    if departure.posted or departure.doubted or departure.sign is Sign.LIST:
        return False
    if uid(departure.last) != status.mirrored_uid(home):
        return False
    return departure.sign is Sign.NOT_FOUND or predicates.is_released(departure.shown)


def _confirm_mirror_gone(s: Snapshot) -> Decision:
    return NOTHING if s.mirror_key is None else Decision(ConfirmMirrorGone(s.mirror_key))


def _deleted(s: Snapshot, home: Pod, *, ctx: Context, gone: bool) -> Decision:
    """H is being deleted and no mirror is known."""
    if not gone and not s.namespace_open:
        # farlet does not read that namespace, so it cannot know whether a mirror runs there.
        note = (
            (Reason.NAMESPACE_NOT_OFFLOADED, _NO_LONGER_OFFLOADED) if s.namespace_unused else None
        )
        return Decision(note=note)
    held = home["metadata"].get("deletionGracePeriodSeconds") == 0
    if held and is_terminal(home):
        # Finalizers of other controllers hold it; a kubelet would have nothing left to do.
        return NOTHING
    if not gone:
        return _confirm_mirror_gone(s)
    # Also of a pod that never started: controllers count a deleted pod once it is Failed.
    written = _write(s, home, status.ended(home, s.last, ctx=ctx, now=s.now))
    if written.action is not None:
        return written
    return NOTHING if held else Decision(DeleteHome(home))


def _foreign_side_unknown(
    s: Snapshot,
    home: Pod,
    *,
    ctx: Context,
    mirrored: bool,
) -> Decision:
    """The foreign side is unknown: report that on pods that never ran, leave others unchanged.

    A pod needs a namespace that does not exist if a mirror could be created for it, or if it had
    one, whose absence cannot be confirmed otherwise.
    """
    if mirrored:
        return Decision(CreateNamespace()) if _is_missing(s) else NOTHING
    try:
        guards.check_controller(home, ctx)
        strategy = _selected(s)
        strategy.requirements(home, ctx)
        if _is_missing(s):
            pods.forge_mirror(
                home, strategy=strategy, ctx=ctx, anchor=None, token_times={}, restarts={}
            )
            return Decision(CreateNamespace())
    except Refused as refused:
        return _wait(s, home, refused, ctx=ctx)
    return NOTHING if s.problem is None else _wait(s, home, s.problem, ctx=ctx)


def _is_missing(s: Snapshot) -> bool:
    """The foreign namespace is to be created. Another cluster would lack it, too."""
    return s.namespace_missing and s.foreign_confirmed


def _create(
    s: Snapshot,
    home: Pod,
    *,
    ctx: Context,
    restarts: Mapping[str, int],
) -> Decision:
    """H has no mirror and needs one."""
    try:
        guards.check_controller(home, ctx)
        strategy = _selected(s)
        pods.foreign_namespace(s.key.namespace, ctx)
        for account in strategy.requirements(home, ctx):
            if isinstance(s.accounts, Missing):
                return NOTHING if s.problem is None else _wait(s, home, s.problem, ctx=ctx)
            _check_account(account.name, account.label, s.accounts, s.mirror_key)
        foreign_claims = _foreign_claims(s, home)
        if foreign_claims is None:
            return NOTHING
        forged = pods.forge_mirror(
            home,
            strategy=strategy,
            ctx=ctx,
            anchor=s.anchor,
            token_times={},
            restarts=restarts,
            foreign_claims=foreign_claims,
        )
        token_specs = strategy.token_specs(home, ctx)
        required = strategy.objects(home, {}, ctx, predicates.reference(home))
    except Refused as refused:
        return _wait(s, home, refused, ctx=ctx, gone=True)
    if required and s.secret is Missing.UNKNOWN and s.problem is not None and not _is_missing(s):
        # Without its Secret the mirror would wait in ContainerCreating, and nothing would say why.
        return _wait(s, home, s.problem, ctx=ctx, gone=True)
    left = _pause(s) - s.ages.mirror_created
    if left > 0:
        return _back_off(s, home, left, ctx=ctx)
    if _is_missing(s):
        return Decision(CreateNamespace())
    if s.anchor is None:
        return NOTHING if s.problem is None else _wait(s, home, s.problem, ctx=ctx, gone=True)
    if s.anchor_doubted:
        # In a namespace that was recreated, the garbage collector would delete the mirror.
        return Decision(RecheckAnchor())
    copied = _copies(s, home, ctx=ctx)
    if copied is not None:
        return copied
    if not s.services_ready:
        # A container has the variables of the Services that exist when it starts.
        problem = s.services_problem
        return NOTHING if problem is None else _wait(s, home, problem, ctx=ctx, gone=True)
    notices = tuple(str(change) for change in forged.changes if not change.routine)
    pod = changes.with_deadline_left(forged.pod, home, now=s.now)
    return Decision(
        CreateMirror(
            home,
            pod,
            strategy,
            token_specs,
            notices,
            forged.unknown_fields,
            continues=_continues(s, home),
        )
    )


def _continues(s: Snapshot, home: Pod) -> tuple[Reason, str] | None:
    """The Event for a pod that has waited with a reason. A pod that starts at once has none."""
    waited = home.get("status", {}).get("reason")
    if waited not in _WAIT_REASONS:
        return None
    message = (
        f"the pod no longer waits ({waited}): farlet created its mirror in the foreign namespace "
        f"{_namespace_of(s)}"
    )
    return Reason.MIRROR_CREATED, message


def _foreign_claims(s: Snapshot, home: Pod) -> Mapping[str, str] | None:
    """What M mounts in place of the claims of H; `None` while one is not known.

    M never names a claim of H: the foreign namespace may have another one of that name. Raises
    `Refused` for a claim that M cannot use.
    """
    names = {}
    for name in claims.claim_names(home) if s.claims else ():
        state = s.claims.get(name, Missing.UNKNOWN)
        if isinstance(state, Refused):
            raise state
        if isinstance(state, Missing):
            return None
        names[name] = state
    return names


def _copies(s: Snapshot, home: Pod, *, ctx: Context) -> Decision | None:
    """What has to happen before M can use the ConfigMaps and Secrets that H refers to.

    Also one that is optional is waited for if it exists: a container would lack its variables for
    as long as it lives.
    """
    if s.copies is None:
        return _follow(s, home)
    for state in s.copies.values():
        if isinstance(state, Refused):
            return _wait(s, home, state, ctx=ctx, gone=True)
    return NOTHING if Copied.PENDING in s.copies.values() else None


def _follow(s: Snapshot, home: Pod) -> Decision | None:
    """H refers to objects that farlet does not follow yet."""
    sources = frozenset() if s.copies is not None else copies.sources(home)
    return Decision(FollowSources(sources)) if sources else None


def _pause(s: Snapshot) -> float:
    """Seconds from the creation of the last mirror to that of the next, as CrashLoopBackOff."""
    if s.creations == 0 or s.ages.mirror_created >= LASTING_SECONDS:
        return 0.0
    doublings = min(s.creations - 1, 16)
    return min(RECREATE_FIRST_SECONDS * 2.0**doublings, RECREATE_LAST_SECONDS)


def _back_off(s: Snapshot, home: Pod, left: float, *, ctx: Context) -> Decision:
    """The next mirror is not due yet. A longer pause is reported."""
    if _pause(s) >= REPORTED_PAUSE_SECONDS:
        refused = Refused(
            Reason.MIRROR_BACK_OFF,
            f"the mirrors of this pod in the foreign namespace {_namespace_of(s)} are deleted soon "
            "after they were created. farlet creates the next one after a pause, which grows to "
            f"{RECREATE_LAST_SECONDS / 60:g} minutes. Find out who deletes pods there",
        )
        waits = _wait(s, home, refused, ctx=ctx, gone=True)
        if waits.action is not None:
            return waits
    return Decision(Wait(left))


def _namespace_of(s: Snapshot) -> str:
    return "" if s.mirror_key is None else s.mirror_key.namespace


def _with_mirror(
    s: Snapshot,
    home: Pod,
    mirror: Pod,
    *,
    ctx: Context,
) -> Decision:
    """M is H's own."""
    if not predicates.is_marked(home, mirror, virtual_node_id=ctx.virtual_node_id):
        whose = {
            constants.HOME_NAMESPACE: s.key.namespace,
            constants.HOME_NAME: s.key.name,
            constants.HOME_UID: uid(home),
        }
        reclaim = ReclaimMirror(
            home, mirror, {constants.VIRTUAL_NODE_ID: ctx.virtual_node_id}, whose
        )
        if not wishes.in_vain(reclaim, mirror["metadata"], s.answered):
            return Decision(reclaim)
    if is_deleting(home) and predicates.grace_shorter(home, mirror):
        return Decision(DeleteMirror(mirror, home["metadata"].get("deletionGracePeriodSeconds")))
    over = is_terminal(mirror) or is_deleting(mirror)
    if is_terminal(home) and not is_deleting(home) and not over:
        return Decision(DeleteMirror(mirror, None))

    lives = not (over or is_terminal(home) or is_deleting(home))
    if lives and s.mirrors_in_sync and _is_overdue(s, home, mirror):
        exceeded = _exceeded(s, home, mirror, ctx=ctx)
        if exceeded.action is not None:
            # A dead connection is noticed after a minute: M can have started and ended since.
            return exceeded if s.mirror_read else _confirm_mirror_gone(s)
    add, held = ephemeral.decide(s, home, mirror, ctx=ctx) if lives else (None, ())
    if any(one.rejected for one in held):
        # Before anything else: what a rejected container refers to must not leave home.
        due = _due(s, home, mirror, ctx=ctx)
        rejected = _show(s, home, _reflected(s, home, mirror, due, ctx=ctx), held)
        if rejected.action is not None:
            return rejected
    if not is_terminal(home) and (follow := _follow(s, home)) is not None:
        return follow
    wait: Wait | None = None
    note = None
    if lives and not s.secret_failed:
        provided = pod_secret.decide(s, home, mirror, ctx=ctx)
        if isinstance(provided.action, ProvideSecret):
            return provided
        if isinstance(provided.action, Wait):
            wait = provided.action
        note = provided.note or _outdated_endpoint(mirror, ctx)
    if is_deleting(mirror) and not (is_deleting(home) or is_terminal(home) or is_finished(mirror)):
        left = _overdue_in(s, mirror)
        if left <= 0:
            return _evict(s, home, mirror, ctx=ctx)
        wait = Wait(left)
    due = _due(s, home, mirror, ctx=ctx) if lives else changes.NOTHING_DUE
    desired = _reflected(s, home, mirror, due, ctx=ctx)
    reflected = _show(s, home, desired, held)
    if reflected.action is not None:
        return reflected
    observed = constants.OBSERVED in mirror["metadata"].get("finalizers", ())
    if observed and is_finished(mirror) and not predicates.shows_more(home, desired):
        # The home status shows how M ended.
        return Decision(ReleaseMirror(mirror))
    if (change := _change(s, due, home, mirror)) is not None:
        return change
    if add is not None:
        return Decision(add)
    wait = _until_change(s, due, wait)
    if constants.VIRTUAL_NODE_ID not in mirror["metadata"].get("labels", {}):
        return Decision(wait, retry=True, note=(Reason.FOREIGN_REJECTED, _UNLABELLED))
    return Decision(wait, note=note)


def _due(s: Snapshot, home: Pod, mirror: Pod, *, ctx: Context) -> changes.Due:
    """What M lacks compared with H; both are alive."""
    selected = None if isinstance(s.access, Refused) or s.access is None else s.access.name
    return changes.due(
        home, mirror, selected=selected, ctx=ctx, now=s.now, rejected=_rejected_for_good(s)
    )


def _rejected_for_good(s: Snapshot) -> set[str]:
    return {wanted for wanted, rejection in s.rejected.items() if rejection.final}


def _reflected(
    s: Snapshot, home: Pod, mirror: Pod, due: changes.Due, *, ctx: Context
) -> status.DesiredStatus:
    """The status of M as H should show it, and whether H can be resized."""
    resize = None
    if due.resize is not None:
        resize = s.rejected.get(due.resize.wanted, conditions.UNANSWERED)
    return status.reflect(home, mirror, ctx=ctx, now=s.now, resize=resize)


def _change(s: Snapshot, due: changes.Due, home: Pod, mirror: Pod) -> Decision | None:
    """Bring changes of H to M, but for those that the foreign API server rejected for good.

    It comes last: the status never waits for a change that fails. It makes the foreign kubelet read
    files of labels and annotations again, so it follows their Secret.
    """
    not_now = _rejected_for_good(s) | s.held_back.keys()
    for write in (due.update, due.resize):
        if write is None or write.wanted in not_now:
            continue
        if write is due.update and s.secret_failed and metadata_files.contents(home):
            continue
        if not wishes.in_vain(write, mirror["metadata"], s.answered):
            return Decision(write)
    return None


def _until_change(s: Snapshot, due: changes.Due, wait: Wait | None) -> Wait | None:
    """`wait`, or less if a change that has failed is sent again sooner."""
    for write in (due.update, due.resize):
        left = None if write is None else s.held_back.get(write.wanted)
        if left is not None and (wait is None or left < wait.seconds):
            wait = Wait(left)
    return wait


def _show(
    s: Snapshot,
    home: Pod,
    desired: status.DesiredStatus,
    held: tuple[ephemeral.Held, ...],
) -> Decision:
    """Show the status of M, and why ephemeral containers are not in it."""
    desired, event = ephemeral.shown(home, desired, held)
    return Decision(_patch(s, home, desired, event))


def _overdue_in(s: Snapshot, mirror: Pod) -> float:
    """Seconds until farlet no longer expects M to end; zero and less if that time has passed.

    While the watch is not in sync M may have ended since.
    """
    ends_by = predicates.ends_by(mirror)
    if ends_by is None or not s.mirrors_in_sync:
        return OVERDUE_SECONDS
    return min(ends_by - s.now, LONGEST_WAIT_SECONDS) + OVERDUE_SECONDS


def _evict(s: Snapshot, home: Pod, mirror: Pod, *, ctx: Context) -> Decision:
    """Another user or the taint manager has deleted M, and nothing ends it: its node is lost.

    H is marked and deleted, as the taint manager does with a pod on a lost node. Its controller
    replaces it now. H stays until M is gone. A dead connection is noticed after a minute: M is read
    first.
    """
    if not s.mirror_read:
        return _confirm_mirror_gone(s)
    marked = _write(s, home, status.evicted(home, mirror, ctx=ctx, now=s.now))
    return marked if marked.action is not None else Decision(EvictHome(home))


def _outdated_endpoint(mirror: Pod, ctx: Context) -> tuple[Reason, str] | None:
    """The Event for a mirror that runs with an earlier address of the home API server."""
    configured = mirror["metadata"].get("annotations", {}).get(constants.HOME_API)
    if configured is None or ctx.endpoint is None or configured == str(ctx.endpoint):
        return None
    message = (
        f"new pods reach the home API server at {ctx.endpoint}. This pod keeps the address it was "
        "started with, since its environment and hosts file cannot be changed. Recreate it before "
        "you remove the old address"
    )
    return Reason.HOME_API_ENDPOINT_CHANGED, message


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
    """Report why H waits. `gone`: no container of H runs."""
    desired_status = status.stranded if gone else status.waiting
    desired = desired_status(
        home, reason=refused.reason, message=refused.message, ctx=ctx, now=s.now
    )
    write = _patch(s, home, desired, (refused.reason, refused.message))
    return Decision(write, retry=retry)


def _write(
    s: Snapshot,
    home: Pod,
    desired: status.DesiredStatus,
    reason: Reason | None = None,
) -> Decision:
    event = None if reason is None else (reason, str(desired.status.get("message", "")))
    return Decision(_patch(s, home, desired, event))


def _patch(
    s: Snapshot,
    home: Pod,
    desired: status.DesiredStatus,
    event: tuple[Reason, str] | None,
) -> PatchStatus | None:
    """The write that brings H there; `None` if there is none, or none that has an effect."""
    body = status.patch(home, desired)
    if body is None:
        return None
    write = PatchStatus(home, body, event)
    return None if wishes.in_vain(write, home["metadata"], s.answered) else write


def _remove(mirror: Pod) -> Decision:
    """M has no home pod any more: delete it, then remove our finalizer."""
    if predicates.grace(mirror) > ORPHAN_GRACE_SECONDS:
        return Decision(DeleteMirror(mirror, ORPHAN_GRACE_SECONDS))
    if not is_deleting(mirror):
        return Decision(DeleteMirror(mirror, None))
    if constants.OBSERVED in mirror["metadata"].get("finalizers", ()):
        return Decision(ReleaseMirror(mirror))
    return NOTHING


def _selected(s: Snapshot) -> AccessStrategy:
    """The access mode of H. Raises `Refused` if its annotations are not valid."""
    assert s.access is not None, "a snapshot with a home pod has an access mode or a refusal"
    if isinstance(s.access, Refused):
        raise Refused(s.access.reason, s.access.message)
    return s.access


def _check_account(
    name: str, label: str | None, accounts: Mapping[str, ObjectMeta], mirror: ObjectKey | None
) -> None:
    namespace = None if mirror is None else mirror.namespace
    account = accounts.get(name)
    if account is None:
        raise Refused(
            Reason.SERVICE_ACCOUNT_NOT_FOUND,
            f"the ServiceAccount {name} does not exist in the foreign namespace {namespace}. "
            "Create it there; the pod then starts automatically. Or select another one with the "
            f"annotation {constants.REMOTE_SERVICE_ACCOUNT_NAME}",
        )
    if label is not None and account.get("labels", {}).get(label) != "true":
        raise Refused(
            Reason.SERVICE_ACCOUNT_NOT_ALLOWED,
            f"the ServiceAccount {name} in the foreign namespace {namespace} lacks the label "
            f"{label}=true, which --remote-service-accounts=labelled requires. Ask an "
            f"administrator of the foreign cluster to run: kubectl label serviceaccount {name} "
            f"{label}=true --namespace {namespace}",
        )
