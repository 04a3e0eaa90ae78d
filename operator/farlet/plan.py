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

from farlet import rotation, vocabulary
from farlet.access import AccessStrategy, Token, choice
from farlet.context import Context
from farlet.errors import Refused
from farlet.forge import pod as pods
from farlet.forge import status
from farlet.snapshot import (
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
from farlet.vocabulary import ObjectMeta, OwnerReference, Pod, Reason, Secret


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
    if not is_mirror_of(home, mirror, owner=ctx.owner):
        return _name_taken(s, home, mirror, ctx=ctx)
    return _with_mirror(s, home, mirror, ctx=ctx, strategies=strategies)


def is_ours(mirror: Pod, *, owner: str) -> bool:
    """It carries our label and names a home pod: made by this node, for some uid."""
    metadata = mirror["metadata"]
    return metadata.get("labels", {}).get(
        vocabulary.OWNER
    ) == owner and vocabulary.HOME_UID in metadata.get("annotations", {})


def is_mirror_of(home: Pod, mirror: Pod, *, owner: str) -> bool:
    """This mirror runs this very home pod.

    What home says (condition `Mirrored`) wins over what anybody may write abroad.
    """
    confirmed = status.mirrored_uid(home)
    if confirmed is not None and confirmed == mirror["metadata"].get("uid"):
        return True
    annotations = mirror["metadata"].get("annotations", {})
    return is_ours(mirror, owner=owner) and (
        annotations[vocabulary.HOME_UID] == home["metadata"].get("uid")
    )


# --- rows ------------------------------------------------------------------------------------


def _orphaned(s: Snapshot, mirror: Pod | Missing, *, ctx: Context) -> Decision:
    """H is absent."""
    if isinstance(mirror, Missing) or not is_ours(mirror, owner=ctx.owner):
        return NOTHING
    if not s.home_gone:
        return Decision(ConfirmHomeGone())
    return _remove(mirror, grace=None)


def _name_taken(s: Snapshot, home: Pod, mirror: Pod, *, ctx: Context) -> Decision:
    """M's name belongs to an earlier uid of ours, or to a stranger."""
    if is_ours(mirror, owner=ctx.owner):
        return _remove(mirror, grace=None)
    if _deleting(home) or _terminal(home):
        return _without_mirror(_gone(s), home, ctx=ctx, strategies={})
    if (status.mirrored_uid(home) or s.last) and not _runs_again(home, s.last):
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
    if _deleting(home):
        return _deleted(s, home, ctx=ctx, mirrored=mirrored)
    if _terminal(home):
        return NOTHING
    if s.mirror is Missing.UNKNOWN:
        return _blind(s, home, ctx=ctx, strategies=strategies, mirrored=mirrored)
    if not mirrored:
        return _create(s, home, ctx=ctx, strategies=strategies, restarts={})
    if s.last is not None:
        seen = _write(home, status.reflect(home, s.last, ctx=ctx, now=s.now))
        if seen.action is not None:
            return seen
    if not s.mirror_gone:
        return Decision(ConfirmMirrorGone())
    if not _runs_again(home, s.last):
        return _write(home, status.lost(home, ctx=ctx, now=s.now), Reason.MIRROR_LOST)
    return _create(s, home, ctx=ctx, strategies=strategies, restarts=_restarts(home))


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
    return Decision(DeleteHome(_uid(home)))


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
        claims = strategy.claims(home, ctx)
    except Refused as refused:
        return _wait(s, home, refused, ctx=ctx, gone=True)
    notices = tuple(f"{c.path} {c.what}: {c.why}" for c in forged.changes if not c.routine)
    return Decision(CreateMirror(forged.pod, strategy, claims, notices, forged.unknown_fields))


def _with_mirror(
    s: Snapshot,
    home: Pod,
    mirror: Pod,
    *,
    ctx: Context,
    strategies: Mapping[str, AccessStrategy],
) -> Decision:
    """M is H's own."""
    if not is_ours(mirror, owner=ctx.owner):
        whose = {
            vocabulary.HOME_NAMESPACE: s.key.namespace,
            vocabulary.HOME_NAME: s.key.name,
            vocabulary.HOME_UID: _uid(home),
        }
        return Decision(ReclaimMirror(_uid(mirror), {vocabulary.OWNER: ctx.owner}, whose))
    if _deleting(home) and _grace_shorter(home, mirror):
        return Decision(
            DeleteMirror(_uid(mirror), home["metadata"].get("deletionGracePeriodSeconds"))
        )
    if not _deleting(home) and _terminal(home) and not _terminal(mirror) and not _deleting(mirror):
        return Decision(DeleteMirror(_uid(mirror), None))

    again_at = None
    if not any(_terminal(p) or _deleting(p) for p in (home, mirror)):
        provided = _secret(s, home, mirror, ctx=ctx, strategies=strategies)
        if provided.action is not None:
            return provided
        again_at = provided.again_at
    reflected = _write(home, status.reflect(home, mirror, ctx=ctx, now=s.now))
    if reflected.action is not None:
        return reflected
    if vocabulary.OBSERVED in mirror["metadata"].get("finalizers", ()) and _finished(mirror):
        # Home tells by now how it ended.
        return Decision(ReleaseMirror(mirror))
    return Decision(again_at=again_at)


def _secret(
    s: Snapshot,
    home: Pod,
    mirror: Pod,
    *,
    ctx: Context,
    strategies: Mapping[str, AccessStrategy],
) -> Decision:
    """The Secret beside M: there, M's own, its tokens fresh."""
    strategy = strategies.get(mirror["metadata"].get("annotations", {}).get(vocabulary.ACCESS, ""))
    try:
        chosen = choice.choose(home, strategies, ctx)
        if strategy is None or chosen.name != strategy.name:
            # The owner has changed the annotation since: a running pod keeps what it has, and
            # what anybody writes abroad never fetches a home token.
            return NOTHING
        claims = strategy.claims(home, ctx)
        secret = s.secret
        if secret is Missing.UNKNOWN:
            return NOTHING
        owner = mirror_reference(mirror)
        if isinstance(secret, Missing) or not _owned_by(secret, _uid(mirror)):
            if strategy.objects(home, {}, ctx, owner):
                return Decision(
                    ProvideSecret(strategy, claims, exists=secret is not Missing.ABSENT)
                )
            return NOTHING
    except Refused:
        # It was allowed when M was made; what runs keeps what it has, and gets no new token.
        return NOTHING
    due = rotation.due(claims, mirror, uid=_uid(home), now=s.now)
    if due.claims:
        return Decision(ProvideSecret(strategy, due.claims, exists=True, overdue=due.overdue))
    return Decision(again_at=due.again_at)


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
    if isinstance(s.home, Missing) or _terminal(s.home) or _deleting(s.home):
        return None
    action = _wait(s, s.home, refused, ctx=ctx).action
    return action if isinstance(action, PatchStatus) else None


def _write(home: Pod, wanted: status.Wanted, reason: Reason | None = None) -> Decision:
    body = status.patch(home, wanted)
    if body is None:
        return NOTHING
    event = None if reason is None else (reason, str(wanted.status.get("message", "")))
    return Decision(PatchStatus(body, event))


def _remove(mirror: Pod, *, grace: int | None) -> Decision:
    """M has no home pod any more: end it, and let it go."""
    if not _deleting(mirror):
        return Decision(DeleteMirror(_uid(mirror), grace))
    if vocabulary.OBSERVED in mirror["metadata"].get("finalizers", ()):
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
            f"{vocabulary.REMOTE_SERVICE_ACCOUNT_NAME}",
        )
    if label is not None and account.get("labels", {}).get(label) != "true":
        raise Refused(
            Reason.SERVICE_ACCOUNT_NOT_ALLOWED,
            f"the ServiceAccount {name} in the foreign namespace {namespace} lacks the label "
            f"{label}=true, and --remote-service-accounts=labelled asks for it",
        )


