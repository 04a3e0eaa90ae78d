"""One scope per foreign namespace in use: its anchor, its watches, and what is wrong with it.

A scope opens when a home pod needs its namespace, or at start when the registry says that an
earlier process used it. Opening proves that the namespace exists and that farlet may work
there. Losing one scope touches only its own pods.

The registry is a ConfigMap in farlet's own foreign namespace: with namespaced rights nobody
can list where mirrors of a dead process might be left. A namespace is written there before
the first mirror is made in it, so one that does not stand there holds nothing of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import structlog

from farlet import clusters, errors, refusals, watches
from farlet.context import Context
from farlet.errors import Refused
from farlet.store import Store, Table, key_of
from farlet.vocabulary import (
    JSON,
    OWNER,
    ObjectKey,
    ObjectMeta,
    OwnerReference,
    PartialObject,
    Pod,
    Reason,
)

RETRY_FIRST_SECONDS = 1.0
RETRY_LAST_SECONDS = 10.0
"""A namespace or Role that appears is used within this time."""

log = structlog.get_logger()

Wake = Callable[[ObjectKey, float], None]
"""Reconcile this home key in that many seconds."""

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
            _Mirrors(self, store),
            on_state=self.wake_all,
            label_selector=owner,
        )
        self._secrets = watches.Reflector(
            scopes.cluster,
            f"{base}/secrets",
            _Partials(self, store.secrets, self._wake_secret),
            on_state=self.wake_all,
            label_selector=owner,
            metadata_only=True,
        )
        self._accounts = watches.Reflector(
            scopes.cluster,
            f"{base}/serviceaccounts",
            _Partials(self, store.accounts, self._wake_waiting),
            on_state=self.wake_all,
            metadata_only=True,
        )
        self._accounts_wanted = asyncio.Event()
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
        return _Accounts(self.foreign, self._scopes.store.accounts)

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
        seconds = RETRY_FIRST_SECONDS
        while self.anchor is None:
            try:
                anchor = await self._ensure_anchor()
                await self._scopes.register(self)
                self.anchor, self._refused = anchor, None
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
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pods.run())
            tasks.create_task(self._secrets.run())
            await self._accounts_wanted.wait()
            tasks.create_task(self._accounts.run())

    async def _ensure_anchor(self) -> OwnerReference:
        """The ConfigMap that owns all mirrors of this node in this namespace.

        As their controller it keeps foreign ReplicaSets and Jobs from adopting them.
        """
        name = self._scopes.name
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
        self._writing = asyncio.Lock()
        self._registered: dict[str, str] = {}
        """Foreign namespace -> home namespace."""
        self.name = f"farlet-{ctx().owner[:16]}"
        self.noticed: Callable[[ObjectKey], None] = lambda _: None
        """Told of home keys whose mirror has just changed, for the latency that is measured."""
        self.loaded = asyncio.Event()
        """The registry was read; before, nothing is known of what earlier processes left."""
        self.refused: Refused | None = None
        self._registry = f"/api/v1/namespaces/{ctx().namespaces.own}/configmaps"

    def __len__(self) -> int:
        return len(self._open)

    async def load(self) -> None:
        """Read the registry and open what earlier processes used; tries until there is an answer.

        Raises `StartError` when the mapping of namespaces has changed since, or the registry
        can be neither read nor made.
        """
        seconds = RETRY_FIRST_SECONDS
        while not self.loaded.is_set():
            try:
                await self._load()
            except (errors.Unreachable, errors.Throttled) as err:
                self.refused = refusals.of(err, what="scope") or self.refused
                log.warning("registry was not read", err=str(err), retry_in=seconds)
                self.wake_all()
                await asyncio.sleep(seconds)
                seconds = min(seconds * 2, RETRY_LAST_SECONDS)
        self.refused = None
        self.wake_all()

    def wake_all(self) -> None:
        """Look at every pod of every scope again."""
        for scope in self._open.values():
            scope.wake_all()

    async def _load(self) -> None:
        ctx = self.ctx()
        try:
            found = await self.cluster.call("GET", f"{self._registry}/{self.name}")
        except errors.NotFound:
            found = await self._make_registry()
        except errors.Forbidden as err:
            raise self._cannot_start(err) from err
        self._registered = dict(found.get("data") or {})
        for foreign, home in self._registered.items():
            if (now := ctx.namespaces.foreign(home)) != foreign:
                raise errors.StartError(
                    f"pods of the home namespace {home} ran in the foreign namespace {foreign} "
                    f"and would now run in {now}. Keep it with --namespace-map {home}={foreign}; "
                    f"or delete those mirrors and then the key {foreign} of the ConfigMap "
                    f"{ctx.namespaces.own}/{self.name}"
                )
        self.loaded.set()
        for home in self._registered.values():
            self.of(home)

    async def _make_registry(self) -> JSON:
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self.name, "labels": {OWNER: self.ctx().owner}},
            "data": {},
        }
        try:
            return await self.cluster.call("POST", self._registry, body=body)
        except errors.ApiError as err:
            raise self._cannot_start(err) from err

    def _cannot_start(self, err: errors.ApiError) -> errors.StartError:
        own = self.ctx().namespaces.own
        return errors.StartError(
            f"farlet's own namespace {own!r} in the foreign cluster cannot be used: {err.message}. "
            f"Create it (kubectl create namespace {own}) and allow farlet to get, create and patch "
            "ConfigMaps there, or name another with --foreign-namespace"
        )

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
            async with self._writing:
                await self._write_registry({scope.foreign: None})
                self._registered.pop(scope.foreign, None)
        except errors.FarletError as err:
            # It stays in the registry: opened again, and found empty, by the next process.
            log.info("foreign namespace stays registered", namespace=scope.foreign, err=str(err))
            return
        log.info("foreign namespace was closed", namespace=scope.foreign, home=scope.home)

    def known(self, foreign: str) -> bool:
        """Something of ours may be, or have been, in this foreign namespace."""
        return not self.loaded.is_set() or foreign in self._registered

    async def register(self, scope: Scope) -> None:
        """Remember the namespace beyond this process, before anything is made in it."""
        async with self._writing:
            if self._registered.get(scope.foreign) != scope.home:
                await self._write_registry({scope.foreign: scope.home})
                self._registered[scope.foreign] = scope.home

    async def _write_registry(self, data: Mapping[str, str | None]) -> None:
        await self.cluster.call(
            "PATCH",
            f"{self._registry}/{self.name}",
            body={"data": dict(data)},
            content_type=clusters.MERGE_PATCH,
        )

    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks that keep the scopes open, to be cancelled at the end."""
        return [scope.task for scope in self._open.values() if scope.task is not None]


