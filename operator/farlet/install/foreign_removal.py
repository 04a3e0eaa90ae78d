"""Removes one virtual node from the foreign cluster: its mirrors, copies, marks and permissions.

farlet itself must have ended, or have lost its token: it would create again what is removed here.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from farlet import errors
from farlet.client import kinds
from farlet.client.api_client import ApiClient
from farlet.client.resources import Resource
from farlet.constants import (
    CREATED_NAMESPACE,
    HOME_CLUSTER,
    HOME_NAMESPACE_CONFIG_MAP,
    JSON,
    OBSERVED,
    REFLECTED,
    USED_BY,
    VIRTUAL_NODE_ID,
    ObjectKey,
)
from farlet.install import foreign, requests
from farlet.install.connection import CONNECT, object_name
from farlet.manager.virtual_node import INSTANCE_LABEL, MANAGED_BY_LABEL

_COPIES: tuple[Resource[Any], ...] = (
    kinds.CONFIG_MAPS.metadata_only,
    kinds.SECRETS.metadata_only,
)
_REFLECTED: tuple[Resource[Any], ...] = (
    kinds.SERVICES,
    kinds.ENDPOINT_SLICES,
)
_FIELDS = "metadata.name="


@dataclass(frozen=True, slots=True)
class Found:
    """What a virtual node has in the foreign cluster."""

    system: str
    """Its system namespace."""
    system_namespace: JSON | None
    ids: frozenset[str]
    """Values of the label `VIRTUAL_NODE_ID`: one, unless the home id was changed."""
    namespaces: tuple[str, ...]
    """Those that it uses."""
    claims: tuple[ObjectKey, ...]
    """Claims that contain data of home pods."""
    is_own: bool
    """Whether no other virtual node uses the system namespace, its ServiceAccount and Roles."""

    @property
    def is_empty(self) -> bool:
        """Whether the foreign cluster has nothing of it."""
        return self.system_namespace is None and not self.namespaces


def virtual_node_id(home_id: str, node: str) -> str:
    """As `Context.virtual_node_id`."""
    return hashlib.sha256(f"{home_id}/{node}".encode()).hexdigest()[:32]


async def look(cluster: ApiClient, *, node: str, system: str, home_id: str | None) -> Found:
    """What there is. `home_id` None: the home cluster is gone, and its id is found here.

    Raises `StartError` if it cannot be found, and if the system namespace is that of another home
    cluster.
    """
    namespace = await requests.find(cluster, kinds.NAMESPACES, system)
    metadata: JSON = {} if namespace is None else namespace["metadata"]
    recorded = (metadata.get("annotations") or {}).get(HOME_CLUSTER)
    if home_id is not None and recorded is not None and recorded != home_id:
        raise errors.StartError(
            f"the foreign namespace {system} belongs to a virtual node of another home cluster "
            f"(its id: {recorded}). Choose the right --foreign-context, or name its namespace with "
            "--foreign-system-namespace"
        )
    ids = {virtual_node_id(one, node) for one in (home_id, recorded) if one}
    named = (metadata.get("labels") or {}).get(INSTANCE_LABEL)
    if named == node:
        inventories = await cluster.list_all(
            kinds.CONFIG_MAPS.metadata_only, namespace=system, label_selector=VIRTUAL_NODE_ID
        )
        ids |= {one["metadata"]["labels"][VIRTUAL_NODE_ID] for one in inventories.items}
    if not ids and namespace is not None:
        raise errors.StartError(
            f"the foreign namespace {system} does not say to which home cluster its virtual node "
            "belongs. Set --home-id to the uid of that cluster's Service default/kubernetes"
        )
    used = await _namespaces(cluster, system, ids)
    claims = [
        ObjectKey(one["metadata"]["namespace"], one["metadata"]["name"])
        for one in await _labelled(cluster, kinds.CLAIMS.metadata_only, ids)
    ]
    own = namespace is None or named == node or system == object_name(node)
    return Found(system, namespace, frozenset(ids), tuple(sorted(used)), tuple(sorted(claims)), own)


async def _namespaces(cluster: ApiClient, system: str, ids: Iterable[str]) -> set[str]:
    """The namespaces with permissions or objects of the virtual node."""
    bindings = await cluster.list_all(
        kinds.ROLE_BINDINGS, field_selector=f"{_FIELDS}{system}", checked=False
    )
    used = {one["metadata"]["namespace"] for one in bindings.items if _is_of(one, system)}
    for resource in (kinds.PODS.metadata_only, *_COPIES, kinds.CLAIMS.metadata_only):
        used |= {one["metadata"]["namespace"] for one in await _labelled(cluster, resource, ids)}
    for resource in _COPIES:
        for one in ids:
            found = await cluster.list_all(resource, label_selector=f"{USED_BY}{one}")
            used |= {copy["metadata"]["namespace"] for copy in found.items}
    return used - {system}


async def _labelled(
    cluster: ApiClient, resource: Resource[Any], ids: Iterable[str], namespace: str = ""
) -> list[Any]:
    found: list[Any] = []
    for one in ids:
        selected = await cluster.list_all(
            resource, namespace=namespace, label_selector=f"{VIRTUAL_NODE_ID}={one}"
        )
        found += selected.items
    return found


def _is_of(binding: JSON, system: str) -> bool:
    account = {"kind": "ServiceAccount", "name": foreign.ACCOUNT, "namespace": system}
    return any(account.items() <= one.items() for one in binding.get("subjects") or ())


@dataclass
class Removal:
    """Removes what `look` found. Each step can be repeated."""

    cluster: ApiClient
    found: Found
    delete_claims: bool
    left: list[str] = field(default_factory=list)
    """What stays, and why."""

    async def revoke(self) -> str:
        """Delete what its token depends on: API servers then reject it."""
        if not self.found.is_own:
            self.left.append(
                f"ServiceAccount, Roles and token in the foreign namespace {self.found.system}, "
                "which other virtual nodes perhaps use"
            )
            return "the ServiceAccount stays"
        for resource, name in (
            (kinds.SECRETS, foreign.TOKEN),
            (kinds.SERVICE_ACCOUNTS, foreign.ACCOUNT),
        ):
            await requests.delete(self.cluster, resource, name, namespace=self.found.system)
        return f"deleted ServiceAccount {self.found.system}/{foreign.ACCOUNT}"

    async def clean(self) -> str:
        """Mirrors, their Secrets, copies and claims, in all namespaces at once."""
        counts = await asyncio.gather(*(self._clean(name) for name in self.found.namespaces))
        return f"{sum(counts)} objects in {', '.join(self.found.namespaces) or 'no namespace'}"

    async def remove_permissions(self) -> str:
        """Roles, namespaces that farlet or connect created, and the system namespace."""
        if not self.found.is_own:
            await self._remove_inventories()
            return "they stay"
        deleted = []
        for name in self.found.namespaces:
            if not await self._others(name) and await self._remove_namespace(name):
                deleted.append(name)
                continue
            # The binding last: it shows that the namespace is still used.
            for resource in (kinds.ROLES, kinds.ROLE_BINDINGS):
                await requests.delete(self.cluster, resource, self.found.system, namespace=name)
        for resource in (kinds.CLUSTER_ROLE_BINDINGS, kinds.CLUSTER_ROLES):
            await requests.delete(self.cluster, resource, f"{self.found.system}-capacity")
        if await self._remove_system():
            deleted.append(self.found.system)
        for name in deleted:
            await requests.until_gone(self.cluster, kinds.NAMESPACES, name)
        return f"deleted namespaces {', '.join(deleted)}" if deleted else "no namespace deleted"

    # --- one namespace ------------------------------------------------------------------------

    async def _clean(self, namespace: str) -> int:
        count = 0
        for pod in await self._of_node(kinds.PODS, namespace):
            await self._end(pod)
            count += 1
        for secret in await self._of_node(kinds.SECRETS.metadata_only, namespace):
            count += await self._delete(kinds.SECRETS, secret)
        for resource in _COPIES:
            for one in self.found.ids:
                label = f"{USED_BY}{one}"
                copies = await self.cluster.list_all(
                    resource, namespace=namespace, label_selector=label
                )
                for copy in copies.items:
                    await self._release(resource, copy, label)
                    count += 1
        if self.delete_claims:
            for claim in await self._of_node(kinds.CLAIMS.metadata_only, namespace):
                count += await self._delete(kinds.CLAIMS, claim)
        if not await self._others(namespace):
            for resource in _REFLECTED:
                shown = await self.cluster.list_all(
                    resource, namespace=namespace, label_selector=f"{REFLECTED}=true"
                )
                for one_shown in shown.items:
                    count += await self._delete(resource, one_shown)
            count += await requests.delete(
                self.cluster,
                kinds.CONFIG_MAPS,
                HOME_NAMESPACE_CONFIG_MAP,
                namespace=namespace,
            )
        for one in self.found.ids:
            await requests.until_none(
                self.cluster,
                kinds.PODS.metadata_only,
                namespace=namespace,
                label_selector=f"{VIRTUAL_NODE_ID}={one}",
            )
        return count

    async def _of_node(self, resource: Resource[Any], namespace: str) -> list[Any]:
        return await _labelled(self.cluster, resource, self.found.ids, namespace)

    async def _end(self, pod: JSON) -> None:
        """Delete a mirror with its grace period. Its final status is not awaited any more."""
        metadata = pod["metadata"]
        finalizers = metadata.get("finalizers") or []
        if OBSERVED in finalizers:
            kept = [one for one in finalizers if one != OBSERVED]
            body = {"metadata": {"uid": metadata["uid"], "finalizers": kept}}
            try:
                await self.cluster.patch(
                    kinds.PODS, metadata["name"], body, namespace=metadata["namespace"]
                )
            except (errors.NotFound, errors.Conflict):
                return
        await self._delete(kinds.PODS, pod)

    async def _delete(self, resource: Resource[Any], obj: JSON) -> int:
        metadata = obj["metadata"]
        return await requests.delete(
            self.cluster,
            resource,
            metadata["name"],
            namespace=metadata["namespace"],
            uid=metadata["uid"],
        )

    async def _release(self, resource: Resource[Any], copy: JSON, label: str) -> None:
        """Delete a copy, or only this node's mark if others use it, too."""
        metadata = copy["metadata"]
        marks = {key for key in metadata["labels"] if key.startswith(USED_BY)}
        if marks == {label}:
            await self._delete(resource, copy)
            return
        body = {"metadata": {"uid": metadata["uid"], "labels": {label: None}}}
        try:
            await self.cluster.patch(
                resource, metadata["name"], body, namespace=metadata["namespace"]
            )
        except (errors.NotFound, errors.Conflict):
            return

    async def _others(self, namespace: str) -> bool:
        """Whether another virtual node uses this namespace."""
        bindings = await self.cluster.list_all(
            kinds.ROLE_BINDINGS,
            namespace=namespace,
            label_selector=f"{MANAGED_BY_LABEL}={CONNECT}",
        )
        if any(one["metadata"]["name"] != self.found.system for one in bindings.items):
            return True
        own = {f"{USED_BY}{one}" for one in self.found.ids}
        for resource in (kinds.PODS.metadata_only, *_COPIES):
            found = await self.cluster.list_all(resource, namespace=namespace)
            for one in found.items:
                labels = one["metadata"].get("labels") or {}
                if labels.get(VIRTUAL_NODE_ID, "") not in (*self.found.ids, ""):
                    return True
                if any(key.startswith(USED_BY) and key not in own for key in labels):
                    return True
        return False

    async def _remove_namespace(self, name: str) -> bool:
        """Delete it if farlet or connect created it, and nothing of others is in it."""
        namespace = await requests.find(self.cluster, kinds.NAMESPACES, name)
        if namespace is None:
            return False
        labels = namespace["metadata"].get("labels") or {}
        if labels.get(MANAGED_BY_LABEL) != CONNECT and labels.get(CREATED_NAMESPACE) != "true":
            return False
        for resource in (kinds.PODS.metadata_only, kinds.CLAIMS.metadata_only):
            some = await self.cluster.list(resource, namespace=name, limit=5)
            if some.items:
                names = ", ".join(one["metadata"]["name"] for one in some.items)
                self.left.append(
                    f"the foreign namespace {name}: it contains {resource.plural} ({names})"
                )
                return False
        await requests.delete(
            self.cluster, kinds.NAMESPACES, name, uid=namespace["metadata"]["uid"]
        )
        return True

    async def _remove_system(self) -> bool:
        """Delete the system namespace if connect created it for this node; else what is in it."""
        namespace = self.found.system_namespace
        if namespace is None:
            return False
        labels = namespace["metadata"].get("labels") or {}
        if labels.get(MANAGED_BY_LABEL) == CONNECT:
            await requests.delete(
                self.cluster, kinds.NAMESPACES, self.found.system, uid=namespace["metadata"]["uid"]
            )
            return True
        await self._remove_inventories()
        for kind in ("Deployment", "PodDisruptionBudget", "NetworkPolicy", "Service", "Secret",
                     "RoleBinding", "Role"):  # fmt: skip
            ours = await self.cluster.list_all(
                kinds.of(kind),
                namespace=self.found.system,
                label_selector=f"{MANAGED_BY_LABEL}={CONNECT}",
            )
            for one in ours.items:
                await self._delete(kinds.of(kind), one)
        return False

    async def _remove_inventories(self) -> None:
        for one in await self._of_node(kinds.CONFIG_MAPS.metadata_only, self.found.system):
            await self._delete(kinds.CONFIG_MAPS, one)
