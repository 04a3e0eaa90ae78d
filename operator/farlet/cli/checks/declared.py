"""The settings of `farlet check`: as given, and else as the VirtualNode of that name declares."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from farlet import errors
from farlet.cli.checks import installed
from farlet.cli.reading import Absent, Unread
from farlet.client import credential_sources
from farlet.client.cluster import Cluster
from farlet.manager import variables, virtual_node
from farlet.settings import ReadingSettings, Settings, loading
from farlet.telemetry import logs
from farlet.telemetry.metrics import Metrics


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
            found = await installed.read_virtual_node(home, node)
    except errors.FarletError:
        return {}  # a check reports it
    if isinstance(found, Absent | Unread):
        return {}
    try:
        spec = virtual_node.VirtualNode.parse(found).spec
    except (ValueError, KeyError):
        return {}  # of a later version, whose fields are not known here
    extra: dict[str, list[str]] = {}
    for one in spec.extra_args:
        flag, _, value = one.removeprefix("--").partition("=")
        extra.setdefault(flag.replace("-", "_"), []).append(value)
    known = {
        field: values[0] if len(values) == 1 else values
        for field, values in extra.items()
        if field in Settings.model_fields
    }
    return {"leader_elect": "true", **known, **variables.of_spec(spec)}
