"""All foreign namespaces in use: which are open, since when, and what the registry knows of them.

A scope opens when a home pod needs its namespace, or at start when the registry says that an
earlier process used it; it is closed when nothing has needed it for some minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from farlet import errors
from farlet.client import cluster as clusters
from farlet.constants import ObjectKey
from farlet.context import Context
from farlet.errors import Refused
from farlet.foreign.inventory import NamespaceInventory
from farlet.foreign.namespace import RETRY_FIRST_SECONDS, RETRY_LAST_SECONDS, ForeignNamespace, Wake
from farlet.planning import api_refusals
from farlet.planning.actions import Step
from farlet.store import Store

REGISTRY_SECONDS = 60.0
"""A registry that somebody deleted is made again within this time."""

log = structlog.get_logger()


class ForeignNamespaces:
    """All scopes of this process, and the registry."""

    def __init__(
        self,
        cluster: clusters.Cluster,
        store: Store,
        *,
        ctx: Callable[[], Context],
        wake: Wake,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.cluster = cluster
        self.store = store
        self.ctx = ctx
        self.wake = wake
        self._tasks = tasks
        self._open: dict[str, ForeignNamespace] = {}
        self.registry = NamespaceInventory(cluster, ctx())
        self.noticed: Callable[[ObjectKey], None] = lambda _: None
        """Told of home keys whose mirror has just changed, for the latency that is measured."""
        self.loaded = asyncio.Event()
        """The registry was read; before, nothing is known of what earlier processes left."""
        self.refused: Refused | None = None
        self._keeping: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._open)

    async def load(self) -> None:
        """Read the registry and open what earlier processes used; tries until there is an answer.

        Raises `StartError` as `NamespaceInventory.read` does.
        """
        seconds, told = RETRY_FIRST_SECONDS, ""
        while not self.loaded.is_set():
            try:
                entries = await self.registry.read(self.ctx())
            except (errors.Unreachable, errors.Throttled) as err:
                self.refused = api_refusals.of(err, step=Step.NAMESPACE) or self.refused
                if str(err) != told:
                    log.warning("registry was not read", err=str(err), retry_in=seconds)
                told = str(err)
                self.wake_all()
                await asyncio.sleep(seconds)
                seconds = min(seconds * 2, RETRY_LAST_SECONDS)
                continue
            self.loaded.set()
            for home in entries.values():
                self.of(home)
        self.refused = None
        for key in self.store.home:
            self.wake(key, 0)
        self._keeping = self._tasks.create_task(self._keep_registry(), name="registry kept")

    async def _keep_registry(self) -> None:
        """Nothing else would tell that somebody deleted it, until the next namespace is opened."""
        while True:
            await asyncio.sleep(REGISTRY_SECONDS)
            try:
                await self.registry.keep()
            except errors.FarletError as err:
                log.warning("registry was not looked at", err=str(err), retry_in=REGISTRY_SECONDS)

    def wake_all(self) -> None:
        """Look at every pod of every scope again."""
        for scope in self._open.values():
            scope.wake_all()

    def of(self, home: str) -> ForeignNamespace | None:
        """The scope of a home namespace, opened on first use; `None` where none is allowed."""
        foreign = self.ctx().namespaces.foreign(home)
        if foreign is None:
            return None
        scope = self._open.get(foreign)
        if scope is None:
            scope = self._open[foreign] = ForeignNamespace(self, home, foreign)
            scope.task = self._tasks.create_task(scope.run(), name=f"scope {foreign}")
        return scope

    def mirrors_known(self, home: str) -> bool:
        """A mirror of this home namespace that the store lacks does not exist."""
        foreign = self.ctx().namespaces.foreign(home)
        scope = None if foreign is None else self._open.get(foreign)
        return foreign is None or (scope is not None and scope.mirrors_known)

    async def prune(self) -> None:
        """Close scopes that have been idle for some minutes, so that watches do not pile up."""
        if not self.loaded.is_set():
            return
        now = asyncio.get_running_loop().time()
        for foreign, scope in list(self._open.items()):
            if scope.idle(now):
                del self._open[foreign]
                if scope.task is not None:
                    scope.task.cancel()
                self.store.accounts.clear(foreign)
                if foreign in self.registry:
                    await self._unregister(scope)

    async def _unregister(self, scope: ForeignNamespace) -> None:
        try:
            await self.registry.remove(scope.foreign)
        except errors.FarletError as err:
            # It stays in the registry: opened again, and found empty, by the next process.
            log.info("foreign namespace stays registered", namespace=scope.foreign, err=str(err))
            return
        log.info("foreign namespace was closed", namespace=scope.foreign, home=scope.home)

    def opened(self, foreign: str) -> bool:
        """This foreign namespace has a scope."""
        return foreign in self._open

    def known(self, foreign: str) -> bool:
        """Something of ours may be, or have been, in this foreign namespace."""
        return not self.loaded.is_set() or foreign in self.registry

    def tasks(self) -> list[asyncio.Task[None]]:
        """What keeps the scopes open, and the registry, to be cancelled at the end."""
        own = (self._keeping, *(scope.task for scope in self._open.values()))
        return [task for task in own if task is not None]
