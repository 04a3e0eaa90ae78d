"""All foreign namespaces in use, and the inventory of those that earlier processes used.

A namespace opens when a home pod needs it, or at start if the inventory contains it. It closes
when nothing has needed it for some minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import structlog

from farlet import errors, retrying
from farlet.client.api_client import ApiClient
from farlet.constants import ObjectKey
from farlet.context import Context
from farlet.errors import Refused, Unconfirmed
from farlet.foreign import home_namespace, services
from farlet.foreign.created_namespaces import CreatedNamespaces
from farlet.foreign.identity import ForeignIdentity
from farlet.foreign.mirror_events import Offer
from farlet.foreign.namespace import RETRY_FIRST_SECONDS, RETRY_LAST_SECONDS, ForeignNamespace, Wake
from farlet.forge.copies import Source
from farlet.planning import api_refusals
from farlet.planning.actions import Step
from farlet.store import Store

RESTORE_SECONDS = 60.0
"""A deleted inventory is created again within this time."""

log = structlog.get_logger()


class ForeignNamespaces:
    """All open namespaces of this process, and the inventory."""

    def __init__(
        self,
        cluster: ApiClient,
        store: Store,
        *,
        ctx: Callable[[], Context],
        wake: Wake,
        on_mirror_change: Callable[[ObjectKey], None],
        on_mirror_event: Offer | None = None,
        on_copy_change: Callable[[Source], None],
        on_namespace_change: Callable[[ForeignNamespace], None],
        with_volumes: Callable[[], Collection[str] | None] = tuple,
        identity: ForeignIdentity,
        tasks: asyncio.TaskGroup,
        created: CreatedNamespaces | None = None,
        reflect_from: ApiClient | None = None,
    ) -> None:
        """`on_mirror_change` gets the key of a home pod whose mirror has changed, `on_copy_change`
        a home object whose copy has changed, and `on_namespace_change` a namespace of which
        everything that depends on it must be decided again.

        `with_volumes` returns the foreign namespaces in which volumes of home claims exist, or
        perhaps do; `None`: not known. They stay in the inventory, by which a copy of this home is
        noticed. Without `on_mirror_event`, no Events are watched; without `created`, farlet creates
        no namespaces; without `reflect_from`, the home cluster, no Services are reflected.
        """
        self.cluster = cluster
        self.store = store
        self.ctx = ctx
        self.wake = wake
        self.on_mirror_change = on_mirror_change
        self.on_mirror_event = on_mirror_event
        self.on_copy_change = on_copy_change
        self.on_namespace_change = on_namespace_change
        self._with_volumes = with_volumes
        self.created = created
        self.reflect_from = reflect_from
        self._reflected: set[str] = set()
        """Closed foreign namespaces that have reflected objects, as far as is known."""
        self._retiring: dict[str, asyncio.Event] = {}
        """Foreign namespaces that are perhaps being deleted; the event is set at the end."""
        self._closed: dict[str, str] = {}
        """Foreign namespaces that are closed and stay in the inventory for now, with their home."""
        self._tasks = tasks
        self._open: dict[str, ForeignNamespace] = {}
        self.identity = identity
        self.inventory = identity.inventory
        self.loaded = asyncio.Event()
        """The inventory was read. Before, what earlier processes left is unknown."""
        self._refused: Refused | None = None
        self._doubts = 0
        self._keeping: asyncio.Task[None] | None = None
        self._prune_requested = asyncio.Event()
        self._pruning: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._open)

    def opened(self) -> list[ForeignNamespace]:
        """Those that are open, by name."""
        return [one for _, one in sorted(self._open.items())]

    @property
    def refused(self) -> Refused | None:
        """Why no foreign namespace can be used now."""
        return self.identity.problem or self._refused

    def identity_changed(self) -> None:
        """The foreign cluster was confirmed, or is in doubt: what was read is void then."""
        if self._doubts != self.identity.doubts:
            self._doubts = self.identity.doubts
            for namespace in self._open.values():
                namespace.void()
        self.wake_all()

    async def load(self) -> None:
        """Read the inventory and open what earlier processes used. Retries until it is answered.

        Waits until the foreign cluster is confirmed. Raises `StartError` as
        `NamespaceInventory.read` does.
        """
        await self.identity.established.wait()
        backoff = retrying.Backoff(RETRY_FIRST_SECONDS, RETRY_LAST_SECONDS)
        failures = retrying.OncePerCause()
        while not self.loaded.is_set():
            try:
                entries = await self.inventory.read(self.ctx())
            except (errors.Unreachable, errors.Throttled) as err:
                self._refused = api_refusals.of(err, step=Step.NAMESPACE) or self._refused
                seconds = backoff.next()
                if failures.is_new(str(err)):
                    log.warning(
                        "failed to read foreign namespace inventory", err=str(err), retry_in=seconds
                    )
                self.wake_all()
                await asyncio.sleep(seconds)
                continue
            self.loaded.set()
            for home in entries.values():
                if (namespace := self.of(home)) is not None:
                    namespace.copies.follow()
        self._refused = None
        for key in self.store.home:
            self.wake(key, 0)
        self._keeping = self._tasks.create_task(self._restore_inventory(), name="inventory")
        self._pruning = self._tasks.create_task(self._prune_on_request(), name="unused namespaces")

    async def _restore_inventory(self) -> None:
        """Nothing else would notice its deletion before the next namespace is opened."""
        while True:
            await asyncio.sleep(RESTORE_SECONDS)
            try:
                await self.inventory.restore()
            except errors.FarletError as err:
                log.warning(
                    "failed to check foreign namespace inventory",
                    err=str(err),
                    retry_in=RESTORE_SECONDS,
                )

    def wake_all(self) -> None:
        """Reconcile every pod of every open namespace."""
        for namespace in self._open.values():
            namespace.wake_all()

    def of(self, home: str) -> ForeignNamespace | None:
        """That of a home namespace, opened on first use.

        `None` if it is not offloaded, or if another home namespace uses its foreign namespace.
        """
        foreign = self.ctx().namespaces.foreign(home)
        if foreign is None or self.conflict(home) is not None:
            return None
        namespace = self._open.get(foreign)
        if namespace is None:
            namespace = self._open[foreign] = ForeignNamespace(self, home, foreign)
            namespace.start(self._tasks)
        return namespace

    def conflict(self, home: str) -> Refused | None:
        """Why pods of this home namespace wait, if its foreign namespace is open for another."""
        foreign = self.ctx().namespaces.foreign(home)
        namespace = None if foreign is None else self._open.get(foreign)
        if namespace is None or namespace.home == home:
            return None
        holder = f"the home namespace {namespace.home}"
        return home_namespace.in_use(namespace.foreign, home=home, holder=holder)

    def mirrors_in_sync(self, home: str) -> bool:
        """Whether a mirror of this home namespace that the store lacks does not exist."""
        foreign = self.ctx().namespaces.foreign(home)
        namespace = None if foreign is None else self._open.get(foreign)
        return foreign is None or (namespace is not None and namespace.mirrors_in_sync)

    def request_prune(self) -> None:
        """Home pods are known: `prune` soon. It can wait long for a slow foreign API server."""
        self._prune_requested.set()

    async def _prune_on_request(self) -> None:
        while True:
            await self._prune_requested.wait()
            self._prune_requested.clear()
            await self.prune()

    async def prune(self) -> None:
        """Close namespaces that have been idle for some minutes, and their watches with them.

        Those that farlet created stay in the inventory until they are deleted, and those with
        volumes until these are.
        """
        if not self.loaded.is_set():
            return
        now = asyncio.get_running_loop().time()
        unused = self._closed if self.created is None else self.inventory.entries()
        for foreign, namespace in list(self._open.items()):
            if namespace.idle(now):
                del self._open[foreign]
                if namespace.task is not None:
                    namespace.task.cancel()
                for table in (self.store.accounts, *self.store.copies.values()):
                    table.clear(foreign)
                unused[foreign] = namespace.home
                if self.reflect_from is not None:
                    self._reflected.add(foreign)
        self._closed = {one: home for one, home in unused.items() if one not in self._open}
        if not self.identity.confirmed:
            return
        kept = self._with_volumes()
        for foreign, home in list(self._closed.items()):
            try:
                done = foreign not in self._open and await self._retire(foreign, home=home)
                if done and kept is not None and foreign not in kept:
                    await self._unregister(foreign, home=home)
            except (errors.Unreachable, errors.Unconfirmed) as err:
                # The others would wait for the same API server.
                log.info("unused foreign namespaces kept for now", err=str(err))
                return
            if foreign not in self.inventory:
                self._closed.pop(foreign, None)

    async def _retire(self, foreign: str, *, home: str) -> bool:
        """Whether farlet is done with a namespace that no pod needs, and none needs it now."""
        done = self._retiring[foreign] = asyncio.Event()
        try:
            if foreign in self._reflected and foreign in self.inventory:
                await self._clear(foreign, home=home)
            if self.created is None:
                return True
            return await self.created.retire(
                foreign, home=home, needed=lambda: foreign in self._open
            )
        except (errors.Unreachable, errors.Unconfirmed):
            raise
        except errors.FarletError as err:
            log.info("foreign namespace kept for now", namespace=foreign, home=home, err=str(err))
            return False
        finally:
            del self._retiring[foreign]
            done.set()

    async def _clear(self, foreign: str, *, home: str) -> None:
        """Delete what is reflected, once for each time that the namespace closes.

        Another virtual node of this home can use it as well, without a mirror at this moment.
        """
        home_id = self.ctx().home_id
        try:
            ours = await home_namespace.verify(self.cluster, foreign, home=home, home_id=home_id)
        except Unconfirmed:
            raise
        except Refused:
            ours = False
        if ours:
            await services.clear(self.cluster, foreign, confirm=self.identity.confirm)
        self._reflected.discard(foreign)

    async def retired(self, foreign: str) -> None:
        """Wait while this foreign namespace is perhaps being deleted."""
        if (done := self._retiring.get(foreign)) is not None:
            await done.wait()

    async def _unregister(self, foreign: str, *, home: str) -> None:
        if foreign not in self.inventory or foreign in self._open:
            return
        try:
            await self.inventory.remove(foreign)
        except (errors.Unreachable, errors.Unconfirmed):
            raise
        except errors.FarletError as err:
            log.info(
                "failed to remove foreign namespace from inventory", namespace=foreign, err=str(err)
            )
            return
        log.info("stopped using foreign namespace", namespace=foreign, home=home)

    def is_open(self, foreign: str) -> bool:
        """Whether this foreign namespace is open."""
        return foreign in self._open

    def may_hold_mirrors(self, foreign: str) -> bool:
        """Whether something of ours may exist, or have existed, in this foreign namespace."""
        return not self.loaded.is_set() or foreign in self.inventory

    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks of the namespaces and the inventory, to be cancelled at the end."""
        own = (self._keeping, self._pruning, *(namespace.task for namespace in self._open.values()))
        return [task for task in own if task is not None]
