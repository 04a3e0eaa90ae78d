"""Carry out the plan for one home pod: snapshot, decide, perform, until nothing is left.

One pass at a time per key. Answers enter the store at once, so the next decision sees them. A
step that fails says so on a pod that has not run yet, and the key comes again after a backoff;
nothing is remembered that a restart would lose.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import structlog

from farlet import constants, errors, k8s_types
from farlet.access import AccessStrategy, Token, choice
from farlet.constants import ObjectKey, Reason
from farlet.context import Context
from farlet.foreign.namespace import ForeignNamespace
from farlet.foreign.namespaces import ForeignNamespaces
from farlet.forge import guards, status
from farlet.k8s_types import Pod
from farlet.names import secret_name
from farlet.planning import api_refusals, plan, predicates
from farlet.planning import snapshot as do
from farlet.planning.snapshot import Missing, Snapshot
from farlet.reconcile import event_recorder
from farlet.reconcile.executor import ActionExecutor
from farlet.reconcile.pass_state import PassState
from farlet.reconcile.work_queue import WorkQueue
from farlet.store import Store

STEPS = 30
"""More actions than any way through the table has; beyond it something goes round in circles."""

LAG_SECONDS = 10.0
LAG_RETRY_SECONDS = 0.1
"""For a pod bound less than so long ago, home's caches may not know it yet."""

FIRST_STATUS_SECONDS = 2.0
"""A new mirror is scheduled before a kubelet says anything of its containers: home is not told of
that step in this time, since it would be a request and a watch event for everybody at home."""

RETELL_SECONDS = 60.0
"""While a reason stands, its message is not written more often."""

_NOWHERE = (
    "the pod has run abroad and its namespace is offloaded no longer, so farlet cannot see whether "
    "its mirror is gone. Offload the namespace again (--namespace-map), or remove the pod with "
    "kubectl delete --force if you know that nothing of it runs"
)

log = structlog.get_logger()


