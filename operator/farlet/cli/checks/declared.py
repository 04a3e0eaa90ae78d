"""The settings of `farlet check`: as given, and else as the VirtualNode of that name declares."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from farlet import errors
from farlet.cli.reading import Absent, Unread, read
from farlet.client import credential_sources, kinds
from farlet.client.cluster import Cluster
from farlet.constants import JSON
from farlet.manager import variables, virtual_node
from farlet.node import prerequisites
from farlet.rbac import NODE, Permission, Side, Where
from farlet.settings import ReadingSettings, Settings, loading
from farlet.telemetry import logs
from farlet.telemetry.metrics import Metrics

_VIRTUAL_NODE = Permission(
    Side.HOME, Where.OWN, "farlet.io", "virtualnodes", ("get",), "the settings of a node", NODE
)
"""An administrator's, not one of farlet (`rbac.TABLE`), whose credentials a check may have."""


def settings(flags: Mapping[str, object]) -> Settings:
    """From flags, environment and file, then from the VirtualNode. Raises `UsageError`.

    The foreign kubeconfig is by default that of the home cluster, if a foreign context is given.
    """
    logs.silence()
    known = {field: flags[field] for field in ReadingSettings.model_fields if field in flags}
    reading = loading.load(ReadingSettings, known)
    given = dict(flags)
    if reading.foreign_kubeconfig is None:
        foreign = credential_sources.foreign_reading_source(reading, os.environ)
        if foreign is not None and foreign.kubeconfig is not None:
            given["foreign_kubeconfig"] = foreign.kubeconfig
    wanted = loading.load(Settings, given)
    declared = asyncio.run(_declared(reading, wanted.nodename))
    added = {
        field: value for field, value in declared.items() if field not in wanted.model_fields_set
    }
    return loading.load(Settings, {**given, **added}) if added else wanted


async def _declared(reading: ReadingSettings, node: str) -> Mapping[str, object]:
    """Raw values by field; empty without a VirtualNode, or where it cannot be read."""
    source = credential_sources.home_source(reading, os.environ)
    try:
        async with Cluster("home", source, metrics=Metrics().client("home")) as home:
            found = await read(_found(home, node))
    except errors.FarletError:
        return {}  # a check reports it
    if isinstance(found, Absent | Unread) or found is None:
        return {}
    try:
        spec = virtual_node.VirtualNode.parse(found).spec
    except (ValueError, KeyError):
        return {}  # of a later version, whose fields are not known here
    further = (one.removeprefix("--").partition("=") for one in spec.extra_args)
    extra = {flag.replace("-", "_"): value for flag, _, value in further}
    known = {field: value for field, value in extra.items() if field in Settings.model_fields}
    return {**known, **variables.of_spec(spec)}


async def _found(home: Cluster, node: str) -> JSON | None:
    """The VirtualNode; `None` for credentials that may not read it. Raises `FarletError`."""
    namespace = virtual_node.FARLET
    if await prerequisites.denied_verbs(home, _VIRTUAL_NODE, namespace=namespace, node=node):
        return None
    return await home.get(kinds.VIRTUAL_NODES, node, namespace=namespace)
