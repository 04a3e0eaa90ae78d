"""One scope per foreign namespace in use: its anchor, its watches, and what is wrong with it.

A scope opens when a home pod needs its namespace, or at start when the registry says that an
earlier process used it. Opening proves that the namespace exists and that farlet may work
there. Losing one scope touches only its own pods.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from farlet import clusters, errors, refusals, sinks, watches
from farlet.context import Context
from farlet.errors import Refused
from farlet.registry import Registry, name_for
from farlet.store import Store
from farlet.vocabulary import (
    OWNER,
    ObjectKey,
    ObjectMeta,
    OwnerReference,
    PartialObject,
    Reason,
)

RETRY_FIRST_SECONDS = 1.0
RETRY_LAST_SECONDS = 10.0
"""A namespace or Role that appears is used within this time."""

log = structlog.get_logger()

Wake = Callable[[ObjectKey, float], None]
"""Reconcile this home key in that many seconds."""

DOUBT_SECONDS = 5.0

COALESCE_SECONDS = 0.05
"""Changes of a mirror within this time become one status at home."""


_CURED_BY_ACCOUNTS = (Reason.SERVICE_ACCOUNT_NOT_FOUND, Reason.SERVICE_ACCOUNT_NOT_ALLOWED)


class Scope:
    """One pair of namespaces. `run` keeps it open; the properties are what `reconcile` reads."""

    def __init__(self, scopes: Scopes, home: str, foreign: str) -> None:
        self._scopes = scopes
        self.home = home
        self.foreign = foreign
        self.anchor: OwnerReference | None = None
        self._refused: Refused | None = None
        base = f"/api/v1/namespaces/{foreign}"
        owner = f"{OWNER}={scopes.ctx().owner}"
        store = scopes.store
        self._pods = watches.Reflector(
            scopes.cluster,
            f"{base}/pods",
            sinks.Mirrors(store, home=home, foreign=foreign, wake=self.wake),
            on_state=self._followed,
            label_selector=owner,
        )
        self._secrets = watches.Reflector(
            scopes.cluster,
            f"{base}/secrets",
            sinks.Partials(store.secrets, foreign=foreign, wake=self._wake_secret),
            on_state=self.wake_all,
            label_selector=owner,
            metadata_only=True,
        )
        self._accounts = watches.Reflector(
            scopes.cluster,
            f"{base}/serviceaccounts",
            sinks.Partials(store.accounts, foreign=foreign, wake=self._wake_waiting),
            on_state=self.wake_all,
            metadata_only=True,
        )
        self._accounts_wanted = asyncio.Event()
        self._opened = asyncio.Event()
        self._doubted = asyncio.Event()
        self._anchored_at = 0.0
        self._pods_lost = False
        self.task: asyncio.Task[None] | None = None
        self.was_empty = False

    @property
    def mirrors_known(self) -> bool:
        """A mirror that the store lacks does not exist."""
        return self.anchor is not None and self._pods.complete

    @property
    def secrets_known(self) -> bool:
        """A Secret that the store lacks does not exist."""
        return self.anchor is not None and self._secrets.complete

    @property
    def empty(self) -> bool:
        """Nothing at home needs this namespace, and nothing of ours is left in it."""
        store = self._scopes.store
        return (
            self.mirrors_known
            and self.secrets_known
            and not store.home.keys(self.home)
            and not store.mirrors.keys(self.foreign)
            and not store.secrets.keys(self.foreign)
        )

    def accounts(self) -> Mapping[str, ObjectMeta] | None:
        """ServiceAccounts by name; `None` while they are not known. Asking starts the watch."""
        self._accounts_wanted.set()
        if not self._accounts.complete:
            return None
        return sinks.Accounts(self.foreign, self._scopes.store.accounts)

    @property
    def problem(self) -> Refused | None:
        """Why this namespace cannot be used or seen now."""
        if not self._scopes.loaded.is_set():
            return self._scopes.refused
        if self._refused is not None:
            return self._refused
        for reflector in (self._pods, self._secrets, self._accounts):
            if reflector.error is not None:
                return refusals.of(reflector.error, what="scope")
        return None

    async def run(self) -> None:
        """Open the namespace, retrying for ever, then follow it."""
        await self._scopes.loaded.wait()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_anchored())
            await self._opened.wait()
            tasks.create_task(self._pods.run())
            tasks.create_task(self._secrets.run())
            await self._accounts_wanted.wait()
            tasks.create_task(self._accounts.run())

    def doubt(self) -> None:
        """The namespace, and our anchor with it, may have been deleted: look before going on.

        A mirror made with an owner that is gone would be collected as garbage. Who was looked
        at a moment ago is not doubted again.
        """
        recent = asyncio.get_running_loop().time() - self._anchored_at < DOUBT_SECONDS
        if self.anchor is not None and not recent:
            self.anchor = None
            self._doubted.set()

    async def _keep_anchored(self) -> None:
        while True:
            seconds = RETRY_FIRST_SECONDS
            while self.anchor is None:
                self._doubted.clear()
                try:
                    anchor = await self._ensure_anchor()
                    await self._scopes.registry.add(self.foreign, self.home)
                    self.anchor, self._refused = anchor, None
                    self._anchored_at = asyncio.get_running_loop().time()
                except errors.FarletError as err:
                    self._refused = refusals.of(err, what="scope") or self._refused
                    log.warning(
                        "foreign namespace was not opened",
                        namespace=self.foreign,
                        err=str(err),
                        retry_in=seconds,
                    )
                    self.wake_all()
                    await asyncio.sleep(seconds)
                    seconds = min(seconds * 2, RETRY_LAST_SECONDS)
            log.info("foreign namespace was opened", namespace=self.foreign, home=self.home)
            self._opened.set()
            self.wake_all()
            await self._doubted.wait()

    def _followed(self) -> None:
        """The watch of mirrors was lost, or stands again: what happened meanwhile is not known."""
        if self._pods.live and self._opened.is_set() and self._pods_lost:
            self.doubt()
        self._pods_lost = not self._pods.live
        self.wake_all()

    async def _ensure_anchor(self) -> OwnerReference:
        """The ConfigMap that owns all mirrors of this node in this namespace.

        As their controller it keeps foreign ReplicaSets and Jobs from adopting them.
        """
        name = name_for(self._scopes.ctx())
        path = f"/api/v1/namespaces/{self.foreign}/configmaps"
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {OWNER: self._scopes.ctx().owner}},
            "data": {"about": f"owns the mirrors of pods on node {self._scopes.ctx().node}"},
        }
        try:
            found = await self._scopes.cluster.call("GET", f"{path}/{name}")
        except errors.NotFound:
            try:
                found = await self._scopes.cluster.call("POST", path, body=body)
            except errors.Conflict:
                found = await self._scopes.cluster.call("GET", f"{path}/{name}")
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": name,
            "uid": found["metadata"]["uid"],
            "controller": True,
        }

    def home_key(self, foreign: ObjectKey) -> ObjectKey:
        """The home pod that a mirror of this name belongs to: our own mapping, not its labels."""
        return ObjectKey(self.home, foreign.name)

    def wake(self, foreign: ObjectKey, seconds: float = COALESCE_SECONDS) -> None:
        """A mirror changed."""
        self._scopes.noticed(self.home_key(foreign))
        self._scopes.wake(self.home_key(foreign), seconds)

    def _wake_secret(self, secret: PartialObject) -> None:
        for owner in secret["metadata"].get("ownerReferences", ()):
            if owner.get("kind") == "Pod":
                self.wake(ObjectKey(self.foreign, owner.get("name", "")))

    def _wake_waiting(self, _account: PartialObject) -> None:
        home = self._scopes.store.home
        for key in home.keys(self.home):
            pod = home.get(key)
            if pod is not None and pod.get("status", {}).get("reason") in _CURED_BY_ACCOUNTS:
                self._scopes.wake(key, 0)

    def wake_all(self) -> None:
        """What is known of this namespace has changed for all its pods."""
        store = self._scopes.store
        for key in store.home.keys(self.home):
            self._scopes.wake(key, 0)
        for key in store.mirrors.keys(self.foreign):
            self.wake(key, 0)


class Scopes:
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
        self._open: dict[str, Scope] = {}
        self.registry = Registry(cluster, ctx())
        self.noticed: Callable[[ObjectKey], None] = lambda _: None
        """Told of home keys whose mirror has just changed, for the latency that is measured."""
        self.loaded = asyncio.Event()
        """The registry was read; before, nothing is known of what earlier processes left."""
        self.refused: Refused | None = None

    def __len__(self) -> int:
        return len(self._open)

    async def load(self) -> None:
        """Read the registry and open what earlier processes used; tries until there is an answer.

        Raises `StartError` as `Registry.read` does.
        """
        seconds = RETRY_FIRST_SECONDS
        while not self.loaded.is_set():
            try:
                entries = await self.registry.read(self.ctx())
            except (errors.Unreachable, errors.Throttled) as err:
                self.refused = refusals.of(err, what="scope") or self.refused
                log.warning("registry was not read", err=str(err), retry_in=seconds)
                self.wake_all()
                await asyncio.sleep(seconds)
                seconds = min(seconds * 2, RETRY_LAST_SECONDS)
                continue
            self.loaded.set()
            for home in entries.values():
                self.of(home)
        self.refused = None
        self.wake_all()

    def wake_all(self) -> None:
        """Look at every pod of every scope again."""
        for scope in self._open.values():
            scope.wake_all()

    def of(self, home: str) -> Scope | None:
        """The scope of a home namespace, opened on first use; `None` where none is allowed."""
        foreign = self.ctx().namespaces.foreign(home)
        if foreign is None:
            return None
        scope = self._open.get(foreign)
        if scope is None:
            scope = self._open[foreign] = Scope(self, home, foreign)
            scope.task = self._tasks.create_task(scope.run(), name=f"scope {foreign}")
        return scope

    async def prune(self) -> None:
        """Close scopes that have been empty since the last call, so that watches do not pile up."""
        if not self.loaded.is_set():
            return
        for foreign, scope in list(self._open.items()):
            if not scope.empty:
                scope.was_empty = False
            elif not scope.was_empty:
                scope.was_empty = True
            else:
                del self._open[foreign]
                if scope.task is not None:
                    scope.task.cancel()
                await self._unregister(scope)

    async def _unregister(self, scope: Scope) -> None:
        try:
            await self.registry.remove(scope.foreign)
        except errors.FarletError as err:
            # It stays in the registry: opened again, and found empty, by the next process.
            log.info("foreign namespace stays registered", namespace=scope.foreign, err=str(err))
            return
        log.info("foreign namespace was closed", namespace=scope.foreign, home=scope.home)

    def known(self, foreign: str) -> bool:
        """Something of ours may be, or have been, in this foreign namespace."""
        return not self.loaded.is_set() or foreign in self.registry

    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks that keep the scopes open, to be cancelled at the end."""
        return [scope.task for scope in self._open.values() if scope.task is not None]
