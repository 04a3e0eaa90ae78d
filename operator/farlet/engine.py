"""Everything of one virtual node but Kopf: put together here, started and stopped in order.

Connections, the Node, the mirroring of pods, the kubelet API and the probes run in one event loop.
Kopf feeds it from another thread, started by `app.py` (`farlet run`) or being itself the starter
(`kopf run operator/main.py`).

Nothing is written before this process leads; no pod is looked at before the Node stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import os
from collections.abc import AsyncIterator, Callable

import structlog

from farlet import access, draining, errors, health, retrying
from farlet.certs import client_certificate, key_pairs
from farlet.client import credential_sources, write_guard
from farlet.client.cluster import Cluster
from farlet.constants import ObjectKey
from farlet.context import Context
from farlet.home import bridge
from farlet.homeapi import supervisor
from farlet.kubelet.api import KubeletAPI
from farlet.leaderelection import leadership
from farlet.leaderelection import lease as leases
from farlet.leaderelection.write_window import WriteWindow
from farlet.node import heartbeat
from farlet.node.virtual_node import VirtualNode
from farlet.pod_controller import Mirroring
from farlet.settings import Settings
from farlet.settings.values import Address
from farlet.store import Store
from farlet.telemetry import loop_lag, probes
from farlet.telemetry.metrics import Metrics

log = structlog.get_logger()


@dataclasses.dataclass(frozen=True, slots=True)
class Shutdown:
    """How the process is told to end. To be made in the engine's loop."""

    stop: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    hurry: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    """Do not wait for anything any more."""


