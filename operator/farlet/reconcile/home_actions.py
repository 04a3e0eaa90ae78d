"""Actions in the home cluster: patch the status of a pod, delete it, check that it is gone.

`plan` decides whether to act. Every write carries the uid it was decided on, so that a pod of the
same name that replaced it is never changed. The caller handles errors.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

import structlog

from farlet import errors
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import ObjectKey, Reason
from farlet.context import Context
from farlet.home.freed_memory import FreedMemory
from farlet.k8s_types import Pod
from farlet.planning import actions, predicates
from farlet.reconcile import event_recorder
from farlet.reconcile.home_lookup import HomeLookup
from farlet.reconcile.pass_state import PassState, PodTimes
from farlet.reconcile.token_requests import Tokens
from farlet.store import Store, key_of
from farlet.telemetry.metrics import Metrics

log = structlog.get_logger()


class HomeActions:
    """Writes and reads in the home cluster."""

    def __init__(
        self,
        cluster: ApiClient,
        store: Store,
        *,
        recorder: event_recorder.Recorder,
        metrics: Metrics,
        times: PodTimes,
        tokens: Tokens,
        ctx: Callable[[], Context],
        on_dropped: Callable[[ObjectKey], None],
    ) -> None:
        """`on_dropped` is called with the foreign key of each pod that is deleted."""
        self._cluster = cluster
        self._store = store
        self._recorder = recorder
        self._metrics = metrics
        self._times = times
        self._tokens = tokens
        self._ctx = ctx
        self._on_dropped = on_dropped
        self._lookup = HomeLookup(cluster, node=lambda: ctx().node)
        self._freed = FreedMemory(store.gather_deletions)

    async def patch_status(self, action: actions.PatchStatus) -> None:
        """PATCH the home pod's status, then record its Event."""
        key = key_of(action.home)
        changed = self._times.reconciled(key)
        try:
            answer = await self._cluster.patch(
                resources.POD_STATUS,
                key.name,
                action.body,
                namespace=key.namespace,
                content_type=resources.STRATEGIC_PATCH,
            )
        except errors.Invalid as err:
            if "metadata.uid" in err.message:
                raise  # another pod of this name has replaced it
            self._metrics.status_rejected.inc()
            log.error("home API server rejected pod status", pod=str(key), err=err.message)
            self._recorder.note(action.home, Reason.STATUS_REJECTED, err.message)
            raise
        self._put(answer)
        if changed is not None:
            self._metrics.status_latency.observe(time.monotonic() - changed)
        uid = predicates.uid(action.home)
        exists = self._store.home.remains(action.home)
        if exists:
            self._times.status_written(uid)
            self._times.wrote(uid, action, answer["metadata"])
        if action.event is not None:
            reason, message = action.event
            if exists:
                self._times.reported(uid)
            log.info("pod status updated", pod=str(key), reason=reason.value, detail=message)
            self._recorder.note(action.home, reason, message)
            if not exists:
                self._recorder.forget(uid)

    async def delete(self, action: actions.DeleteHome) -> None:
        """DELETE the pod of this uid with grace period 0."""
        key, uid = key_of(action.home), predicates.uid(action.home)
        try:
            await self._cluster.delete(
                resources.PODS,
                key.name,
                {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}},
                namespace=key.namespace,
            )
        except errors.NotFound:
            # NodeRestriction answers so for a pod that its cache lacks, as just after a start.
            there = await self._lookup.find(key)
            if there is not None and there["metadata"].get("uid") == uid:
                raise
        except errors.Conflict as err:
            now = await self._lookup.find(key)
            if now is not None and now["metadata"].get("uid") == uid:
                raise  # the conflict was not about the uid
            log.info("home pod replaced", pod=str(key), err=err.message)
        else:
            log.debug("home pod deleted", pod=str(key), uid=uid)
            if action.home["metadata"].get("finalizers"):
                # It stays until other controllers remove their finalizers.
                kept = await self._cluster.get(resources.PODS, key.name, namespace=key.namespace)
                self._put(kept)
                return
        self.dropped(key, uid)

    async def evict(self, action: actions.EvictHome) -> None:
        """DELETE the pod of this uid with its own grace period; its mirror must end first."""
        key, uid = key_of(action.home), predicates.uid(action.home)
        try:
            answer = await self._cluster.delete(
                resources.PODS, key.name, {"preconditions": {"uid": uid}}, namespace=key.namespace
            )
        except errors.NotFound:
            # NodeRestriction answers so for a pod that its cache lacks, as just after a start.
            there = await self._lookup.find(key)
            if there is not None and there["metadata"].get("uid") == uid:
                raise
            self.dropped(key, uid)
            return
        log.warning("home pod evicted, its mirror does not end", pod=str(key), uid=uid)
        if predicates.still_there(answer):
            self._put(cast("Pod", answer))
        else:
            self.dropped(key, uid)

    async def confirm_gone(self, key: ObjectKey, state: PassState) -> None:
        """Check whether a pod of this name is bound to our node."""
        found = await self._lookup.find(key)
        if found is None:
            state.home_gone = True
        else:
            self._put(found)

    def dropped(self, key: ObjectKey, uid: str) -> None:
        """Home pod `uid` is deleted: keep nothing of it."""
        self._store.home.remove(key, uid)
        namespace = self._ctx().namespaces.foreign(key.namespace)
        foreign = None if namespace is None else ObjectKey(namespace, key.name)
        self._store.forget(key, foreign, uid)
        self._times.forget(uid)
        self._tokens.forget(uid)
        self._recorder.forget(uid)
        if foreign is not None:
            self._on_dropped(foreign)
        self._freed.removed()

    def _put(self, pod: Pod) -> None:
        self._store.home.put(pod)
