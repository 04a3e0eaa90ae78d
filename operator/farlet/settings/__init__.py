"""All settings of farlet: name, type, default, help text and allowed values, each defined once.

Flags and `docs/reference/flags.md` are generated from these fields. A value comes from the flag,
else from `FARLET_<NAME>`, else from the file of `--config`, else it is the default. Nothing here
connects to a cluster. Files that a setting names are opened, so that an unreadable file is reported
by the name of its setting.

There is one module per purpose; a new setting is a field in one of them.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from farlet.settings import values
from farlet.settings.connections import ConnectionSettings, Preflight
from farlet.settings.gateway import GatewaySettings, TunnelSettings
from farlet.settings.inspecting import ReadingSettings, StatusSettings
from farlet.settings.kubelet import KubeletSettings
from farlet.settings.leader import LeaderSettings
from farlet.settings.loading import Flag, Group
from farlet.settings.manager import ManagerSettings
from farlet.settings.mirror import MirrorSettings
from farlet.settings.namespaces import NamespaceSettings
from farlet.settings.node import NodeSettings
from farlet.settings.process import LogFormat, LogLevel, ProcessSettings

__all__ = [
    "GatewaySettings",
    "LogFormat",
    "LogLevel",
    "ManagerSettings",
    "MirrorSettings",
    "Preflight",
    "ReadingSettings",
    "Settings",
    "StatusSettings",
]


class Settings(
    ProcessSettings,
    LeaderSettings,
    KubeletSettings,
    NodeSettings,
    TunnelSettings,
    ConnectionSettings,
    NamespaceSettings,
    MirrorSettings,
):
    """All settings of a running farlet."""

    nodename: Annotated[
        str,
        Flag(Group.CLUSTERS, "NAME", aliases=("--node",), common=True),
        BeforeValidator(values.dns_name),
    ] = Field(description="Name of the virtual node. Pods bound to it run in the foreign cluster.")
