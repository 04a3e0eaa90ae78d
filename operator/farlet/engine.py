"""Builds, starts and stops all parts of one virtual node except Kopf.

Connections, the Node, the pod controller, the kubelet API and the probes run in one event loop.
Kopf delivers home pods from another thread: `app.py` starts it (`farlet run`), or it starts the
engine (`kopf run -A operator/main.py`).

farlet writes nothing before this process leads, and mirrors no pod before the Node is registered.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import math
import os
from collections.abc import AsyncIterator, Callable

import structlog

from farlet import access, draining, errors, health, retrying
from farlet.certs import client_certificate, key_pairs
from farlet.certs.kubelet_certificates import KubeletCertificates
from farlet.client import credential_sources, same_cluster, write_guard
from farlet.client.cluster import Cluster
from farlet.client.storage_identity import StorageIdentity
from farlet.client.watch_streams import WatchStreams
from farlet.constants import ObjectKey
from farlet.context import Context
from farlet.foreign.identity import ForeignIdentity
from farlet.health import Phase
from farlet.home import bridge
from farlet.home.kopf_session import KopfSessions
from farlet.homeapi import endpoint_state, supervisor
from farlet.kubelet.api import KubeletAPI
from farlet.leaderelection import leadership, lease, node_lease
from farlet.leaderelection.write_window import WriteWindow
from farlet.listeners import open_files
from farlet.node import heartbeat, prerequisites, storage
from farlet.node.virtual_node import VirtualNode
from farlet.pod_controller import PodController
from farlet.reconcile import mirror_events
from farlet.settings import Settings, loading
from farlet.settings.values import Address
from farlet.store import Store
from farlet.telemetry import loop_lag, probes
from farlet.telemetry.metrics import Metrics

REPORT_SECONDS = 3.0
"""For the last write of a process that failed."""
COLLECT_AFTER = 10_000
"""New objects before garbage is collected. With Python's 700, collections take 8 % of the CPU time
of a burst of pods."""

log = structlog.get_logger()


@dataclasses.dataclass(frozen=True, slots=True)
class Shutdown:
    """How to end the engine. Created in its event loop."""

    requested: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    immediate: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    """Do not wait for work that has begun."""


class Engine:
    """One virtual node, without Kopf."""

    def __init__(self, settings: Settings, *, watch: health.HomeWatch) -> None:
        """Raises `StartError` if the process may open too few files."""
        self.settings = settings
        self._watch = watch
        self._files = open_files.raise_limit()
        self.metrics = Metrics()
        self._strategies = access.load_strategies()
        home_source = credential_sources.home_source(settings, os.environ)
        self._rotated: key_pairs.CertificateStore | None = None
        if settings.rotate_certificates and settings.cert_dir is not None:
            self._rotated = key_pairs.CertificateStore(
                settings.cert_dir, client_certificate.FILE_PREFIX
            )
            home_source = dataclasses.replace(home_source, rotated=self._rotated.current)
        foreign_source = credential_sources.foreign_source(settings, os.environ)
        self._window = WriteWindow(settings)
        guard = self._window.guard if settings.leader_elect else write_guard.unguarded
        self._home = Cluster(
            "home",
            home_source,
            metrics=self.metrics.client("home"),
            guard=guard,
            node=settings.nodename,
        )
        self._foreign = Cluster(
            "foreign",
            foreign_source,
            metrics=self.metrics.client("foreign"),
            guard=lambda: min(guard(), self._foreign_guard()),
            node=settings.nodename,
        )
        self._home_storage: Cluster | None = None
        self._storage_identity: StorageIdentity | None = None
        if settings.storage_class_map:
            storage_source = credential_sources.storage_source(settings)
            self._home_storage = (
                self._home
                if storage_source is None
                else Cluster(
                    "home",
                    storage_source,
                    metrics=self.metrics.client("home"),
                    guard=lambda: min(guard(), self._storage_guard()),
                    node=settings.nodename,
                )
            )
            self._storage_identity = StorageIdentity(self._home, self._home_storage)
        self._home_watches = WatchStreams(self._home, metrics=self.metrics.client("home"))
        self._identity: ForeignIdentity | None = None
        self._store = Store()
        self._home_api = supervisor.HomeAPISupervisor(
            settings,
            self._home,
            self._foreign,
            metrics=self.metrics,
            relays=self._files.relays,
            on_change=self._context_changed,
        )
        self._discovery = self._home_api.discovery
        self.bridge = bridge.Bridge(on_restart=self.metrics.kopf_restarts.inc)
        self.kopf_sessions = KopfSessions(home_source, is_known=self.bridge.is_known)
        self._phase = Phase.STARTING
        self._prerequisites = prerequisites.Prerequisites(
            settings, home=self._home, foreign=self._foreign, ctx=self._discovery.ctx
        )
        self._pod_controller: PodController | None = None
        self._node: VirtualNode | None = None
        self._health = health.Health(
            self._home,
            self._foreign,
            watch,
            phase=lambda: self._phase,
            identify_problem=lambda: self._discovery.problem,
            pods=lambda: None if self._pod_controller is None else self._pod_controller.pods,
            namespaces=lambda: (
                None if self._pod_controller is None else self._pod_controller.namespaces
            ),
            node=lambda: self._node,
            standby_problem=self._standby_problem,
        )
        self._serving_certificate_remaining: Callable[[], float] = lambda: math.inf
        self._pods_ctx: Context | None = None
        """The context with which all pods were reconciled last."""

    async def run(self, shutdown: Shutdown, *, started: Callable[[], None]) -> None:
        """Run until a shutdown is requested. `started` is called when Kopf can deliver pods.

        Raises `StartError`, `UsageError` and `NotLeading`.
        """
        for variable, near in loading.unknown_variables(Settings, os.environ).items():
            log.warning("unknown setting ignored", variable=variable, did_you_mean=near)
        served = probes.serve(
            metrics=self.metrics,
            probes=self._health.probes(),
            metrics_at=self.settings.metrics_bind_address,
            health_at=self.settings.health_probe_bind_address,
            state=self._state_report(),
        )
        self.metrics.serves(self.settings.nodename)
        self.metrics.home_up.set_function(lambda: float(self._health.home_problem() is None))
        self.metrics.foreign_up.set_function(lambda: float(self._health.foreign_problem() is None))
        for cluster in (self._home, self._foreign):
            remaining = self.metrics.credentials_remaining.labels(cluster.name)
            remaining.set_function(cluster.credentials_remaining)
        try:
            async with (
                served,
                self._home,
                self._home_watches,
                self._foreign,
                self._storage_login(),
                self._renewing_login(),
            ):
                if await self._discovery.identify_home(shutdown.requested):
                    await same_cluster.refuse(self._home, self._foreign)
                    async with self._home_api.running():
                        if await _first_is(
                            self._discovery.checked, before=shutdown.requested
                        ) and await self._check_storage(shutdown.requested):
                            async with self._kubelet_certificates() as certificates:
                                await self._lead(shutdown, started, certificates)
        except* errors.FarletError as group:
            raise errors.innermost(group) from None

    @contextlib.asynccontextmanager
    async def _storage_login(self) -> AsyncIterator[None]:
        """The connection for volumes, if it is another one than that for all else."""
        if self._home_storage is None or self._home_storage is self._home:
            yield
            return
        async with self._home_storage:
            yield

    async def _check_storage(self, stop: asyncio.Event) -> bool:
        """Verify what volumes require; false if `stop` came first. Raises `StartError`."""
        if self._home_storage is None or self._storage_identity is None:
            return True
        if not await storage.confirm(self._storage_identity, stop):
            return False
        await storage.check(self._home_storage, self._discovery.ctx())
        return True

    @contextlib.asynccontextmanager
    async def _renewing_login(self) -> AsyncIterator[None]:
        """Renew the client certificate for home, whether this process leads or not."""
        async with asyncio.TaskGroup() as tasks:
            renewing = None
            if self._rotated is not None:
                login = client_certificate.ClientCertificate(
                    self._home,
                    node=self.settings.nodename,
                    store=self._rotated,
                    now=retrying.utc_now,
                )
                renewing = tasks.create_task(login.run(), name="client certificate")
            yield
            if renewing is not None:
                renewing.cancel()

    @contextlib.asynccontextmanager
    async def _kubelet_certificates(self) -> AsyncIterator[KubeletCertificates | None]:
        """Those of the kubelet API, if it is enabled, whether this process leads or not."""
        if self.settings.kubelet_bind_address is None:
            yield None
            return
        certificates = KubeletCertificates(
            self.settings,
            self._home,
            node=self.settings.nodename,
            # Exactly the Node's addresses, without names: approvers compare the two.
            addresses=lambda: [ip] if (ip := self._discovery.ctx().node_ip) else [],
            now=retrying.utc_now,
        )
        self._serving_certificate_remaining = certificates.tls.remaining
        self.metrics.serving_certificate_remaining.set_function(certificates.tls.remaining)
        certificates.prepare()
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(certificates.run(), name="kubelet certificates")
            yield certificates
            running.cancel()

    async def _lead(
        self,
        shutdown: Shutdown,
        started: Callable[[], None],
        certificates: KubeletCertificates | None,
    ) -> None:
        settings = self.settings
        if not settings.leader_elect:
            if (problem := await self._prerequisites.option_problem()) is not None:
                raise errors.StartError(problem)
            await self._serve_or_report(shutdown, started, None, certificates)
            return
        election = leadership.Leadership(
            self._home,
            settings,
            self._window,
            node=settings.nodename,
            observer=self.metrics.leader,
        )
        self._phase = Phase.STANDING_BY
        async with asyncio.TaskGroup() as tasks:
            checks = tasks.create_task(self._prerequisites.run(), name="prerequisites")
            leads = await election.acquire(
                shutdown.requested,
                obstacle=self._standby_problem,
                cleared=self._prerequisites.met,
            )
            checks.cancel()
        if not leads:
            return
        self._phase = Phase.STARTING
        await self._serve_or_report(shutdown, started, election, certificates)

    async def _serve_or_report(
        self,
        shutdown: Shutdown,
        started: Callable[[], None],
        election: leadership.Leadership | None,
        certificates: KubeletCertificates | None,
    ) -> None:
        """`_serve`. If it fails, the Node is NotReady and another process may lead.

        Otherwise processes that fail one after the other would renew the Lease, and the Node would
        look alive although nothing serves it.
        """
        try:
            await self._serve(shutdown, started, election, certificates)
        except* errors.StartError as group:
            node, failed = self._node, errors.innermost(group)
            # Without the Lease and a registration, another process may be serving this Node.
            if node is not None and (election is not None or node.registered.is_set()):
                try:
                    async with asyncio.timeout(REPORT_SECONDS):
                        await node.retire(f"farlet cannot start: {failed}")
                except (errors.FarletError, TimeoutError) as err:
                    log.warning("failed to set node NotReady", err=str(err) or "no answer in time")
            if election is not None and not self._wrote_pods:
                await election.release()
            raise

    async def _serve(
        self,
        shutdown: Shutdown,
        started: Callable[[], None],
        election: leadership.Leadership | None,
        certificates: KubeletCertificates | None,
    ) -> None:
        """Serve the node until a shutdown is requested, then hand it over.

        Open streams of the kubelet API end last: they need no leadership, so the next leader does
        not wait for them.
        """
        ctx, settings = self._discovery.ctx, self.settings
        log.info(
            "farlet started",
            node=settings.nodename,
            home=self._home.server,
            foreign=self._foreign.server,
            endpoint=None if (where := ctx().endpoint) is None else where.netloc,
            virtual_node_id=ctx().virtual_node_id,
        )
        async with contextlib.AsyncExitStack() as kubelet_api, asyncio.TaskGroup() as tasks:
            identity = self._identity = ForeignIdentity(
                self._foreign, ctx(), on_change=self._identity_changed
            )
            pod_controller = self._pod_controller = self._make_pod_controller(identity, tasks)
            node = self._node = self._make_node(identity, pod_controller, election)
            background = [
                tasks.create_task(loop_lag.watch(self.metrics.loop_lag.observe), name="loop lag"),
                tasks.create_task(node.run(), name="node"),
            ]
            if election is not None:
                background.append(tasks.create_task(election.keep(), name="leadership"))
            if settings.kubelet_bind_address is not None and certificates is not None:
                await kubelet_api.enter_async_context(
                    self._make_kubelet(
                        settings.kubelet_bind_address, certificates, pod_controller, shutdown
                    )
                )
            if await _first_is(node.registered, before=shutdown.requested):
                await pod_controller.start()
                self.bridge.open(pod_controller.pods)
                self._phase = Phase.SERVING
                # Objects that exist now live until the end. Scanning them costs 60 ms each time.
                gc.collect()
                gc.freeze()
                gc.set_threshold(COLLECT_AFTER)
                started()
                await shutdown.requested.wait()
            log.info("farlet is stopping")
            self._phase = Phase.STOPPING
            if settings.drain_on_exit and node.registered.is_set():
                await self._drain(node, shutdown)
            closing = tasks.create_task(kubelet_api.aclose(), name="end of the kubelet API")
            unfinished = await pod_controller.finish(immediate=shutdown.immediate)
            for task in background:
                task.cancel()
            await asyncio.wait(background)
            # A request without an answer can still reach a server: then the Leases have to expire.
            if unfinished == 0:
                await node.release()
                if election is not None:
                    await election.release()
            log.info("farlet stopped serving the node", unfinished=unfinished)
            await closing

    async def _drain(self, node: VirtualNode, shutdown: Shutdown) -> None:
        """Drain the node and set it NotReady."""
        await draining.drain(
            self._home,
            self._store,
            ctx=self._discovery.ctx,
            cordon=node.cordon,
            seconds=self.settings.drain_timeout,
            immediate=shutdown.immediate,
        )
        try:
            await node.retire()
        except errors.FarletError as err:
            log.warning("failed to set node NotReady", err=str(err))

    @property
    def _wrote_pods(self) -> bool:
        """Whether a request of the pod controller may still be in flight."""
        return self._pod_controller is not None and self._pod_controller.started

    def _standby_problem(self) -> str | None:
        return self._prerequisites.problem

    def _context_changed(self) -> None:
        if self._node is not None:
            self._node.context_changed()
        ctx = self._discovery.ctx()
        pods_ctx = dataclasses.replace(ctx, home_api=endpoint_state.without_cause(ctx.home_api))
        if self._pod_controller is not None and pods_ctx != self._pods_ctx:
            self._pod_controller.namespaces.wake_all()
        self._pods_ctx = pods_ctx

    def _identity_changed(self) -> None:
        if self._pod_controller is not None and self._node is not None:
            self._pod_controller.namespaces.identity_changed()
            self._node.identity_changed()

    def _foreign_guard(self) -> float:
        """Nothing is written to the foreign cluster before it is confirmed."""
        return math.inf if self._identity is None else self._identity.guard()

    def _storage_guard(self) -> float:
        """Nothing is written about volumes to another cluster than home."""
        return math.inf if self._storage_identity is None else self._storage_identity.guard()

    def _state_report(self) -> health.StateReport:
        return health.StateReport(
            self.settings.nodename,
            self._health,
            context=lambda: self._discovery.known_ctx,
            pods=lambda: self._pod_controller,
            identity=lambda: self._identity,
            serving_certificate=lambda: self._serving_certificate_remaining(),
        )

    # --- the parts ----------------------------------------------------------------------------

    def _make_pod_controller(
        self, identity: ForeignIdentity, tasks: asyncio.TaskGroup
    ) -> PodController:
        return PodController(
            self.settings,
            home=self._home,
            home_events=self._home.lane(mirror_events.IN_FLIGHT + 1),
            home_watches=self._home_watches,
            foreign=self._foreign,
            store=self._store,
            strategies=self._strategies,
            metrics=self.metrics,
            ctx=self._discovery.ctx,
            identity=identity,
            tasks=tasks,
            restart_watch=self._watch.restart,
            home_storage=self._home_storage,
            storage_identity=self._storage_identity,
        )

    def _make_node(
        self,
        identity: ForeignIdentity,
        pod_controller: PodController,
        election: leadership.Leadership | None,
    ) -> VirtualNode:
        namespaces = pod_controller.namespaces
        lock = election.lease if election is not None and election.is_heartbeat else None
        own = self._own_lease(election)
        return VirtualNode(
            home=self._home,
            foreign=self._foreign,
            settings=self.settings,
            ctx=self._discovery.ctx,
            foreign_problem=lambda: namespaces.refused,
            identity=identity,
            lease=lock or own,
            heartbeat_lease=own if lock is None else None,
            note=pod_controller.note_node,
            on_home_rewound=pod_controller.pods.rewound,
            on_home_reconnected=pod_controller.pods.resync,
            now=retrying.utc_now,
        )

    def _own_lease(self, election: leadership.Leadership | None) -> node_lease.NodeLease:
        node = self.settings.nodename
        own = lease.Lease(
            self._home,
            ObjectKey(lease.NODE_LEASES, node),
            holder=node_lease.holder(node) if election is None else election.lease.holder,
            duration=heartbeat.LEASE_SECONDS,
            patience=heartbeat.PATIENCE_SECONDS,
        )
        return node_lease.NodeLease(own, node=node, elected=election is not None)

    def _make_kubelet(
        self,
        at: Address,
        certificates: KubeletCertificates,
        pod_controller: PodController,
        shutdown: Shutdown,
    ) -> KubeletAPI:
        return KubeletAPI(
            at,
            self.settings,
            home=self._home,
            foreign=self._foreign,
            certificates=certificates,
            store=self._store,
            ctx=self._discovery.ctx,
            metrics=self.metrics,
            problem=self._health.foreign_problem,
            may_appear=pod_controller.may_appear,
            immediate=shutdown.immediate,
            connections=self._files.kubelet,
            now=retrying.utc_now,
        )


async def _first_is(event: asyncio.Event, *, before: asyncio.Event) -> bool:
    """Wait until one of the two is set. Returns whether `event` was the first."""
    await retrying.first(event, before)
    return event.is_set() and not before.is_set()
