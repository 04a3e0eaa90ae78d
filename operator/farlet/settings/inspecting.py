"""Settings of the commands that only read: `farlet explain` and `farlet status`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from farlet.settings import values
from farlet.settings.base import DNSLabel, Port, Text
from farlet.settings.connections import HomeConnectionSettings
from farlet.settings.loading import Flag, Group
from farlet.settings.mirror import MirrorSettings


class ReadingSettings(MirrorSettings, HomeConnectionSettings):
    """No setting is required: without foreign credentials only the home cluster is read."""

    foreign_kubeconfig: Annotated[
        Path | Literal["in-cluster"] | None,
        Flag(
            Group.CLUSTERS,
            "FILE|in-cluster",
            default="that of the home cluster, if --foreign-context is set",
            common=True,
        ),
        BeforeValidator(values.kubeconfig),
    ] = Field(None, description="Credentials of the foreign cluster.")
    foreign_context: Annotated[
        str | None, Flag(Group.CLUSTERS, "NAME", default="current context", common=True), Text
    ] = Field(None, description="Context of the foreign kubeconfig.")


class StatusSettings(HomeConnectionSettings):
    """Settings of `farlet status`, which reads the home cluster only."""

    nodename: Annotated[
        str | None,
        Flag(Group.CLUSTERS, "NAME", aliases=("--node",), default="all virtual nodes", common=True),
        BeforeValidator(values.dns_name),
    ] = Field(None, description="Name of the virtual node.")
    farlet_namespace: Annotated[str, Flag(Group.CLUSTERS, "NAME", common=True), DNSLabel] = Field(
        "farlet", description="Home namespace of farlet's pods."
    )
    probe_port: Annotated[Port, Flag(Group.CLUSTERS, "PORT", common=True)] = Field(
        8081,
        description="Port on which farlet's pods serve /state (their --health-probe-bind-address).",
    )
