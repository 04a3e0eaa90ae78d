"""Which foreign namespaces this node uses: a ConfigMap in farlet's foreign system namespace.

Namespaced permissions do not allow farlet to search the cluster for mirrors that an earlier
process left. So a namespace is written here before the first mirror is created in it, and one
that is not listed contains nothing of ours. `docs/decisions/0004-inventory.md` lists alternatives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from farlet import errors
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import JSON, TERM, VIRTUAL_NODE_ID
from farlet.context import Context
from farlet.k8s_types import ConfigMap, ObjectMeta
from farlet.planning import api_refusals

TERM_LENGTH = 64

log = structlog.get_logger()


class NamespaceInventory:
    """Foreign namespace -> home namespace. Outlives the process."""

    def __init__(
        self, cluster: ApiClient, ctx: Context, *, on_term: Callable[[str | None], None]
    ) -> None:
        """`on_term` gets the term of each inventory that was read or changed."""
        self._cluster = cluster
        self._own = ctx.namespaces.own
        self._virtual_node_id = ctx.virtual_node_id
        self._name = name_for(ctx)
        self._entries: dict[str, str] = {}
        self._writing = asyncio.Lock()
        self.term: str | None = None
        """The term of this process, once it has written it."""
        self._on_term = on_term

    def __contains__(self, foreign: str) -> bool:
        return foreign in self._entries

    def entries(self) -> dict[str, str]:
        """A copy of all entries."""
        return {foreign: home for foreign, home in self._entries.items() if home}

    async def read(self, ctx: Context) -> Mapping[str, str]:
        """All entries. Raises `Unreachable`, `Throttled`, and `StartError`.

        `StartError`: it can be neither read nor created, or the mapping of namespaces has changed
        since it was written. Mirrors under the old mapping would look lost.
        """
        try:
            found = await self._get()
        except errors.NotFound:
            found = await self._create()
        except (errors.Throttled, errors.Gone):
            raise
        except errors.ApiError as err:
            raise self.unusable(err) from err
        self._entries = entries_of(found)
        verify(self._entries, ctx)
        return self._entries

    # --- the term (`planning/cluster_identity.py`) --------------------------------------------

    async def find(self) -> ConfigMap | None:
        """The ConfigMap as it is, `None` without it. Raises like `ApiClient.get`."""
        try:
            return await self._get()
        except errors.NotFound:
            return None

    async def get_metadata(self) -> ObjectMeta:
        """Raises like `ApiClient.get`."""
        found = await self._cluster.get(
            resources.CONFIG_MAPS.metadata_only, self._name, namespace=self._own
        )
        metadata: ObjectMeta = found["metadata"]
        self._on_term(term_of(metadata))
        return metadata

    async def write_term(self, term: str | None, *, version: str | None) -> None:
        """Write the term into the ConfigMap of that version; `None`: into a new one.

        Raises `Conflict` if that is not what exists.
        """
        async with self._writing:
            before, self.term = self.term, term
            try:
                if version is None:
                    await self._cluster.create(
                        resources.CONFIG_MAPS, self._new(), namespace=self._own
                    )
                else:
                    await self._annotate(term, version)
            except BaseException:
                self.term = before
                raise

    async def _annotate(self, term: str | None, version: str) -> None:
        body = {"metadata": {"resourceVersion": version, "annotations": {TERM: term}}}
        await self._cluster.patch(resources.CONFIG_MAPS, self._name, body, namespace=self._own)

    # --- entries ------------------------------------------------------------------------------

    async def add(self, foreign: str, home: str) -> None:
        """Record a namespace, before anything is created in it."""
        async with self._writing:
            if self._entries.get(foreign) != home:
                await self._write({foreign: home})
                self._entries[foreign] = home

    async def remove(self, foreign: str) -> None:
        """Remove a namespace that contains nothing of ours any more."""
        async with self._writing:
            # If the answer is lost, the entry may still exist: `add` writes it again.
            self._entries[foreign] = ""
            await self._write({foreign: None})
            self._entries.pop(foreign, None)

    async def restore(self) -> None:
        """Write entries again that were removed by others.

        Raises what `ApiClient.get` raises, and `StartError` if it cannot be created again.
        """
        async with self._writing:
            try:
                found = await self._get()
            except errors.NotFound:
                found = await self._create()
            if self.term is not None and term_of(found["metadata"]) is None:
                await self._annotate(self.term, found["metadata"]["resourceVersion"])
            stored = found.get("data") or {}
            missing = {f: h for f, h in self._entries.items() if h and h != stored.get(f)}
            if missing:
                await self._patch(missing)
                log.warning("foreign namespace inventory restored", missing=len(missing))

    async def _get(self) -> ConfigMap:
        found = await self._cluster.get(resources.CONFIG_MAPS, self._name, namespace=self._own)
        self._on_term(term_of(found["metadata"]))
        return found

    def _new(self) -> JSON:
        metadata: JSON = {"name": self._name, "labels": {VIRTUAL_NODE_ID: self._virtual_node_id}}
        if self.term is not None:
            metadata["annotations"] = {TERM: self.term}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}}

    async def _create(self) -> ConfigMap:
        try:
            return await self._cluster.create(
                resources.CONFIG_MAPS, self._new(), namespace=self._own
            )
        except errors.Throttled:
            raise
        except errors.Conflict:
            # Created by another process, or by our request whose answer was lost.
            return await self._get()
        except errors.ApiError as err:
            raise self.unusable(err) from err

    async def _write(self, data: Mapping[str, str | None]) -> None:
        try:
            await self._patch(data)
        except errors.NotFound:
            # It was deleted: create it again with all entries and this change.
            await self._create()
            await self._patch({k: v for k, v in self._entries.items() if v} | dict(data))

    async def _patch(self, data: Mapping[str, str | None]) -> None:
        found = await self._cluster.patch(
            resources.CONFIG_MAPS, self._name, {"data": dict(data)}, namespace=self._own
        )
        self._on_term(term_of(found["metadata"]))

    def unusable(self, err: errors.ApiError) -> errors.StartError:
        """The error of a start for this answer about the foreign system namespace."""
        return unusable(self._own, err)


def unusable(namespace: str, err: errors.ApiError) -> errors.StartError:
    """The error for a foreign system namespace that farlet cannot use."""
    if isinstance(err, errors.Unauthorized):
        return errors.StartError(err.advice)
    prepared = api_refusals.preparation(namespace, system=namespace)
    return errors.StartError(
        f"cannot use the foreign system namespace {namespace!r}: {err.message}. {prepared}; or set "
        "--foreign-system-namespace to another namespace"
    )


def entries_of(found: ConfigMap) -> dict[str, str]:
    """Foreign namespace -> home namespace, in an inventory."""
    return dict(found.get("data") or {})


def verify(entries: Mapping[str, str], ctx: Context) -> None:
    """Raises `StartError` if the settings map a home namespace of the inventory to another one."""
    for foreign, home in entries.items():
        if (now := ctx.namespaces.foreign(home)) != foreign:
            raise errors.StartError(
                f"pods of the home namespace {home} ran in the foreign namespace {foreign} "
                f"and would now run in {now}. Keep it with --namespace-map {home}={foreign}; "
                f"or delete those mirrors and then the key {foreign} of the ConfigMap "
                f"{ctx.namespaces.own}/{name_for(ctx)}"
            )


def term_of(metadata: ObjectMeta) -> str | None:
    """The term in the metadata of an inventory, cut to a bounded length."""
    return metadata.get("annotations", {}).get(TERM, "")[:TERM_LENGTH] or None


def name_for(ctx: Context) -> str:
    """Name of this node's inventory."""
    return f"farlet-{ctx.virtual_node_id}"
