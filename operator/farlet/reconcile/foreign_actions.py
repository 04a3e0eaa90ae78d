"""Actions on the foreign side: the mirror, its Secret of home tokens, and their end.

Nothing here decides whether to act; `plan` has. Every write carries the uid it was decided on,
so that an object that was replaced meanwhile is never touched. Errors are the caller's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

import structlog

from farlet import constants, errors
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import JSON, ObjectKey, Reason
from farlet.context import Context
from farlet.k8s_types import Pod, Secret
from farlet.planning import predicates, token_rotation
from farlet.planning import snapshot as do
from farlet.planning.snapshot import Missing, Snapshot
from farlet.reconcile import event_recorder
from farlet.reconcile.pass_state import PassState, PodTimes
from farlet.reconcile.token_requests import Tokens
from farlet.store import Store
from farlet.telemetry.metrics import Metrics

log = structlog.get_logger()


class ForeignActions:
    """What is written and looked up abroad."""

    def __init__(
        self,
        cluster: ApiClient,
        store: Store,
        *,
        tokens: Tokens,
        recorder: event_recorder.Recorder,
        metrics: Metrics,
        moments: PodTimes,
        ctx: Callable[[], Context],
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._tokens = tokens
        self._recorder = recorder
        self._metrics = metrics
        self._moments = moments
        self._ctx = ctx

    async def create(self, s: Snapshot, action: do.CreateMirror, known: PassState) -> None:
        """Request the tokens, then POST the mirror."""
        assert not isinstance(s.home, Missing)
        uid = s.home["metadata"]["uid"]
        first_seen = self._moments.first_seen(uid)
        known.step = "token"
        granted = await self._tokens.grant(s.home, action.token_specs)
        body = token_rotation.stamped(action.pod, granted)
        namespace = action.pod["metadata"]["namespace"]
        known.step = "mirror"
        try:
            answer = await self._cluster.create(resources.PODS, body, namespace=namespace)
        except errors.Conflict as err:
            if not err.already_exists:
                raise
            # An earlier answer was lost, or the name is somebody else's: look.
            await self.confirm_gone(s, known)
            return
        self._store.mirrors.put(answer)
        self._store.departed.pop(_key(answer), None)
        known.mirror_gone = False
        self._moments.has_mirror(uid)
        self._metrics.mirror_latency.observe(time.monotonic() - first_seen)
        for field in action.unknown_fields:
            self._metrics.unknown_field(field)
        if action.notices:
            self._recorder.note(s.home, Reason.SPEC_ADJUSTED, "; ".join(action.notices))

    async def provide_secret(self, s: Snapshot, action: do.ProvideSecret, known: PassState) -> None:
        """Request the tokens that are not held, write the Secret, record the times."""
        assert not isinstance(s.home, Missing)
        assert not isinstance(s.mirror, Missing)
        known.step = "token"
        try:
            granted = await self._tokens.grant(s.home, action.token_specs)
        except errors.FarletError as err:
            self._metrics.token_refresh_failures.inc()
            if action.overdue:
                known.step = ""  # told here; two reasons in turn would be an Event each, each time
                self._recorder.note(
                    s.home,
                    Reason.TOKEN_REFRESH_FAILED,
                    "the pod's home token is past 80 % of its life and could not be refreshed: "
                    f"{err}",
                )
            raise
        known.step = "secret"
        owner = predicates.reference(s.mirror)
        for secret in action.strategy.objects(s.home, granted, self._ctx(), owner):
            if not await self._write_secret(s, secret, exists=action.exists):
                return
        times = token_rotation.record(s.mirror, granted)
        if times is not None:
            # Besides keeping the times this makes the foreign kubelet look at the Secret at once.
            answer = await self._patch(
                s.mirror,
                {"uid": predicates.uid(s.mirror), "annotations": {constants.TOKENS: times}},
            )
            self._store.mirrors.put(answer)
            log.debug("home tokens were refreshed", pod=str(s.key))
        self._tokens.delivered(s.home)

    async def _write_secret(self, s: Snapshot, secret: Secret, *, exists: bool) -> bool:
        """Whether it stands now; false: what was known of it is out of date, so decide again."""
        namespace, name = secret["metadata"]["namespace"], secret["metadata"]["name"]
        try:
            if exists and not isinstance(s.secret, Missing):
                metadata = {**secret["metadata"], "uid": s.secret["uid"]}
                body = {**secret, "metadata": metadata}
                written = await self._cluster.patch(
                    resources.SECRETS, name, body, namespace=namespace
                )
            else:
                written = await self._cluster.create(resources.SECRETS, secret, namespace=namespace)
        except errors.NotFound:
            known = self._store.secrets.get(ObjectKey(namespace, name))
            if not exists or known is None:
                raise
            uid = known["metadata"].get("uid", "")
            self._store.secrets.remove(ObjectKey(namespace, name), uid)
            return False
        except errors.Conflict as err:
            if exists or not err.already_exists:
                raise
            found = await self._cluster.get(
                resources.SECRETS.metadata_only, name, namespace=namespace
            )
            if (
                found["metadata"].get("labels", {}).get(constants.VIRTUAL_NODE_ID)
                != self._ctx().virtual_node_id
            ):
                raise errors.Refused(
                    Reason.NAME_CONFLICT,
                    f"the foreign namespace {namespace} has a Secret {name} that is not farlet's. "
                    "Delete it",
                ) from err
            self._store.secrets.put(found)
            return False
        self._store.secrets.put(written)
        return True

    async def delete(self, s: Snapshot, action: do.DeleteMirror) -> None:
        """DELETE the mirror of this uid."""
        assert not isinstance(s.mirror, Missing)
        key = _key(s.mirror)
        body: JSON = {"preconditions": {"uid": action.uid}}
        if action.grace is not None:
            body["gracePeriodSeconds"] = action.grace
        try:
            answer = await self._cluster.delete(
                resources.PODS, key.name, body, namespace=key.namespace
            )
        except errors.NotFound:
            self._forget(s.mirror)
            return
        if _still_there(answer):
            self._store.mirrors.put(cast("Pod", answer))
        else:
            self._forget(s.mirror)

    async def release(self, action: do.ReleaseMirror) -> None:
        """Remove our finalizer."""
        metadata = action.mirror["metadata"]
        kept = [f for f in metadata.get("finalizers", ()) if f != constants.OBSERVED]
        try:
            answer = await self._patch(
                action.mirror,
                # The list is replaced as a whole: only the version it was read from may be.
                {
                    "uid": metadata["uid"],
                    "resourceVersion": metadata["resourceVersion"],
                    "finalizers": kept or None,
                },
            )
        except errors.NotFound:
            self._forget(action.mirror)
            return
        except errors.Conflict:
            # The mirror moved on since it was read: read it now.
            moved = await self._cluster.get(
                resources.PODS, metadata["name"], namespace=metadata["namespace"]
            )
            self._store.mirrors.put(moved)
            return
        if _still_there(answer):
            self._store.mirrors.put(answer)
        else:
            self._forget(answer)

    async def reclaim(self, s: Snapshot, action: do.ReclaimMirror, known: PassState) -> None:
        """Put our label and annotations back."""
        assert not isinstance(s.mirror, Missing)
        answer = await self._patch(
            s.mirror,
            {
                "uid": action.uid,
                "labels": dict(action.labels),
                "annotations": dict(action.annotations),
            },
        )
        self._store.mirrors.put(answer)
        known.stranger = None
        log.warning("label of a mirror was restored", pod=str(s.key), uid=action.uid)

    async def confirm_gone(self, s: Snapshot, known: PassState) -> None:
        """GET the mirror by name."""
        foreign = self._ctx().namespaces.foreign(s.key.namespace)
        known.step = "mirror"
        try:
            answer = await self._cluster.get(resources.PODS, s.key.name, namespace=str(foreign))
        except errors.NotFound:
            known.mirror_gone = True
            return
        if predicates.is_ours(answer, virtual_node_id=self._ctx().virtual_node_id):
            self._store.mirrors.put(answer)
        if _key(answer) not in self._store.mirrors:
            known.stranger = answer

    async def _patch(self, mirror: Pod, metadata: JSON) -> Pod:
        key = _key(mirror)
        body = {"metadata": metadata}
        return await self._cluster.patch(resources.PODS, key.name, body, namespace=key.namespace)

    def _forget(self, mirror: Pod) -> None:
        self._store.mirrors.remove(_key(mirror), mirror["metadata"]["uid"])


def _still_there(answer: JSON | Pod) -> bool:
    """Whether a pod in the answer to a DELETE or PATCH exists still.

    A graceful deletion leaves it until its kubelet is done, a finalizer until that is removed;
    without either the answer shows the pod as it was when it went.
    """
    metadata = cast("Pod", answer).get("metadata", {})
    return answer.get("kind") == "Pod" and bool(
        "deletionTimestamp" not in metadata
        or metadata.get("deletionGracePeriodSeconds")
        or metadata.get("finalizers")
    )


def _key(pod: Pod) -> ObjectKey:
    return ObjectKey(pod["metadata"]["namespace"], pod["metadata"]["name"])
