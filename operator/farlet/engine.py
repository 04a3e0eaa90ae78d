"""Everything of one virtual node but Kopf: put together here, started and stopped in order.

The connections, the store, the queue and its workers, the scopes, the sweep, the probes run in
one event loop. Kopf feeds it from another thread, started by `app.py` (`farlet run`) or being
itself the starter (`kopf run operator/main.py`).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping

import structlog

from farlet import (
    access,
    bridge,
    census,
    clusters,
    discovery,
    endpoint,
    errors,
    events,
    homepods,
    perform,
    reconcile,
    scopes,
    workqueue,
)
from farlet.settings import Settings
from farlet.store import Store
from farlet.telemetry import looplag, probes
from farlet.telemetry.metrics import Metrics
from farlet.vocabulary import ObjectKey

REGISTRY_SECONDS = 2.0

log = structlog.get_logger()


class Engine:
    """One virtual node's worth of farlet, without Kopf."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self._strategies = access.load_strategies()
        home_source = endpoint.home_source(settings, os.environ)
        foreign_source = endpoint.foreign_source(settings, os.environ)
        self._home = clusters.Cluster("home", home_source, metrics=self.metrics.client("home"))
        self._foreign = clusters.Cluster(
            "foreign", foreign_source, metrics=self.metrics.client("foreign")
        )
        self._store = Store()
        self._discovery = discovery.Discovery(settings, self._home, on_change=self._wake_all)
        self.bridge = bridge.Bridge(home_source, on_restart=self.metrics.kopf_restarts.inc)
        self._pods: homepods.HomePods | None = None
        self._scopes: scopes.Scopes | None = None
        self._phase: str | None = "starting"
        """What keeps pods from being served now; `None` while they are."""
        self.kopf_alive: Callable[[], bool] = lambda: True
        """Whether home pods are watched; set by who runs Kopf beside the engine."""

    async def run(self, stop: asyncio.Event, *, started: Callable[[], None]) -> None:
        """Run until `stop`, then drain. `started` is called when Kopf may begin.

        Raises `StartError` and `UsageError`.
        """
        served = probes.serve(
            metrics=self.metrics,
            probes=probes.Probes(live={"kopf": self._kopf_problem}, ready=self._checks()),
            metrics_at=self.settings.metrics_bind_address,
            health_at=self.settings.health_probe_bind_address,
        )
        try:
            async with served, self._home, self._foreign:
                if await self._discovery.find_out(stop):
                    await self._serve(stop, started)
        except* errors.FarletError as group:
            raise _first(group) from None

    async def _serve(self, stop: asyncio.Event, started: Callable[[], None]) -> None:
        ctx = self._discovery.ctx
        log.info(
            "farlet was started",
            node=self.settings.nodename,
            home=self._home.server,
            foreign=self._foreign.server,
            endpoint=None if (where := ctx().endpoint) is None else where.netloc,
            owner=ctx().owner,
        )
        observer = self.metrics.queue("pods")
        queue: workqueue.WorkQueue[ObjectKey] = workqueue.WorkQueue(observer)
        observer.look_at(queue.running)
        async with asyncio.TaskGroup() as tasks:
            recorder = events.Recorder(
                self._home, node=self.settings.nodename, dropped=self.metrics.events_dropped
            )
            self._scopes = scopes.Scopes(
                self._foreign, self._store, ctx=ctx, wake=queue.add_after, tasks=tasks
            )
            performer = perform.Performer(
                home=self._home,
                foreign=self._foreign,
                store=self._store,
                recorder=recorder,
                metrics=self.metrics,
                ctx=ctx,
            )
            reconciler = reconcile.Reconciler(
                store=self._store,
                scopes=self._scopes,
                queue=queue,
                performer=performer,
                recorder=recorder,
                strategies=self._strategies,
                ctx=ctx,
                home_listed=lambda: self._pods is not None and self._pods.listed,
            )
            self._scopes.noticed = performer.moments.noticed
            self._pods = homepods.HomePods(
                self._home,
                self._store,
                node=self.settings.nodename,
                wake=queue.add,
                dropped=performer.at_home.dropped,
                on_listed=self._scopes.wake_all,
                prune=self._scopes.prune,
            )
            self.bridge.open(self._pods)
            self._tell_of(census.Census(self._store, modes=self._strategies, ctx=ctx))
            self.metrics.home_up.set_function(lambda: float(self._home_problem() is None))
            self.metrics.foreign_up.set_function(lambda: float(self._foreign_problem() is None))
            registry = tasks.create_task(self._scopes.load(), name="registry")
            # What refuses the start should do so before anything else has begun.
            await asyncio.wait([registry], timeout=REGISTRY_SECONDS)
            forever = [
                registry,
                tasks.create_task(self._pods.run(), name="sweep"),
                tasks.create_task(recorder.run(), name="events"),
                tasks.create_task(self._discovery.run(), name="preflight"),
                tasks.create_task(looplag.watch(self.metrics.loop_lag.observe), name="loop lag"),
            ]
            workers = [
                tasks.create_task(queue.work(reconciler.work), name=f"worker {n}")
                for n in range(self.settings.workers)
            ]
            self._phase = None
            started()
            await stop.wait()
            log.info("farlet is stopping")
            self._phase = "stopping"
            queue.close()
            _, unfinished = await asyncio.wait(workers, timeout=self.settings.shutdown_grace)
            for task in (*unfinished, *forever, *self._scopes.tasks()):
                task.cancel()
            await _drain(recorder)
            log.info("farlet was stopped", unfinished=len(unfinished))

    def _wake_all(self) -> None:
        if self._scopes is not None:
            self._scopes.wake_all()

    # --- what we tell of ourselves ------------------------------------------------------------

    def _tell_of(self, counted: census.Census) -> None:
        self.metrics.serves(self.settings.nodename)
        self.metrics.count_pods(counted.pods)
        self.metrics.running_pods.set_function(counted.running)
        self.metrics.token_age.set_function(lambda: counted.token_age(time.time()))
        self.metrics.token_remaining.set_function(lambda: counted.token_remaining(time.time()))

    def _checks(self) -> Mapping[str, probes.Check]:
        return {
            "started": lambda: self._phase and (self._discovery.problem or self._phase),
            "home": self._home_problem,
            "foreign": self._foreign_problem,
        }

    def _kopf_problem(self) -> str | None:
        return None if self._phase or self.kopf_alive() else "its thread has ended"

    def _home_problem(self) -> str | None:
        if self._pods is None:
            return "not started"
        return (
            self._home.problem
            or self._pods.error
            or (None if self._pods.listed else "home pods are being listed")
        )

    def _foreign_problem(self) -> str | None:
        if self._scopes is None:
            return "not started"
        if self._scopes.refused is not None:
            return self._scopes.refused.message
        if self._foreign.problem is not None:
            return self._foreign.problem
        return None if self._scopes.loaded.is_set() else "the registry is being read"


async def _drain(recorder: events.Recorder) -> None:
    try:
        async with asyncio.timeout(5):
            await recorder.drain()
    except TimeoutError:
        log.info("events were not posted in time")


def _first(group: BaseExceptionGroup[errors.FarletError]) -> errors.FarletError:
    """The innermost error that a person can act on."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, errors.FarletError)
    return found
