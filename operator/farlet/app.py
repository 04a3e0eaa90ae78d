"""Composition root: what starts, in which order, what is supervised, how it stops.

`Engine` is everything but Kopf: the connections, the store, the queue and its workers, the
scopes, the sweep, the probes. It runs in one event loop. Kopf feeds it from another thread;
`run` starts that thread itself (`farlet run`), `main.py` is started by Kopf (`kopf run`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path

import kopf
import structlog

from farlet import (
    access,
    clusters,
    endpoint,
    errors,
    events,
    handlers,
    homepods,
    kopfthread,
    perform,
    preflight,
    reconcile,
    scopes,
    workqueue,
)
from farlet.context import Context
from farlet.settings import Preflight, Settings
from farlet.store import Store
from farlet.telemetry import logs, probes
from farlet.telemetry.metrics import Metrics
from farlet.vocabulary import JSON, ObjectKey

RETRY_SECONDS = 3.0
PREFLIGHT_SECONDS = 60.0
REGISTRY_SECONDS = 2.0

log = structlog.get_logger()


class Engine:
    """One virtual node's worth of farlet, without Kopf."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self._strategies = access.load_strategies()
        self._home = clusters.Cluster(
            "home", endpoint.home_source(settings, os.environ), metrics=self.metrics.client("home")
        )
        self._foreign = clusters.Cluster(
            "foreign",
            endpoint.foreign_source(settings, os.environ),
            metrics=self.metrics.client("foreign"),
        )
        self._store = Store()
        self._fed: deque[tuple[str | None, JSON]] = deque()
        self._taking = False
        self._ctx: Context | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pods: homepods.HomePods | None = None
        self._scopes: scopes.Scopes | None = None
        self._starting: str | None = "starting"
        self.kopf_alive: Callable[[], bool] = lambda: True
        """Whether home pods are watched; set by who runs Kopf beside the engine."""

    def ctx(self) -> Context:
        """The context of the moment."""
        if self._ctx is None:
            raise RuntimeError("the context is read before the start was over")
        return self._ctx

    # --- what Kopf calls, from its thread -----------------------------------------------------

    def feed(self, kind: str | None, pod: JSON) -> None:
        """Hand a watch event over to the engine's loop."""
        self._fed.append((kind, pod))
        if self._taking or self._loop is None or self._pods is None or self._loop.is_closed():
            return
        # To wake the other loop costs a system call and a change of thread: once for a burst.
        self._taking = True
        self._loop.call_soon_threadsafe(self._take, self._loop, self._pods)

    def _take(self, loop: asyncio.AbstractEventLoop, pods: homepods.HomePods) -> None:
        # First: an event that comes from now on wakes us again, whether it is still seen or not.
        self._taking = False
        while self._fed:
            loop.call_soon(pods.event, *self._fed.popleft())

    def kopf_restarted(self) -> None:
        """Count, and look for what vanished meanwhile."""
        self.metrics.kopf_restarts.inc()
        if self._loop is not None and self._pods is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._pods.relisted)

    async def login(self) -> kopf.ConnectionInfo:
        """Home credentials as Kopf wants them, loaded afresh: Kopf asks again after a 401."""
        configuration = await clusters.load("home", endpoint.home_source(self.settings, os.environ))
        token = await configuration.get_api_key_with_prefix("BearerToken")
        return kopf.ConnectionInfo(
            server=str(configuration.host),
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            scheme="Bearer" if token else None,
            token=token.removeprefix("Bearer ") if token else None,
            proxy_url=configuration.proxy,
        )

    # --- life ---------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event, *, started: Callable[[], None]) -> None:
        """Run until `stop`, then drain. `started` is called when Kopf may begin.

        Raises `StartError` and `UsageError`.
        """
        self._loop = asyncio.get_running_loop()
        served = probes.serve(
            metrics=self.metrics,
            probes=probes.Probes(live={"kopf": self._kopf_problem}, ready=self._checks()),
            metrics_at=self.settings.metrics_bind_address,
            health_at=self.settings.health_probe_bind_address,
        )
        try:
            async with served, self._home, self._foreign:
                if await self._find_out(stop):
                    await self._serve(stop, started)
        except* errors.FarletError as group:
            raise _first(group) from None

    async def _find_out(self, stop: asyncio.Event) -> bool:
        """Make the context. Waits for an API server that does not answer; false once stopped."""
        home_id = self.settings.home_id
        while home_id is None:
            try:
                service = await self._home.call(
                    "GET", "/api/v1/namespaces/default/services/kubernetes"
                )
                home_id = service["metadata"]["uid"]
            except (errors.Unreachable, errors.Throttled) as err:
                self._starting = str(err)
                log.warning("home API server was not reached", err=str(err), retry_in=RETRY_SECONDS)
                if await _within(stop, RETRY_SECONDS):
                    return False
            except errors.ApiError as err:
                raise errors.StartError(
                    f"the home cluster cannot be identified: {err}. Allow farlet to get the "
                    "Service default/kubernetes, or give --home-id"
                ) from err
        where = endpoint.resolve_endpoint(self.settings, self._home.server)
        ca_file = self.settings.home_api_server_ca_file or self._home.ca_file
        home_ca = await asyncio.to_thread(Path(ca_file).read_text) if ca_file else ""
        self._ctx = self.settings.context(
            node=self.settings.nodename, home_id=home_id, endpoint=where, home_ca=home_ca
        )
        await self._check_endpoint()
        log.info(
            "farlet was started",
            node=self.settings.nodename,
            home=self._home.server,
            foreign=self._foreign.server,
            endpoint=None if where is None else where.netloc,
            owner=self._ctx.owner,
        )
        return True

    async def _serve(self, stop: asyncio.Event, started: Callable[[], None]) -> None:
        queue: workqueue.WorkQueue[ObjectKey] = workqueue.WorkQueue(self.metrics.queue("pods"))
        async with asyncio.TaskGroup() as tasks:
            recorder = events.Recorder(
                self._home, node=self.settings.nodename, dropped=self.metrics.events_dropped
            )
            self._scopes = scopes.Scopes(
                self._foreign, self._store, ctx=self.ctx, wake=queue.add_after, tasks=tasks
            )
            performer = perform.Performer(
                home=self._home,
                foreign=self._foreign,
                store=self._store,
                recorder=recorder,
                metrics=self.metrics,
                ctx=self.ctx,
            )
            reconciler = reconcile.Reconciler(
                store=self._store,
                scopes=self._scopes,
                queue=queue,
                performer=performer,
                recorder=recorder,
                strategies=self._strategies,
                ctx=self.ctx,
                home_listed=lambda: self._pods is not None and self._pods.listed,
            )
            self._scopes.noticed = performer.noticed
            self._pods = homepods.HomePods(
                self._home,
                self._store,
                node=self.settings.nodename,
                wake=queue.add,
                dropped=performer.dropped,
                on_listed=self._scopes.wake_all,
                prune=self._scopes.prune,
            )
            self.metrics.count_pods(self._count_pods)
            self.metrics.home_up.set_function(lambda: float(self._home_problem() is None))
            self.metrics.foreign_up.set_function(lambda: float(self._foreign_problem() is None))
            registry = tasks.create_task(self._scopes.load(), name="registry")
            # What refuses the start should do so before anything else has begun.
            await asyncio.wait([registry], timeout=REGISTRY_SECONDS)
            forever = [
                registry,
                tasks.create_task(self._pods.run(), name="sweep"),
                tasks.create_task(recorder.run(), name="events"),
                tasks.create_task(self._check_endpoint_for_ever(), name="preflight"),
            ]
            workers = [
                tasks.create_task(queue.work(reconciler.work), name=f"worker {n}")
                for n in range(self.settings.workers)
            ]
            self._starting = None
            started()
            await stop.wait()
            log.info("farlet is stopping")
            self._starting = "stopping"
            queue.close()
            _, unfinished = await asyncio.wait(workers, timeout=self.settings.shutdown_grace)
            for task in (*unfinished, *forever, *self._scopes.tasks()):
                task.cancel()
            await _drain(recorder)
            log.info("farlet was stopped", unfinished=len(unfinished))

    async def _check_endpoint_for_ever(self) -> None:
        """Look at the address again and again: certificates and routes change."""
        while True:
            await asyncio.sleep(PREFLIGHT_SECONDS)
            await self._check_endpoint()

    async def _check_endpoint(self) -> None:
        """Look at the home API's address; what is found changes the context."""
        before = self.ctx()
        required = self.settings.home_api_preflight is Preflight.REQUIRE
        self._ctx = await preflight.checked(before, required=required)
        if self._ctx != before and self._scopes is not None:
            self._scopes.wake_all()

    # --- what we tell of ourselves ------------------------------------------------------------

    def _checks(self) -> Mapping[str, probes.Check]:
        return {
            "started": lambda: self._starting,
            "home": self._home_problem,
            "foreign": self._foreign_problem,
        }

    def _kopf_problem(self) -> str | None:
        return None if self._starting or self.kopf_alive() else "its thread has ended"

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

    def _count_pods(self) -> Mapping[tuple[str, str], int]:
        counts: Counter[tuple[str, str]] = Counter()
        for phase, wanted in self._store.home.notes():
            mode = wanted or self.ctx().access_default
            counts[phase, mode if mode in self._strategies else "invalid"] += 1
        return counts


def run(settings: Settings) -> int:
    """`farlet run`: the engine in this thread, Kopf in one of its own. Returns the exit code.

    Raises `UsageError` and `StartError`.
    """
    logs.configure(settings.log_level, settings.log_format)
    engine = Engine(settings)
    registry = kopf.OperatorRegistry()
    handlers.register(
        registry, node=settings.nodename, login=engine.login, feed=lambda: engine.feed
    )
    thread = kopfthread.KopfThread(registry, on_restart=engine.kopf_restarted)
    engine.kopf_alive = lambda: thread.alive
    # Kopf warns that it handles no signals outside of the main thread; the engine does.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(sign, stop.set)
        try:
            await engine.run(stop, started=thread.start)
        finally:
            await thread.stop()

    asyncio.run(main())
    return 0


async def _drain(recorder: events.Recorder) -> None:
    try:
        async with asyncio.timeout(5):
            await recorder.drain()
    except TimeoutError:
        log.info("events were not posted in time")


async def _within(stop: asyncio.Event, seconds: float) -> bool:
    """Wait for `stop`, but not longer; returns whether it came."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True


def _first(group: BaseExceptionGroup[errors.FarletError]) -> errors.FarletError:
    """The innermost error that a person can act on."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, errors.FarletError)
    return found