class _Accounts(Mapping[str, ObjectMeta]):
    """The ServiceAccounts of one namespace, by name."""

    def __init__(self, namespace: str, table: Table[PartialObject]) -> None:
        self._namespace = namespace
        self._table = table

    def __getitem__(self, name: str) -> ObjectMeta:
        account = self._table.get(ObjectKey(self._namespace, name))
        if account is None:
            raise KeyError(name)
        return account["metadata"]

    def __iter__(self) -> Iterator[str]:
        return (key.name for key in self._table.keys(self._namespace))

    def __len__(self) -> int:
        return len(self._table.keys(self._namespace))


class _Mirrors:
    """Sink of one scope's pods."""

    def __init__(self, scope: Scope, store: Store) -> None:
        self._scope = scope
        self._store = store

    def replaced(self, objects: Sequence[JSON], version: int) -> None:
        pods: list[Any] = list(objects)
        for gone in self._store.mirrors.missing_from(pods, self._scope.foreign, version):
            self._vanished(gone)
        for pod in pods:
            if self._store.mirrors.put(pod):
                self._scope.wake(key_of(pod))

    def changed(self, kind: str, obj: JSON) -> None:
        pod: Any = obj
        if kind == "DELETED":
            self._vanished(pod)
        elif self._store.mirrors.put(pod):
            self._scope.wake(key_of(pod))

    def _vanished(self, pod: Pod) -> None:
        key = key_of(pod)
        self._store.mirrors.remove(key, pod["metadata"].get("uid", ""), seen=True)
        self._store.depart(key, self._scope.home_key(key), pod)
        self._scope.wake(key)


class _Partials:
    """Sink of metadata-only objects."""

    def __init__(
        self, scope: Scope, table: Table[PartialObject], wake: Callable[[PartialObject], None]
    ) -> None:
        self._scope = scope
        self._table = table
        self._wake = wake

    def replaced(self, objects: Sequence[JSON], version: int) -> None:
        listed: list[Any] = list(objects)
        for gone in self._table.missing_from(listed, self._scope.foreign, version):
            self.changed("DELETED", dict(gone))
        for obj in listed:
            self.changed("ADDED", obj)

    def changed(self, kind: str, obj: JSON) -> None:
        partial: Any = obj
        if kind == "DELETED":
            self._table.remove(key_of(partial), partial["metadata"].get("uid", ""), seen=True)
            self._wake(partial)
        elif self._table.put(partial):
            self._wake(partial)
