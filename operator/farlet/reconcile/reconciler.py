"""Carry out the plan for one home pod: snapshot, decide, perform, until nothing is left to do.

One pass at a time per key. Answers enter the store at once, so that the next decision includes
them. This module reads facts and carries out decisions; all policy is in `plan`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import structlog

from farlet import constants, errors, k8s_types
from farlet.access import AccessStrategy, choice
from farlet.constants import ObjectKey, Reason
from farlet.context import Context
from farlet.foreign.namespace import ForeignNamespace
from farlet.foreign.namespaces import ForeignNamespaces
from farlet.k8s_types import Pod
from farlet.names import secret_name
from farlet.planning import api_refusals, ephemeral, plan, predicates, urgency
from farlet.planning.actions import (
    AddEphemeralContainer,
    CreateMirror,
    CreateNamespace,
    Decision,
    FollowSources,
    PatchStatus,
    RecheckAnchor,
    ResizeMirror,
    UpdateMirror,
    Wait,
)
from farlet.planning.snapshot import ClaimState, Failure, Missing, Snapshot
from farlet.reconcile import event_recorder
from farlet.reconcile.copies import Copies
from farlet.reconcile.executor import ActionExecutor
from farlet.reconcile.pass_state import PassState
from farlet.reconcile.work_queue import WorkQueue
from farlet.store import Store

STEPS = 30
"""No row of the table needs as many actions; more of them are a bug."""
ENDLESS_SECONDS = 60.0
"""Until the next pass after such a bug: it must not load the API servers."""

_WISHES = ("uid", "deletionTimestamp", "generation", "labels", "annotations")

log = structlog.get_logger()


ClaimStates = Callable[[ObjectKey, Pod | Missing], Mapping[str, ClaimState]]
"""What the claims of a pod without a mirror mean to it; `Missing`: it has one, or is not known."""


class UsedNamespace(NamedTuple):
    """A home namespace with pods on the node, and its foreign namespace; empty: it has none."""

    home: str
    foreign: str
    problem: errors.Refused | None
    """Why its pods wait. They do not show it if farlet is not allowed to write their status."""


def no_claims(_key: ObjectKey, _home: Pod | Missing) -> Mapping[str, ClaimState]:
    """Without `--storage-class-map`, mirrors name the claims that their pods name."""
    return {}


def urgency_of(store: Store, ctx: Callable[[], Context]) -> Callable[[ObjectKey], urgency.Urgency]:
    """The class of a key for the work queue, by what the store knows at this moment."""

    def of(key: ObjectKey) -> urgency.Urgency:
        foreign = ctx().namespaces.foreign(key.namespace)
        home = store.home.note(key)
        mirror = None if foreign is None else store.mirrors.note(ObjectKey(foreign, key.name))
        if home is None or foreign is None or mirror is None:
            return urgency.of_pod(
                home_phase=None if home is None else home.phase,
                mirror_phase=None,
                deleting=home is not None and home.deleting,
            )
        return urgency.of_pod(
            home_phase=home.phase,
            mirror_phase=mirror.phase,
            deleting=home.deleting or mirror.deleting,
            secret_missing=mirror.tokens is not None
            and ObjectKey(foreign, secret_name(store.home.uid(key) or "")) not in store.secrets,
        )

    return of


class Reconciler:
    """Reconciles keys; the workers of the queue call `work`."""

    def __init__(
        self,
        *,
        store: Store,
        namespaces: ForeignNamespaces,
        queue: WorkQueue[ObjectKey],
        executor: ActionExecutor,
        copies: Copies,
        recorder: event_recorder.Recorder,
        strategies: Mapping[str, AccessStrategy],
        ctx: Callable[[], Context],
        home_listed: Callable[[], bool],
        claims: ClaimStates = no_claims,
    ) -> None:
        self._store = store
        self._namespaces = namespaces
        self._queue = queue
        self._executor = executor
        self._copies = copies
        self._claims = claims
        self._times = executor.times
        self._recorder = recorder
        self._strategies = strategies
        self._ctx = ctx
        self._home_listed = home_listed
        self._failing: dict[ObjectKey, object] = {}
        """The last failure of each pod that is retried: what is repeated is not logged again."""
        self._denied: dict[str, errors.Refused] = {}
        """Home namespaces in which farlet could not write the last status of a pod, and why."""

    async def work(self, key: ObjectKey) -> None:
        """`reconcile`; an internal error affects only this pod. Raises only cancellation."""
        try:
            await self.reconcile(key)
        except Exception as err:
            # As controller-runtime recovers from panics: all other pods are still reconciled.
            log.exception("reconcile failed with an internal error", pod=str(key))
            home = self._store.home.get(key)
            if home is not None:
                text = f"internal error ({type(err).__name__}); retrying. See the farlet log"
                self._recorder.note(home, Reason.INTERNAL_ERROR, text)
            self._queue.retry(key, at_least=5.0)

    async def reconcile(self, key: ObjectKey) -> None:
        """Perform what `plan` decides until nothing is left. Raises only cancellation and bugs."""
        state = PassState(key)
        for _ in range(STEPS):
            if state.rests_on_store:
                self._queue.facts_read(key)
            snapshot = self._snapshot(key, state)
            decision = plan.decide(snapshot, ctx=self._ctx())
            action = decision.action
            if action is None or isinstance(action, Wait):
                self._end(snapshot, decision, failed=state.failed)
                return
            if isinstance(action, RecheckAnchor):
                self._recheck_anchor(key)
                continue
            if isinstance(action, CreateNamespace):
                self._create_namespace(key)
                continue
            if isinstance(action, FollowSources):
                self._copies.follow(key, action.sources)
                continue
            try:
                await self._executor.perform(action, state)
            except errors.FarletError as err:
                await self._failed(snapshot, Failure(action, state.step, err))
                if not state.continues_without(action):
                    return
                continue
            if isinstance(action, PatchStatus):
                self._denied.pop(key.namespace, None)
            if decision.retry:
                self._queue.retry(key)
                self._take_up_changes(snapshot)
                return
            if isinstance(action, AddEphemeralContainer):
                # A pod can have hundreds of them: one in each pass, and others have their turn.
                self._queue.add(key)
                return
        log.error("reconcile exceeded its step limit", pod=str(key), steps=STEPS)
        self._queue.retry(key, at_least=ENDLESS_SECONDS)

    def used_namespaces(self) -> list[UsedNamespace]:
        """All that are open, and those in which farlet cannot report on its pods."""
        home_pods, mapped = self._store.home, self._ctx().namespaces
        denied = {home: why for home, why in self._denied.items() if home_pods.keys(home)}
        used = [
            UsedNamespace(one.home, one.foreign, one.problem or denied.pop(one.home, None))
            for one in self._namespaces.opened()
        ]
        return used + [
            UsedNamespace(home, mapped.foreign(home) or "", why)
            for home, why in sorted(denied.items())
        ]

    # --- facts --------------------------------------------------------------------------------

    def _snapshot(self, key: ObjectKey, state: PassState) -> Snapshot:
        """The facts of this moment.

        Taken anew for each decision: within a pass, a pod of the same name can replace the home
        pod. So access mode and foreign namespace are determined here, once for each decision.
        """
        store, ctx = self._store, self._ctx()
        home: Pod | Missing | None = store.home.get(key)
        if store.home.doubted(key):
            home = Missing.UNKNOWN
        if home is None:
            home = Missing.of(in_sync=self._home_listed())
        uid = "" if isinstance(home, Missing) else predicates.uid(home)
        access = None if isinstance(home, Missing) else self._access(home, ctx)
        foreign = ctx.namespaces.foreign(key.namespace)
        mirror_key = None if foreign is None else ObjectKey(foreign, key.name)
        namespace = None if foreign is None else self._namespace(key, foreign, home)
        if namespace is None or mirror_key is None:
            self._copies.states(key, home, waits=False)
            self._claims(key, Missing.UNKNOWN)
            return Snapshot(
                key=key,
                now=time.time(),
                home=home,
                mirror=Missing.UNKNOWN,
                mirror_key=mirror_key,
                access=access,
                namespace_open=False,
                namespace_unused=self._namespaces.loaded.is_set(),
                foreign_confirmed=self._namespaces.identity.confirmed,
                problem=self._namespaces.refused or self._namespaces.conflict(key.namespace),
                ages=self._times.ages(uid),
                answered=self._times.answered(uid),
                recent_statuses=self._times.recent_statuses(uid),
            )
        mirror: Pod | Missing | None = state.unrelated or store.mirrors.get(mirror_key)
        if state.unrelated is None and store.mirrors.doubted(mirror_key):
            mirror = Missing.UNKNOWN
        if mirror is None:
            mirror = Missing.of(in_sync=namespace.mirrors_in_sync)
        home_gone = state.home_gone
        secret: k8s_types.ObjectMeta | Missing = Missing.UNKNOWN
        if not isinstance(home, Missing):
            secret_key = ObjectKey(namespace.foreign, secret_name(uid))
            found = store.secrets.get(secret_key)
            if store.secrets.doubted(secret_key):
                secret = Missing.UNKNOWN
            elif found is not None:
                secret = found["metadata"]
            elif namespace.secrets_in_sync:
                secret = Missing.ABSENT
            if isinstance(mirror, Missing):
                self._times.first_seen(uid)
        elif not isinstance(mirror, Missing):
            whose = mirror["metadata"].get("annotations", {}).get(constants.HOME_UID, "")
            home_gone = home_gone or store.home.deleted(whose)
        departure = store.departed.get(mirror_key)
        if departure is not None and (
            isinstance(home, Missing)
            or not predicates.is_mirror_of(
                home, departure.last, virtual_node_id=ctx.virtual_node_id
            )
        ):
            departure = None  # of a mirror of an earlier pod of this name
        return Snapshot(
            key=key,
            now=time.time(),
            home=home,
            mirror=mirror,
            mirror_key=mirror_key,
            access=access,
            home_gone=home_gone,
            mirrors_in_sync=namespace.mirrors_in_sync,
            mirror_gone=state.mirror_gone,
            mirror_read=state.mirror_read,
            departure=departure,
            secret=secret,
            secret_failed=state.secret_failed,
            accounts=self._accounts(key, home, mirror, access, namespace),
            copies=self._copies.states(key, home, waits=_waits(home, mirror)),
            claims=self._claims(key, home if isinstance(mirror, Missing) else Missing.UNKNOWN),
            namespace_unused=not self._namespaces.may_hold_mirrors(namespace.foreign),
            foreign_confirmed=self._namespaces.identity.confirmed,
            anchor=namespace.anchor,
            anchor_doubted=namespace.anchor_doubted,
            namespace_missing=namespace.missing,
            services_ready=namespace.services is None or namespace.services.ready,
            services_problem=None if namespace.services is None else namespace.services.problem,
            problem=namespace.problem,
            ages=self._times.ages(uid),
            creations=self._times.creations(uid),
            delivered=self._times.delivered(uid),
            answered=self._times.answered(uid),
            recent_statuses=self._times.recent_statuses(uid),
            rejected={} if isinstance(home, Missing) else self._times.rejected(home),
            held_back={} if isinstance(home, Missing) else self._times.held_back(home),
        )

    def _access(self, home: Pod, ctx: Context) -> AccessStrategy | errors.Refused:
        try:
            return choice.choose(home, self._strategies, ctx)
        except errors.Refused as refused:
            return refused

    def _namespace(
        self, key: ObjectKey, foreign: str, home: Pod | Missing
    ) -> ForeignNamespace | None:
        """The foreign namespace of a key. A home pod that needs it opens it."""
        if isinstance(home, Missing):
            needed = self._namespaces.may_hold_mirrors(foreign)
        else:
            needed = self._namespaces.is_open(foreign) or plan.needs_namespace(
                home, ctx=self._ctx()
            )
        return self._namespaces.of(key.namespace) if needed else None

    def _accounts(
        self,
        key: ObjectKey,
        home: Pod | Missing,
        mirror: Pod | Missing,
        access: AccessStrategy | errors.Refused | None,
        namespace: ForeignNamespace,
    ) -> Mapping[str, k8s_types.ObjectMeta] | Missing:
        """Only a pod that requires an account makes farlet watch them."""
        if isinstance(home, Missing) or not isinstance(mirror, Missing):
            namespace.forget_waiting(key)
            return Missing.UNKNOWN
        if access is None or isinstance(access, errors.Refused):
            return Missing.UNKNOWN
        try:
            required = access.requirements(home, self._ctx())
        except errors.Refused:
            return Missing.UNKNOWN
        accounts = namespace.accounts(key) if required else None
        return Missing.UNKNOWN if accounts is None else accounts

    # --- end of a pass ------------------------------------------------------------------------

    def _recheck_anchor(self, key: ObjectKey) -> None:
        namespace = self._namespaces.of(key.namespace)
        if namespace is not None:
            namespace.recheck_anchor()

    def _create_namespace(self, key: ObjectKey) -> None:
        namespace = self._namespaces.of(key.namespace)
        if namespace is not None:
            namespace.create()

    def _doubt_anchor(self, key: ObjectKey) -> None:
        namespace = self._namespaces.of(key.namespace)
        if namespace is not None:
            namespace.doubt_anchor()

    def _end(self, s: Snapshot, decision: Decision, *, failed: bool) -> None:
        """End a pass that has nothing left to do now."""
        wait = decision.action if isinstance(decision.action, Wait) else None
        if wait is not None and wait.unreported:
            self._queue.add_after(s.key, wait.seconds)
            return
        self._note(s, decision)
        self._times.reconciled(s.key)
        if failed:
            return  # the failure has added its retry
        if decision.retry:
            self._queue.retry(s.key)
            return
        self._queue.forget(s.key)
        self._failing.pop(s.key, None)
        if wait is not None:
            self._queue.add_after(s.key, wait.seconds)

    async def _failed(self, s: Snapshot, failure: Failure) -> None:
        """Retry later, and report the failure as the plan decides."""
        if isinstance(failure.action, CreateMirror) and api_refusals.doubts_namespace(
            failure.error
        ):
            self._doubt_anchor(s.key)
        uid = "" if isinstance(s.home, Missing) else predicates.uid(s.home)
        if isinstance(failure.action, UpdateMirror | ResizeMirror):
            changed = failure.action.home
            if self._store.home.remains(changed):
                self._times.change_failed(predicates.uid(changed), failure.action)
        s = dataclasses.replace(s, ages=self._times.ages(uid), failure=failure)
        decision = plan.decide(s, ctx=self._ctx())
        seconds = decision.action.seconds if isinstance(decision.action, Wait) else 0.0
        if decision.retry:
            seconds = self._queue.retry(s.key, at_least=seconds)
            self._log_failure(s.key, failure, retry_in=seconds)
        else:
            self._queue.add_after(s.key, seconds)
        self._note(s, decision)
        self._note_denied(failure.error)
        if isinstance(decision.action, PatchStatus):
            try:
                await self._executor.home.patch_status(decision.action)
                self._denied.pop(s.key.namespace, None)
            except errors.FarletError as second:
                log.info("failed to update pod status", pod=str(s.key), err=str(second))
                self._note_denied(second)
            self._take_up_changes(s)

    def _take_up_changes(self, s: Snapshot) -> None:
        """An answer in this pass can show a change by others too, whose event then wakes no pass.

        Example: the answer to a PATCH of the status shows that the pod is being deleted.
        """
        home = self._store.home.get(s.key)
        if home is not None and not isinstance(s.home, Missing) and _wish(home) != _wish(s.home):
            self._queue.add(s.key)

    def _note_denied(self, err: errors.FarletError) -> None:
        """Report on the Node what farlet is not allowed to report on the pod."""
        denied = api_refusals.home_namespace_denied(err)
        if denied is not None:
            namespace, message = denied
            self._denied[namespace] = errors.Refused(Reason.HOME_NAMESPACE_FORBIDDEN, message)
            self._recorder.note_namespace(namespace, Reason.HOME_NAMESPACE_FORBIDDEN, message)

    def _log_failure(self, key: ObjectKey, failure: Failure, *, retry_in: float) -> None:
        err = failure.error
        if isinstance(err, errors.Throttled):
            log.info(
                "API server throttled a request", pod=str(key), err=str(err), retry_in=retry_in
            )
            return
        # The object has changed or is gone: a watch event queues its key again.
        raced = isinstance(err, errors.Conflict | errors.NotFound) and err.cluster == "home"
        cause = failure.step, type(err)  # messages about quotas and connections differ each time
        repeated = self._failing.get(key) == cause
        self._failing[key] = cause
        (log.debug if repeated else log.info if raced else log.warning)(
            "reconcile failed",
            pod=str(key),
            step=failure.step.name.lower(),
            err=str(err),
            retry_in=retry_in,
        )

    def _note(self, s: Snapshot, decision: Decision) -> None:
        if decision.note is not None and not isinstance(s.home, Missing):
            self._recorder.note(s.home, *decision.note)


def _wish(home: Pod) -> list[object]:
    """What other clients change in a home pod."""
    metadata = home["metadata"]
    return [metadata.get(key) for key in _WISHES]


def _waits(home: Pod | Missing, mirror: Pod | Missing) -> bool:
    """A container that is not in the cluster yet can refer to ConfigMaps and Secrets."""
    if isinstance(home, Missing) or isinstance(mirror, Missing):
        return isinstance(mirror, Missing)
    return bool(ephemeral.missing(home, mirror))
