"""One foreign namespace in use: its anchor, its watches, and its problem if there is one.

Opening it proves that the namespace exists and that farlet is allowed to work there. A failure in
one namespace affects its own pods only. `namespaces` decides which ones are open.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from farlet import errors, retrying
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.client.reflector import Reflector
from farlet.constants import VIRTUAL_NODE_ID, ObjectKey, Reason
from farlet.context import Context
from farlet.errors import Refused
from farlet.foreign import event_handlers, home_namespace, mirror_events
from farlet.foreign.copy_watches import CopyWatches
from farlet.foreign.created_namespaces import CreatedNamespaces
from farlet.foreign.identity import ForeignIdentity
from farlet.foreign.inventory import NamespaceInventory
from farlet.foreign.services import ReflectedServices
from farlet.forge.copies import Source
from farlet.k8s_types import ObjectMeta, OwnerReference, PartialObject, Pod
from farlet.planning import api_refusals, predicates
from farlet.planning.actions import Step
from farlet.store import Store, key_of

RETRY_FIRST_SECONDS = 1.0
RETRY_LAST_SECONDS = 10.0
"""A namespace or Role that appears is used within this time."""

log = structlog.get_logger()


class _Missing(errors.FarletError):
    """The namespace does not exist, and no pod needs it as far as is known."""


Wake = Callable[[ObjectKey, float], None]
"""Reconcile the home pod of this key after this many seconds."""

ANCHOR_SECONDS = 60.0
"""A namespace that was recreated is noticed within this time if no mirror of ours was in it."""

IDLE_SECONDS = 300.0
"""Longer than any request that was in flight when the last pod was removed."""


class SharedState(Protocol):
    """What all foreign namespaces have in common. `ForeignNamespaces` implements it."""

    cluster: ApiClient
    store: Store
    ctx: Callable[[], Context]
    wake: Wake
    inventory: NamespaceInventory
    identity: ForeignIdentity
    on_mirror_change: Callable[[ObjectKey], None]
    on_mirror_event: mirror_events.Offer | None
    """`None`: Events are not watched."""
    on_copy_change: Callable[[Source], None]
    on_namespace_change: Callable[[ForeignNamespace], None]
    loaded: asyncio.Event
    created: CreatedNamespaces | None
    """`None`: an administrator creates foreign namespaces."""
    reflect_from: ApiClient | None
    """The home cluster whose Services are reflected; `None`: none are."""

    @property
    def refused(self) -> Refused | None:
        """Why no foreign namespace can be used now."""
        ...

    async def retired(self, foreign: str) -> None:
        """Wait while this foreign namespace is perhaps being deleted."""
        ...


class ForeignNamespace:
    """One pair of namespaces. `run` keeps it open; the reconciler reads the properties.

    `in_sync` properties say whether an object that the store lacks is known not to exist.
    """

    def __init__(self, shared: SharedState, home: str, foreign: str) -> None:
        self._shared = shared
        self.home = home
        self.foreign = foreign
        self.anchor: OwnerReference | None = None
        self._refused: Refused | None = None
        owner = f"{VIRTUAL_NODE_ID}={shared.ctx().virtual_node_id}"
        store = shared.store
        mirrors = event_handlers.Mirrors(
            store, home=home, foreign=foreign, wake=self.wake, ended=self._mirror_ended
        )
        secrets = event_handlers.Partials(store.secrets, foreign=foreign, wake=self._wake_secret)
        accounts = event_handlers.Partials(
            store.accounts, foreign=foreign, wake=self._account_changed
        )
        self._pods = Reflector(
            shared.cluster,
            resources.PODS,
            mirrors,
            before_list=mirrors.listing,
            namespace=foreign,
            on_state=self._followed,
            on_rewound=self._doubt_departures,
            trimmed=store.mirrors.trimmed,
            on_invalid=self._mirror_invalid,
            label_selector=owner,
            confirm=shared.identity.confirm,
        )
        self._secrets = Reflector(
            shared.cluster,
            resources.SECRETS.metadata_only,
            secrets,
            before_list=secrets.listing,
            namespace=foreign,
            on_state=self.wake_all,
            on_invalid=store.secrets.doubt,
            trimmed=store.secrets.trimmed,
            label_selector=owner,
            confirm=shared.identity.confirm,
        )
        self._accounts = Reflector(
            shared.cluster,
            resources.SERVICE_ACCOUNTS.metadata_only,
            accounts,
            before_list=accounts.listing,
            namespace=foreign,
            on_state=self.wake_all,
            confirm=shared.identity.confirm,
        )
        offer = shared.on_mirror_event
        self._events = (
            None
            if offer is None
            else mirror_events.reflector(shared.cluster, home=home, foreign=foreign, offer=offer)
        )
        self.copies = CopyWatches(
            shared.cluster,
            shared.store,
            home=home,
            foreign=foreign,
            ctx=shared.ctx,
            on_change=shared.on_copy_change,
            on_state=self.wake_all,
            confirm=shared.identity.confirm,
        )
        self.services: ReflectedServices | None = None
        if shared.reflect_from is not None:
            self.services = ReflectedServices(
                shared.reflect_from,
                shared.cluster,
                home=home,
                foreign=foreign,
                ctx=shared.ctx,
                on_state=self.wake_all,
                confirm=shared.identity.confirm,
            )
        self._accounts_needed = asyncio.Event()
        self._waiting: set[ObjectKey] = set()
        """Home pods without a mirror that need an account, since accounts last changed."""
        self.missing = False
        """It does not exist, and farlet creates it as soon as a pod needs it."""
        self._create = False
        """If it does not exist when it is read next, farlet creates it."""
        self._opened = asyncio.Event()
        self._recheck = asyncio.Event()
        self._signs = 0
        """Signs so far that the namespace may have been deleted."""
        self._signs_at_read = 0
        """Those before the request whose answer is the anchor."""
        self._pods_lost = False
        self.task: asyncio.Task[None] | None = None
        self._idle_since: float | None = None

    @property
    def mirrors_in_sync(self) -> bool:
        """Whether a mirror that the store lacks does not exist."""
        return self._pods.in_sync

    @property
    def secrets_in_sync(self) -> bool:
        """Whether a Secret that the store lacks does not exist."""
        return self._secrets.in_sync

    @property
    def anchor_doubted(self) -> bool:
        """Whether a sign of the namespace's deletion came after the anchor was requested."""
        return self._signs != self._signs_at_read

    def idle(self, now: float) -> bool:
        """Whether, for some minutes, no home pod needed it and it contained nothing of ours.

        One that was never opened contains nothing.
        """
        store = self._shared.store
        opened = self._opened.is_set()
        seen = self.mirrors_in_sync and self.secrets_in_sync
        seen = seen and self.copies.settled
        left = (
            store.mirrors.keys(self.foreign)
            or store.secrets.keys(self.foreign)
            or any(table.keys(self.foreign) for table in store.copies.values())
        )
        if store.home.keys(self.home) or (opened and (not seen or left)):
            self._idle_since = None
            return False
        if self._idle_since is None:
            self._idle_since = now
        return now - self._idle_since >= IDLE_SECONDS

    def accounts(self, waiting: ObjectKey) -> Mapping[str, ObjectMeta] | None:
        """ServiceAccounts by name; `None` while they are not known.

        The first call starts the watch. `waiting` is reconciled when an account changes.
        """
        self._accounts_needed.set()
        self._waiting.add(waiting)
        if not self._accounts.in_sync:
            return None
        return event_handlers.Accounts(self.foreign, self._shared.store.accounts)

    def forget_waiting(self, key: ObjectKey) -> None:
        """The pod has its mirror, or was deleted: it waits for no account any more."""
        self._waiting.discard(key)

    @property
    def problem(self) -> Refused | None:
        """Why this namespace cannot be used or watched now."""
        if self._shared.refused is not None or not self._shared.loaded.is_set():
            return self._shared.refused
        if self._refused is not None:
            return self._refused
        for reflector in (self._pods, self._secrets, self._accounts):
            if reflector.error is not None:
                return api_refusals.of(reflector.error, step=Step.NAMESPACE, home=self.home)
        return None

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Open the namespace and follow it, in `task`."""
        # Its requests are no part of the pass that opens it, and not of that pass's urgency.
        self.task = tasks.create_task(
            self.run(), name=f"namespace {self.foreign}", context=contextvars.Context()
        )

    async def run(self) -> None:
        """Open the namespace, with retries, then follow it until cancelled."""
        await self._shared.loaded.wait()
        await self._shared.retired(self.foreign)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_anchored())
            await self._opened.wait()
            tasks.create_task(self._pods.run())
            tasks.create_task(self._secrets.run())
            if self._events is not None:
                tasks.create_task(self._events.run())
            tasks.create_task(self.copies.run())
            if self.services is not None:
                tasks.create_task(self.services.run())
            await self._accounts_needed.wait()
            tasks.create_task(self._accounts.run())

    def void(self) -> None:
        """What was read may be that of another cluster: read it again."""
        self.doubt_anchor()
        self.recheck_anchor()
        self._doubt_departures()
        for reflector in (self._pods, self._secrets, self._accounts):
            reflector.void()
        self.copies.void()
        if self.services is not None:
            self.services.void()

    def _doubt_departures(self) -> None:
        self._shared.store.doubt_departures(self.foreign)

    def recheck_anchor(self) -> None:
        """Read the namespace again; until it is answered, no mirror can be created."""
        self.anchor = None
        self._recheck.set()

    def create(self) -> None:
        """A pod needs the namespace, which does not exist: create it."""
        self.missing, self._create = False, True
        self._recheck.set()

    def doubt_anchor(self) -> None:
        """A sign that the namespace may have been deleted, and recreated under its name.

        The garbage collector deletes a mirror whose owner does not exist. So no mirror is created
        with an anchor that was requested before the last sign. Example: the mirrors disappear
        because an administrator deletes the namespace and recreates it.
        """
        self._signs += 1

    def _mirror_ended(self, mirror: Pod) -> None:
        pods, key = self._shared.store.home, self.home_key(key_of(mirror))
        note = pods.note(key)
        if note is None or note.deleting:
            return  # as most of them: the home pod need not be read
        home, node = pods.get(key), self._shared.ctx().virtual_node_id
        if home is not None and predicates.wants(home, mirror, virtual_node_id=node):
            self.doubt_anchor()

    async def _keep_anchored(self) -> None:
        """Open it, then read the anchor again on request and once a minute."""
        backoff = retrying.Backoff(RETRY_FIRST_SECONDS, RETRY_LAST_SECONDS)
        while True:
            self._recheck.clear()
            before, signs = self.anchor, self._signs
            try:
                anchor = await self._read_anchor()
            except _Missing:
                self.anchor = None
                if self.missing:
                    self._refused = None  # no pod has needed it for some time
                else:
                    # If its creation was refused, that is the problem until it is created.
                    self.missing = True
                    self.wake_all()
                await retrying.wait(self._recheck, ANCHOR_SECONDS)
                continue
            except errors.FarletError as err:
                seconds = backoff.next()
                if isinstance(err, errors.ApiError | Refused):
                    self.anchor = None
                self._not_opened(err, retry_in=seconds)
                await asyncio.sleep(seconds)
                continue
            self.anchor, self._signs_at_read, self.missing = anchor, signs, False
            self._opened.set()
            if anchor is None:
                # Its mirrors are followed until they are gone; none is created.
                seconds = backoff.next()
                self._not_opened(self._being_deleted(), retry_in=seconds)
                await asyncio.sleep(seconds)
                continue
            backoff.reset()
            self._refused = None
            if anchor != before:
                log.info("started using foreign namespace", namespace=self.foreign, home=self.home)
                self.wake_all()
            await retrying.wait(self._recheck, ANCHOR_SECONDS)

    def _not_opened(self, err: errors.FarletError, *, retry_in: float) -> None:
        before = self._refused
        refused = api_refusals.of(err, step=Step.NAMESPACE, home=self.home)
        self._refused = refused or self._refused
        new = before is None or self._refused is None or before.reason is not self._refused.reason
        (log.warning if new else log.debug)(
            "failed to start using foreign namespace",
            namespace=self.foreign,
            err=str(err),
            retry_in=retry_in,
        )
        if new:
            self.wake_all()

    def _followed(self) -> None:
        """The watch of mirrors was lost or is open again. What happened in between is not known."""
        if self._pods.live and self._opened.is_set() and self._pods_lost:
            self.doubt_anchor()
        self._pods_lost = not self._pods.live
        self.wake_all()

    async def _read_anchor(self) -> OwnerReference | None:
        """The foreign namespace itself, as the controller of all mirrors in it; it is in use then.

        So foreign ReplicaSets and Jobs do not adopt them, and the mirrors exist as long as their
        namespace does. `None` while it is being deleted. Raises `_Missing` if it is to be created
        when a pod needs it.
        """
        shared, created = self._shared, self._shared.created
        new, self._create = self._create, False
        try:
            found = await shared.cluster.get(resources.NAMESPACES.metadata_only, self.foreign)
            new = False
        except errors.NotFound:
            if created is None:
                raise
            if not new:
                raise _Missing from None
            found = await created.create(self.foreign, home=self.home)
        if "deletionTimestamp" in found["metadata"]:
            return None
        if created is not None and created.is_own(found, home=self.home):
            await created.complete(self.foreign, home=self.home, new=new)
        else:
            home_id = shared.ctx().home_id
            await home_namespace.ensure(
                shared.cluster, self.foreign, home=self.home, home_id=home_id
            )
        await shared.inventory.add(self.foreign, self.home)
        return {
            "apiVersion": "v1",
            "kind": "Namespace",
            "name": self.foreign,
            "uid": found["metadata"]["uid"],
            "controller": True,
        }

    def _being_deleted(self) -> Refused:
        return Refused(
            Reason.NAMESPACE_NOT_FOUND,
            f"the foreign namespace {self.foreign} is being deleted. Recreate it, and farlet's "
            "Role in it, after the deletion has finished",
        )

    def home_key(self, foreign: ObjectKey) -> ObjectKey:
        """The home pod of a mirror, by our own mapping of names: its labels are not trusted."""
        return ObjectKey(self.home, foreign.name)

    def wake(self, foreign: ObjectKey, seconds: float) -> None:
        """Reconcile the home pod of a mirror that changed."""
        self._shared.on_mirror_change(self.home_key(foreign))
        self._shared.wake(self.home_key(foreign), seconds)

    def _mirror_invalid(self, foreign: ObjectKey) -> None:
        """A mirror has a form that is not valid: it is unknown, and no other is concerned."""
        self._shared.store.mirrors.doubt(foreign)
        self.wake(foreign, 0)

    def _wake_secret(self, secret: PartialObject) -> None:
        for owner in secret["metadata"].get("ownerReferences", ()):
            if owner.get("kind") == "Pod":
                mirror = ObjectKey(self.foreign, owner.get("name", ""))
                known = self._shared.store.mirrors.note(mirror)
                if known is not None and not known.deleting:  # else it goes with its mirror
                    self.wake(mirror, 0)

    def _account_changed(self, _account: PartialObject) -> None:
        waiting, self._waiting = self._waiting, set()
        for key in waiting:
            self._shared.wake(key, 0)

    def wake_all(self) -> None:
        """Reconcile all pods of this namespace."""
        store = self._shared.store
        for key in store.home.keys(self.home):
            self._shared.wake(key, 0)
        for key in store.mirrors.keys(self.foreign):
            self.wake(key, 0)
        self._shared.on_namespace_change(self)
