"""Whether farlet has each permission of `rbac.TABLE` that its settings and identity require.

The API servers review them, so that nothing is tried: those of the caller, or those of the farlet
that serves the node, where an administrator calls (`subjects`). The Node authorizer grants a node
the objects of its own pods, about which nothing can be asked in advance.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import assert_never

from farlet import errors, rbac
from farlet.cli import commands, new_pods
from farlet.cli.checks.findings import Finding, Outcome, of
from farlet.cli.checks.subjects import Subject
from farlet.client import resources
from farlet.client.cluster import Cluster
from farlet.client.reviews import User
from farlet.constants import ObjectKey
from farlet.context import Reflection
from farlet.foreign import created_namespaces, services
from farlet.forge import node as forge
from farlet.node import prerequisites
from farlet.node.prerequisites import Prerequisites
from farlet.planning import api_refusals
from farlet.planning.mirror_events import Shown
from farlet.rbac import Identity, Permission, Side, When, Where
from farlet.settings import Settings

CONCURRENT = 8
"""Reviews in flight."""

_NO_REVIEWS = "allow farlet to create selfsubjectaccessreviews (ClusterRole system:basic-user)"
_CAPACITY = (Side.FOREIGN, Where.CLUSTER, When.SUMS_CAPACITY)


async def home(settings: Settings, subject: Subject) -> Finding:
    """Permissions in the home cluster, except those in each offloaded namespace."""
    what = "home permissions"
    user = subject.user
    rows = _rows(settings, Side.HOME, user)

    async def check() -> Finding:
        denied = await _denied(subject, rows, node=settings.nodename)
        if not denied:
            follows = ""
            if user.node is not None:
                follows = (
                    "; those on pods, ConfigMaps, Secrets and tokens follow from the pods that are "
                    f"bound to {user.node}"
                )
            return Finding(what, Outcome.OK, f"{subject.reviewed(len(rows))}{follows}")
        hints = dict.fromkeys(_home_hint(row, user, settings) for row, _ in denied)
        return Finding(what, Outcome.FAILED, subject.lacks(denied), "; ".join(hints))

    return await of(what, check(), hint=_NO_REVIEWS)


async def foreign(settings: Settings, subject: Subject, offloaded: Sequence[str]) -> Finding:
    """Permissions in farlet's own namespace of the foreign cluster.

    Those in foreign namespaces of `offloaded` are checked with them (`namespaces`).
    """
    what = "foreign permissions"
    rows = [
        (row, where)
        for row, where in _rows(settings, Side.FOREIGN, None)
        if row.where is not Where.CLUSTER  # the check of the capacity
    ]

    async def check() -> Finding:
        own = settings.foreign_system_namespace
        denied = await _denied(subject, rows, node=settings.nodename)
        if not denied:
            more = "" if offloaded else "; --namespace reviews those in a namespace of pods"
            return Finding(what, Outcome.OK, f"{subject.reviewed(len(rows))} in {own}{more}")
        hint = api_refusals.preparation(own, system=own)
        return Finding(what, Outcome.FAILED, subject.lacks(denied), hint)

    return await of(what, check(), hint=_NO_REVIEWS)


async def capacity(settings: Settings, subject: Subject, required: Prerequisites) -> Finding:
    """Whether the capacity of the Node is set or can be read."""
    what = "capacity"
    by_hand = "in the foreign cluster: kubectl apply -f manifests/foreign/capacity.yaml"
    nodes = api_refusals.by_manifest(by_hand, system=settings.foreign_system_namespace)
    if settings.capacity:
        seen = ",".join(f"{name}={value}" for name, value in settings.capacity)
        return Finding(what, Outcome.OK, seen)

    async def check() -> Finding:
        if subject.is_caller:
            await required.check_capacity()
        rows = [(row, "") for row in rbac.TABLE if (row.side, row.where, row.when) == _CAPACITY]
        if denied := await _denied(subject, rows, node=""):
            hint = f"{nodes}; or set --capacity"
            return Finding(what, Outcome.FAILED, subject.lacks(denied), hint)
        return Finding(what, Outcome.OK, "the sum of the foreign nodes")

    return await of(what, check(), hint=f"{nodes}; or set --capacity")


async def creation(settings: Settings, home: Subject, foreign: Subject) -> Finding | None:
    """Whether farlet can create and delete foreign namespaces; `None`: it is not to."""
    if not settings.create_namespaces:
        return None
    what, apply = "creation of namespaces", "cluster: kubectl apply"

    async def check() -> Finding:
        for subject, side in ((foreign, Side.FOREIGN), (home, Side.HOME)):
            rows = [
                (row, "")
                for row in rbac.TABLE
                if (row.side, row.where) == (side, Where.CLUSTER)
                and row.when is When.CREATES_NAMESPACES
            ]
            if not (denied := await _denied(subject, rows, node="")):
                continue
            seen = f"{side.value}: {subject.lacks(denied)}"
            if side is Side.FOREIGN:
                hint = f"in the foreign {apply} -k {created_namespaces.ROLES}"
                return Finding(what, Outcome.FAILED, seen, hint)
            hint = (
                f"farlet never deletes a foreign namespace; if it should, in the home {apply} -f "
                "manifests/home/created-namespaces.yaml"
            )
            return Finding(what, Outcome.WARNING, seen, hint)
        return Finding(what, Outcome.OK, "farlet can create and delete foreign namespaces")

    return await of(what, check(), hint=_NO_REVIEWS)


async def node(settings: Settings, cluster: Cluster, required: Prerequisites) -> Finding:
    """Whether farlet can read the Node, and adopt it if it exists, and whether it takes pods."""
    what = f"Node {settings.nodename}"

    async def check() -> Finding:
        if not await required.read_node():
            seen = "not created yet; the first start creates it"
            return Finding(what, Outcome.OK, seen)
        found = await cluster.get(resources.NODES, settings.nodename)
        kubectl = commands.home_of(settings).kubectl
        for one in new_pods.obstacles(found, kubectl=kubectl):
            if one.what != new_pods.NOT_READY:  # the checks of its farlet say why
                seen = f"takes no new pods: {one.what}"
                by_farlet = forge.cordoned_by_us(found)
                outcome = Outcome.WARNING if by_farlet else Outcome.FAILED
                return Finding(what, outcome, seen, one.fix)
        return Finding(what, Outcome.OK, "exists; farlet can serve it")

    return await of(what, check(), hint="see the check of the home permissions")


async def denied_in(
    subject: Subject, side: Side, *, settings: Settings, namespace: str
) -> list[tuple[Permission, list[str]]]:
    """The denied verbs in an offloaded namespace, with their rows. Raises `FarletError`."""
    rows = [
        (row, namespace)
        for row in rbac.TABLE
        if (row.side, row.where) == (side, Where.OFFLOADED) and _applies(row.when, settings)
    ]
    return await _denied(subject, rows, node=settings.nodename)


def _home_hint(row: Permission, user: User, settings: Settings) -> str:
    system = settings.foreign_system_namespace
    if row.when is When.REFLECTS_SERVICES:
        return f"in the home cluster: kubectl apply -f {services.HOME_ROLE}"
    if user.node is None:
        by_hand = (
            "in the home cluster: kubectl apply -k manifests/home/nodes/NODE with the component "
            "service-account; and let farlet use its ServiceAccount"
        )
        return api_refusals.by_manifest(by_hand, system=system)
    if row.where is Where.KUBE_SYSTEM:
        by_hand = f"in the home cluster: kubectl apply -k manifests/home/nodes/{user.node}"
        return api_refusals.by_manifest(by_hand, system=system)
    return (
        "the home API server must authorize nodes: start it with --authorization-mode=Node,RBAC, "
        "or use a ServiceAccount (docs/installation.md)"
    )


def _rows(settings: Settings, side: Side, user: User | None) -> list[tuple[Permission, str]]:
    """The rows that apply, each with its namespace, except those of offloaded namespaces."""
    rows = []
    for row in rbac.TABLE:
        where = _namespace(row, settings)
        if row.side is not side or where is None or not _applies(row.when, settings):
            continue
        if row.when is When.CREATES_NAMESPACES:
            continue  # `creation`
        if row.identity is Identity.EITHER or (user is not None and row.identity is _kind(user)):
            rows.append((row, where))
    return rows


def _kind(user: User) -> Identity:
    return Identity.ACCOUNT if user.node is None else Identity.NODE


def _namespace(row: Permission, settings: Settings) -> str | None:
    """The namespace to ask about: empty for the whole cluster, `None` for rows without one."""
    match row.where:
        case Where.CLUSTER:
            return ""
        case Where.DEFAULT | Where.KUBE_NODE_LEASE | Where.KUBE_SYSTEM:
            return row.where.value
        case Where.OWN if row.side is Side.FOREIGN:
            return settings.foreign_system_namespace
        case Where.OWN:
            lease = settings.leader_elect_lease
            return lease.namespace if isinstance(lease, ObjectKey) else None
        case Where.OFFLOADED | Where.CREATED | Where.ANYONE | Where.URL:
            return None
        case unknown:
            assert_never(unknown)


def _applies(when: When, settings: Settings) -> bool:
    kubelet_api = settings.kubelet_bind_address is not None
    match when:
        case When.SERVES_KUBELET_API:
            return kubelet_api
        case When.FINDS_HOME_API:
            return settings.home_api_server_host is None and settings.home_api_server_port is None
        case When.FINDS_HOME_ID:
            return settings.home_id is None
        case When.FINDS_CLIENT_CA:
            return kubelet_api and settings.client_ca_file is None
        case When.SUMS_CAPACITY:
            return not settings.capacity
        case When.MAPS_STORAGE_CLASSES:
            return bool(settings.storage_class_map)
        case When.SHOWS_EVENTS:
            return settings.mirror_events is not Shown.NONE
        case When.DRAINS:
            return settings.drain_on_exit
        case When.CREATES_NAMESPACES:
            return settings.create_namespaces
        case When.REFLECTS_SERVICES:
            return Reflection.SERVICES in settings.reflect
        case When.OTHER_LEASE:
            return settings.leader_elect and isinstance(settings.leader_elect_lease, ObjectKey)
        case When.ALWAYS | When.MODE_HOME | When.MODE_REMOTE:
            return True
        case When.CHECK | When.REFLECTS_OR_CHECK | When.CREATES_OR_CHECK | When.STANDBY_OR_CHECK:
            return True
        case unknown:
            assert_never(unknown)


async def _denied(
    subject: Subject, rows: Iterable[tuple[Permission, str]], *, node: str
) -> list[tuple[Permission, list[str]]]:
    """The denied verbs. Raises `FarletError`."""
    slots = asyncio.Semaphore(CONCURRENT)
    user = None if subject.is_caller else subject.user

    async def review(row: Permission, namespace: str) -> tuple[Permission, list[str]]:
        async with slots:
            return row, await prerequisites.denied_verbs(
                subject.cluster, row, namespace=namespace, node=node, user=user
            )

    try:
        async with asyncio.TaskGroup() as tasks:
            reviews = [tasks.create_task(review(row, where)) for row, where in rows]
    except* errors.FarletError as group:
        raise errors.innermost(group) from None
    return [(row, verbs) for row, verbs in (one.result() for one in reviews) if verbs]
