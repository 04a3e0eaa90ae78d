"""Actions carried out: each one write, or one live look, and what its answer teaches the store.

Nothing here decides whether to act; `plan` has. Every write carries the uid it was decided on,
so that an object that was replaced meanwhile is never touched. Errors are the caller's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import structlog

from farlet import clusters, errors, events, mirrors, rotation, tokens, vocabulary
from farlet import snapshot as do
from farlet.context import Context
from farlet.snapshot import Missing, Snapshot
from farlet.store import Store
from farlet.telemetry.metrics import Metrics
from farlet.vocabulary import JSON, ObjectKey, Reason
from farlet.wire import Pod, Secret

log = structlog.get_logger()


@dataclass(slots=True)
class Pass:
    """What one pass over a key has found out live, beyond the store."""

    home_gone: bool = False
    mirror_gone: bool = False
    stranger: Pod | None = None
    secret_failed: bool = False
    step: str = ""
    """What a failure would be about, as `refusals.of` takes it; empty: nothing of the pod's."""


class Performer:
    """Performs actions of `plan` on the two API servers."""

    def __init__(
        self,
        *,
        home: clusters.Cluster,
        foreign: clusters.Cluster,
        store: Store,
        recorder: events.Recorder,
        metrics: Metrics,
        ctx: Callable[[], Context],
    ) -> None:
        self._home = home
        self._foreign = foreign
        self._store = store
        self._recorder = recorder
        self._metrics = metrics
        self._ctx = ctx
        self._tokens = tokens.Tokens(home, store, granted=metrics.tokens_granted)
        self._first_seen: dict[str, float] = {}
        """By home uid, until its mirror stands; monotonic."""
        self._made: dict[str, float] = {}
        """By home uid: when its mirror was made by this process; monotonic."""
        self._changed: dict[ObjectKey, float] = {}
        self._told: dict[str, float] = {}
        """By home uid: when a reason was last written; monotonic."""

    def noticed(self, key: ObjectKey) -> None:
        """A mirror of `key` changed just now."""
        self._changed.setdefault(key, time.monotonic())

    def settled(self, key: ObjectKey) -> None:
        """Home knows all that is known of `key`."""
        self._changed.pop(key, None)

    def first_seen(self, uid: str) -> float:
        """When home pod `uid`, which has no mirror yet, was first asked about; monotonic."""
        return self._first_seen.setdefault(uid, time.monotonic())

    def waited(self, uid: str) -> float:
        """Seconds since `first_seen`; infinite for a pod that has its mirror."""
        return time.monotonic() - self._first_seen.get(uid, -math.inf)

    def made(self, uid: str) -> float:
        """Seconds since the mirror of home pod `uid` was made; infinite if not by this process."""
        return time.monotonic() - self._made.get(uid, -math.inf)

    def told_within(self, uid: str, seconds: float) -> bool:
        """Whether a reason was written on this home pod so short a time ago."""
        return time.monotonic() - self._told.get(uid, -seconds) < seconds

    async def perform(self, s: Snapshot, action: do.Action, known: Pass) -> None:
        """One action. Raises `ApiError` and `Unreachable`; `known.step` says what they concern."""
        match action:
            case do.PatchStatus():
                await self.patch_status(s, action)
            case do.CreateMirror():
                await self._create(s, action, known)
            case do.ProvideSecret():
                await self._provide_secret(s, action, known)
            case do.DeleteMirror():
                known.step = "removal of the mirror"
                await self._delete_mirror(s, action)
            case do.ReleaseMirror():
                known.step = "removal of the mirror"
                await self._release(action)
            case do.DeleteHome():
                await self._delete_home(s, action)
            case do.ConfirmMirrorGone():
                await self._confirm_mirror_gone(s, known)
            case do.ConfirmHomeGone():
                await self._confirm_home_gone(s, known)
            case do.ReclaimMirror():
                await self._reclaim(s, action, known)

    async def patch_status(self, s: Snapshot, action: do.PatchStatus) -> None:
        """PATCH the home pod's status, then tell the Event that goes with it."""
        changed = self._changed.pop(s.key, None)
        try:
            answer = await self._home.call(
                "PATCH",
                f"{_home_path(s.key)}/status",
                body=action.body,
                content_type=clusters.STRATEGIC_PATCH,
            )
        except errors.Invalid as err:
            if "metadata.uid" in err.message:
                raise  # the pod was replaced by another of its name: no bug of ours
            self._metrics.status_rejected.inc()
            log.error("home status was rejected", pod=str(s.key), err=err.message)
            if not isinstance(s.home, Missing):
                self._recorder.note(s.home, Reason.STATUS_REJECTED, err.message)
            raise
        self._put_home(answer)
        if changed is not None:
            self._metrics.status_latency.observe(time.monotonic() - changed)
        if action.event is not None and not isinstance(s.home, Missing):
            reason, message = action.event
            if self._store.home.uid(s.key) == mirrors.uid(s.home):  # not gone meanwhile
                self._told[mirrors.uid(s.home)] = time.monotonic()
            log.info("pod status was set", pod=str(s.key), reason=reason.value, detail=message)
            self._recorder.note(s.home, reason, message)

    async def _create(self, s: Snapshot, action: do.CreateMirror, known: Pass) -> None:
        assert not isinstance(s.home, Missing)
        uid = s.home["metadata"]["uid"]
        first_seen = self.first_seen(uid)
        known.step = "token"
        granted = await self._tokens.grant(s.home, action.claims)
        body = rotation.stamped(action.pod, granted)
        path = f"/api/v1/namespaces/{action.pod['metadata']['namespace']}/pods"
        known.step = "mirror"
        try:
            answer: Any = await self._foreign.call("POST", path, body=body)
        except errors.Conflict as err:
            if not err.already_exists:
                raise
            # An earlier answer was lost, or the name is somebody else's: look.
            await self._confirm_mirror_gone(s, known)
            return
        self._store.mirrors.put(answer)
        self._store.departed.pop(_foreign_key(answer), None)
        self._made[uid] = time.monotonic()
        known.mirror_gone = False
        self._first_seen.pop(uid, None)
        self._metrics.mirror_latency.observe(time.monotonic() - first_seen)
        for field in action.unknown_fields:
            self._metrics.unknown_field(field)
        if action.notices:
            self._recorder.note(s.home, Reason.SPEC_CHANGED, "; ".join(action.notices))

    async def _provide_secret(self, s: Snapshot, action: do.ProvideSecret, known: Pass) -> None:
        assert not isinstance(s.home, Missing)
        assert not isinstance(s.mirror, Missing)
        known.step = "token"
        try:
            granted = await self._tokens.grant(s.home, action.claims)
        except errors.FarletError as err:
            self._metrics.token_refresh_failures.inc()
            if action.overdue:
                known.step = ""  # told here; two reasons in turn would be an Event each, each time
                self._recorder.note(
                    s.home,
                    Reason.TOKEN_NOT_REFRESHED,
                    "the pod's home token is past 80 % of its life and could not be refreshed: "
                    f"{err}",
                )
            raise
        known.step = "secret"
        owner = mirrors.reference(s.mirror)
        for secret in action.strategy.objects(s.home, granted, self._ctx(), owner):
            if not await self._write_secret(s, secret, exists=action.exists):
                return
        times = rotation.record(s.mirror, granted)
        if times is not None:
            # Besides keeping the times this makes the foreign kubelet look at the Secret at once.
            answer: Any = await self._foreign.call(
                "PATCH",
                _path(s.mirror),
                body={
                    "metadata": {
                        "uid": mirrors.uid(s.mirror),
                        "annotations": {vocabulary.TOKENS: times},
                    }
                },
                content_type=clusters.MERGE_PATCH,
            )
            self._store.mirrors.put(answer)
            log.debug("home tokens were refreshed", pod=str(s.key))
        self._tokens.delivered(s.home)

    async def _write_secret(self, s: Snapshot, secret: Secret, *, exists: bool) -> bool:
        """Whether it stands now; false: what was known of it is out of date, so decide again."""
        namespace, name = secret["metadata"]["namespace"], secret["metadata"]["name"]
        path = f"/api/v1/namespaces/{namespace}/secrets"
        answer: Any
        try:
            if exists and not isinstance(s.secret, Missing):
                metadata = {**secret["metadata"], "uid": s.secret["uid"]}
                body = {**secret, "metadata": metadata}
                answer = await self._foreign.call(
                    "PATCH", f"{path}/{name}", body=body, content_type=clusters.MERGE_PATCH
                )
            else:
                answer = await self._foreign.call("POST", path, body=secret)
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
            answer = await self._foreign.call("GET", f"{path}/{name}", accept=clusters.METADATA)
            if answer["metadata"].get("labels", {}).get(vocabulary.OWNER) != self._ctx().owner:
                raise errors.Refused(
                    Reason.NAME_CONFLICT,
                    f"the foreign namespace {namespace} has a Secret {name} that is not farlet's. "
                    "Delete it",
                ) from err
            self._store.secrets.put(answer)
            return False
        self._store.secrets.put(answer)
        return True

    async def _delete_mirror(self, s: Snapshot, action: do.DeleteMirror) -> None:
        assert not isinstance(s.mirror, Missing)
        body: JSON = {"preconditions": {"uid": action.uid}}
        if action.grace is not None:
            body["gracePeriodSeconds"] = action.grace
        try:
            answer: Any = await self._foreign.call("DELETE", _path(s.mirror), body=body)
        except errors.NotFound:
            self._forget_mirror(s.mirror)
            return
        if _still_there(answer):
            self._store.mirrors.put(answer)
        else:
            self._forget_mirror(s.mirror)

    async def _release(self, action: do.ReleaseMirror) -> None:
        metadata = action.mirror["metadata"]
        kept = [f for f in metadata.get("finalizers", ()) if f != vocabulary.OBSERVED]
        try:
            answer: Any = await self._foreign.call(
                "PATCH",
                _path(action.mirror),
                # The list is replaced as a whole: only the version it was read from may be.
                body={
                    "metadata": {
                        "uid": metadata["uid"],
                        "resourceVersion": metadata["resourceVersion"],
                        "finalizers": kept or None,
                    }
                },
                content_type=clusters.MERGE_PATCH,
            )
        except errors.NotFound:
            self._forget_mirror(action.mirror)
            return
        except errors.Conflict:
            # The mirror moved on since it was read: read it now.
            moved: Any = await self._foreign.call("GET", _path(action.mirror))
            self._store.mirrors.put(moved)
            return
        if _still_there(answer):
            self._store.mirrors.put(answer)
        else:
            self._forget_mirror(answer)

    async def _delete_home(self, s: Snapshot, action: do.DeleteHome) -> None:
        try:
            await self._home.call(
                "DELETE",
                _home_path(s.key),
                body={"gracePeriodSeconds": 0, "preconditions": {"uid": action.uid}},
            )
        except errors.NotFound:
            pass
        except errors.Conflict as err:
            now = await self._find_home(s.key)
            if now is not None and now["metadata"].get("uid") == action.uid:
                raise  # not its uid was the conflict
            log.info("home pod was replaced", pod=str(s.key), err=err.message)
        else:
            log.debug("home pod was removed", pod=str(s.key), uid=action.uid)
            assert not isinstance(s.home, Missing)
            if s.home["metadata"].get("finalizers"):
                # It stays until others let it go; our part is done.
                held: Any = await self._home.call("GET", _home_path(s.key))
                self._put_home(held)
                return
        self.dropped(s.key, action.uid)

    async def _find_home(self, key: ObjectKey) -> Pod | None:
        """The pod of this name that is bound to our node, as home has it now.

        A list, because the Node authorizer answers 403 to a node that asks by name for a pod that
        is gone, or another's (`authorizePod` in `plugin/pkg/auth/authorizer/node`).
        """
        selector = quote(f"metadata.name={key.name},spec.nodeName={self._ctx().node}")
        answer = await self._home.call(
            "GET", f"/api/v1/namespaces/{key.namespace}/pods?fieldSelector={selector}"
        )
        found: list[Pod] = answer.get("items") or []
        return found[0] if found else None

    async def _reclaim(self, s: Snapshot, action: do.ReclaimMirror, known: Pass) -> None:
        assert not isinstance(s.mirror, Missing)
        answer: Any = await self._foreign.call(
            "PATCH",
            _path(s.mirror),
            body={
                "metadata": {
                    "uid": action.uid,
                    "labels": dict(action.labels),
                    "annotations": dict(action.annotations),
                }
            },
            content_type=clusters.MERGE_PATCH,
        )
        self._store.mirrors.put(answer)
        known.stranger = None
        log.warning("label of a mirror was restored", pod=str(s.key), uid=action.uid)

    async def _confirm_mirror_gone(self, s: Snapshot, known: Pass) -> None:
        foreign = self._ctx().namespaces.foreign(s.key.namespace)
        known.step = "mirror"
        try:
            answer: Any = await self._foreign.call(
                "GET", f"/api/v1/namespaces/{foreign}/pods/{s.key.name}"
            )
        except errors.NotFound:
            known.mirror_gone = True
            return
        if mirrors.is_ours(answer, owner=self._ctx().owner):
            self._store.mirrors.put(answer)
        if _foreign_key(answer) not in self._store.mirrors:
            known.stranger = answer

    async def _confirm_home_gone(self, s: Snapshot, known: Pass) -> None:
        found = await self._find_home(s.key)
        if found is None:
            known.home_gone = True
        else:
            self._put_home(found)

    def _put_home(self, pod: Any) -> None:
        self._store.home.put(pod)

    def dropped(self, key: ObjectKey, uid: str) -> None:
        """Home pod `uid` is gone for good: keep nothing of it."""
        self._store.home.remove(key, uid)
        foreign = self._ctx().namespaces.foreign(key.namespace)
        self._store.forget(key, None if foreign is None else ObjectKey(foreign, key.name), uid)
        self._first_seen.pop(uid, None)
        self._made.pop(uid, None)
        self._told.pop(uid, None)

    def _forget_mirror(self, mirror: Pod) -> None:
        self._store.mirrors.remove(_foreign_key(mirror), mirror["metadata"]["uid"])


def _still_there(answer: Any) -> bool:
    """Whether a pod in the answer to a DELETE or PATCH exists still.

    A graceful deletion leaves it until its kubelet is done, a finalizer until that is removed;
    without either the answer shows the pod as it was when it went.
    """
    metadata = answer.get("metadata", {})
    return answer.get("kind") == "Pod" and bool(
        "deletionTimestamp" not in metadata
        or metadata.get("deletionGracePeriodSeconds")
        or metadata.get("finalizers")
    )


def _home_path(key: ObjectKey) -> str:
    return f"/api/v1/namespaces/{key.namespace}/pods/{key.name}"


def _path(pod: Pod) -> str:
    metadata = pod["metadata"]
    return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"


def _foreign_key(pod: Pod) -> ObjectKey:
    return ObjectKey(pod["metadata"]["namespace"], pod["metadata"]["name"])
