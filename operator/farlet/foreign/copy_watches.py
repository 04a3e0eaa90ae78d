"""The watches of copies of ConfigMaps and Secrets in one foreign namespace.

They begin once a pod needs a copy, or where an earlier process may have left some. What is done
with a copy is decided in `planning.copies`.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator

from farlet import errors
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.client.reflector import Reflector
from farlet.client.resources import Resource
from farlet.context import Context
from farlet.foreign import event_handlers
from farlet.forge import copies
from farlet.forge.copies import Source
from farlet.forge.references import Kind
from farlet.k8s_types import PartialObject
from farlet.store import Store


class CopyWatches:
    """Follows the copies that have the mark of this virtual node."""

    def __init__(
        self,
        cluster: ApiClient,
        store: Store,
        *,
        home: str,
        foreign: str,
        ctx: Callable[[], Context],
        on_change: Callable[[Source], None],
        on_state: Callable[[], None],
        confirm: Callable[[], Awaitable[None]],
    ) -> None:
        """`on_change` gets the source of each copy that has changed, and of all when a watch was
        lost or is open again; `on_state` follows in that case."""
        self._cluster = cluster
        self._store = store
        self._home = home
        self._foreign = foreign
        self._ctx = ctx
        self._on_change = on_change
        self._on_state = on_state
        self._confirm = confirm
        self._watches = {
            Kind.CONFIG_MAP: self._following(Kind.CONFIG_MAP, resources.CONFIG_MAPS.metadata_only),
            Kind.SECRET: self._following(Kind.SECRET, resources.SECRETS.metadata_only),
        }
        self._needed = asyncio.Event()

    def _following(self, kind: Kind, resource: Resource[PartialObject]) -> Reflector[PartialObject]:
        table = self._store.copies[kind]
        handler = event_handlers.Partials(
            table, foreign=self._foreign, wake=functools.partial(self._changed, kind)
        )
        return Reflector(
            self._cluster,
            resource,
            handler,
            before_list=handler.listing,
            namespace=self._foreign,
            on_state=self._followed,
            on_invalid=table.doubt,
            label_selector=f"{copies.mark(self._ctx())}=true",
            confirm=self._confirm,
        )

    def in_sync(self, kind: Kind) -> bool:
        """Whether a copy that the store lacks does not exist, or has no mark of ours."""
        return self._watches[kind].in_sync

    @property
    def settled(self) -> bool:
        """Whether all copies with our mark are known, or none is needed."""
        return not self._needed.is_set() or all(one.in_sync for one in self._watches.values())

    def error(self, kind: Kind) -> errors.FarletError | None:
        """Why copies cannot be watched now."""
        return self._watches[kind].error

    def follow(self) -> None:
        """Watch copies: a pod needs one, or an earlier process may have left some."""
        self._needed.set()

    async def run(self) -> None:
        """Watch until cancelled, once copies are needed."""
        await self._needed.wait()
        async with asyncio.TaskGroup() as tasks:
            for watch in self._watches.values():
                tasks.create_task(watch.run())

    def void(self) -> None:
        """What was read may be that of another cluster: read it again."""
        for watch in self._watches.values():
            watch.void()

    def sources(self) -> Iterator[Source]:
        """What the copies in this namespace are copies of."""
        ctx = self._ctx()
        for kind, table in self._store.copies.items():
            for key in table.keys(self._foreign):
                found = table.get(key)
                if found is not None:
                    source = copies.source_of(found["metadata"], kind, self._home, ctx)
                    if source is not None:
                        yield source

    def _changed(self, kind: Kind, copy: PartialObject) -> None:
        source = copies.source_of(copy["metadata"], kind, self._home, self._ctx())
        if source is not None:
            self._on_change(source)

    def _followed(self) -> None:
        """A watch was lost or is open again."""
        for source in self.sources():
            self._on_change(source)
        self._on_state()