def _runs_again(home: Pod, last: Pod | None) -> bool:
    """Whether a pod whose mirror is lost may get another: at most one run for Never."""
    policy = _policy(home)
    if policy == "OnFailure":
        return not status.ran_to_success(home) and not (
            last is not None and status.ran_to_success(last)
        )
    return policy != "Never"


def _finished(mirror: Pod) -> bool:
    """No container of M runs, and none will."""
    if _terminal(mirror):
        return True
    if not _deleting(mirror):
        return False
    if mirror["metadata"].get("deletionGracePeriodSeconds") == 0:
        # Its kubelet says so when its containers are gone; so does whoever forces a deletion.
        return True
    if not mirror.get("spec", {}).get("nodeName"):
        return True
    current = mirror.get("status", {})
    states = [
        s.get("state", {})
        for kind in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
        for s in current.get(kind, ())  # type: ignore[attr-defined]
    ]
    return (
        bool(current.get("containerStatuses"))
        and not any("running" in s for s in states)
        and any("terminated" in s for s in states)
    )


def _restarts(home: Pod) -> dict[str, int]:
    """Restart counts that a new mirror starts from: each container that ran starts once more."""
    current = home.get("status", {})
    return {
        c["name"]: c.get("restartCount", 0) + (1 if "waiting" not in c.get("state", {}) else 0)
        for kind in ("containerStatuses", "initContainerStatuses")
        for c in current.get(kind, ())  # type: ignore[attr-defined]
    }


def _grace_shorter(home: Pod, mirror: Pod) -> bool:
    """M is not being deleted yet, or is given more time than H has left."""
    if not _deleting(mirror):
        return True
    left = home["metadata"].get("deletionGracePeriodSeconds")
    given = mirror["metadata"].get("deletionGracePeriodSeconds")
    return left is not None and given is not None and left < given


def _owned_by(secret: ObjectMeta, uid: str) -> bool:
    return any(o.get("uid") == uid for o in secret.get("ownerReferences", ()))


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


def mirror_reference(mirror: Pod) -> OwnerReference:
    """Owner of what stands beside M, so that the foreign garbage collector takes it with M."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": mirror["metadata"]["name"],
        "uid": _uid(mirror),
    }


def secret_of(
    action: CreateMirror | ProvideSecret,
    home: Pod,
    mirror: Pod,
    tokens: Mapping[str, Token],
    *,
    ctx: Context,
) -> tuple[Secret, ...]:
    """The objects beside M that an action writes."""
    return action.strategy.objects(home, tokens, ctx, mirror_reference(mirror))


def _uid(pod: Pod) -> str:
    return pod["metadata"].get("uid", "")


def _deleting(pod: Pod) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def _terminal(pod: Pod) -> bool:
    return status.is_terminal(pod)


def _policy(pod: Pod) -> str:
    return pod.get("spec", {}).get("restartPolicy", "Always")
