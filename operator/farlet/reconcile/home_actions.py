"""Actions on the home side: the status of a pod, and its end.

Nothing here decides whether to act; `plan` has. Every write carries the uid it was decided on,
so that a pod that was replaced meanwhile is never touched. Errors are the caller's.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from farlet import errors
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import ObjectKey, Reason
from farlet.context import Context
from farlet.k8s_types import Pod
from farlet.planning import predicates
from farlet.planning import snapshot as do
from farlet.planning.snapshot import Missing, Snapshot
from farlet.reconcile import event_recorder
from farlet.reconcile.pass_state import PassState, PodTimes
from farlet.store import Store
from farlet.telemetry.metrics import Metrics

log = structlog.get_logger()


class HomeActions:
    """What is written and looked up at home."""

    def __init__(
        self,
        cluster: ApiClient,
        store: Store,
        *,
        recorder: event_recorder.Recorder,
        metrics: Metrics,
        moments: PodTimes,
        ctx: Callable[[], Context],
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._recorder = recorder
        self._metrics = metrics
        self._moments = moments
        self._ctx = ctx

    async def patch_status(self, s: Snapshot, action: do.PatchStatus) -> None:
        """PATCH the home pod's status, then tell the Event that goes with it."""
        changed = self._moments.settled(s.key)
        try:
            answer = await self._cluster.patch(
                resources.POD_STATUS,
                s.key.name,
                action.body,
                namespace=s.key.namespace,
                content_type=resources.STRATEGIC_PATCH,
            )
        except errors.Invalid as err:
            if "metadata.uid" in err.message:
                raise  # the pod was replaced by another of its name: no bug of ours
            self._metrics.status_rejected.inc()
            log.error("home status was rejected", pod=str(s.key), err=err.message)
            if not isinstance(s.home, Missing):
                self._recorder.note(s.home, Reason.STATUS_REJECTED, err.message)
            raise
        self._put(answer)
        if changed is not None:
            self._metrics.status_latency.observe(time.monotonic() - changed)
        if action.event is not None and not isinstance(s.home, Missing):
            reason, message = action.event
            if self._store.home.uid(s.key) == predicates.uid(s.home):  # not gone meanwhile
                self._moments.told(predicates.uid(s.home))
            log.info("pod status was set", pod=str(s.key), reason=reason.value, detail=message)
            self._recorder.note(s.home, reason, message)

    async def delete(self, s: Snapshot, action: do.DeleteHome) -> None:
        """DELETE the pod of this uid for good."""
        try:
            await self._cluster.delete(
                resources.PODS,
                s.key.name,
                {"gracePeriodSeconds": 0, "preconditions": {"uid": action.uid}},
                namespace=s.key.namespace,
            )
        except errors.NotFound:
            # NodeRestriction answers so for a pod that its cache lacks, as just after a start.
            there = await self._find(s.key)
            if there is not None and there["metadata"].get("uid") == action.uid:
                raise
        except errors.Conflict as err:
            now = await self._find(s.key)
            if now is not None and now["metadata"].get("uid") == action.uid:
                raise  # not its uid was the conflict
            log.info("home pod was replaced", pod=str(s.key), err=err.message)
        else:
            log.debug("home pod was removed", pod=str(s.key), uid=action.uid)
            assert not isinstance(s.home, Missing)
            if s.home["metadata"].get("finalizers"):
                # It stays until others let it go; our part is done.
                held = await self._cluster.get(
                    resources.PODS, s.key.name, namespace=s.key.namespace
                )
                self._put(held)
                return
        self.dropped(s.key, action.uid)

    async def confirm_gone(self, s: Snapshot, known: PassState) -> None:
        """Look whether a pod of this name is bound to our node."""
        found = await self._find(s.key)
        if found is None:
            known.home_gone = True
        else:
            self._put(found)

    def dropped(self, key: ObjectKey, uid: str) -> None:
        """Home pod `uid` is gone for good: keep nothing of it."""
        self._store.home.remove(key, uid)
        foreign = self._ctx().namespaces.foreign(key.namespace)
        self._store.forget(key, None if foreign is None else ObjectKey(foreign, key.name), uid)
        self._moments.forget(uid)

    async def _find(self, key: ObjectKey) -> Pod | None:
        """The pod of this name that is bound to our node, as home has it now.

        A list, because the Node authorizer answers 403 to a node that asks by name for a pod that
        is gone, or another's (`authorizePod` in `plugin/pkg/auth/authorizer/node`).
        """
        found, _ = await self._cluster.list(
            resources.PODS,
            namespace=key.namespace,
            field_selector=f"metadata.name={key.name},spec.nodeName={self._ctx().node}",
        )
        return found[0] if found else None

    def _put(self, pod: Pod) -> None:
        self._store.home.put(pod)