class Reconciler:
    """Reconciles keys; `reconcile` is what the workers of the queue call."""

    def __init__(
        self,
        *,
        store: Store,
        scopes: ForeignNamespaces,
        queue: WorkQueue[ObjectKey],
        performer: ActionExecutor,
        recorder: event_recorder.Recorder,
        strategies: Mapping[str, AccessStrategy],
        ctx: Callable[[], Context],
        home_listed: Callable[[], bool],
    ) -> None:
        self._store = store
        self._scopes = scopes
        self._queue = queue
        self._performer = performer
        self._moments = performer.moments
        self._recorder = recorder
        self._strategies = strategies
        self._ctx = ctx
        self._home_listed = home_listed

    async def work(self, key: ObjectKey) -> None:
        """`reconcile`, and a bug met by one pod stays with that pod. Raises only cancellation."""
        try:
            await self.reconcile(key)
        except Exception as err:
            # As controller-runtime recovers from panics: every other pod goes on.
            log.exception("reconciling met a bug", pod=str(key))
            home = self._store.home.get(key)
            if home is not None:
                text = f"farlet met a bug and will try again: {type(err).__name__}. See its log"
                self._recorder.note(home, Reason.INTERNAL_ERROR, text)
            self._queue.retry(key, at_least=5.0)

    async def reconcile(self, key: ObjectKey) -> None:
        """Bring both sides of one key together. Raises nothing but cancellation and bugs."""
        known = PassState()
        for _ in range(STEPS):
            known.step = ""
            snapshot = self._snapshot(key, known)
            decision = plan.decide(snapshot, ctx=self._ctx(), strategies=self._strategies)
            if decision.action is not None and self._repeats(snapshot, decision.action):
                self._queue.add_after(key, RETELL_SECONDS)
                decision = do.Decision(again_at=decision.again_at, retry=decision.retry)
            if decision.action is None:
                if decision.note is not None and not isinstance(snapshot.home, Missing):
                    self._recorder.note(snapshot.home, *decision.note)
                self._settled(key, decision, failed=known.secret_failed)
                return
            if isinstance(decision.action, do.PatchStatus) and (more := self._more_in(snapshot)):
                self._queue.add_after(key, more)
                return
            try:
                await self._performer.perform(snapshot, decision.action, known)
            except errors.FarletError as err:
                await self._failed(snapshot, known.step, err)
                if not isinstance(decision.action, do.ProvideSecret) or known.secret_failed:
                    return
                known.secret_failed = True  # what the mirror tells must not wait for its token
                continue
            if isinstance(decision.action, do.ConfirmMirrorGone) and known.mirror_gone:
                self._look_for_cause(snapshot)
            if decision.retry:
                self._queue.retry(key)
                return
        log.error("reconciling went round in circles", pod=str(key))
        self._queue.retry(key, at_least=5.0)

    def _more_in(self, s: Snapshot) -> float:
        """Seconds in which a mirror just made is to tell more: one status for all of it."""
        if isinstance(s.home, Missing) or isinstance(s.mirror, Missing):
            return 0.0
        shown = s.mirror.get("status", {})
        if shown.get("phase", "Pending") != "Pending" or "containerStatuses" in shown:
            return 0.0
        return max(0.0, FIRST_STATUS_SECONDS - self._moments.made(predicates.uid(s.home)))

    # --- what is known ------------------------------------------------------------------------

    def _snapshot(self, key: ObjectKey, known: PassState) -> Snapshot:
        store = self._store
        home: Pod | Missing | None = store.home.get(key)
        if home is None:
            home = Missing.ABSENT if self._home_listed() else Missing.UNKNOWN
        scope = self._scope(key, home)
        if scope is None:
            return self._unscoped(key, home)
        foreign = ObjectKey(scope.foreign, key.name)
        mirror: Pod | Missing | None = known.stranger or store.mirrors.get(foreign)
        if mirror is None:
            mirror = Missing.ABSENT if scope.mirrors_in_sync else Missing.UNKNOWN
        home_gone = known.home_gone
        secret: k8s_types.ObjectMeta | Missing = Missing.UNKNOWN
        held: Mapping[str, Token] | None = None
        if not isinstance(home, Missing):
            uid = home["metadata"]["uid"]
            found = store.secrets.get(ObjectKey(scope.foreign, secret_name(uid)))
            if found is not None:
                secret = found["metadata"]
            elif scope.secrets_in_sync:
                secret = Missing.ABSENT
            held = store.tokens.get(uid)
            if isinstance(mirror, Missing):
                self._moments.first_seen(uid)
            elif "deletionTimestamp" in mirror["metadata"] and not (
                predicates.is_terminal(home) or predicates.is_deleting(home)
            ):
                # Something deletes mirrors that home wants: the anchor may be gone, too.
                scope.recheck_anchor()
        elif not isinstance(mirror, Missing):
            whose = mirror["metadata"].get("annotations", {}).get(constants.HOME_UID, "")
            home_gone = home_gone or store.home.deleted(whose)
        last = store.departed.get(foreign)
        if last is not None and (
            isinstance(home, Missing)
            or not predicates.is_mirror_of(home, last, virtual_node_id=self._ctx().virtual_node_id)
        ):
            last = None  # it ran an earlier pod of this name
        return Snapshot(
            key=key,
            now=time.time(),
            home=home,
            mirror=mirror,
            home_gone=home_gone,
            mirror_gone=known.mirror_gone
            or (not self._scopes.may_hold_mirrors(scope.foreign) and not _was_mirrored(home)),
            last=last,
            secret=secret,
            secret_failed=known.secret_failed,
            accounts=self._accounts(key, home, mirror, scope),
            tokens=held,
            anchor=scope.anchor,
            problem=scope.problem,
        )

    def _scope(self, key: ObjectKey, home: Pod | Missing) -> ForeignNamespace | None:
        """The foreign namespace of a key; a home pod opens it, its absence does not."""
        foreign = self._ctx().namespaces.foreign(key.namespace)
        if foreign is None:
            return None
        if isinstance(home, Missing):
            needed = self._scopes.may_hold_mirrors(foreign)
        else:
            needed = self._scopes.is_open(foreign) or _may_run(home, self._ctx())
        return self._scopes.of(key.namespace) if needed else None

    def _unscoped(self, key: ObjectKey, home: Pod | Missing) -> Snapshot:
        """No namespace is allowed, or none of ours ever was there: no mirror can exist.

        Unless home itself says that there was one, or the registry has not been read yet.
        """
        certain = self._scopes.loaded.is_set() and not _was_mirrored(home)
        if not (certain or isinstance(home, Missing)) and predicates.is_deleting(home):
            # There is no namespace to look in, so nobody can say whether something of it runs.
            if self._scopes.loaded.is_set():
                self._recorder.note(home, Reason.NAMESPACE_NOT_OFFLOADED, _NOWHERE)
            home = Missing.UNKNOWN
        return Snapshot(
            key=key,
            now=time.time(),
            home=home,
            mirror=Missing.ABSENT if certain else Missing.UNKNOWN,
            mirror_gone=certain,
            problem=self._scopes.refused,
        )

    def _accounts(
        self, key: ObjectKey, home: Pod | Missing, mirror: Pod | Missing, scope: ForeignNamespace
    ) -> Mapping[str, k8s_types.ObjectMeta] | Missing:
        """Only a pod that waits for an account makes us watch them."""
        if isinstance(home, Missing) or not isinstance(mirror, Missing):
            scope.forget_waiting(key)
            return Missing.UNKNOWN
        try:
            wanted = choice.choose(home, self._strategies, self._ctx()).requirements(
                home, self._ctx()
            )
        except errors.Refused:
            return Missing.UNKNOWN
        accounts = scope.accounts(key) if wanted else None
        return Missing.UNKNOWN if accounts is None else accounts

    def _look_for_cause(self, s: Snapshot) -> None:
        """A mirror is lost that home still wants: perhaps its namespace or its anchor is."""
        if isinstance(s.home, Missing) or "deletionTimestamp" in s.home["metadata"]:
            return
        scope = self._scopes.of(s.key.namespace)
        if scope is not None:
            scope.recheck_anchor()

    # --- afterwards ---------------------------------------------------------------------------

    def _repeats(self, s: Snapshot, action: do.Action) -> bool:
        """The reason shows already and only the words of its message differ: not every second."""
        if (
            not isinstance(action, do.PatchStatus)
            or action.event is None
            or isinstance(s.home, Missing)
            or s.home.get("status", {}).get("reason") != action.event[0]
        ):
            return False
        return self._moments.told_within(predicates.uid(s.home), RETELL_SECONDS)

    def _settled(self, key: ObjectKey, decision: do.Decision, *, failed: bool) -> None:
        self._moments.settled(key)
        if failed:
            return  # it comes again after its backoff
        if decision.retry:
            self._queue.retry(key)
            return
        self._queue.forget(key)
        if decision.again_at is not None:
            self._queue.add_after(key, decision.again_at - time.time())

    async def _failed(self, s: Snapshot, step: str, err: errors.FarletError) -> None:
        uid = "" if isinstance(s.home, Missing) else s.home["metadata"]["uid"]
        if api_refusals.lags(err, name=s.key.name) and self._moments.waited(uid) < LAG_SECONDS:
            self._queue.add_after(s.key, LAG_RETRY_SECONDS)
            return
        if isinstance(err, errors.Throttled):
            seconds = self._queue.retry(s.key, at_least=err.retry_after)
            log.info("API server asked to wait", pod=str(s.key), err=str(err), retry_in=seconds)
            return
        seconds = self._queue.retry(s.key)
        # A lost race: the watch will tell, or has told already.
        raced = isinstance(err, errors.Conflict | errors.NotFound) and err.cluster == "home"
        (log.info if raced else log.warning)(
            "reconciling failed", pod=str(s.key), step=step, err=str(err), retry_in=seconds
        )
        refused = api_refusals.of(err, what=step)
        if refused is None or isinstance(s.home, Missing):
            return
        if not isinstance(s.mirror, Missing) or predicates.is_deleting(s.home):
            # Its status tells of the mirror, and of its end; this is told beside it.
            self._recorder.note(s.home, refused.reason, refused.message)
            return
        told = plan.waiting(s, refused, ctx=self._ctx())
        if told is not None and not self._repeats(s, told):
            try:
                await self._performer.at_home.patch_status(s, told)
            except errors.FarletError as second:
                log.info("reason was not told", pod=str(s.key), err=str(second))


def _may_run(home: Pod, ctx: Context) -> bool:
    """It has a use for its foreign namespace: kube-system abroad is not asked for on behalf of
    DaemonSet pods that never go there.
    """
    try:
        guards.check_controller(home, ctx)
    except errors.Refused:
        return _was_mirrored(home)
    return True


def _was_mirrored(home: Pod | Missing) -> bool:
    return not isinstance(home, Missing) and status.mirrored_uid(home) is not None
