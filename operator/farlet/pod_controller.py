"""The part of farlet that mirrors pods: watches of both clusters, the queue and its workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

import structlog

from farlet import access
from farlet.client.api_client import ApiClient
from farlet.client.storage_identity import StorageIdentity
from farlet.constants import ObjectKey, Reason
from farlet.context import Context, Reflection
from farlet.foreign import namespaces
from farlet.foreign.created_namespaces import CreatedNamespaces
from farlet.foreign.identity import ForeignIdentity
from farlet.foreign.namespace import ForeignNamespace
from farlet.forge.status import mirrored_uid
from farlet.home import pods as home_pods
from farlet.k8s_types import Node
from farlet.planning.mirror_events import Shown
from farlet.reconcile import (
    claims,
    copies,
    event_recorder,
    executor,
    mirror_events,
    reconciler,
    work_queue,
)
from farlet.settings import Settings
from farlet.store import Store
from farlet.telemetry import pod_counts
from farlet.telemetry.metrics import Metrics

INVENTORY_SECONDS = 2.0
EVENTS_SECONDS = 5.0
MIRROR_EVENTS_SECONDS = 1.0
"""The next leader waits for these."""

_OF_MIRRORS = frozenset({Reason.MIRROR_CREATED})
"""Normal Events about mirrors, which only `--mirror-events=all` shows."""

log = structlog.get_logger()


class PodController:
    """`start`, feed `pods`, `finish`. Its tasks run in the given task group."""

    def __init__(
        self,
        settings: Settings,
        *,
        home: ApiClient,
        home_events: ApiClient,
        home_watches: ApiClient,
        foreign: ApiClient,
        store: Store,
        strategies: Mapping[str, access.AccessStrategy],
        metrics: Metrics,
        ctx: Callable[[], Context],
        identity: ForeignIdentity,
        tasks: asyncio.TaskGroup,
        restart_watch: Callable[[], None],
        home_storage: ApiClient | None,
        storage_identity: StorageIdentity | None,
    ) -> None:
        """`home_storage`: the home cluster, with the identity for volumes, and whether that is
        confirmed (`storage_identity`); `None`: farlet provides none. `home_events`: the home
        cluster, for Events. `home_watches`: the same, for watches of single objects.
        `restart_watch` restarts Kopf's watch of home pods."""
        self._settings = settings
        self._store = store
        self._tasks = tasks
        observer = metrics.queue("pods")
        self._queue: work_queue.WorkQueue[ObjectKey] = work_queue.WorkQueue(
            observer, urgency=reconciler.urgency_of(store, ctx)
        )
        observer.observe_running(self._queue.running)
        self._recorder = event_recorder.Recorder(
            home_events,
            node=settings.nodename,
            dropped=metrics.events_dropped,
            busy=self._is_busy,
            silent=frozenset() if settings.mirror_events is Shown.ALL else _OF_MIRRORS,
        )
        action_executor = executor.ActionExecutor(
            home=home,
            foreign=foreign,
            store=store,
            recorder=self._recorder,
            metrics=metrics,
            ctx=ctx,
            confirm_foreign=identity.confirm,
            on_dropped=self._dropped,
        )
        self._mirror_events: mirror_events.MirrorEvents | None = None
        if settings.mirror_events is not Shown.NONE:
            self._mirror_events = mirror_events.MirrorEvents(
                home_events,
                store,
                shown=settings.mirror_events,
                ctx=ctx,
                created_here=action_executor.times.created_here,
                busy=self._is_busy,
                dropped=metrics.mirror_events_dropped,
            )
        created: CreatedNamespaces | None = None
        if settings.create_namespaces:
            created = CreatedNamespaces(
                home,
                foreign,
                new=settings.namespace_defaults,
                ctx=ctx,
                confirm=identity.confirm,
                report=self._recorder.note_namespace,
            )
        self.namespaces = namespaces.ForeignNamespaces(
            foreign,
            store,
            ctx=ctx,
            wake=self._queue.add_after,
            on_mirror_change=action_executor.times.changed,
            on_mirror_event=None if self._mirror_events is None else self._mirror_events.offer,
            on_copy_change=lambda source: self._copies.copy_changed(source),
            on_namespace_change=self._namespace_changed,
            with_volumes=lambda: () if self._claims is None else self._claims.with_volumes(),
            identity=identity,
            tasks=tasks,
            created=created,
            reflect_from=home if Reflection.SERVICES in settings.reflect else None,
        )
        self.pods = home_pods.HomePods(
            home,
            store,
            node=settings.nodename,
            wake=self._queue.add,
            dropped=action_executor.home.dropped,
            on_synced=self.namespaces.wake_all,
            prune=self.namespaces.request_prune,
            restart_watch=restart_watch,
        )
        self._copies = copies.Copies(
            home,
            foreign,
            store,
            self.namespaces,
            watches=home_watches,
            observer=metrics.queue("copies"),
            ctx=ctx,
            home_listed=lambda: self.pods.has_synced,
            wake=self._queue.add,
            tasks=tasks,
        )
        self._claims: claims.Claims | None = None
        if home_storage is not None and storage_identity is not None:
            self._claims = claims.Claims(
                home_storage,
                foreign,
                self.namespaces,
                observer=metrics.queue("claims"),
                ctx=ctx,
                note=self._recorder.note_claim,
                wake=self._queue.add,
                shows_events=settings.mirror_events is not Shown.NONE,
                at_home=storage_identity,
                tasks=tasks,
            )
        self._reconciler = reconciler.Reconciler(
            store=store,
            namespaces=self.namespaces,
            queue=self._queue,
            executor=action_executor,
            copies=self._copies,
            recorder=self._recorder,
            strategies=strategies,
            ctx=ctx,
            home_listed=lambda: self.pods.has_synced,
            claims=reconciler.no_claims if self._claims is None else self._claims.states,
        )
        self._services: list[asyncio.Task[None]] = []
        self._workers: list[asyncio.Task[None]] = []
        self.counts = pod_counts.PodCounts(store, modes=strategies, ctx=ctx)
        _count(self.counts, metrics)

    def used_namespaces(self) -> list[reconciler.UsedNamespace]:
        """The home namespaces of pods on the node, and why these wait."""
        return self._reconciler.used_namespaces()

    def note_node(self, node: Node, reason: Reason, message: str) -> None:
        """Report an Event on the Node."""
        self._recorder.note_node(node, reason, message)

    def _dropped(self, foreign: ObjectKey) -> None:
        if self._mirror_events is not None:
            self._mirror_events.forget(foreign)

    def _is_busy(self) -> bool:
        """Whether pods wait to be reconciled."""
        return len(self._queue) > 0

    def _namespace_changed(self, namespace: ForeignNamespace) -> None:
        self._copies.namespace_changed(namespace)
        if self._claims is not None:
            self._claims.namespace_changed(namespace)

    def may_appear(self, key: ObjectKey) -> bool:
        """Whether a pod, or the mirror that it had, can still appear: farlet has just started."""
        home = self._store.home.get(key)
        if home is None:
            return not self.pods.has_synced
        return mirrored_uid(home) is not None and not self.namespaces.mirrors_in_sync(key.namespace)

    @property
    def started(self) -> bool:
        """Whether pods are reconciled, or were."""
        return bool(self._workers)

    async def start(self) -> None:
        """Start. A `StartError` is raised in the task group, before any other task starts."""
        inventory = self._tasks.create_task(self.namespaces.load(), name="inventory")
        await asyncio.wait([inventory], timeout=INVENTORY_SECONDS)
        self._services = [
            inventory,
            self._tasks.create_task(self.pods.run(), name="resync"),
            self._tasks.create_task(self._recorder.run(), name="events"),
        ]
        if self._mirror_events is not None:
            self._services.append(
                self._tasks.create_task(self._mirror_events.run(), name="mirror events")
            )
        self._workers = [
            self._tasks.create_task(self._queue.work(self._reconciler.work), name=f"worker {n}")
            for n in range(self._settings.workers)
        ]
        self._workers += self._copies.start()
        if self._claims is not None:
            self._workers += self._claims.start()

    async def finish(self, *, immediate: asyncio.Event) -> int:
        """Let running work end within the grace period, or none after `immediate`.

        Returns how many workers did not end.
        """
        self._queue.close()
        self._copies.close()
        if self._claims is not None:
            self._claims.close()
        unfinished = set(self._workers)
        if unfinished:
            grace = self._settings.shutdown_grace_period
            ends = {
                asyncio.create_task(immediate.wait()),
                asyncio.ensure_future(asyncio.wait(unfinished, timeout=grace)),
            }
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
            unfinished = {task for task in unfinished if not task.done()}
        claim_watches = () if self._claims is None else self._claims.tasks()
        own = (
            *self._services,
            *self.namespaces.tasks(),
            *self._copies.tasks(),
            *claim_watches,
        )
        for task in (*unfinished, *own):
            task.cancel()
        try:
            async with asyncio.timeout(0 if immediate.is_set() else EVENTS_SECONDS):
                await self._recorder.drain()
                if self._mirror_events is not None:
                    async with asyncio.timeout(MIRROR_EVENTS_SECONDS):
                        await self._mirror_events.drain()
        except TimeoutError:
            log.warning("unsent events dropped at shutdown")
        return len(unfinished)


def _count(counted: pod_counts.PodCounts, metrics: Metrics) -> None:
    metrics.count_pods(counted.pods)
    metrics.running_pods.set_function(counted.running)
    metrics.token_age.set_function(lambda: counted.token_age(time.time()))
    metrics.token_remaining.set_function(lambda: counted.token_remaining(time.time()))
