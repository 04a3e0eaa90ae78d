"""Carry out the plan for one home pod: snapshot, decide, perform, until nothing is left.

One pass at a time per key. Answers enter the store at once, so the next decision sees them. A
step that fails says so on a pod that has not run yet, and the key comes again after a backoff;
nothing is remembered that a restart would lose.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping

import structlog

from farlet import constants, errors, k8s_types
from farlet.access import AccessStrategy, choice
from farlet.constants import ObjectKey, Reason
from farlet.context import Context
from farlet.foreign.namespace import ForeignNamespace
from farlet.foreign.namespaces import ForeignNamespaces
from farlet.k8s_types import Pod
from farlet.names import secret_name
from farlet.planning import plan, predicates
from farlet.planning.actions import Decision, PatchStatus, ProvideSecret, RecheckAnchor, Wait
from farlet.planning.snapshot import Failure, Missing, Snapshot
from farlet.reconcile import event_recorder
from farlet.reconcile.executor import ActionExecutor
from farlet.reconcile.pass_state import PassState
from farlet.reconcile.work_queue import WorkQueue
from farlet.store import Store

STEPS = 30
"""More actions than any way through the table has; beyond it something goes round in circles."""

log = structlog.get_logger()


class Reconciler:
    """Reconciles keys; `reconcile` is what the workers of the queue call."""

    def __init__(
        self,
        *,
        store: Store,
        scopes: ForeignNamespaces,
        queue: WorkQueue[ObjectKey],
        executor: ActionExecutor,
        recorder: event_recorder.Recorder,
        strategies: Mapping[str, AccessStrategy],
        ctx: Callable[[], Context],
        home_listed: Callable[[], bool],
    ) -> None:
        self._store = store
        self._scopes = scopes
        self._queue = queue
        self._executor = executor
        self._times = executor.times
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
        state = PassState()
        for _ in range(STEPS):
            snapshot = self._snapshot(key, state)
            decision = plan.decide(snapshot, ctx=self._ctx())
            action = decision.action
            if action is None or isinstance(action, Wait):
                self._end(snapshot, decision, failed=state.secret_failed)
                return
            if isinstance(action, RecheckAnchor):
                self._recheck_anchor(key)
                continue
            try:
                await self._executor.perform(action, state)
            except errors.FarletError as err:
                await self._failed(snapshot, Failure(action, state.step, err))
                if not isinstance(action, ProvideSecret) or state.secret_failed:
                    return
                state.secret_failed = True  # what the mirror tells must not wait for its token
                continue
            if decision.retry:
                self._queue.retry(key)
                return
        log.error("reconciling went round in circles", pod=str(key))
        self._queue.retry(key, at_least=5.0)

    # --- what is known ------------------------------------------------------------------------

    def _snapshot(self, key: ObjectKey, state: PassState) -> Snapshot:
        """The facts of this moment. A pod of the same name may have replaced the one before."""
        store, ctx = self._store, self._ctx()
        home: Pod | Missing | None = store.home.get(key)
        if home is None:
            home = Missing.ABSENT if self._home_listed() else Missing.UNKNOWN
        access = None if isinstance(home, Missing) else self._access(home, ctx)
        foreign = ctx.namespaces.foreign(key.namespace)
        mirror_key = None if foreign is None else ObjectKey(foreign, key.name)
        scope = None if foreign is None else self._scope(key, foreign, home)
        if scope is None or mirror_key is None:
            return Snapshot(
                key=key,
                now=time.time(),
                home=home,
                mirror=Missing.UNKNOWN,
                mirror_key=mirror_key,
                access=access,
                namespace_open=False,
                namespace_unused=self._scopes.loaded.is_set(),
                problem=self._scopes.refused,
            )
        mirror: Pod | Missing | None = state.stranger or store.mirrors.get(mirror_key)
        if mirror is None:
            mirror = Missing.ABSENT if scope.mirrors_known else Missing.UNKNOWN
        home_gone = state.home_gone
        secret: k8s_types.ObjectMeta | Missing = Missing.UNKNOWN
        uid = ""
        if not isinstance(home, Missing):
            uid = predicates.uid(home)
            found = store.secrets.get(ObjectKey(scope.foreign, secret_name(uid)))
            if found is not None:
                secret = found["metadata"]
            elif scope.secrets_known:
                secret = Missing.ABSENT
            if isinstance(mirror, Missing):
                self._times.first_seen(uid)
        elif not isinstance(mirror, Missing):
            whose = mirror["metadata"].get("annotations", {}).get(constants.HOME_UID, "")
            home_gone = home_gone or store.home.deleted(whose)
        last = store.departed.get(mirror_key)
        if last is not None and (
            isinstance(home, Missing)
            or not predicates.is_mirror_of(home, last, virtual_node_id=ctx.virtual_node_id)
        ):
            last = None  # it ran an earlier pod of this name
        return Snapshot(
            key=key,
            now=time.time(),
            home=home,
            mirror=mirror,
            mirror_key=mirror_key,
            access=access,
            home_gone=home_gone,
            mirror_gone=state.mirror_gone,
            last=last,
            secret=secret,
            secret_failed=state.secret_failed,
            accounts=self._accounts(key, home, mirror, access, scope),
            namespace_unused=not self._scopes.known(scope.foreign),
            anchor=scope.anchor,
            anchor_age=scope.anchor_age,
            problem=scope.problem,
            ages=self._times.ages(uid),
        )

    def _access(self, home: Pod, ctx: Context) -> AccessStrategy | errors.Refused:
        try:
            return choice.choose(home, self._strategies, ctx)
        except errors.Refused as refused:
            return refused

    def _scope(self, key: ObjectKey, foreign: str, home: Pod | Missing) -> ForeignNamespace | None:
        """The foreign namespace of a key; a home pod opens it, its absence does not."""
        if isinstance(home, Missing):
            needed = self._scopes.known(foreign)
        else:
            needed = self._scopes.opened(foreign) or plan.needs_namespace(home, ctx=self._ctx())
        return self._scopes.of(key.namespace) if needed else None

    def _accounts(
        self,
        key: ObjectKey,
        home: Pod | Missing,
        mirror: Pod | Missing,
        access: AccessStrategy | errors.Refused | None,
        scope: ForeignNamespace,
    ) -> Mapping[str, k8s_types.ObjectMeta] | Missing:
        """Only a pod that waits for an account makes us watch them."""
        if isinstance(home, Missing) or not isinstance(mirror, Missing):
            scope.asks_no_more(key)
            return Missing.UNKNOWN
        if access is None or isinstance(access, errors.Refused):
            return Missing.UNKNOWN
        try:
            required = access.requirements(home, self._ctx())
        except errors.Refused:
            return Missing.UNKNOWN
        accounts = scope.accounts(key) if required else None
        return Missing.UNKNOWN if accounts is None else accounts

    # --- afterwards ---------------------------------------------------------------------------

    def _recheck_anchor(self, key: ObjectKey) -> None:
        scope = self._scopes.of(key.namespace)
        if scope is not None:
            scope.doubt()

    def _end(self, s: Snapshot, decision: Decision, *, failed: bool) -> None:
        """Nothing is left to do now."""
        wait = decision.action if isinstance(decision.action, Wait) else None
        if wait is not None and wait.unreported:
            self._queue.add_after(s.key, wait.seconds)
            return
        self._note(s, decision)
        self._times.reconciled(s.key)
        if failed:
            return  # it comes again after its backoff
        if decision.retry:
            self._queue.retry(s.key)
            return
        self._queue.forget(s.key)
        if wait is not None:
            self._queue.add_after(s.key, wait.seconds)

    async def _failed(self, s: Snapshot, failure: Failure) -> None:
        """Come again later, and report why where the plan says so."""
        uid = "" if isinstance(s.home, Missing) else predicates.uid(s.home)
        s = dataclasses.replace(s, ages=self._times.ages(uid), failure=failure)
        decision = plan.decide(s, ctx=self._ctx())
        seconds = decision.action.seconds if isinstance(decision.action, Wait) else 0.0
        if decision.retry:
            seconds = self._queue.retry(s.key, at_least=seconds)
            self._log_failure(s.key, failure, retry_in=seconds)
        else:
            self._queue.add_after(s.key, seconds)
        self._note(s, decision)
        if isinstance(decision.action, PatchStatus):
            try:
                await self._executor.home.patch_status(decision.action)
            except errors.FarletError as second:
                log.info("reason was not told", pod=str(s.key), err=str(second))

    def _log_failure(self, key: ObjectKey, failure: Failure, *, retry_in: float) -> None:
        err = failure.error
        if isinstance(err, errors.Throttled):
            log.info("API server asked to wait", pod=str(key), err=str(err), retry_in=retry_in)
            return
        # A lost race: the watch will tell, or has told already.
        raced = isinstance(err, errors.Conflict | errors.NotFound) and err.cluster == "home"
        (log.info if raced else log.warning)(
            "reconciling failed",
            pod=str(key),
            step=failure.step.name.lower(),
            err=str(err),
            retry_in=retry_in,
        )

    def _note(self, s: Snapshot, decision: Decision) -> None:
        if decision.note is not None and not isinstance(s.home, Missing):
            self._recorder.note(s.home, *decision.note)
