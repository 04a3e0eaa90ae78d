"""Keep the copies of ConfigMaps and Secrets that pods refer to: one key for each home object.

Pods say what they refer to, and get what `planning.copies` makes of it. A change of an object, of
its copy or of the pods that use it queues its key. Content is read for each write and never kept.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast

import structlog

from farlet import errors, redaction
from farlet.client.api_client import ApiClient
from farlet.client.request_slots import URGENCY
from farlet.constants import JSON, ObjectKey, Reason
from farlet.context import Context
from farlet.foreign.namespace import ForeignNamespace
from farlet.foreign.namespaces import ForeignNamespaces
from farlet.forge import containers, copies, status
from farlet.forge.copies import Source
from farlet.forge.references import Kind
from farlet.home import copy_sources
from farlet.k8s_types import ObjectMeta, PartialObject, Pod
from farlet.planning import api_refusals, predicates
from farlet.planning import copies as planning
from farlet.planning.actions import Step
from farlet.planning.copies import CopySnapshot, HomeObject
from farlet.planning.snapshot import CopyState, Missing
from farlet.planning.urgency import Urgency
from farlet.reconcile.work_queue import Observer, WorkQueue
from farlet.store import Store, version

WORKERS = 8
STEPS = 8
"""No object needs as many actions in a row."""

_WITHHELD = "the message is not shown, since it can contain what the Secret contains"

log = structlog.get_logger()


@dataclass(slots=True)
class _Pass:
    """What one pass over a key has read."""

    body: JSON | None = None
    live: HomeObject | Missing | None = None
    found: ObjectMeta | None = None
    """What a live read has found under the copy's name, until it is written."""
    rejected: bool = False


class _Referred(NamedTuple):
    """What a home pod refers to."""

    uid: str
    ephemeral: tuple[str, ...]
    """Its ephemeral containers that have not ended."""
    sources: frozenset[Source]

    @classmethod
    def of(cls, home: Pod, sources: frozenset[Source]) -> _Referred:
        names = tuple(c["name"] for c in containers.unfinished_ephemeral(home))
        return cls(predicates.uid(home), names, sources)


