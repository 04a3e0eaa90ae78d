"""What `farlet connect` verifies in both clusters before it changes anything."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

from farlet import errors
from farlet.client import kinds, resources, reviews
from farlet.client.api_client import ApiClient
from farlet.client.resources import Resource
from farlet.constants import (
    FOREIGN_CLUSTER,
    HOME_CLUSTER,
    HOME_NAMESPACE_CONFIG_MAP,
    JSON,
    VIRTUAL_NODE_LABEL,
    VIRTUAL_NODE_LABEL_VALUE,
)
from farlet.foreign import home_namespace
from farlet.install import existing, foreign_search, requests
from farlet.install import foreign as foreign_objects
from farlet.install import home as home_objects
from farlet.install.connection import HOME_SYSTEM, Connection
from farlet.planning.api_refusals import AT_HOME, CONTEXTS, THERE

TESTED_MINORS = range(34, 38)
"""Minor versions of Kubernetes 1 in `docs/versions.md`."""
SECOND_HOME = (
    "Each home cluster needs names of its own in the foreign cluster: set another --home-name, and "
    "another --foreign-system-namespace if both have a virtual node of the same name. See "
    "docs/how-to/second-home.md"
)
"""What to do where two home clusters would use the same foreign namespaces."""


class Right(NamedTuple):
    """One permission that the administrator needs."""

    verb: str
    resource: Resource[JSON]
    namespace: str = ""

    def __str__(self) -> str:
        group = f".{self.resource.group}" if self.resource.group else ""
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource.rbac_name}{group}{where}"


def home_rights(connection: Connection) -> tuple[Right, ...]:
    """What `farlet connect` needs in the home cluster."""
    return (
        Right("create", kinds.NAMESPACES),
        Right("patch", kinds.DEFINITIONS),
        Right("patch", kinds.CLUSTER_ROLES),
        Right("patch", kinds.CLUSTER_ROLE_BINDINGS),
        Right("update", kinds.SIGNING_REQUEST_APPROVALS),
        *_namespaced(HOME_SYSTEM),
        Right("patch", kinds.VIRTUAL_NODES, HOME_SYSTEM),
        Right("patch", kinds.ROLE_BINDINGS, "kube-system"),
        *(Right("get", kinds.NAMESPACES, name) for name in connection.namespaces),
    )


def foreign_rights(connection: Connection) -> tuple[Right, ...]:
    """What `farlet connect` needs in the foreign cluster."""
    return (
        Right("create", kinds.NAMESPACES),
        *(() if connection.capacity else (Right("patch", kinds.CLUSTER_ROLES),)),
        *_namespaced(connection.system),
        Right("create", kinds.TOKEN_REQUESTS, connection.system),
        *(Right("patch", kinds.ROLE_BINDINGS, name) for name in connection.foreign_namespaces),
    )


def _namespaced(namespace: str) -> tuple[Right, ...]:
    some = ("ServiceAccount", "Secret", "Role", "RoleBinding", "Deployment", "NetworkPolicy")
    return tuple(Right("patch", kinds.of(kind), namespace) for kind in some)


def foreign_server(url: str) -> str:
    """The address at which the home cluster reaches the foreign API server.

    Raises `UsageError` for one that leads to the machine itself.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise errors.UsageError(
            f"--foreign-server: {url!r} is not the URL of an API server; expected https://HOST:PORT"
        )
    if _is_loopback(parts.hostname):
        raise errors.UsageError(
            f"{url} leads to the machine itself, which is another one for pods of the home "
            "cluster. Set --foreign-server to the URL at which they reach the foreign API server"
        )
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def shown_version(version: str | None) -> str:
    """A version of Kubernetes as `connect` reports it; says so where no test covers it."""
    found = re.match(r"v1\.(\d+)", version or "")
    if found is not None and int(found.group(1)) in TESTED_MINORS:
        return str(version)
    return f"{version} (not a tested version, see docs/versions.md)"


async def different(home: ApiClient, foreign: ApiClient) -> None:
    """Raises `StartError` if both are the same cluster: `kube-system` has the same uid."""
    uids = [
        (await cluster.get(kinds.NAMESPACES, "kube-system"))["metadata"]["uid"]
        for cluster in (home, foreign)
    ]
    if uids[0] == uids[1]:
        raise errors.StartError(
            "the foreign cluster is the home cluster: the namespace kube-system has the uid "
            f"{uids[0]} in both. Set --foreign-context (and --foreign-kubeconfig) to the "
            "credentials of the foreign cluster"
        )


async def rights(cluster: ApiClient, wanted: Iterable[Right]) -> None:
    """Raises `StartError` naming what the administrator is not allowed to do."""
    wanted = tuple(dict.fromkeys(wanted))
    allowed = await asyncio.gather(*(_allowed(cluster, one) for one in wanted))
    missing = [str(one) for one, ok in zip(wanted, allowed, strict=True) if not ok]
    if missing:
        raise errors.StartError(
            f"the credentials for the {cluster.name} cluster lack permissions: "
            f"{'; '.join(missing)}. Use those of an administrator (--{cluster.name}-context)"
        )


async def _allowed(cluster: ApiClient, right: Right) -> bool:
    resource = right.resource
    review = reviews.own_access(
        {
            "verb": right.verb,
            "group": resource.group,
            "resource": resource.plural,
            "subresource": resource.subresource,
            "namespace": right.namespace,
        }
    )
    answer = await cluster.create(resources.SELF_ACCESS_REVIEWS, review)
    return (answer.get("status") or {}).get("allowed") is True


