"""Removes one virtual node from the foreign cluster: its mirrors, copies, marks and permissions.

farlet itself must have ended, or have lost its token: it would create again what is removed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from farlet import errors
from farlet.client import kinds
from farlet.client.api_client import ApiClient
from farlet.client.resources import Resource
from farlet.constants import (
    CREATED_NAMESPACE,
    HOME_NAMESPACE_CONFIG_MAP,
    JSON,
    OBSERVED,
    REFLECTED,
    TOKEN_BINDING,
    USED_BY,
    VIRTUAL_NODE_ID,
)
from farlet.install import foreign, foreign_search, gateway, other_objects, requests
from farlet.install.connection import CONNECT
from farlet.install.foreign_search import COPIES, Found
from farlet.manager.virtual_node import INSTANCE_LABEL, MANAGED_BY_LABEL, NAME_LABEL

T = TypeVar("T")

_REFLECTED: tuple[Resource[Any], ...] = (
    kinds.SERVICES,
    kinds.ENDPOINT_SLICES,
)
_NOT_CREATED = "farlet connect did not create it"


@dataclass
class ForeignRemoval:
    """Removes what `look` found. Each step can be repeated."""

    cluster: ApiClient
    found: Found
    delete_claims: bool
    later: str
    """The command that deletes claims which stay now."""
    left: list[str] = field(default_factory=list)
    """What stays, and why."""
    failed: dict[str, str] = field(default_factory=dict)
    """Namespaces that could not be cleaned or deleted, and why."""

    async def revoke(self) -> str:
        """Delete what its token depends on: API servers then reject it."""
        if not self.found.is_own:
            self.left.append(
                f"ServiceAccount, Roles and token in the foreign namespace {self.found.system}, "
                "which other virtual nodes may still use"
            )
            return "the ServiceAccount stays"
        deleted = []
        for kind, resource, name in (
            ("Secret", kinds.SECRETS, TOKEN_BINDING),
            ("ServiceAccount", kinds.SERVICE_ACCOUNTS, foreign.ACCOUNT),
        ):
            if await requests.delete(self.cluster, resource, name, namespace=self.found.system):
                deleted.append(f"{kind} {self.found.system}/{name}")
        if not deleted:
            return f"the namespace {self.found.system} has no ServiceAccount {foreign.ACCOUNT}"
        return f"deleted {', '.join(deleted)}"

    async def clean(self) -> str:
        """Mirrors, their Secrets, copies and claims, in all namespaces at once."""
        counts = await self._each(self.found.namespaces, self._clean)
        where = f"in {', '.join(self.found.namespaces)}" if self.found.namespaces else ""
        if not any(counts):
            return f"none was left {where}".rstrip()
        return f"{requests.counted(sum(counts), 'object')} deleted {where}"

    async def remove_permissions(self) -> str:
        """Roles, namespaces that farlet or connect created, and the system namespace.

        Raises `StartError` with all namespaces that failed. The system namespace stays then: it
        shows to the next call what belongs to the virtual node.
        """
        if not self.found.is_own:
            await self._remove_inventories()
            self._raise_failed()
            return "they stay for other virtual nodes"
        cleaned = [name for name in self.found.namespaces if name not in self.failed]
        deleted = [name for name in await self._each(cleaned, self._leave) if name]
        self._raise_failed()
        for resource in (kinds.CLUSTER_ROLE_BINDINGS, kinds.CLUSTER_ROLES):
            await requests.delete(self.cluster, resource, f"{self.found.system}-capacity")
        if await self._remove_system():
            deleted.append(self.found.system)
        await self._name_marked()
        if not deleted:
            return "Roles and bindings are gone"
        return f"Roles and bindings are gone, and the namespaces {', '.join(deleted)}"

    async def _each(
        self, namespaces: Sequence[str], work: Callable[[str], Awaitable[T]]
    ) -> list[T]:
        """Work on all of them, whatever becomes of the others. Returns the results."""
        results = await asyncio.gather(*map(work, namespaces), return_exceptions=True)
        done = []
        for name, result in zip(namespaces, results, strict=True):
            if isinstance(result, errors.FarletError):
                self.failed[name] = str(result)
            elif isinstance(result, BaseException):
                raise result
            else:
                done.append(result)
        return done

    def _raise_failed(self) -> None:
        if self.failed:
            said = "; ".join(f"namespace {name}: {why}" for name, why in self.failed.items())
            raise errors.StartError(said)

    async def _leave(self, namespace: str) -> str:
        """Delete the namespace, or the permissions in it. Returns what is deleted, in words."""
        accounts = await other_objects.accounts(self.cluster, namespace)
        if not await self._others(namespace) and await self._remove_namespace(namespace):
            await requests.until_gone(self.cluster, kinds.NAMESPACES, namespace)
            return f"{namespace}{accounts and f' (with its ServiceAccounts {accounts})'}"
        # The binding last: it shows that the namespace is still used.
        system = self.found.system
        for resource in (kinds.ROLES, kinds.ROLE_BINDINGS):
            await requests.delete(self.cluster, resource, system, namespace=namespace)
        for name in foreign_search.binding_names(system):
            binding = await requests.find(
                self.cluster, kinds.ROLE_BINDINGS, name, namespace=namespace
            )
            if binding is not None and foreign_search.accounts_of(binding) == {system}:
                await self._delete(kinds.ROLE_BINDINGS, binding)
        return ""

    async def _name_marked(self) -> None:
        """Namespaces of this home cluster that the node does not use, and no other one does."""
        for name, home in self.found.marked:
            if await requests.find(self.cluster, kinds.NAMESPACES, name) is None:
                continue
            if not await self._others(name):
                self.left.append(
                    f"the foreign namespace {name}, which belongs to the home namespace {home} "
                    f"(ConfigMap {HOME_NAMESPACE_CONFIG_MAP}): farlet connect did not create it"
                )

    # --- one namespace ------------------------------------------------------------------------

    async def _clean(self, namespace: str) -> int:
        count = 0
        for pod in await self._of_node(kinds.PODS, namespace):
            await self._end(pod)
            count += 1
        for secret in await self._of_node(kinds.SECRETS.metadata_only, namespace):
            count += await self._delete(kinds.SECRETS, secret)
        for resource in COPIES:
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
        is_alone = not await self._others(namespace)
        if is_alone:
            for resource in _REFLECTED:
                shown = await self.cluster.list_all(
                    resource, namespace=namespace, label_selector=f"{REFLECTED}=true"
                )
                for one_shown in shown.items:
                    count += await self._delete(resource, one_shown)
        ended = [kinds.PODS, *([kinds.CLAIMS] if self.delete_claims else [])]
        for resource in ended:
            for one in self.found.ids:
                await requests.until_none(
                    self.cluster,
                    resource.metadata_only,
                    namespace=namespace,
                    label_selector=f"{VIRTUAL_NODE_ID}={one}",
                )
        if is_alone:
            count += await self._release_home_namespace(namespace)
        return count

    async def _release_home_namespace(self, namespace: str) -> int:
        """Let others use the namespace, unless claims with data of home pods stay in it."""
        resource, name = kinds.CONFIG_MAPS, HOME_NAMESPACE_CONFIG_MAP
        claims = await self.cluster.list_all(
            kinds.CLAIMS.metadata_only, namespace=namespace, label_selector=VIRTUAL_NODE_ID
        )
        others = [
            one["metadata"]["name"]
            for one in claims.items
            if one["metadata"]["labels"][VIRTUAL_NODE_ID] not in self.found.ids
        ]
        if not others and (self.delete_claims or not claims.items):
            return await requests.delete(self.cluster, resource, name, namespace=namespace)
        if await requests.find(self.cluster, resource, name, namespace=namespace) is None:
            return 0
        why, command = "claims with data are in it", self.later
        if others:
            why = f"claims of another virtual node are in it: {requests.listed(others)}"
            command = "farlet disconnect --node NAME --delete-volumes, with the name of that node"
        self.left.append(
            f"the ConfigMap {name} of the foreign namespace {namespace}, which keeps other home "
            f"namespaces out: {why}. To delete both later: {command}"
        )
        return 0

    async def _of_node(self, resource: Resource[Any], namespace: str) -> list[Any]:
        return await foreign_search.labelled(self.cluster, resource, self.found.ids, namespace)

    async def _end(self, pod: JSON) -> None:
        """Delete a mirror with its grace period. Nothing waits for its final status any more."""
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
            kinds.ROLE_BINDINGS, namespace=namespace, checked=False
        )
        if any(foreign_search.accounts_of(one) - {self.found.system} for one in bindings.items):
            return True
        own = {f"{USED_BY}{one}" for one in self.found.ids}
        for resource in (kinds.PODS.metadata_only, *COPIES):
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
            self.left.append(f"the foreign namespace {name}: {_NOT_CREATED}")
            return False
        others = await other_objects.of_others(self.cluster, name, is_own=lambda _labels: False)
        if others:
            self.left.append(f"the foreign namespace {name}: it contains {others}")
            return False
        await requests.delete(
            self.cluster, kinds.NAMESPACES, name, uid=namespace["metadata"]["uid"]
        )
        return True

    async def _remove_system(self) -> bool:
        """Delete the system namespace if connect created it and it contains nothing of others;
        else what connect created in it. Returns whether it is deleted."""
        namespace, name = self.found.system_namespace, self.found.system
        if namespace is None:
            return False
        labels = namespace["metadata"].get("labels") or {}
        if labels.get(MANAGED_BY_LABEL) == CONNECT:
            others = await other_objects.of_others(self.cluster, name, is_own=self._is_own)
            if not others:
                uid = namespace["metadata"]["uid"]
                await requests.delete(self.cluster, kinds.NAMESPACES, name, uid=uid)
                await requests.until_gone(self.cluster, kinds.NAMESPACES, name)
                return True
            self.left.append(f"the foreign namespace {name}: it contains {others}")
        else:
            self.left.append(f"the foreign namespace {name}: {_NOT_CREATED}")
        await self._remove_inventories()
        # The RoleBindings last: that of the token shows whose namespace this is.
        for kind in ("Deployment", "PodDisruptionBudget", "NetworkPolicy", "Service", "Secret",
                     "Role", "RoleBinding"):  # fmt: skip
            ours = await self.cluster.list_all(
                kinds.of(kind),
                namespace=name,
                label_selector=f"{MANAGED_BY_LABEL}={CONNECT},{INSTANCE_LABEL}={self.found.node}",
            )
            for one in ours.items:
                await self._delete(kinds.of(kind), one)
        return False

    def _is_own(self, labels: Mapping[str, str]) -> bool:
        """Whether an object of the system namespace with these labels is one of this node."""
        marks = {MANAGED_BY_LABEL: CONNECT, INSTANCE_LABEL: self.found.node}
        return (
            marks.items() <= labels.items()
            or labels.get(VIRTUAL_NODE_ID) in self.found.ids
            or labels.get(NAME_LABEL) == gateway.NAME  # pods of the Deployment
        )

    async def _remove_inventories(self) -> None:
        for one in await self._of_node(kinds.CONFIG_MAPS.metadata_only, self.found.system):
            await self._delete(kinds.CONFIG_MAPS, one)