class Copies:
    """Follows the objects that pods refer to. Tasks run in the given task group."""

    def __init__(
        self,
        home: ApiClient,
        foreign: ApiClient,
        store: Store,
        namespaces: ForeignNamespaces,
        *,
        watches: ApiClient,
        observer: Observer,
        ctx: Callable[[], Context],
        home_listed: Callable[[], bool],
        wake: Callable[[ObjectKey], None],
        tasks: asyncio.TaskGroup,
    ) -> None:
        """`watches` opens the watches of home objects; `wake` reconciles a pod."""
        self._home = home
        self._foreign = foreign
        self._store = store
        self._namespaces = namespaces
        self._ctx = ctx
        self._home_listed = home_listed
        self._wake = wake
        self._tasks = tasks
        self._queue: WorkQueue[Source] = WorkQueue(observer)
        self._sources = copy_sources.Sources(watches, on_change=self._changed, tasks=tasks)
        self._referred: dict[ObjectKey, _Referred] = {}
        """By home pod."""
        self._users: dict[Source, set[ObjectKey]] = {}
        self._waiting: set[ObjectKey] = set()
        """Home pods without a mirror, to which the state of an object matters."""
        self._problems: dict[Source, errors.Refused] = {}

    def start(self) -> list[asyncio.Task[None]]:
        """Start the workers; returns their tasks."""
        return [
            self._tasks.create_task(self._queue.work(self._work), name=f"copies {n}")
            for n in range(WORKERS)
        ]

    def close(self) -> None:
        """Let running work end; begin nothing new."""
        self._queue.close()

    def tasks(self) -> list[asyncio.Task[None]]:
        """The watches, to be cancelled at the end."""
        return self._sources.tasks()

    # --- pods ---------------------------------------------------------------------------------

    def states(
        self, key: ObjectKey, home: Pod | Missing, *, waits: bool
    ) -> Mapping[Source, CopyState] | None:
        """What pod `key` refers to; `None` if it refers to something that is not followed yet.

        A pod that is gone or has ended refers to nothing. `waits`: the pod has no mirror; for
        another pod the states do not matter, and the answer is empty.
        """
        if isinstance(home, Missing):
            if home is Missing.ABSENT:
                self._release(key)
            return {}
        known = self._refer(key, home)
        if known and status.is_terminal(home):
            self._release(key)
            self._referred[key] = _Referred.of(home, frozenset())
            return {}
        if any(key not in self._users.get(source, ()) for source in known):
            return None
        if not waits:
            self._waiting.discard(key)
            return {}
        self._waiting.add(key)
        ctx = self._ctx()
        return {
            source: planning.state(self._snapshot(source, _Pass()), ctx=ctx) for source in known
        }

    def follow(self, key: ObjectKey, followed: frozenset[Source]) -> None:
        """Pod `key` uses these objects."""
        namespace = self._namespaces.of(key.namespace)
        if namespace is not None:
            namespace.copies.follow()
        for source in followed:
            self._users.setdefault(source, set()).add(key)
            self._sources.follow(source)
            self._queue.add(source)

    def _refer(self, key: ObjectKey, home: Pod) -> frozenset[Source]:
        """What the pod refers to now. Of its spec, only its ephemeral containers can change."""
        known = self._referred.get(key)
        if known is not None and known == _Referred.of(home, known.sources):
            return known.sources
        now = _Referred.of(home, copies.sources(home))
        if known is not None and known.uid != now.uid:
            self._release(key)
        elif known is not None:
            self._drop(key, known.sources - now.sources)
        self._referred[key] = now
        return now.sources

    def _release(self, key: ObjectKey) -> None:
        self._waiting.discard(key)
        before = self._referred.pop(key, None)
        if before is not None:
            self._drop(key, before.sources)

    def _drop(self, key: ObjectKey, dropped: frozenset[Source]) -> None:
        """Pod `key` does not use these objects any more."""
        for source in dropped:
            users = self._users.get(source)
            if users is None:
                continue
            users.discard(key)
            if not users:
                del self._users[source]
                self._problems.pop(source, None)
                self._sources.forget(source)
                self._queue.forget(source)
                self._queue.add(source)

    # --- keys ---------------------------------------------------------------------------------

    def _changed(self, source: Source) -> None:
        self._queue.add(source)
        self._wake_users(source)

    def copy_changed(self, source: Source) -> None:
        """The copy of `source` has changed."""
        self._queue.add(source)

    def namespace_changed(self, namespace: ForeignNamespace) -> None:
        """Decide again about all copies in a foreign namespace."""
        for source in {*self._users, *namespace.copies.sources()}:
            if source.namespace == namespace.home:
                self._queue.add(source)

    def _wake_users(self, source: Source) -> None:
        for key in self._users.get(source, set()) & self._waiting:
            self._wake(key)

    async def _work(self, source: Source) -> None:
        URGENCY.set(Urgency.START)
        try:
            await self._reconcile(source)
        except errors.FarletError as err:
            self._failed(source, err)
        except Exception:
            # As for a pod: an internal error concerns only this object.
            log.exception("copying failed with an internal error", source=str(source))
            self._queue.retry(source, at_least=5.0)

    async def _reconcile(self, source: Source) -> None:
        state = _Pass()
        for _ in range(STEPS):
            snapshot = self._snapshot(source, state)
            action = planning.decide(snapshot, ctx=self._ctx())
            if action is None:
                break
            try:
                await self._perform(source, action, state)
            except errors.ApiError as err:
                raise _without_content(err, source, state.body) from None
        else:
            raise errors.Refused(Reason.INTERNAL_ERROR, f"the copy of the {source} does not settle")
        self._queue.forget(source)
        problem = planning.conflict(snapshot)
        if problem is None:
            self._problems.pop(source, None)
        else:
            self._problems[source] = problem
        if state.live is not None or problem is not None:
            self._wake_users(source)
        if state.found is not None and source in self._users:
            self._queue.retry(source)  # no watch shows when it is gone

    def _failed(self, source: Source, err: errors.FarletError) -> None:
        seconds = self._queue.retry(source)
        problem = self._explained(source, err)
        before = self._problems.get(source)
        log_it = log.debug if before is not None or problem is None else log.warning
        log_it("failed to copy an object", source=str(source), err=str(err), retry_in=seconds)
        if problem is not None and (before is None or before.reason is not problem.reason):
            self._problems[source] = problem
            self._wake_users(source)

    def _explained(self, source: Source, err: errors.FarletError) -> errors.Refused | None:
        """What an error means to the owner of a pod, if it concerns the pod."""
        if not isinstance(err, errors.ApiError) or err.cluster != "home":
            return api_refusals.of(err, step=Step.COPY, home=source.namespace)
        return api_refusals.of_source(err, str(source))

    # --- facts --------------------------------------------------------------------------------

    def _snapshot(self, source: Source, state: _Pass) -> CopySnapshot:
        ctx = self._ctx()
        namespace = self._namespaces.of(source.namespace)
        problem = self._problems.get(source)
        if namespace is None:
            return CopySnapshot(
                source, Missing.UNKNOWN, Missing.UNKNOWN, self._used(source), open=False
            )
        table = self._store.copies[source.kind]
        key = ObjectKey(namespace.foreign, copies.copy_name(source, ctx))
        copy: ObjectMeta | Missing = Missing.UNKNOWN
        if state.found is not None:
            copy = state.found
        elif not table.doubted(key):
            found = table.get(key)
            if found is not None:
                copy = found["metadata"]
            elif namespace.copies.in_sync(source.kind):
                copy = Missing.ABSENT
        for err in (self._sources.error(source), namespace.copies.error(source.kind)):
            problem = problem or (None if err is None else self._explained(source, err))
        return CopySnapshot(
            source,
            self._sources.get(source),
            copy,
            self._used(source),
            open=namespace.anchor is not None and self._namespaces.identity.confirmed,
            live=state.live,
            rejected=state.rejected,
            problem=problem,
        )

    def _used(self, source: Source) -> bool | None:
        """Whether a pod of this node that has not ended refers to it; `None`: not known."""
        if source in self._users:
            return True
        if not self._home_listed():
            return None
        for key in self._store.home.keys(source.namespace):
            if self._store.home.doubted(key):
                return None
            known = self._referred.get(key)
            if known is not None and known.uid == self._store.home.uid(key):
                found = known.sources
            else:
                pod = self._store.home.get(key)
                if pod is None or status.is_terminal(pod):
                    continue
                found = copies.sources(pod)
            if source in found:
                return True
        return False

    # --- actions ------------------------------------------------------------------------------

    async def _perform(self, source: Source, action: planning.CopyAction, state: _Pass) -> None:
        """Perform one action. Raises what `ApiClient` raises."""
        match action:
            case planning.ReadSource():
                await self._read(source, state)
            case planning.WriteCopy():
                await self._write(source, action, state)
            case planning.DeleteCopy():
                await self._delete(source, action.copy, state)
            case planning.UnmarkCopy():
                await self._unmark(source, action.copy, state)

    async def _read(self, source: Source, state: _Pass) -> None:
        resource = copy_sources.RESOURCES[source.kind]
        try:
            body = await self._home.get(resource, source.name, namespace=source.namespace)
        except errors.NotFound:
            state.body, state.live = None, Missing.ABSENT
            self._sources.read(source, None)
            return
        state.body, state.live = body, HomeObject.of(body)
        self._sources.read(source, state.live)

    async def _write(self, source: Source, action: planning.WriteCopy, state: _Pass) -> None:
        assert state.body is not None, "what is written was read in this pass"
        resource = copy_sources.RESOURCES[source.kind]
        foreign = self._foreign_name(source)
        body = copies.forge_copy(
            state.body,
            source,
            namespace=foreign.namespace,
            existing=action.existing,
            ctx=self._ctx(),
        )
        try:
            if action.existing is None:
                answer = await self._foreign.create(resource, body, namespace=foreign.namespace)
            else:
                answer = await self._foreign.replace(
                    resource, foreign.name, body, namespace=foreign.namespace
                )
        except (errors.Conflict, errors.NotFound) as err:
            if isinstance(err, errors.NotFound) and action.existing is None:
                raise  # the namespace is gone
            await self._refresh(source, action.existing, state)
            return
        except errors.Invalid:
            if action.existing is None or state.rejected:
                raise
            state.rejected = True
            return
        state.rejected, state.found = False, None
        self._store.copies[source.kind].put(cast("PartialObject", answer))

    async def _refresh(self, source: Source, known: ObjectMeta | None, state: _Pass) -> None:
        """What was known of the copy is out of date: read it."""
        foreign, table = self._foreign_name(source), self._store.copies[source.kind]
        resource = copy_sources.RESOURCES[source.kind].metadata_only
        try:
            found = await self._foreign.get(resource, foreign.name, namespace=foreign.namespace)
        except errors.NotFound:
            state.found = None
            if known is not None:
                table.remove(foreign, known["uid"])
            return
        metadata = found["metadata"]
        if known is not None and known["uid"] != metadata["uid"]:
            table.remove(foreign, known["uid"])
        if copies.mark(self._ctx()) in copies.marks(metadata):
            table.put(found)
        elif known is not None:
            table.remove(foreign, known["uid"], as_of=version(metadata))
        state.found = metadata

    async def _delete(self, source: Source, copy: ObjectMeta, state: _Pass) -> None:
        foreign = self._foreign_name(source)
        preconditions = {"uid": copy["uid"], "resourceVersion": copy["resourceVersion"]}
        try:
            await self._foreign.delete(
                copy_sources.RESOURCES[source.kind],
                foreign.name,
                {"preconditions": preconditions},
                namespace=foreign.namespace,
            )
        except errors.NotFound:
            pass
        except errors.Conflict:
            await self._refresh(source, copy, state)
            return
        state.found, state.rejected = None, False
        self._store.copies[source.kind].remove(foreign, copy["uid"])

    async def _unmark(self, source: Source, copy: ObjectMeta, state: _Pass) -> None:
        foreign = self._foreign_name(source)
        metadata = {
            "uid": copy["uid"],
            "resourceVersion": copy["resourceVersion"],
            "labels": {copies.mark(self._ctx()): None},
        }
        try:
            answer = await self._foreign.patch(
                copy_sources.RESOURCES[source.kind],
                foreign.name,
                {"metadata": metadata},
                namespace=foreign.namespace,
            )
        except errors.NotFound:
            self._store.copies[source.kind].remove(foreign, copy["uid"])
        except errors.Conflict:
            await self._refresh(source, copy, state)
        else:
            as_of = version(answer["metadata"])
            self._store.copies[source.kind].remove(foreign, copy["uid"], as_of=as_of)
            state.found = None

    def _foreign_name(self, source: Source) -> ObjectKey:
        ctx = self._ctx()
        namespace = ctx.namespaces.foreign(source.namespace)
        assert namespace is not None, "only what is offloaded has a copy"
        return ObjectKey(namespace, copies.copy_name(source, ctx))


def _without_content(err: errors.ApiError, source: Source, body: JSON | None) -> errors.ApiError:
    """The error, without a message that repeats what a Secret contains.

    Admission of the foreign cluster sees the copy, also when it is deleted, and can quote it.
    """
    if source.kind is not Kind.SECRET or err.cluster == "home":
        return err
    if body is not None and not redaction.repeats(err.message, _texts(body)):
        return err
    return type(err)(
        cluster=err.cluster,
        request=err.request,
        code=err.code,
        status_reason=err.status_reason,
        message=_WITHHELD,
    )


def _texts(body: JSON) -> Iterator[str]:
    for value in (body.get("data") or {}).values():
        yield value
        yield base64.b64decode(value).decode(errors="replace")
