"""Carry out the plan for one home pod: snapshot, decide, perform, until nothing is left.

All I/O for pods happens here, one key at a time per key. Answers enter the store at once, so
the next decision sees them. A step that fails says so on a pod that has not run yet, and the
key comes again after a backoff; nothing is remembered that a restart would lose.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from farlet import clusters, errors, events, plan, refusals, rotation, tokens, vocabulary
from farlet import snapshot as do
from farlet.access import AccessStrategy, Claim, Token, choice
from farlet.context import Context
from farlet.forge.names import secret_name
from farlet.scopes import COALESCE_SECONDS, Scope, Scopes
from farlet.snapshot import Missing, Snapshot
from farlet.store import Store
from farlet.telemetry.metrics import Metrics
from farlet.vocabulary import JSON, ObjectKey, Pod, Reason
from farlet.workqueue import WorkQueue

STEPS = 30
"""More actions than any way through the table has; beyond it something goes round in circles."""

LAG_SECONDS = 10.0
LAG_RETRY_SECONDS = 0.1
"""For a pod bound less than so long ago, home's caches may not know it yet."""

HELD_SECONDS = 300.0
"""A token that could not be delivered for so long is asked for again."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Pass:
    """What one pass over a key has found out live, beyond the store."""

    home_gone: bool = False
    mirror_gone: bool = False
    stranger: Pod | None = None
    created: bool = False
    step: str = ""
    """What a failure would be about: `token`, `mirror`, `secret`; else nothing of the pod's."""


