"""One foreign namespace in use: its anchor, its watches, and what is wrong with it.

Opening it proves that the namespace exists and that farlet may work there. What is lost in one
scope touches only its own pods; which scopes there are is not its matter, but that of `scopes`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from farlet import errors
from farlet.client import cluster as clusters
from farlet.client import reflector as watches
from farlet.constants import VIRTUAL_NODE_ID, ObjectKey
from farlet.context import Context
from farlet.errors import Refused
from farlet.foreign import event_handlers
from farlet.foreign.inventory import NamespaceInventory, name_for
from farlet.k8s_types import ObjectMeta, OwnerReference, PartialObject
from farlet.planning import api_refusals
from farlet.planning.actions import Step
from farlet.planning.snapshot import ANCHOR_TRUSTED_SECONDS
from farlet.store import Store

RETRY_FIRST_SECONDS = 1.0
RETRY_LAST_SECONDS = 10.0
"""A namespace or Role that appears is used within this time."""

log = structlog.get_logger()

Wake = Callable[[ObjectKey, float], None]
"""Reconcile this home key in that many seconds."""

ANCHOR_SECONDS = 60.0
"""An anchor that somebody deleted is noticed within this time, or when a mirror goes."""

IDLE_SECONDS = 300.0
"""Longer than any request that was on its way when the last pod went."""

COALESCE_SECONDS = 0.05
"""Changes of a mirror within this time become one status at home."""


class SharedState(Protocol):
    """What all scopes have in common; `scopes.Scopes` is it."""

    cluster: clusters.Cluster
    store: Store
    ctx: Callable[[], Context]
    wake: Wake
    registry: NamespaceInventory
    noticed: Callable[[ObjectKey], None]
    loaded: asyncio.Event
    refused: Refused | None


class ForeignNamespace:
    """One pair of namespaces. `run` keeps it open; the properties are what `reconcile` reads."""

    def __init__(self, scopes: SharedState, home: str, foreign: str) -> None:
        self._scopes = scopes
        self.home = home
        self.foreign = foreign
        self.anchor: OwnerReference | None = None
        self._refused: Refused | None = None
        base = f"/api/v1/namespaces/{foreign}"
        owner = f"{VIRTUAL_NODE_ID}={scopes.ctx().virtual_node_id}"
        store = scopes.store
        self._pods = watches.Reflector(
            scopes.cluster,
            f"{base}/pods",
            event_handlers.Mirrors(store, home=home, foreign=foreign, wake=self.wake),
            on_state=self._followed,
            label_selector=owner,
        )
        self._secrets = watches.Reflector(
            scopes.cluster,
            f"{base}/secrets",
            event_handlers.Partials(store.secrets, foreign=foreign, wake=self._wake_secret),
            on_state=self.wake_all,
            label_selector=owner,
            metadata_only=True,
        )
        self._accounts = watches.Reflector(
            scopes.cluster,
            f"{base}/serviceaccounts",
            event_handlers.Partials(store.accounts, foreign=foreign, wake=self._account_changed),
            on_state=self.wake_all,
            metadata_only=True,
        )
        self._accounts_wanted = asyncio.Event()
        self._waiting: set[ObjectKey] = set()
        """Home pods without a mirror that asked for an account since accounts last changed."""
        self._opened = asyncio.Event()
        self._doubted = asyncio.Event()
        self._anchored_at = 0.0
        self._pods_lost = False
        self.task: asyncio.Task[None] | None = None
        self._idle_since: float | None = None

    @property
    def mirrors_known(self) -> bool:
        """A mirror that the store lacks does not exist."""
        return self.anchor is not None and self._pods.complete

    @property
    def secrets_known(self) -> bool:
        """A Secret that the store lacks does not exist."""
        return self.anchor is not None and self._secrets.complete

    @property
    def anchor_age(self) -> float:
        """Seconds since the anchor was last read."""
        return asyncio.get_running_loop().time() - self._anchored_at

    def idle(self, now: float) -> bool:
        """For some minutes nothing at home has needed this namespace and nothing of ours is in it.

        One that was never opened holds nothing.
        """
        store = self._scopes.store
        opened = self._opened.is_set()
        seen = self.mirrors_known and self.secrets_known
        left = store.mirrors.keys(self.foreign) or store.secrets.keys(self.foreign)
        if store.home.keys(self.home) or (opened and (not seen or left)):
            self._idle_since = None
            return False
        if self._idle_since is None:
            self._idle_since = now
        return now - self._idle_since >= IDLE_SECONDS

    def accounts(self, asked_by: ObjectKey) -> Mapping[str, ObjectMeta] | None:
        """ServiceAccounts by name; `None` while they are not known.

        Asking starts the watch, and `asked_by` is looked at again when an account changes.
        """
        self._accounts_wanted.set()
        self._waiting.add(asked_by)
        if not self._accounts.complete:
            return None
        return event_handlers.Accounts(self.foreign, self._scopes.store.accounts)

    def asks_no_more(self, key: ObjectKey) -> None:
        """It has its mirror, or is gone: no change of an account matters to it."""
        self._waiting.discard(key)

    @property
    def problem(self) -> Refused | None:
        """Why this namespace cannot be used or seen now."""
        if not self._scopes.loaded.is_set():
            return self._scopes.refused
        if self._refused is not None:
            return self._refused
        for reflector in (self._pods, self._secrets, self._accounts):
            if reflector.error is not None:
                return api_refusals.of(reflector.error, step=Step.NAMESPACE)
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
        if self.anchor is not None and self.anchor_age >= ANCHOR_TRUSTED_SECONDS:
            self.anchor = None
            self._doubted.set()

    async def _keep_anchored(self) -> None:
        """Open, then look again when in doubt and once in a while."""
        seconds = RETRY_FIRST_SECONDS
        while True:
            self._doubted.clear()
            before = self.anchor
            try:
                anchor = await self._ensure_anchor()
                await self._scopes.registry.add(self.foreign, self.home)
            except errors.FarletError as err:
                self._not_opened(err, retry_in=seconds)
                await asyncio.sleep(seconds)
                seconds = min(seconds * 2, RETRY_LAST_SECONDS)
                continue
            seconds = RETRY_FIRST_SECONDS
            self.anchor, self._refused = anchor, None
            self._anchored_at = asyncio.get_running_loop().time()
            if anchor != before:
                log.info("foreign namespace was opened", namespace=self.foreign, home=self.home)
                self._opened.set()
                self.wake_all()
            try:
                async with asyncio.timeout(ANCHOR_SECONDS):
                    await self._doubted.wait()
            except TimeoutError:
                continue

    def _not_opened(self, err: errors.FarletError, *, retry_in: float) -> None:
        told = self._refused
        self._refused = api_refusals.of(err, step=Step.NAMESPACE) or self._refused
        news = told is None or self._refused is None or told.reason is not self._refused.reason
        (log.warning if news else log.debug)(
            "foreign namespace was not opened",
            namespace=self.foreign,
            err=str(err),
            retry_in=retry_in,
        )
        if news:
            self.wake_all()

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
            "metadata": {
                "name": name,
                "labels": {VIRTUAL_NODE_ID: self._scopes.ctx().virtual_node_id},
            },
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

    def _account_changed(self, _account: PartialObject) -> None:
        waiting, self._waiting = self._waiting, set()
        for key in waiting:
            self._scopes.wake(key, 0)

    def wake_all(self) -> None:
        """What is known of this namespace has changed for all its pods."""
        store = self._scopes.store
        for key in store.home.keys(self.home):
            self._scopes.wake(key, 0)
        for key in store.mirrors.keys(self.foreign):
            self.wake(key, 0)