async def node_name(home: ApiClient, node: str) -> None:
    """Raises `StartError` if a Node of this name is not that of a VirtualNode."""
    found = await requests.find(home, kinds.NODES, node)
    if found is None:
        return
    labels = found["metadata"].get("labels") or {}
    if labels.get(VIRTUAL_NODE_LABEL) != VIRTUAL_NODE_LABEL_VALUE:
        raise errors.StartError(
            f"the home cluster has a machine with the name {node}. Choose another name with --node"
        )
    if await requests.find(home, kinds.VIRTUAL_NODES, node, namespace=HOME_SYSTEM) is None:
        raise errors.StartError(
            f"the home cluster has the virtual node {node}, which was not installed by farlet "
            "connect. Choose another name with --node; or remove it: farlet disconnect "
            f"{CONTEXTS} --node {node}. If it was installed by hand, the manager can serve it: "
            "docs/how-to/upgrade.md"
        )


async def virtual_node(home: ApiClient, connection: Connection) -> None:
    """Raises `StartError` if there is a VirtualNode that cannot become the wanted one."""
    found = await requests.find(home, kinds.VIRTUAL_NODES, connection.node, namespace=HOME_SYSTEM)
    if found is None:
        return
    refusal = existing.refusal(found, home_objects.virtual_node(connection))
    if refusal is not None:
        raise errors.StartError(refusal)


async def foreign_cluster(home: ApiClient, foreign: ApiClient, connection: Connection) -> None:
    """Raises `StartError` if the node has mirrors in another foreign cluster."""
    node = await requests.find(home, kinds.NODES, connection.node)
    recorded = _annotations(node).get(FOREIGN_CLUSTER)
    if recorded is None:
        return
    found = await requests.find(foreign, kinds.NAMESPACES, connection.system)
    if found is None or found["metadata"]["uid"] != recorded:
        raise errors.StartError(
            f"the virtual node {connection.node} belongs to another foreign cluster: the namespace "
            f"{connection.system} has the uid {recorded} there. Choose another --node, or remove "
            f"this one first: farlet disconnect {CONTEXTS} --node {connection.node}. If that "
            "cluster was rebuilt, see docs/recovery.md"
        )


async def home_id(home: ApiClient) -> str:
    """What identifies the home cluster on foreign objects, as `farlet run` finds it."""
    service = await home.get(kinds.SERVICES, "kubernetes", namespace="default")
    return str(service["metadata"]["uid"])


async def namespaces(
    home: ApiClient, foreign: ApiClient, connection: Connection, home_id: str
) -> None:
    """Raises `StartError` for a home namespace that does not exist, and for a foreign one that
    another home cluster or home namespace uses."""
    found = await requests.find(foreign, kinds.NAMESPACES, connection.system)
    owner = _annotations(found).get(HOME_CLUSTER)
    if owner is not None and owner != home_id:
        raise errors.StartError(
            f"the foreign namespace {connection.system} belongs to a virtual node of another home "
            f"cluster (its id: {owner}). {SECOND_HOME}"
        )
    for namespace in connection.namespaces:
        if await requests.find(home, kinds.NAMESPACES, namespace) is None:
            raise errors.StartError(
                f"the home cluster has no namespace {namespace}. Create it: {AT_HOME} create "
                f"namespace {namespace}"
            )
        name = connection.foreign_namespace(namespace)
        if name is None:
            raise errors.StartError(
                f"the home namespace {namespace} cannot be offloaded: the name of its foreign "
                f"namespace would be that of another one. Choose another --home-name"
            )
        holder = await home_namespace.other_holder(foreign, name, home=namespace, home_id=home_id)
        if holder is not None:
            raise errors.StartError(
                f"the foreign namespace {name} belongs to {holder}. {SECOND_HOME}. If its holder "
                f"no longer uses it: {THERE} delete configmap "
                f"{HOME_NAMESPACE_CONFIG_MAP} -n {name}"
            )
    await _unshared(foreign, connection, home_id)


async def _unshared(foreign: ApiClient, connection: Connection, home_id: str) -> None:
    """Raises `StartError` if another virtual node uses the system namespace.

    Both would use the ServiceAccount, Secrets and gateway of the same name.
    """
    node, system = connection.node, connection.system
    advice = f"Choose another --foreign-system-namespace (the default is farlet-{node})"
    holder = await foreign_search.holder(foreign, system)
    if holder not in (None, node):
        raise errors.StartError(
            f"the foreign namespace {system} belongs to the virtual node {holder}. {advice}"
        )
    account = await requests.find(
        foreign, kinds.SERVICE_ACCOUNTS, foreign_objects.ACCOUNT, namespace=system
    )
    if account is not None and holder is None:
        raise errors.StartError(
            f"the foreign namespace {system} has a ServiceAccount {foreign_objects.ACCOUNT} that "
            "farlet connect did not create, perhaps for a virtual node that was installed by hand. "
            f"{advice}"
        )
    own = foreign_search.virtual_node_id(home_id, node)
    others = sorted(await foreign_search.inventories(foreign, system) - {own})
    if others:
        raise errors.StartError(
            f"another virtual node uses the foreign namespace {system}, which contains its "
            f"ConfigMap farlet-{others[0]}. {advice}"
        )


def _annotations(found: JSON | None) -> dict[str, str]:
    return {} if found is None else found["metadata"].get("annotations") or {}
