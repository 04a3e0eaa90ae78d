"""One virtual node at home, from its registration to the end of the process.

What is known of both clusters comes together here and goes into the Node as `forge` says: status
when something changed, else every five minutes; a cordon while pods are held. The end of the
process writes nothing, as that of a kubelet: a restart is no news, and home notices a longer
absence by the heartbeat.

A Node that its administrator deletes is not made again while the process lives, nor is anything
else written for it: `problem` says so, and the next start makes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

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
    ObjectKey,
)
from farlet.context import Context
from farlet.foreign import inventory
from farlet.forge import capacity, node_health
from farlet.forge import node as forge
from farlet.forge.node_health import Foreign, ForeignUnreachable, Say
from farlet.node import heartbeat, registration
from farlet.node.foreign_nodes import REFUSALS, ForeignNodes
from farlet.node.home_node import HomeNode
from farlet.node.reachability import Reachability
from farlet.settings import Settings

FIRST_LOOK_SECONDS = 3.0
"""How long a registration waits for the foreign side, so that a new Node is whole at once."""
STATUS_SECONDS = 300.0
"""Between two writes of a status that does not change (`nodeStatusReportFrequency`)."""
RETRY_SECONDS = 5.0
SETTLE_SECONDS = 1.0
"""Between two writes of one that does."""

HELD = "foreign-unreachable"
DRAINED = "drain"

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
        foreign_problem: Callable[[], str | None],
        lease: heartbeat.NodeLease,
        beats: bool,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`foreign_problem` tells what keeps pods from being served abroad, beside a silent API
        server. `lease` is the node's own; with `beats` it is renewed here, else by who holds it
        as a lock."""
        self._settings = settings
        self._ctx = ctx
        self._lease = lease
        self._beats = beats
        self._now = now
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()
        self._said: dict[str, Say] = {}
        self._reported: float | None = None
        self._draining = False
        self._absence_told = False
        self._uid = ""
        self._home_node = HomeNode(home, settings.nodename, on_change=self._home_changed)
        self._reach = Reachability(
            foreign,
            ObjectKey(ctx().namespaces.own, inventory.name_for(ctx())),
            refused=foreign_problem,
            after=settings.foreign_unreachable_after,
            on_change=self._changed.set,
        )
        self._foreign_nodes = (
            None if settings.capacity else ForeignNodes(foreign, on_change=self._changed.set)
        )
        self.registered = asyncio.Event()
        """Home has the Node."""

    # --- what others see and say of it --------------------------------------------------------

    @property
    def problem(self) -> str | None:
        """Why home cannot use the node; `None` while it can, as far as farlet is concerned."""
        if not self.registered.is_set():
            return "the Node is not registered yet"
        if self._node is None:
            return (
                f"the Node {self._settings.nodename} was deleted; it is not made again before "
                "the next start"
            )
        return None

    def set_condition(self, kind: str, status: str, *, reason: str, message: str) -> None:
        """Show a condition from now on, in place of farlet's own if it is one of these."""
        self._said[kind] = Say(kind, status, reason, message)
        self._changed.set()

    def look_again(self) -> None:
        """What the context says has changed."""
        self._changed.set()

    async def cordon(self) -> None:
        """Take the node out of scheduling for a drain; the next process takes that back.

        Raises as `Cluster.call`.
        """
        self._draining = True
        async with self._writing:
            if self._node is not None:
                await self._patch(forge.cordon_patch(self._node, DRAINED))

    async def retire(self) -> None:
        """Tell home that the node is gone for good, not for a restart. Raises as `Cluster.call`."""
        self.set_condition(
            NodeCondition.READY, "False", reason="KubeletNotReady", message="node is shutting down"
        )
        await self._sync()

    async def run(self) -> None:
        """Register, then keep the Node for ever.

        Raises `StartError` (in a group), with what to do, where it cannot be registered as told.
        """
        async with asyncio.TaskGroup() as tasks:
            if self._foreign_nodes is not None:
                tasks.create_task(self._foreign_nodes.run(), name="foreign nodes")
                tasks.create_task(self._foreign_nodes.insist(), name="foreign nodes, at first")
            tasks.create_task(self._reach.run(), name="foreign probe")
            await self._look_abroad()
            await self._register()
            tasks.create_task(self._home_node.run(), name="home node")
            if self._beats:
                beating = heartbeat.beat(self._lease, alive=lambda: self._node is not None)
                tasks.create_task(beating, name="heartbeat")
            await self._keep()

    async def _look_abroad(self) -> None:
        nodes = self._foreign_nodes
        try:
            async with asyncio.timeout(FIRST_LOOK_SECONDS):
                if nodes is not None:
                    await nodes.settled.wait()
                while self._reach.state is Foreign.UNKNOWN:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            log.warning("foreign API server was not heard of yet", waited=FIRST_LOOK_SECONDS)
        if nodes is not None and nodes.forbidden:
            await nodes.insist()

    async def _register(self) -> None:
        refusals = 0
        while not self.registered.is_set():
            try:
                new = forge.new(self._look(), self._found(), self._says(None), self._now())
                await registration.register(
                    self._home_node, look=self._look(), kind=self._found().kind, new=new
                )
                if self._home_node.node is not None:
                    self._uid = self._home_node.node["metadata"]["uid"]
                    self.registered.set()
            except errors.Conflict as err:
                log.info("node was changed meanwhile", err=str(err))
                await asyncio.sleep(SETTLE_SECONDS)
            except (errors.Unreachable, errors.Throttled) as err:
                log.warning("node was not registered", err=str(err), retry_in=RETRY_SECONDS)
                await asyncio.sleep(RETRY_SECONDS)
            except errors.StartError as err:
                refusals += 1
                if refusals > REFUSALS or not isinstance(err.__cause__, errors.Forbidden):
                    raise
                log.info("node was not registered yet", err=str(err))
                await asyncio.sleep(SETTLE_SECONDS)
            except errors.ApiError as err:
                raise errors.StartError(
                    f"the Node {self._settings.nodename} cannot be registered at home: {err}"
                ) from err

    async def _keep(self) -> None:
        failures = retrying.OncePerCause()
        while True:
            self._changed.clear()
            pause = self._due_in()
            try:
                await self._sync()
                failures.clear()
                pause = self._due_in()
            except errors.NotFound:
                pass  # the watch will tell
            except errors.FarletError as err:
                (log.warning if failures.is_new(str(err)) else log.debug)(
                    "node was not updated", err=str(err), retry_in=RETRY_SECONDS
                )
                pause = RETRY_SECONDS
            try:
                async with asyncio.timeout(max(SETTLE_SECONDS, pause)):
                    await asyncio.sleep(SETTLE_SECONDS)
                    await self._changed.wait()
            except TimeoutError:
                continue

    # --- writing ------------------------------------------------------------------------------

    async def _sync(self) -> None:
        """Bring the Node up to date. Raises as `Cluster.call`."""
        async with self._writing:
            for part in (self._labels, self._cordon, self._status):
                # Each on what the one before has made of it.
                if (node := self._node) is not None:
                    await part(node)

    async def _labels(self, node: k8s_types.Node) -> None:
        """Those that foreign nodes decide, and the one without which the next start would refuse
        the Node; the others are written at registration only."""
        wanted = forge.labels(self._look(), self._found().kind)
        kept = {key: value for key, value in wanted.items() if key in _KEPT_LABELS}
        await self._patch(forge.labels_patch(node, kept))

    async def _cordon(self, node: k8s_types.Node) -> None:
        hold = self._settings.foreign_unreachable is ForeignUnreachable.HOLD
        if self._reach.state is Foreign.REACHABLE and not self._draining:
            await self._patch(forge.uncordon_patch(node))
        elif self._reach.state is Foreign.UNREACHABLE and hold:
            await self._patch(forge.cordon_patch(node, HELD))

    async def _status(self, node: k8s_types.Node) -> None:
        body = forge.status_patch(
            node,
            self._look(),
            self._found(),
            self._says(node),
            self._now(),
            due=self._due_in() <= 0,
        )
        if body is not None:
            await self._patch(body, resource=resources.NODE_STATUS)
            self._reported = asyncio.get_running_loop().time()

    async def _patch(
        self,
        body: JSON | None,
        *,
        resource: resources.Resource[k8s_types.Node] = resources.NODES,
    ) -> None:
        if body is not None:
            await self._home_node.patch(body, resource=resource)

    # --- what it should be --------------------------------------------------------------------

    def _look(self) -> forge.NodeConfig:
        return registration.look(self._settings, self._ctx())

    def _found(self) -> forge.NodeObservation:
        nodes = self._foreign_nodes
        return forge.NodeObservation(
            address=self._ctx().node_ip,
            version=self._reach.version,
            room=capacity.fixed(self._settings.capacity) if nodes is None else nodes.room,
            kind=capacity.Platform(os="linux") if nodes is None else nodes.kind,
        )

    def _says(self, node: k8s_types.Node | None) -> Sequence[Say]:
        own = node_health.health(
            self._reach.state,
            problem=self._reach.problem,
            policy=self._settings.foreign_unreachable,
            node=node,
        )
        own = (*own, node_health.home_api(self._ctx()))
        return tuple(({say.type: say for say in own} | self._said).values())

    def _due_in(self) -> float:
        if self._reported is None:
            return 0.0
        return self._reported + STATUS_SECONDS - asyncio.get_running_loop().time()

    # --- what is heard of it ------------------------------------------------------------------

    @property
    def _node(self) -> k8s_types.Node | None:
        """The Node, unless something that is no virtual node has taken its name since."""
        node = self._home_node.node
        if node is None or node["metadata"]["uid"] == self._uid or forge.is_virtual(node):
            return node
        return None

    def _home_changed(self) -> None:
        node = self._node
        uid = None if node is None else node["metadata"]["uid"]
        self._lease.owned_by(self._settings.nodename, uid)
        gone = self.registered.is_set() and node is None
        if gone and not self._absence_told:
            log.warning("node was deleted; it is not made again before the next start")
        self._absence_told = gone
        self._changed.set()
