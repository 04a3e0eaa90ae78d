"""One virtual node in the home cluster, from its registration to the end of the process.

It combines the state of both clusters and writes the Node that `forge` computes: the status after a
change, else every five minutes; a cordon while the foreign API server is unreachable and pods are
held. Like a kubelet it writes nothing at the end of the process: a restart changes nothing, and the
home cluster notices a longer absence by the missing heartbeat.

A Node that an administrator deletes is not recreated while the process runs, and nothing else is
written for it. `problem` reports that, and the next start creates the Node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

import structlog

from farlet import errors, k8s_types, retrying
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import (
    ARCH_LABEL,
    JSON,
    OS_LABEL,
    VIRTUAL_NODE_LABEL,
    NodeCondition,
    Reason,
)
from farlet.context import Context
from farlet.foreign.identity import ForeignIdentity
from farlet.forge import capacity, node_health
from farlet.forge import node as forge
from farlet.forge.node_health import DesiredNodeCondition, Foreign, ForeignUnreachable
from farlet.node import heartbeat, registration
from farlet.node.cluster_record import ClusterRecord
from farlet.node.foreign_nodes import MAX_REFUSALS, ForeignNodes
from farlet.node.home_node import HomeNode
from farlet.node.reachability import Reachability
from farlet.settings import Settings

FOREIGN_SECONDS = 3.0
"""How long registration waits for the foreign cluster, so that a new Node is complete at once."""
STATUS_SECONDS = 300.0
"""Between two writes of an unchanged status (`nodeStatusReportFrequency`)."""
RETRY_SECONDS = 5.0
MIN_INTERVAL_SECONDS = 1.0
"""Between two writes of a changing status."""

_KEPT_LABELS = frozenset({VIRTUAL_NODE_LABEL, OS_LABEL, ARCH_LABEL})

log = structlog.get_logger()


class VirtualNode:
    """The Node of this process. All methods run in the engine's loop."""

    def __init__(
        self,
        *,
        home: ApiClient,
        foreign: ApiClient,
        settings: Settings,
        ctx: Callable[[], Context],
        foreign_problem: Callable[[], errors.Refused | None],
        identity: ForeignIdentity,
        lease: heartbeat.LeaseOwner,
        heartbeat_lease: heartbeat.NodeLease | None,
        note: Callable[[k8s_types.Node, Reason, str], None],
        on_home_rewound: Callable[[], None],
        on_home_reconnected: Callable[[], None],
        now: Callable[[], datetime],
    ) -> None:
        """`foreign_problem` returns why pods cannot be served in the foreign cluster, apart from an
        unreachable API server. `lease` is the node's own. It is renewed here as
        `heartbeat_lease`; `None`: by leader election, which uses it as its lock. `note` reports an
        Event on the Node. `on_home_rewound` and `on_home_reconnected`: see `HomeNode`."""
        self._settings = settings
        self._ctx = ctx
        self._lease = lease
        self._heartbeat_lease = heartbeat_lease
        self._note = note
        self._now = now
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()
        self._overrides: dict[str, DesiredNodeCondition] = {}
        self._reported_at: float | None = None
        self._draining = False
        self._deletion_reported = False
        self._uid = ""
        self._home_node = HomeNode(
            home,
            settings.nodename,
            on_change=self._home_changed,
            on_rewound=on_home_rewound,
            on_reconnected=on_home_reconnected,
        )
        self._record = ClusterRecord(
            self._home_node, identity, ctx=ctx, adopt=settings.adopt_foreign_cluster
        )
        self._reachability = Reachability(
            foreign,
            probe=identity.probe,
            other_problem=foreign_problem,
            after=settings.foreign_unreachable_after,
            on_change=self._changed.set,
        )
        self._foreign_nodes = (
            None if settings.capacity else ForeignNodes(foreign, on_change=self._changed.set)
        )
        self.registered = asyncio.Event()
        """The Node exists in the home cluster."""

    # --- used by other modules ----------------------------------------------------------------

    @property
    def problem(self) -> str | None:
        """Why the home cluster cannot use the node; `None` if farlet knows no reason."""
        if not self.registered.is_set():
            waiting = None if (lease := self._heartbeat_lease) is None else lease.problem
            return waiting or "the Node is not registered yet"
        if self._node is None:
            return (
                f"the Node {self._settings.nodename} was deleted; farlet creates it again at the "
                "next start"
            )
        return None

    @property
    def foreign_refusal(self) -> errors.Refused | None:
        """Why the foreign API server does not serve farlet; `None` while it does."""
        return self._reachability.problem

    def context_changed(self) -> None:
        self._changed.set()

    def identity_changed(self) -> None:
        """The foreign cluster was confirmed, or is in doubt."""
        self._reachability.recheck()

    async def cordon(self) -> None:
        """Make the node unschedulable for a drain; the next process reverts that.

        Raises like `Cluster.call`.
        """
        self._draining = True
        async with self._writing:
            if self._node is not None:
                await self._patch(forge.cordon_patch(self._node, forge.DRAINED))

    async def retire(self, why: str = "node is shutting down") -> None:
        """Report that the node stops, not for a restart. Raises like `Cluster.call`."""
        self._overrides[NodeCondition.READY] = DesiredNodeCondition(
            NodeCondition.READY, "False", "KubeletNotReady", why
        )
        if not self.registered.is_set():
            await self._home_node.read()
        async with self._writing:
            node = self._node
            if node is not None and forge.is_virtual(node):
                await self._update_status(node)

    async def release(self) -> None:
        """Let a process on another host serve the node at once: this one writes nothing more."""
        if self._heartbeat_lease is not None and self.registered.is_set():
            try:
                await self._heartbeat_lease.release()
            except (errors.ApiError, errors.Unreachable) as err:
                log.warning("failed to release the Lease of the node", err=str(err))

    async def run(self) -> None:
        """Register the Node, then update it until cancelled.

        Raises `StartError` (in a group), with what to do, if it cannot be registered with the
        current settings.
        """
        async with asyncio.TaskGroup() as tasks:
            if self._foreign_nodes is not None:
                tasks.create_task(self._foreign_nodes.run(), name="foreign nodes")
                tasks.create_task(self._foreign_nodes.require_list(), name="foreign nodes listed")
            tasks.create_task(self._reachability.run(), name="foreign probe")
            if self._heartbeat_lease is not None:
                await self._heartbeat_lease.acquire()
            await self._wait_for_foreign()
            await self._register()
            tasks.create_task(self._home_node.run(), name="home node")
            tasks.create_task(self._record.establish(), name="foreign cluster")
            if (lease := self._heartbeat_lease) is not None:
                beating = heartbeat.beat(lease, alive=lambda: self._node is not None)
                tasks.create_task(beating, name="heartbeat")
            await self._keep_updated()

    async def _wait_for_foreign(self) -> None:
        nodes = self._foreign_nodes
        try:
            async with asyncio.timeout(FOREIGN_SECONDS):
                if nodes is not None:
                    await nodes.answered.wait()
                while self._reachability.state is Foreign.UNKNOWN:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            log.warning("foreign API server has not answered yet", waited=FOREIGN_SECONDS)
        if nodes is not None and nodes.forbidden:
            await nodes.require_list()

    async def _register(self) -> None:
        refusals = 0
        while not self.registered.is_set():
            try:
                config, observed = self._config(), self._observation()
                await registration.register(
                    self._home_node,
                    config=config,
                    platform=observed.platform,
                    new=forge.new(config, observed, self._conditions(None), self._now()),
                )
                if self._home_node.node is not None:
                    self._uid = self._home_node.node["metadata"]["uid"]
                    self.registered.set()
            except errors.Conflict as err:
                log.info("node changed during registration", err=str(err))
                await asyncio.sleep(MIN_INTERVAL_SECONDS)
            except (errors.Unreachable, errors.Throttled) as err:
                log.warning("failed to register node", err=str(err), retry_in=RETRY_SECONDS)
                await asyncio.sleep(RETRY_SECONDS)
            except errors.StartError as err:
                refusals += 1
                if refusals > MAX_REFUSALS or not isinstance(err.__cause__, errors.Forbidden):
                    raise
                log.info("retrying node registration", err=str(err))
                await asyncio.sleep(MIN_INTERVAL_SECONDS)
            except errors.ApiError as err:
                raise errors.StartError(
                    f"cannot register the Node {self._settings.nodename} in the home cluster: {err}"
                ) from err

    async def _keep_updated(self) -> None:
        failures = retrying.OncePerCause()
        while True:
            self._changed.clear()
            pause = self._seconds_until_report()
            try:
                await self._sync()
                failures.clear()
                pause = self._seconds_until_report()
            except errors.NotFound:
                pass  # the watch reports the deletion
            except errors.Conflict as err:
                log.info("node changed during update", err=str(err))
                pause = MIN_INTERVAL_SECONDS
            except errors.FarletError as err:
                (log.warning if failures.is_new(str(err)) else log.debug)(
                    "failed to update node", err=str(err), retry_in=RETRY_SECONDS
                )
                pause = RETRY_SECONDS
            try:
                async with asyncio.timeout(max(MIN_INTERVAL_SECONDS, pause)):
                    await asyncio.sleep(MIN_INTERVAL_SECONDS)
                    await self._changed.wait()
            except TimeoutError:
                continue

    # --- writing ------------------------------------------------------------------------------

    async def _sync(self) -> None:
        """Update the Node. Raises like `Cluster.call`."""
        async with self._writing:
            for update in (
                self._update_labels,
                self._record.repair,
                self._update_cordon,
                self._update_status,
            ):
                # Each uses the result of the one before.
                if (node := self._node) is not None:
                    await update(node)

    async def _update_labels(self, node: k8s_types.Node) -> None:
        """The labels that depend on foreign nodes, and the one without which the next start would
        reject the Node; the others are written at registration only."""
        labels = forge.labels(self._config(), self._observation().platform)
        kept = {key: value for key, value in labels.items() if key in _KEPT_LABELS}
        await self._patch(forge.labels_patch(node, kept))

    async def _update_cordon(self, node: k8s_types.Node) -> None:
        hold = self._settings.foreign_unreachable is ForeignUnreachable.HOLD
        if self._reachability.state is Foreign.REACHABLE and not self._draining:
            await self._patch(forge.uncordon_patch(node))
        elif self._reachability.problem is not None and hold:
            await self._patch(forge.cordon_patch(node, forge.HELD))

    async def _update_status(self, node: k8s_types.Node) -> None:
        desired = self._conditions(node)
        body = forge.status_patch(
            node,
            self._config(),
            self._observation(),
            desired,
            self._now(),
            due=self._seconds_until_report() <= 0,
        )
        if body is not None:
            await self._patch(body, resource=resources.NODE_STATUS)
            self._reported_at = asyncio.get_running_loop().time()
            for reason, message in node_health.events(node, desired):
                self._note(node, reason, message)

    async def _patch(
        self,
        body: JSON | None,
        *,
        resource: resources.Resource[k8s_types.Node] = resources.NODES,
    ) -> None:
        if body is not None:
            await self._home_node.patch(body, resource=resource)

    # --- desired state ------------------------------------------------------------------------

    def _config(self) -> forge.NodeConfig:
        return registration.node_config(self._settings, self._ctx())

    def _observation(self) -> forge.NodeObservation:
        nodes = self._foreign_nodes
        return forge.NodeObservation(
            address=self._ctx().node_ip,
            version=self._reachability.version,
            resources=capacity.configured(self._settings.capacity)
            if nodes is None
            else nodes.resources,
            platform=capacity.Platform(os="linux") if nodes is None else nodes.platform,
        )

    def _conditions(self, node: k8s_types.Node | None) -> Sequence[DesiredNodeCondition]:
        own = node_health.health(
            self._reachability.state,
            problem=self._reachability.problem,
            policy=self._settings.foreign_unreachable,
            node=node,
        )
        own = (*own, node_health.home_api(self._ctx()))
        return tuple(({say.type: say for say in own} | self._overrides).values())

    def _seconds_until_report(self) -> float:
        if self._reported_at is None:
            return 0.0
        return self._reported_at + STATUS_SECONDS - asyncio.get_running_loop().time()

    # --- current state ------------------------------------------------------------------------

    @property
    def _node(self) -> k8s_types.Node | None:
        """The Node, unless another Node that is not virtual has its name now."""
        node = self._home_node.node
        if node is None or node["metadata"]["uid"] == self._uid or forge.is_virtual(node):
            return node
        return None

    def _home_changed(self) -> None:
        node = self._node
        uid = None if node is None else node["metadata"]["uid"]
        self._lease.owned_by(self._settings.nodename, uid)
        self._record.node_changed(self._home_node.node)
        gone = self.registered.is_set() and node is None
        if gone and not self._deletion_reported:
            log.warning("node was deleted", consequence="farlet creates it again at the next start")
        self._deletion_reported = gone
        self._changed.set()
