"""Which foreign namespaces this node uses: a ConfigMap in farlet's own foreign namespace.

With namespaced rights nobody can list where mirrors of a dead process might be left. A
namespace is written here before the first mirror is made in it, so one that does not stand
here holds nothing of ours. `docs/decisions/0004-inventory.md` says what else was considered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from farlet import errors
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import VIRTUAL_NODE_ID
from farlet.context import Context
from farlet.k8s_types import ConfigMap

log = structlog.get_logger()


class NamespaceInventory:
    """Foreign namespace -> home namespace, beyond the life of a process."""

    def __init__(self, cluster: ApiClient, ctx: Context) -> None:
        self._cluster = cluster
        self._own = ctx.namespaces.own
        self._virtual_node_id = ctx.virtual_node_id
        self._name = name_for(ctx)
        self._entries: dict[str, str] = {}
        self._writing = asyncio.Lock()

    def __contains__(self, foreign: str) -> bool:
        return foreign in self._entries

    async def read(self, ctx: Context) -> Mapping[str, str]:
        """All entries. Raises `Unreachable`, `Throttled`, and `StartError`.

        `StartError`: it can be neither read nor made, or the mapping of namespaces has changed
        since; what runs under the old one would be taken for lost.
        """
        try:
            found = await self._get()
        except errors.NotFound:
            found = await self._make()
        except (errors.Throttled, errors.Gone):
            raise
        except errors.ApiError as err:
            raise self._unusable(err) from err
        self._entries = dict(found.get("data") or {})
        for foreign, home in self._entries.items():
            if (now := ctx.namespaces.foreign(home)) != foreign:
                raise errors.StartError(
                    f"pods of the home namespace {home} ran in the foreign namespace {foreign} "
                    f"and would now run in {now}. Keep it with --namespace-map {home}={foreign}; "
                    f"or delete those mirrors and then the key {foreign} of the ConfigMap "
                    f"{self._own}/{self._name}"
                )
        return self._entries

    async def add(self, foreign: str, home: str) -> None:
        """Remember a namespace, before anything is made in it."""
        async with self._writing:
            if self._entries.get(foreign) != home:
                await self._write({foreign: home})
                self._entries[foreign] = home

    async def remove(self, foreign: str) -> None:
        """Forget a namespace that holds nothing of ours any more."""
        async with self._writing:
            # Should the answer be lost, nobody knows whether it stands: `add` writes it again.
            self._entries[foreign] = ""
            await self._write({foreign: None})
            self._entries.pop(foreign, None)

    async def keep(self) -> None:
        """Write again what somebody has taken away.

        Raises what `Cluster.call` raises, and `StartError` where it can no longer be made.
        """
        async with self._writing:
            try:
                found = await self._get()
            except errors.NotFound:
                found = await self._make()
            told = found.get("data") or {}
            lacking = {f: h for f, h in self._entries.items() if h and h != told.get(f)}
            if lacking:
                await self._patch(lacking)
                log.warning("registry of foreign namespaces was restored", lacking=len(lacking))

    async def _get(self) -> ConfigMap:
        return await self._cluster.get(resources.CONFIG_MAPS, self._name, namespace=self._own)

    async def _make(self) -> ConfigMap:
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self._name, "labels": {VIRTUAL_NODE_ID: self._virtual_node_id}},
            "data": {},
        }
        try:
            return await self._cluster.create(resources.CONFIG_MAPS, body, namespace=self._own)
        except errors.Throttled:
            raise
        except errors.Conflict:
            # Another start was quicker, or it is our own from a request whose answer was lost.
            return await self._get()
        except errors.ApiError as err:
            raise self._unusable(err) from err

    async def _write(self, data: Mapping[str, str | None]) -> None:
        try:
            await self._patch(data)
        except errors.NotFound:
            # Somebody deleted it: what is known of it is made again, with this change.
            await self._make()
            await self._patch({k: v for k, v in self._entries.items() if v} | dict(data))

    async def _patch(self, data: Mapping[str, str | None]) -> None:
        await self._cluster.patch(
            resources.CONFIG_MAPS, self._name, {"data": dict(data)}, namespace=self._own
        )

    def _unusable(self, err: errors.ApiError) -> errors.StartError:
        if err.code == 401:
            return errors.StartError(
                f"{err}: it does not accept farlet's credentials. Give a kubeconfig with valid "
                "ones by --foreign-kubeconfig"
            )
        return errors.StartError(
            f"farlet's own namespace {self._own!r} in the foreign cluster cannot be used: "
            f"{err.message}. Apply manifests/foreign/farlet-namespace.yaml there, or name another "
            "namespace with --foreign-system-namespace"
        )


def name_for(ctx: Context) -> str:
    """Name of this node's ConfigMaps abroad: the registry, and the anchor in each namespace."""
    return f"farlet-{ctx.virtual_node_id}"