class Engine:
    """One virtual node's worth of farlet, without Kopf."""

    def __init__(self, settings: Settings, *, watch: health.HomeWatch) -> None:
        self.settings = settings
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
        self._home = Cluster("home", home_source, metrics=self.metrics.client("home"), guard=guard)
        self._foreign = Cluster(
            "foreign", foreign_source, metrics=self.metrics.client("foreign"), guard=guard
        )
        self._store = Store()
        self._way = supervisor.HomeAPISupervisor(
            settings,
            self._home,
            self._foreign,
            metrics=self.metrics,
            on_change=self._context_changed,
        )
        self._discovery = self._way.discovery
        self.bridge = bridge.Bridge(home_source, on_restart=self.metrics.kopf_restarts.inc)
        self._phase: str | None = health.STARTING
        self._mirroring: Mirroring | None = None
        self._node: VirtualNode | None = None
        self.health = health.Health(
            self._home,
            self._foreign,
            watch,
            phase=lambda: self._phase,
            start_problem=lambda: self._discovery.problem,
            pods=lambda: None if self._mirroring is None else self._mirroring.pods,
            namespaces=lambda: None if self._mirroring is None else self._mirroring.scopes,
            node=lambda: self._node,
        )
        self._told: Context | None = None
        """What pods were last looked at with."""

    async def run(self, ends: Shutdown, *, started: Callable[[], None]) -> None:
        """Run until told to end, then drain. `started` is called when Kopf may begin.

        Raises `StartError`, `UsageError` and `NotLeading`.
        """
        served = probes.serve(
            metrics=self.metrics,
            probes=self.health.probes(),
            metrics_at=self.settings.metrics_bind_address,
            health_at=self.settings.health_probe_bind_address,
        )
        self.metrics.serves(self.settings.nodename)
        self.metrics.home_up.set_function(lambda: float(self.health.home_problem() is None))
        self.metrics.foreign_up.set_function(lambda: float(self.health.foreign_problem() is None))
        try:
            async with served, self._home, self._foreign, self._logged_in():
                if await self._discovery.find_out(ends.stop):
                    async with self._way.kept():
                        if await _first_is(self._discovery.looked, before=ends.stop):
                            await self._lead(ends, started)
        except* errors.FarletError as group:
            raise _first(group) from None

    @contextlib.asynccontextmanager
    async def _logged_in(self) -> AsyncIterator[None]:
        """Home's client certificate is kept good, whether this process leads or not."""
        async with asyncio.TaskGroup() as tasks:
            keeping = None
            if self._rotated is not None:
                login = client_certificate.ClientCertificate(
                    self._home,
                    node=self.settings.nodename,
                    store=self._rotated,
                    now=retrying.utc_now,
                )
                keeping = tasks.create_task(login.run(), name="client certificate")
            yield
            if keeping is not None:
                keeping.cancel()

    async def _lead(self, ends: Shutdown, started: Callable[[], None]) -> None:
        settings = self.settings
        if not settings.leader_elect:
            await self._serve(ends, started, None)
            return
        election = leadership.Leadership(
            self._home,
            settings,
            self._window,
            node=settings.nodename,
            observer=self.metrics.leader,
        )
        self._phase = health.STANDING_BY
        if not await election.acquire(ends.stop):
            return
        self._phase = health.STARTING
        # What was not seen to end might still arrive at a server: then the Lease runs out first.
        if await self._serve(ends, started, election) == 0:
            await election.release()

    async def _serve(
        self,
        ends: Shutdown,
        started: Callable[[], None],
        election: leadership.Leadership | None,
    ) -> int:
        """Serve the node until told to end. How many pieces of work did not end in time."""
        ctx, settings = self._discovery.ctx, self.settings
        log.info(
            "farlet was started",
            node=settings.nodename,
            home=self._home.server,
            foreign=self._foreign.server,
            endpoint=None if (where := ctx().endpoint) is None else where.netloc,
            virtual_node_id=ctx().virtual_node_id,
        )
        async with contextlib.AsyncExitStack() as port, asyncio.TaskGroup() as tasks:
            mirroring = self._mirroring = self._make_mirroring(tasks)
            node = self._node = self._make_node(mirroring, election)
            forever = [
                tasks.create_task(loop_lag.watch(self.metrics.loop_lag.observe), name="loop lag"),
                tasks.create_task(node.run(), name="node"),
            ]
            if election is not None:
                forever.append(tasks.create_task(election.keep(), name="leadership"))
            if settings.kubelet_bind_address is not None:
                kubelet = await port.enter_async_context(
                    self._make_kubelet(settings.kubelet_bind_address, mirroring, ends)
                )
                forever.append(tasks.create_task(kubelet.run(), name="kubelet API"))
            if await _first_is(node.registered, before=ends.stop):
                await mirroring.start()
                self.bridge.open(mirroring.pods)
                self._phase = None
                # What stands by now stays: to look through it again is a pause of 60 ms each time.
                gc.collect()
                gc.freeze()
                started()
                await ends.stop.wait()
            log.info("farlet is stopping")
            self._phase = "stopping"
            if settings.drain_on_exit and node.registered.is_set():
                await self._empty(node, ends)
            closing = tasks.create_task(port.aclose(), name="end of the kubelet API")
            unfinished = await mirroring.finish(hurry=ends.hurry)
            for task in forever:
                task.cancel()
            await closing
            log.info("farlet was stopped", unfinished=unfinished)
        return unfinished

    async def _empty(self, node: VirtualNode, ends: Shutdown) -> None:
        """Drain, and tell home that the node is gone for good."""
        await draining.drain(
            self._home,
            self._store,
            ctx=self._discovery.ctx,
            cordon=node.cordon,
            seconds=self.settings.drain_timeout,
            hurry=ends.hurry,
        )
        try:
            await node.retire()
        except errors.FarletError as err:
            log.warning("node was not made NotReady", err=str(err))

    def _context_changed(self) -> None:
        if self._node is not None:
            self._node.context_changed()
        for_pods = dataclasses.replace(self._discovery.ctx(), endpoint_doubt=None)
        if self._mirroring is not None and for_pods != self._told:
            self._mirroring.scopes.wake_all()
        self._told = for_pods

    # --- the parts ----------------------------------------------------------------------------

    def _make_mirroring(self, tasks: asyncio.TaskGroup) -> Mirroring:
        return Mirroring(
            self.settings,
            home=self._home,
            foreign=self._foreign,
            store=self._store,
            strategies=self._strategies,
            metrics=self.metrics,
            ctx=self._discovery.ctx,
            tasks=tasks,
        )

    def _make_node(
        self, mirroring: Mirroring, election: leadership.Leadership | None
    ) -> VirtualNode:
        scopes = mirroring.scopes
        lock = election.lease if election is not None and election.is_heartbeat else None
        return VirtualNode(
            home=self._home,
            foreign=self._foreign,
            settings=self.settings,
            ctx=self._discovery.ctx,
            foreign_problem=lambda: None if (no := scopes.refused) is None else no.message,
            lease=lock or self._own_lease(),
            renew_lease=lock is None,
            now=retrying.utc_now,
        )

    def _own_lease(self) -> leases.Lease:
        return leases.Lease(
            self._home,
            ObjectKey(leases.NODE_LEASES, self.settings.nodename),
            holder=self.settings.nodename,
            duration=heartbeat.LEASE_SECONDS,
            patience=heartbeat.PATIENCE_SECONDS,
        )

    def _make_kubelet(self, at: Address, mirroring: Mirroring, ends: Shutdown) -> KubeletAPI:
        return KubeletAPI(
            at,
            self.settings,
            home=self._home,
            foreign=self._foreign,
            store=self._store,
            ctx=self._discovery.ctx,
            metrics=self.metrics,
            problem=self.health.foreign_problem,
            may_appear=mirroring.unsettled,
            immediate=ends.hurry,
            now=retrying.utc_now,
        )


async def _first_is(event: asyncio.Event, *, before: asyncio.Event) -> bool:
    """Wait until either is set; whether it was the first."""
    waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(before.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return event.is_set() and not before.is_set()


def _first(group: BaseExceptionGroup[errors.FarletError]) -> errors.FarletError:
    """The innermost error that a person can act on."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, errors.FarletError)
    return found
