"""One farlet process on two fake clusters: every part but Kopf and the network is the real one.

Put together as `engine.Engine` does, with Kopf's watch played by `_kopf`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from prometheus_client import CollectorRegistry, Counter

from farlet import errors
from farlet.constants import JSON, ObjectKey
from farlet.context import Context
from farlet.foreign import namespaces
from farlet.foreign.identity import ForeignIdentity
from farlet.home import pods as home_pods
from farlet.reconcile import copies, event_recorder, executor, work_queue
from farlet.reconcile import reconciler as reconcile
from farlet.store import Store
from farlet.telemetry.metrics import Metrics
from unit.fakeclient import FakeClient
from unit.planning import objects
from unit.planning.fake_cluster import FakeCluster

WORKERS = 3
KOPF_RESTART_SECONDS = 1.0


class _Silent:
    """No metrics."""

    def added(self, depth: int) -> None:
        """Not counted."""

    def worked(self, waited: float, took: float, depth: int) -> None:
        """Not counted."""

    def retried(self) -> None:
        """Not counted."""


class _EventLog(FakeClient):
    """Keeps Events beside the other requests; they meet no fault and take no time."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._wire = cluster

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = "",
        accept: str | None = None,
    ) -> JSON:
        self._wire.note(f"{method} {path}", cast("JSON", body))
        return {}


def confirmed(
    foreign: FakeCluster, ctx: Context, *, on_change: Callable[[], None] = lambda: None
) -> ForeignIdentity:
    """The identity of a foreign cluster that the Node records."""
    identity = ForeignIdentity(foreign, ctx, on_change=on_change)
    foreign.guard = identity.guard
    identity.accept(foreign.namespace_uid(ctx.namespaces.own))
    return identity


async def run(home: FakeCluster, foreign: FakeCluster, metrics: Metrics) -> None:
    """Until cancelled, which is its kill -9."""
    store = Store()
    queue: work_queue.WorkQueue[ObjectKey] = work_queue.WorkQueue(
        _Silent(), urgency=reconcile.urgency_of(store, lambda: objects.CONTEXT)
    )
    dropped = Counter("dropped", "Events that were dropped", registry=CollectorRegistry())
    event_log = _EventLog(home)
    recorder = event_recorder.Recorder(
        event_log, node=objects.CONTEXT.node, dropped=dropped, busy=lambda: False
    )
    identity = confirmed(foreign, objects.CONTEXT)
    kopf = _Kopf(home)
    async with asyncio.TaskGroup() as tasks:
        action_executor = executor.ActionExecutor(
            home=home,
            foreign=foreign,
            store=store,
            recorder=recorder,
            metrics=metrics,
            ctx=lambda: objects.CONTEXT,
            confirm_foreign=identity.confirm,
        )
        opened = namespaces.ForeignNamespaces(
            foreign,
            store,
            ctx=lambda: objects.CONTEXT,
            wake=queue.add_after,
            on_mirror_change=action_executor.times.changed,
            on_copy_change=lambda source: copying.copy_changed(source),
            on_namespace_change=lambda namespace: copying.namespace_changed(namespace),
            identity=identity,
            tasks=tasks,
        )
        copying = copies.Copies(
            home,
            foreign,
            store,
            opened,
            watches=home,
            observer=_Silent(),
            ctx=lambda: objects.CONTEXT,
            home_listed=lambda: pods.has_synced,
            wake=queue.add,
            tasks=tasks,
        )
        reconciler = reconcile.Reconciler(
            store=store,
            namespaces=opened,
            queue=queue,
            executor=action_executor,
            copies=copying,
            recorder=recorder,
            strategies=objects.STRATEGIES,
            ctx=lambda: objects.CONTEXT,
            home_listed=lambda: pods.has_synced,
        )
        pods = home_pods.HomePods(
            home,
            store,
            node=objects.CONTEXT.node,
            wake=queue.add,
            dropped=action_executor.home.dropped,
            on_synced=opened.wake_all,
            prune=opened.request_prune,
            restart_watch=kopf.restart,
        )
        tasks.create_task(recorder.run())
        tasks.create_task(opened.load())
        tasks.create_task(pods.run())
        tasks.create_task(kopf.run(pods))
        copying.start()
        for _ in range(WORKERS):
            tasks.create_task(queue.work(reconciler.work))


class _Kopf:
    """Lists (events of type None), watches, continues after a broken watch, lists after 410.

    It never reports what vanished between two lists. It is restarted when it fails.
    """

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self._watching: asyncio.Task[None] | None = None
        self._restarting = False
        self._version = ""

    def restart(self) -> None:
        self._version = ""
        if self._watching is not None and not self._watching.done():
            self._restarting = True
            self._watching.cancel()

    async def run(self, pods: home_pods.HomePods) -> None:
        while True:
            self._watching = asyncio.create_task(self._watch(pods))
            try:
                await self._watching
            except errors.Gone:
                self._version = ""
            except errors.Unreachable:
                await asyncio.sleep(KOPF_RESTART_SECONDS)
                if not self._version:
                    pods.resync()
            except asyncio.CancelledError:
                if not self._restarting:
                    raise
                self._restarting = False
                await asyncio.sleep(KOPF_RESTART_SECONDS)
                pods.resync()

    async def _watch(self, pods: home_pods.HomePods) -> None:
        query = f"/api/v1/pods?fieldSelector=spec.nodeName%3D{objects.CONTEXT.node}"
        if not self._version:
            listed = await self._cluster.call("GET", query)
            for pod in listed["items"]:
                pods.event(None, pod)
            self._version = listed["metadata"]["resourceVersion"]
        path = f"{query}&resourceVersion={self._version}"
        async for event in self._cluster.watch_path(path, opened=lambda: None):
            self._version = event.object["metadata"]["resourceVersion"]
            if event.kind != "BOOKMARK":
                pods.event(event.kind, cast("Any", event.object))
