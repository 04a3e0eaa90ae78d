"""The requests of `farlet explain`: few, all of them reads, and each may be refused.

ConfigMaps and Secrets are asked for their metadata alone. Nothing of their content arrives here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from farlet import access, errors, names
from farlet.access import choice
from farlet.cli import commands, serving
from farlet.cli.explain import report, virtual_nodes
from farlet.cli.explain.facts import Facts, Report, Requirement
from farlet.cli.reading import ABSENT, Absent, Unread, clean, read
from farlet.cli.status import process_state
from farlet.client import credential_sources, kinds, resources, same_cluster
from farlet.client.cluster import Cluster
from farlet.client.resources import Resource
from farlet.constants import (
    HOME_CLUSTER,
    JSON,
    VIRTUAL_NODE_LABEL,
    VIRTUAL_NODE_LABEL_VALUE,
    ObjectKey,
    Reason,
)
from farlet.context import Context, NotConfigured
from farlet.foreign.identity import UID_LENGTH
from farlet.forge import claims, copies
from farlet.forge.references import Kind
from farlet.k8s_types import Event, Lease, Node, Pod, PodPhase, PodStatus
from farlet.manager import pod_template, virtual_node
from farlet.planning import cluster_identity
from farlet.planning.cluster_identity import ForeignState, Record
from farlet.reconcile.event_recorder import NODE_EVENTS
from farlet.settings import ReadingSettings
from farlet.telemetry import logs
from farlet.telemetry.metrics import Metrics
from farlet.telemetry.state import State

T = TypeVar("T")

EVENTS = 500
"""Read of each cluster; the latest are shown."""
NODES = 50
PROCESSES = 5
"""Of the node: as many as a VirtualNode can have replicas."""

_CONTENT: Mapping[Kind, Resource[Any]] = {
    Kind.SECRET: resources.SECRETS,
    Kind.CONFIG_MAP: resources.CONFIG_MAPS,
}


def explain(settings: ReadingSettings, key: ObjectKey) -> Report:
    """Read both clusters, as far as the credentials allow. Raises `StartError` and `UsageError`."""
    logs.silence()
    return asyncio.run(_explained(settings, key))


async def _explained(settings: ReadingSettings, key: ObjectKey) -> Report:
    metrics = Metrics()
    source = credential_sources.home_source(settings, os.environ)
    other = credential_sources.foreign_reading_source(settings, os.environ)
    if other == source:
        raise errors.UsageError(_SAME)
    async with contextlib.AsyncExitStack() as opened:
        home = await opened.enter_async_context(
            Cluster("home", source, metrics=metrics.client("home"))
        )
        foreign = None
        if other is not None:
            foreign = await opened.enter_async_context(
                Cluster("foreign", other, metrics=metrics.client("foreign"))
            )
            if same_cluster.is_same_connection(home, foreign):
                raise errors.UsageError(_SAME)
        found = await facts(settings, home, foreign, key)
    connections = commands.home_of(settings), commands.foreign_of(settings)
    return report.report(found, time.time(), *connections)


_SAME = (
    "--foreign-context or --foreign-kubeconfig selects the home cluster. Set it to the foreign "
    "cluster of the node, or leave both out, to read the home cluster only"
)


async def facts(
    settings: ReadingSettings, home: Cluster, foreign: Cluster | None, key: ObjectKey
) -> Facts:
    """All that the report needs. `foreign`: `None` without credentials for it."""
    pod = await read(home.get(resources.PODS, key.name, namespace=key.namespace))
    if isinstance(pod, Unread):
        return Facts(key, pod)
    bound = "" if isinstance(pod, Absent) else pod["spec"].get("nodeName", "")
    node = (await _node(home, bound)) if bound else None
    ctx = settings.context(
        node=bound or settings.nodename or "",
        home_id=await _home_id(settings, home, node),
        home_api=NotConfigured(),
        home_ca="",
    )
    declared = await _virtual_nodes(home, ctx.node)
    if ctx.node in declared:
        ctx = _completed(ctx, declared[ctx.node])
    # Which node an unbound pod will run on is not known. A deleted pod can have a mirror.
    waits = not (bound or settings.nodename or isinstance(pod, Absent))
    name = None if waits else ctx.namespaces.foreign(key.namespace)
    other, identity = await _identified(home, foreign, node, ctx)
    reads = _Foreign(other, name, key) if name is not None else None
    mirror = None if reads is None else await reads.mirror()
    namespace = None if reads is None else await reads.namespace()
    mode, requirements = "unknown", []
    if not isinstance(pod, Absent):
        mode, accounts = _mode(pod, ctx)
        requirements = await _objects(pod, home, reads, ctx)
        requirements += [await _account(one.name, reads) for one in accounts]
    return Facts(
        key,
        pod,
        node=node,
        lease=await _lease(home, bound) if bound else None,
        state=await _leading(home, bound) if bound else None,
        identity=identity,
        foreign_namespace=name,
        namespace=namespace,
        virtual_nodes=() if bound or isinstance(pod, Absent) else await _nodes(home, settings),
        foreign_secrets={name: virtual_node.foreign_secret(one) for name, one in declared.items()},
        denied=await _denied(home, bound, key.namespace) if bound and _is_silent(pod) else "",
        mirror=mirror,
        mode=mode,
        virtual_node_id=ctx.virtual_node_id,
        ctx=ctx,
        requirements=tuple(requirements),
        home_events=await _events(home, key.namespace, key.name, pod),
        foreign_events=() if reads is None else await reads.events(mirror),
    )


async def _node(home: Cluster, name: str) -> Node | Absent | Unread:
    return await read(home.get(resources.NODES, name))


async def _lease(home: Cluster, node: str) -> Lease | Absent | Unread:
    return await read(home.get(resources.LEASES, node, namespace=serving.NAMESPACE))


async def _leading(home: Cluster, node: str) -> State | Unread | None:
    """What the farlet of the node reports, as `farlet status` reads it."""
    selector = f"{virtual_node.NAME_LABEL}={virtual_node.FARLET}"
    found = await read(
        home.list(
            resources.PODS,
            namespace=virtual_node.FARLET,
            label_selector=f"{selector},{virtual_node.INSTANCE_LABEL}={node}",
            limit=PROCESSES,
        )
    )
    if isinstance(found, Absent | Unread):
        return None if isinstance(found, Absent) else found
    states = await asyncio.gather(
        *(process_state.of(home, pod, pod_template.PROBES_PORT) for pod in found.items)
    )
    leaders = [one for one in states if isinstance(one, State) and one.leader]
    if leaders:
        return min(leaders, key=lambda one: len(one.problems))
    return next((one for one in states if isinstance(one, Unread)), None)


async def _identified(
    home: Cluster, foreign: Cluster | None, node: Node | Absent | Unread | None, ctx: Context
) -> tuple[Cluster | Unread | None, Unread | None]:
    """The foreign cluster, if it is the one that the Node records; and why that is not known.

    Whatever another cluster answers looks like a loss of the mirror.
    """
    if foreign is None or not ctx.node:
        return foreign, None
    known = node if node is not None else await _node(home, ctx.node)
    if isinstance(known, Absent | Unread):
        return foreign, None
    recorded = cluster_identity.record(known["metadata"].get("annotations") or {})
    own = ctx.namespaces.own
    if recorded.foreign is None:
        return foreign, None
    found = await read(foreign.get(resources.NAMESPACES.metadata_only, own))
    if isinstance(found, Unread):
        return foreign, found
    if isinstance(found, Absent):
        why = (
            f"this cluster has no namespace {own}, whose uid the Node {ctx.node} records: "
            "--foreign-context or --foreign-kubeconfig leads to another cluster, "
            "--foreign-system-namespace is not that of the node, or the foreign cluster was "
            "rebuilt (docs/recovery.md)"
        )
        return Unread(why), None
    present = ForeignState(namespace=own, uid=found["metadata"]["uid"][:UID_LENGTH])
    doubt = cluster_identity.doubt(Record(foreign=recorded.foreign), present, home_id=ctx.home_id)
    return (foreign, None) if doubt is None else (Unread(clean(doubt)), None)


async def _nodes(home: Cluster, settings: ReadingSettings) -> Sequence[Node] | Absent | Unread:
    """The virtual nodes of farlet, or the one that `--nodename` names."""
    if settings.nodename:
        found = await _node(home, settings.nodename)
        return found if isinstance(found, Absent | Unread) else (found,)
    selector = f"{VIRTUAL_NODE_LABEL}={VIRTUAL_NODE_LABEL_VALUE}"
    listed = await read(home.list(resources.NODES, label_selector=selector, limit=NODES))
    return listed if isinstance(listed, Absent | Unread) else listed.items


async def _virtual_nodes(home: Cluster, name: str) -> Mapping[str, JSON]:
    """The VirtualNode of this name, or all if it is empty, by name: those that can be read."""
    resource, namespace = kinds.VIRTUAL_NODES, virtual_node.FARLET
    if name:
        one = await read(home.get(resource, name, namespace=namespace))
        return {} if isinstance(one, Absent | Unread) else {name: one}
    found = await read(home.list(resource, namespace=namespace, limit=NODES))
    if isinstance(found, Absent | Unread):
        return {}
    return {one["metadata"]["name"]: one for one in found.items}


def _completed(ctx: Context, declared: JSON) -> Context:
    """The settings, completed by the VirtualNode of that name."""
    try:
        return virtual_nodes.context(virtual_node.VirtualNode.parse(declared).spec, ctx)
    except (ValueError, KeyError, errors.UsageError):
        return ctx  # of a later version, whose fields are not known here


def _is_silent(pod: Pod | Absent) -> bool:
    """It waits, and does not show why."""
    status: PodStatus = {} if isinstance(pod, Absent) else pod.get("status") or {}
    return status.get("phase") == PodPhase.PENDING and not status.get("reason")


async def _denied(home: Cluster, node: str, namespace: str) -> str:
    """farlet reports on the Node what it cannot report on pods; empty: no such report."""
    selector = f"involvedObject.kind=Node,involvedObject.name={node}"
    selector += f",reason={Reason.HOME_NAMESPACE_FORBIDDEN}"
    found = await read(
        home.list(
            resources.WATCHED_EVENTS, namespace=NODE_EVENTS, field_selector=selector, limit=EVENTS
        )
    )
    messages = (
        ()
        if isinstance(found, Absent | Unread)
        else [one.get("message", "") for one in found.items]
    )
    return next((text for text in messages if f"home namespace {namespace}," in text), "")


async def _home_id(
    settings: ReadingSettings, home: Cluster, node: Node | Absent | Unread | None
) -> str:
    """The home id that the Node records, else the one that farlet finds; empty without either."""
    if settings.home_id is not None:
        return settings.home_id
    if node is not None and not isinstance(node, Absent | Unread):
        recorded = (node["metadata"].get("annotations") or {}).get(HOME_CLUSTER)
        if recorded:
            return recorded
    found = await read(home.get(resources.SERVICES, "kubernetes", namespace="default"))
    return "" if isinstance(found, Absent | Unread) else str(found["metadata"].get("uid", ""))


def _mode(pod: Pod, ctx: Context) -> tuple[str, tuple[access.ServiceAccountRequirement, ...]]:
    try:
        strategy = choice.choose(pod, access.load_strategies(), ctx)
    except errors.Refused as err:
        return clean(f"{err.reason}: {err.message}"), ()
    try:
        return strategy.name, strategy.requirements(pod, ctx)
    except errors.Refused:
        # Of settings that only a running farlet knows, such as the address for pods: the status of
        # the pod contains its refusal.
        return strategy.name, ()


async def _events(
    cluster: Cluster, namespace: str, name: str, pod: Pod | Absent
) -> tuple[Event, ...] | Unread:
    selector = f"involvedObject.kind=Pod,involvedObject.name={name}"
    if not isinstance(pod, Absent):
        selector += f",involvedObject.uid={pod['metadata']['uid']}"
    found = await read(
        cluster.list(
            resources.WATCHED_EVENTS, namespace=namespace, field_selector=selector, limit=EVENTS
        )
    )
    if isinstance(found, Absent):
        return ()
    return found if isinstance(found, Unread) else tuple(found.items)


async def _objects(
    pod: Pod, home: Cluster, reads: _Foreign | None, ctx: Context
) -> list[Requirement]:
    """The ConfigMaps, Secrets and claims of a pod."""
    sources = sorted(copies.sources(pod))[: report.REQUIREMENTS]
    namespace = pod["metadata"]["namespace"]

    async def source(one: copies.Source) -> Requirement:
        here = await _state(home, _CONTENT[one.kind], namespace, one.name)
        copy = copies.copy_name(one, ctx) if ctx.home_id else ""
        note = f"in the home namespace {namespace}"
        if here == "ok" and copy and reads is not None:
            copied = await reads.state(_CONTENT[one.kind], copy)
            note = {
                "ok": f"copied to {copy}",
                "missing": f"{note}, not copied to {copy} yet",
            }.get(copied, note)
        return Requirement(one.kind.value, one.name, here, note)

    claimed = sorted(claims.claim_names(pod))[: report.REQUIREMENTS]
    return list(
        await asyncio.gather(
            *(source(one) for one in sources),
            *(_claim(name, namespace, home, reads, ctx) for name in claimed),
        )
    )


async def _claim(
    name: str, namespace: str, home: Cluster, reads: _Foreign | None, ctx: Context
) -> Requirement:
    kind = "PersistentVolumeClaim"
    here = await read(home.get(resources.CLAIMS, name, namespace=namespace))
    note = f"in the home namespace {namespace}"
    if isinstance(here, Absent):
        return Requirement(kind, name, "missing", note)
    if isinstance(here, Unread):
        return Requirement(kind, name, "unknown", f"{note}: {here.why}")
    phase = clean((here.get("status") or {}).get("phase", "unknown"), most=40)
    note = f"{phase} {note}"
    if reads is not None and ctx.home_id:
        copy = names.claim_name(
            name, home_id=ctx.home_id, namespace=namespace, uid=here["metadata"]["uid"]
        )
        away = await reads.read(resources.CLAIMS, copy)
        if not isinstance(away, Absent | Unread):
            phase = clean((away.get("status") or {}).get("phase", "unknown"), most=40)
            note = f"{note}; {copy} in the foreign cluster is {phase}"
    return Requirement(kind, name, "ok", note)


async def _account(name: str, reads: _Foreign | None) -> Requirement:
    kind = "ServiceAccount"
    if reads is None:
        return Requirement(kind, name, "unknown", "of the foreign cluster")
    state = await reads.state(resources.SERVICE_ACCOUNTS, name)
    return Requirement(kind, name, state, f"in the foreign namespace {reads.name}")


async def _state(cluster: Cluster, resource: Resource[Any], namespace: str, name: str) -> str:
    found = await read(cluster.get(resource.metadata_only, name, namespace=namespace))
    if isinstance(found, Absent):
        return "missing"
    return "unknown" if isinstance(found, Unread) else "ok"


class _Foreign:
    """Reads in one foreign namespace, of one pod."""

    def __init__(self, cluster: Cluster | Unread | None, name: str, key: ObjectKey) -> None:
        self.name = name
        self._cluster = cluster
        self._pod = names.mirror_name(key.name)

    async def mirror(self) -> Pod | Absent | Unread | None:
        """`None`: no credentials were given."""
        if self._cluster is None:
            return None
        return await self.read(resources.PODS, self._pod)

    async def namespace(self) -> object:
        if self._cluster is None or isinstance(self._cluster, Unread):
            return self._cluster
        return await read(self._cluster.get(resources.NAMESPACES.metadata_only, self.name))

    async def events(self, mirror: Pod | Absent | Unread | None) -> tuple[Event, ...] | Unread:
        if self._cluster is None:
            return ()
        if isinstance(self._cluster, Unread):
            return self._cluster
        pod = ABSENT if mirror is None or isinstance(mirror, Unread) else mirror
        return await _events(self._cluster, self.name, self._pod, pod)

    async def state(self, resource: Resource[Any], name: str) -> str:
        if self._cluster is None or isinstance(self._cluster, Unread):
            return "unknown"
        return await _state(self._cluster, resource, self.name, name)

    async def read(self, resource: Resource[T], name: str) -> T | Absent | Unread:
        if self._cluster is None:
            return Unread("no foreign credentials")
        if isinstance(self._cluster, Unread):
            return self._cluster
        return await read(self._cluster.get(resource, name, namespace=self.name))
