"""What one virtual node has in the foreign cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from farlet import errors, redaction, roles
from farlet.client import kinds
from farlet.client.api_client import ApiClient
from farlet.client.resources import Resource
from farlet.constants import (
    HOME_CLUSTER,
    HOME_NAMESPACE_CONFIG_MAP,
    JSON,
    TOKEN_BINDING,
    USED_BY,
    VIRTUAL_NODE_ID,
    ObjectKey,
)
from farlet.foreign import home_namespace
from farlet.install import foreign, requests
from farlet.install.connection import CONNECT
from farlet.manager.virtual_node import INSTANCE_LABEL, MANAGED_BY_LABEL, object_name

COPIES: tuple[Resource[Any], ...] = (
    kinds.CONFIG_MAPS.metadata_only,
    kinds.SECRETS.metadata_only,
)


@dataclass(frozen=True, slots=True)
class Found:
    """What a virtual node has in the foreign cluster."""

    node: str
    system: str
    """Its system namespace."""
    system_namespace: JSON | None
    home_id: str | None
    """That of its home cluster, if it is known."""
    ids: frozenset[str]
    """Values of the label `VIRTUAL_NODE_ID`."""
    namespaces: tuple[str, ...]
    """Those that it uses."""
    marked: tuple[tuple[str, str], ...]
    """Others, each with the home namespace of the same home cluster to which it belongs."""
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


async def holder(cluster: ApiClient, system: str) -> str | None:
    """The virtual node for which `connect` installed this system namespace; `None`: for none.

    The namespace shows it, or, where it existed before, the ServiceAccount, which is created first,
    or the RoleBinding of the token, which is deleted last.
    """
    for resource, name, namespace in (
        (kinds.NAMESPACES, system, ""),
        (kinds.SERVICE_ACCOUNTS, foreign.ACCOUNT, system),
        (kinds.ROLE_BINDINGS, TOKEN_BINDING, system),
    ):
        found = await requests.find(cluster, resource, name, namespace=namespace)
        node = _labels(found).get(INSTANCE_LABEL)
        if node is not None:
            return node
    return None


async def inventories(cluster: ApiClient, system: str) -> frozenset[str]:
    """Ids of the virtual nodes that have written their inventory into the system namespace."""
    found = await cluster.list_all(
        kinds.CONFIG_MAPS.metadata_only, namespace=system, label_selector=VIRTUAL_NODE_ID
    )
    return frozenset(one["metadata"]["labels"][VIRTUAL_NODE_ID] for one in found.items)


async def system_namespace(cluster: ApiClient, node: str, home_id: str | None) -> str:
    """The system namespace of a virtual node whose VirtualNode is gone, by its labels.

    Raises `StartError` if there are several.
    """
    selector = f"{INSTANCE_LABEL}={node},{MANAGED_BY_LABEL}={CONNECT}"
    tokens = await cluster.list_all(
        kinds.ROLE_BINDINGS, label_selector=selector, field_selector=_named(TOKEN_BINDING)
    )
    candidates = {one["metadata"]["namespace"] for one in tokens.items}
    for one in (await cluster.list_all(kinds.NAMESPACES, label_selector=selector)).items:
        # Namespaces for pods have the same labels; that of the system records its home cluster.
        if HOME_CLUSTER in _annotations(one):
            candidates.add(one["metadata"]["name"])
    names = []
    for name in sorted(candidates):
        namespace = await requests.find(cluster, kinds.NAMESPACES, name)
        if home_id is None or _annotations(namespace).get(HOME_CLUSTER, home_id) == home_id:
            names.append(name)
    if len(names) > 1:
        raise errors.StartError(
            f"the foreign cluster has several system namespaces of virtual nodes with the name "
            f"{node}: {', '.join(names)}. Choose one with --foreign-system-namespace"
        )
    return names[0] if names else object_name(node)


async def look(cluster: ApiClient, *, node: str, system: str, home_id: str | None) -> Found:
    """What there is. `home_id` None: the home cluster is gone, and its id is found here.

    Raises `StartError` if it cannot be found, and if the system namespace is that of another home
    cluster.
    """
    namespace = await requests.find(cluster, kinds.NAMESPACES, system)
    recorded = _annotations(namespace).get(HOME_CLUSTER)
    if home_id is not None and recorded is not None and recorded != home_id:
        raise errors.StartError(
            f"the foreign namespace {system} belongs to a virtual node of another home cluster "
            f"(its id: {recorded}). Choose the right --foreign-context, or name its namespace with "
            "--foreign-system-namespace"
        )
    named = await holder(cluster, system)
    stored = await inventories(cluster, system)
    known = home_id or recorded
    if known is not None:
        ids = frozenset({virtual_node_id(known, node)})
    else:
        ids = stored if named == node and len(stored) == 1 else frozenset()
    if not ids and namespace is not None:
        raise errors.StartError(
            f"the foreign namespace {system} does not say to which home cluster its virtual node "
            "belongs. Set --home-id to the uid of that cluster's Service default/kubernetes"
        )
    used = await _namespaces(cluster, system, ids)
    marked = await _marked(cluster, known)
    claims = [
        ObjectKey(one["metadata"]["namespace"], one["metadata"]["name"])
        for one in await labelled(cluster, kinds.CLAIMS.metadata_only, ids)
    ]
    is_named = named == node or (named is None and system == object_name(node))
    own = namespace is None or (is_named and stored <= ids)
    return Found(
        node=node,
        system=system,
        system_namespace=namespace,
        home_id=known,
        ids=ids,
        namespaces=tuple(sorted(used)),
        marked=tuple(sorted(one for one in marked if one[0] not in used)),
        claims=tuple(sorted(claims)),
        is_own=own,
    )


async def granted(cluster: ApiClient, system: str) -> set[str]:
    """The namespaces with permissions for the farlet of this system namespace."""
    found = set()
    for name in binding_names(system):
        bindings = await cluster.list_all(
            kinds.ROLE_BINDINGS, field_selector=_named(name), checked=False
        )
        found |= {
            one["metadata"]["namespace"] for one in bindings.items if system in accounts_of(one)
        }
    return found


async def _namespaces(cluster: ApiClient, system: str, ids: Iterable[str]) -> set[str]:
    """The namespaces with permissions or objects of the virtual node."""
    used = await granted(cluster, system)
    for resource in (kinds.PODS.metadata_only, *COPIES, kinds.CLAIMS.metadata_only):
        used |= {one["metadata"]["namespace"] for one in await labelled(cluster, resource, ids)}
    for resource in COPIES:
        for one in ids:
            found = await cluster.list_all(resource, label_selector=f"{USED_BY}{one}")
            used |= {copy["metadata"]["namespace"] for copy in found.items}
    return used - {system}


async def _marked(cluster: ApiClient, home_id: str | None) -> list[tuple[str, str]]:
    """Foreign namespaces of the home cluster, each with its home namespace."""
    found = await cluster.list_all(
        kinds.CONFIG_MAPS, field_selector=_named(HOME_NAMESPACE_CONFIG_MAP), checked=False
    )
    return [
        (one["metadata"]["namespace"], redaction.value(data.get(home_namespace.HOME_NAMESPACE, "")))
        for one in found.items
        if home_id is not None
        and (data := one.get("data") or {}).get(home_namespace.HOME_ID) == home_id
    ]


def binding_names(system: str) -> tuple[str, ...]:
    """RoleBindings in a foreign namespace: of `connect`, and of a namespace that farlet created."""
    return tuple(dict.fromkeys((system, roles.NAME)))


async def labelled(
    cluster: ApiClient, resource: Resource[Any], ids: Iterable[str], namespace: str = ""
) -> list[Any]:
    """The objects of the virtual nodes with these ids."""
    found: list[Any] = []
    for one in ids:
        selected = await cluster.list_all(
            resource, namespace=namespace, label_selector=f"{VIRTUAL_NODE_ID}={one}"
        )
        found += selected.items
    return found


def accounts_of(binding: JSON) -> set[str]:
    """The system namespaces to whose farlet it grants something."""
    account = {"kind": "ServiceAccount", "name": foreign.ACCOUNT}
    return {
        one["namespace"]
        for one in binding.get("subjects") or ()
        if account.items() <= one.items() and "namespace" in one
    }


def _named(name: str) -> str:
    return f"metadata.name={name}"


def _labels(found: JSON | None) -> dict[str, str]:
    return {} if found is None else found["metadata"].get("labels") or {}


def _annotations(found: JSON | None) -> dict[str, str]:
    return {} if found is None else found["metadata"].get("annotations") or {}