class Reconciler:
    """Reconciles keys; `reconcile` is what the workers of the queue call."""

    def __init__(
        self,
        *,
        home: clusters.Cluster,
        foreign: clusters.Cluster,
        store: Store,
        scopes: Scopes,
        queue: WorkQueue[ObjectKey],
        recorder: events.Recorder,
        metrics: Metrics,
        strategies: Mapping[str, AccessStrategy],
        ctx: Callable[[], Context],
        home_listed: Callable[[], bool],
    ) -> None:
        self._home = home
        self._foreign = foreign
        self._store = store
        self._scopes = scopes
        self._queue = queue
        self._recorder = recorder
        self._metrics = metrics
        self._strategies = strategies
        self._ctx = ctx
        self._home_listed = home_listed
        self._first_seen: dict[str, float] = {}
        """By home uid, until its mirror stands; monotonic."""
        self._changed: dict[ObjectKey, float] = {}

    def noticed(self, key: ObjectKey) -> None:
        """A mirror of `key` changed just now."""
        self._changed.setdefault(key, time.monotonic())

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
        known = _Pass()
        for _ in range(STEPS):
            known.step = ""
            snapshot = self._snapshot(key, known)
            decision = plan.decide(snapshot, ctx=self._ctx(), strategies=self._strategies)
            if decision.action is None:
                self._settled(key, decision)
                return
            if known.created and isinstance(decision.action, do.PatchStatus):
                # The mirror was made a moment ago and is about to tell more: one status for both.
                self._queue.add_after(key, COALESCE_SECONDS)
                return
            try:
                await self._perform(snapshot, decision.action, known)
            except errors.FarletError as err:
                await self._failed(snapshot, known.step, err)
                return
            if decision.retry:
                self._queue.retry(key)
                return
        log.error("reconciling went round in circles", pod=str(key))
        self._queue.retry(key, at_least=5.0)

    # --- what is known ------------------------------------------------------------------------

    def _snapshot(self, key: ObjectKey, known: _Pass) -> Snapshot:
        store = self._store
        home: Pod | Missing | None = store.home.get(key)
        if home is None:
            home = Missing.ABSENT if self._home_listed() else Missing.UNKNOWN
        scope = self._scope(key, home)
        if scope is None:
            # No namespace is allowed, or none of ours ever was there: no mirror can exist.
            return Snapshot(
                key=key, now=time.time(), home=home, mirror=Missing.ABSENT, mirror_gone=True
            )
        foreign = ObjectKey(scope.foreign, key.name)
        mirror: Pod | Missing | None = known.stranger or store.mirrors.get(foreign)
        if mirror is None:
            mirror = Missing.ABSENT if scope.mirrors_known else Missing.UNKNOWN
        home_gone = known.home_gone
        secret: vocabulary.ObjectMeta | Missing = Missing.UNKNOWN
        held: Mapping[str, Token] | None = None
        if not isinstance(home, Missing):
            uid = home["metadata"]["uid"]
            found = store.secrets.get(ObjectKey(scope.foreign, secret_name(uid)))
            if found is not None:
                secret = found["metadata"]
            elif scope.secrets_known:
                secret = Missing.ABSENT
            held = store.tokens.get(uid)
            if isinstance(mirror, Missing):
                self._first_seen.setdefault(uid, time.monotonic())
        elif not isinstance(mirror, Missing):
            whose = mirror["metadata"].get("annotations", {}).get(vocabulary.HOME_UID, "")
            home_gone = home_gone or store.home.deleted(whose)
        last = store.departed.get(foreign)
        if last is not None and (
            isinstance(home, Missing) or not plan.is_mirror_of(home, last, owner=self._ctx().owner)
        ):
            last = None  # it ran an earlier pod of this name
        return Snapshot(
            key=key,
            now=time.time(),
            home=home,
            mirror=mirror,
            home_gone=home_gone,
            mirror_gone=known.mirror_gone or not self._scopes.known(scope.foreign),
            last=last,
            secret=secret,
            accounts=self._accounts(home, mirror, scope),
            tokens=held,
            anchor=scope.anchor,
            problem=scope.problem,
        )

    def _scope(self, key: ObjectKey, home: Pod | Missing) -> Scope | None:
        """The foreign namespace of a key; a home pod opens it, its absence does not."""
        foreign = self._ctx().namespaces.foreign(key.namespace)
        if foreign is None or (isinstance(home, Missing) and not self._scopes.known(foreign)):
            return None
        return self._scopes.of(key.namespace)

    def _accounts(
        self, home: Pod | Missing, mirror: Pod | Missing, scope: Scope
    ) -> Mapping[str, vocabulary.ObjectMeta] | Missing:
        """Only a pod that waits for an account makes us watch them."""
        if isinstance(home, Missing) or not isinstance(mirror, Missing):
            return Missing.UNKNOWN
        try:
            wanted = choice.choose(home, self._strategies, self._ctx()).requirements(
                home, self._ctx()
            )
        except errors.Refused:
            return Missing.UNKNOWN
        accounts = scope.accounts() if wanted else None
        return Missing.UNKNOWN if accounts is None else accounts

    # --- actions ------------------------------------------------------------------------------

    async def _perform(self, s: Snapshot, action: do.Action, known: _Pass) -> None:
        match action:
            case do.PatchStatus():
                await self._patch_status(s, action)
            case do.CreateMirror():
                await self._create(s, action, known)
            case do.ProvideSecret():
                await self._provide_secret(s, action, known)
            case do.DeleteMirror():
                await self._delete_mirror(s, action)
            case do.ReleaseMirror():
                await self._release(action)
            case do.DeleteHome():
                await self._delete_home(s, action)
            case do.ConfirmMirrorGone():
                await self._confirm_mirror_gone(s, known)
            case do.ConfirmHomeGone():
                await self._confirm_home_gone(s, known)
            case do.ReclaimMirror():
                await self._reclaim(s, action, known)

    async def _patch_status(self, s: Snapshot, action: do.PatchStatus) -> None:
        changed = self._changed.pop(s.key, None)
        try:
            answer = await self._home.call(
                "PATCH",
                f"{_home_path(s.key)}/status",
                body=action.body,
                content_type=clusters.STRATEGIC_PATCH,
            )
        except errors.Invalid as err:
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
            log.info("pod status was set", pod=str(s.key), reason=reason.value, detail=message)
            self._recorder.note(s.home, reason, message)

    async def _create(self, s: Snapshot, action: do.CreateMirror, known: _Pass) -> None:
        assert not isinstance(s.home, Missing)
        uid = s.home["metadata"]["uid"]
        first_seen = self._first_seen.setdefault(uid, time.monotonic())
        granted = await self._tokens(s, action.claims, known)
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
        known.created = True
        known.mirror_gone = False
        self._first_seen.pop(uid, None)
        self._metrics.mirror_latency.observe(time.monotonic() - first_seen)
        for field in action.unknown_fields:
            self._metrics.unknown_field(field)
        if action.notices:
            self._recorder.note(s.home, Reason.SPEC_CHANGED, "; ".join(action.notices))

    async def _provide_secret(self, s: Snapshot, action: do.ProvideSecret, known: _Pass) -> None:
        assert not isinstance(s.home, Missing)
        assert not isinstance(s.mirror, Missing)
        try:
            granted = await self._tokens(s, action.claims, known)
        except errors.FarletError as err:
            self._metrics.token_refresh_failures.inc()
            if action.overdue:
                self._recorder.note(
                    s.home,
                    Reason.TOKEN_NOT_REFRESHED,
                    "the pod's home token is past 80 % of its life and could not be refreshed: "
                    f"{err}",
                )
            raise
        known.step = "secret"
        metadata = s.mirror["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/secrets"
        for secret in plan.secret_of(action, s.home, s.mirror, granted, ctx=self._ctx()):
            await self._write_secret(path, secret, exists=action.exists)
        times = rotation.record(s.mirror, granted)
        if times is not None:
            answer: Any = await self._foreign.call(
                "PATCH",
                f"{path.removesuffix('secrets')}pods/{metadata['name']}",
                body={
                    "metadata": {"uid": metadata["uid"], "annotations": {vocabulary.TOKENS: times}}
                },
                content_type=clusters.MERGE_PATCH,
            )
            self._store.mirrors.put(answer)
            log.debug("home tokens were refreshed", pod=str(s.key))
        self._store.tokens.pop(s.home["metadata"]["uid"], None)

    async def _write_secret(self, path: str, secret: Any, *, exists: bool) -> None:
        """PATCH it if it exists, else POST it; and the other way where that was out of date."""
        for there in (exists, not exists):
            try:
                answer: Any
                if there:
                    answer = await self._foreign.call(
                        "PATCH",
                        f"{path}/{secret['metadata']['name']}",
                        body=secret,
                        content_type=clusters.MERGE_PATCH,
                    )
                else:
                    answer = await self._foreign.call("POST", path, body=secret)
            except (errors.NotFound, errors.Conflict) as err:
                taken = isinstance(err, errors.Conflict) and err.already_exists
                outdated = isinstance(err, errors.NotFound) if there else taken
                if there is exists and outdated:
                    continue
                raise
            self._store.secrets.put(answer)
            return

    async def _tokens(
        self, s: Snapshot, claims: tuple[Claim, ...], known: _Pass
    ) -> dict[str, Token]:
        """Tokens by `Claim.key`: those held from a step that failed, the others requested."""
        assert not isinstance(s.home, Missing)
        if not claims:
            return {}
        known.step = "token"
        held = self._store.tokens.setdefault(s.home["metadata"]["uid"], {})
        now = time.time()
        wanted = [c for c in claims if c.key not in held or now - held[c.key].issued > HELD_SECONDS]
        async with asyncio.TaskGroup() as group:
            requests = {
                c.key: group.create_task(_caught(tokens.request(self._home, s.home, c, now=now)))
                for c in wanted
            }
        failed: errors.FarletError | None = None
        for name, request in requests.items():
            got = request.result()
            if isinstance(got, Token):
                held[name] = got
                self._metrics.tokens_granted.inc()
            else:
                failed = got
        if failed is not None:
            raise failed
        return {c.key: held[c.key] for c in claims}

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

    async def _reclaim(self, s: Snapshot, action: do.ReclaimMirror, known: _Pass) -> None:
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

    async def _confirm_mirror_gone(self, s: Snapshot, known: _Pass) -> None:
        foreign = self._ctx().namespaces.foreign(s.key.namespace)
        try:
            answer: Any = await self._foreign.call(
                "GET", f"/api/v1/namespaces/{foreign}/pods/{s.key.name}"
            )
        except errors.NotFound:
            known.mirror_gone = True
            return
        if plan.is_ours(answer, owner=self._ctx().owner):
            self._store.mirrors.put(answer)
        if self._store.mirrors.get(_foreign_key(answer)) is None:
            known.stranger = answer

    async def _confirm_home_gone(self, s: Snapshot, known: _Pass) -> None:
        try:
            answer: Any = await self._home.call("GET", _home_path(s.key))
        except errors.NotFound:
            known.home_gone = True
            return
        if answer.get("spec", {}).get("nodeName") == self._ctx().node:
            self._put_home(answer)
        else:
            known.home_gone = True

    # --- afterwards ---------------------------------------------------------------------------

    def _settled(self, key: ObjectKey, decision: do.Decision) -> None:
        self._changed.pop(key, None)
        if decision.retry:
            self._queue.retry(key)
            return
        self._queue.forget(key)
        if decision.again_at is not None:
            self._queue.add_after(key, decision.again_at - time.time())

    async def _failed(self, s: Snapshot, step: str, err: errors.FarletError) -> None:
        uid = "" if isinstance(s.home, Missing) else s.home["metadata"]["uid"]
        if uid and refusals.lags(err, name=s.key.name):
            since = time.monotonic() - self._first_seen.setdefault(uid, time.monotonic())
            if since < LAG_SECONDS:
                self._queue.add_after(s.key, LAG_RETRY_SECONDS)
                return
        if isinstance(err, errors.Throttled):
            self._queue.retry(s.key, at_least=err.retry_after)
            return
        seconds = self._queue.retry(s.key)
        # A lost race: the watch will tell, or has told already.
        raced = isinstance(err, errors.Conflict | errors.NotFound) and err.cluster == "home"
        (log.info if raced else log.warning)(
            "reconciling failed", pod=str(s.key), step=step, err=str(err), retry_in=seconds
        )
        refused = refusals.of(err, what=step)
        told = None if refused is None else plan.waiting(s, refused, ctx=self._ctx())
        if told is not None:
            try:
                await self._patch_status(s, told)
            except errors.FarletError as second:
                log.info("reason was not told", pod=str(s.key), err=str(second))

    def _put_home(self, pod: Any) -> None:
        self._store.home.put(pod)

    def dropped(self, key: ObjectKey, uid: str) -> None:
        """Home pod `uid` is gone for good: keep nothing of it."""
        self._store.home.remove(key, uid, seen=True)
        foreign = self._ctx().namespaces.foreign(key.namespace)
        self._store.forget(key, None if foreign is None else ObjectKey(foreign, key.name), uid)
        self._first_seen.pop(uid, None)

    def _forget_mirror(self, mirror: Pod) -> None:
        self._store.mirrors.remove(_foreign_key(mirror), mirror["metadata"]["uid"], seen=True)


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


async def _caught(request: Any) -> Token | errors.FarletError:
    """So that one refused audience does not cancel the request of another half way."""
    try:
        token: Token = await request
    except errors.FarletError as err:
        return err
    return token


def _home_path(key: ObjectKey) -> str:
    return f"/api/v1/namespaces/{key.namespace}/pods/{key.name}"


def _path(pod: Pod) -> str:
    metadata = pod["metadata"]
    return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"


def _foreign_key(pod: Pod) -> ObjectKey:
    return ObjectKey(pod["metadata"]["namespace"], pod["metadata"]["name"])
