"""The requests of `farlet status`, all of them reads in the home cluster."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Sequence

from farlet import errors
from farlet.cli import commands, serving
from farlet.cli.reading import ABSENT, Absent, Unread, read
from farlet.cli.status import process_state, report
from farlet.cli.status.facts import Facts, Manager, Process, Report
from farlet.client import credential_sources, kinds, resources
from farlet.client.cluster import Cluster
from farlet.client.resources import ObjectList
from farlet.constants import (
    JSON,
    VIRTUAL_NODE_LABEL,
    VIRTUAL_NODE_LABEL_VALUE,
    NodeCondition,
)
from farlet.k8s_types import Lease, Node, Pod, PodPhase
from farlet.manager.virtual_node import FARLET, MANAGER, NAME_LABEL
from farlet.settings import StatusSettings
from farlet.telemetry import logs
from farlet.telemetry.metrics import Metrics

NODES = f"{VIRTUAL_NODE_LABEL}={VIRTUAL_NODE_LABEL_VALUE}"
OWN_PODS = f"{NAME_LABEL} in ({FARLET},{MANAGER})"
WAITING = 200
"""Pods that wait, read for each node."""


@contextlib.asynccontextmanager
async def connected(settings: StatusSettings) -> AsyncIterator[Cluster]:
    """The home cluster. Raises `StartError` and `UsageError`."""
    logs.silence()
    source = credential_sources.home_source(settings, os.environ)
    async with Cluster("home", source, metrics=Metrics().client("home")) as home:
        yield home


async def status(home: Cluster, settings: StatusSettings) -> Report:
    """The status of all virtual nodes, or of the one that `--nodename` names."""
    return report.report(await facts(home, settings), time.time(), commands.home_of(settings))


async def facts(home: Cluster, settings: StatusSettings) -> Facts:
    nodes, declared, own, deployment, deployments = await asyncio.gather(
        _nodes(home, settings.nodename),
        _virtual_nodes(home, settings),
        _own_pods(home, settings.farlet_namespace),
        _manager(home, settings.farlet_namespace),
        _deployments(home, settings.farlet_namespace),
    )
    pods = () if isinstance(own, Absent | Unread) else own
    managers = [pod for pod in pods if _is_manager(pod)]
    processes = (
        own
        if isinstance(own, Absent | Unread)
        else await _processes(home, settings, [pod for pod in own if not _is_manager(pod)])
    )
    names = [] if isinstance(nodes, Absent | Unread) else [one["metadata"]["name"] for one in nodes]
    names = names[: report.NODES]
    leases = await asyncio.gather(*(_lease(home, name) for name in names))
    waiting = await asyncio.gather(*(_waiting(home, name) for name in names))
    return Facts(
        settings.farlet_namespace,
        nodes=nodes,
        leases=dict(zip(names, leases, strict=True)),
        virtual_nodes=declared,
        processes=processes,
        waiting=dict(zip(names, waiting, strict=True)),
        manager=Manager(deployment, managers),
        deployments=deployments,
    )


async def _nodes(home: Cluster, name: str | None) -> Sequence[Node] | Absent | Unread:
    """Nodes with a condition of farlet."""
    if name is not None:
        node = await read(home.get(resources.NODES, name))
        return node if isinstance(node, Absent | Unread) else [node]
    found = await read(home.list_all(resources.NODES, label_selector=NODES))
    if isinstance(found, Absent | Unread):
        return found
    return [one for one in found.items if _is_farlets(one)]


def _is_farlets(node: Node) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(one["type"] == NodeCondition.FOREIGN_REACHABLE for one in conditions)


async def _virtual_nodes(
    home: Cluster, settings: StatusSettings
) -> Sequence[JSON] | Absent | Unread:
    found = await read(_declared(home, settings.farlet_namespace))
    if found is None:
        return ABSENT
    if isinstance(found, Absent | Unread):
        return found
    return [one for one in found.items if settings.nodename in (None, one["metadata"]["name"])]


async def _declared(home: Cluster, namespace: str) -> ObjectList[JSON] | None:
    """All VirtualNodes; `None`: not defined. An API server answers that with 404 and plain text."""
    try:
        return await home.list_all(kinds.VIRTUAL_NODES, namespace=namespace, checked=False)
    except errors.UnknownPath:
        return None


async def _lease(home: Cluster, name: str) -> Lease | Absent | Unread:
    return await read(home.get(resources.LEASES, name, namespace=serving.NAMESPACE))


async def _waiting(home: Cluster, name: str) -> Sequence[Pod] | Absent | Unread:
    selector = f"spec.nodeName={name},status.phase={PodPhase.PENDING}"
    found = await read(home.list(resources.PODS, field_selector=selector, limit=WAITING))
    return found if isinstance(found, Absent | Unread) else found.items


async def _manager(home: Cluster, namespace: str) -> JSON | Absent | Unread:
    return await read(home.get(kinds.DEPLOYMENTS, MANAGER, namespace=namespace))


async def _deployments(home: Cluster, namespace: str) -> Sequence[JSON] | Absent | Unread:
    selector = f"{NAME_LABEL}={FARLET}"
    found = await read(
        home.list_all(kinds.DEPLOYMENTS, namespace=namespace, label_selector=selector)
    )
    return found if isinstance(found, Absent | Unread) else found.items


async def _own_pods(home: Cluster, namespace: str) -> Sequence[Pod] | Absent | Unread:
    found = await read(home.list_all(resources.PODS, namespace=namespace, label_selector=OWN_PODS))
    return found if isinstance(found, Absent | Unread) else found.items


def _is_manager(pod: Pod) -> bool:
    return (pod["metadata"].get("labels") or {}).get(NAME_LABEL) == MANAGER


async def _processes(
    home: Cluster, settings: StatusSettings, found: Sequence[Pod]
) -> Sequence[Process]:
    pods = found[: report.PROCESSES * report.NODES]
    states = await asyncio.gather(
        *(process_state.of(home, pod, settings.probe_port) for pod in pods)
    )
    return [Process(pod, one) for pod, one in zip(pods, states, strict=True)]
