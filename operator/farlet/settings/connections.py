"""The credentials of both clusters, and how strictly the address for pods is looked at."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from farlet.settings import values
from farlet.settings.base import BaseFarletSettings, Text
from farlet.settings.loading import Flag, Group


class Preflight(StrEnum):
    """What an address that farlet itself cannot reach means for pods that would dial it."""

    WARN = "warn"
    REQUIRE = "require"


class ConnectionSettings(BaseFarletSettings):
    """Where the two clusters are, and who farlet is there."""

    home_kubeconfig: Annotated[
        Path | Literal["in-cluster"] | None,
        Flag(
            Group.CLUSTERS,
            "FILE|in-cluster",
            aliases=("--kubeconfig",),
            default="in-cluster inside a pod, else $KUBECONFIG, else ~/.kube/config",
        ),
        BeforeValidator(values.kubeconfig),
    ] = Field(None, description="Credentials of the home cluster.")
    home_context: Annotated[
        str | None, Flag(Group.CLUSTERS, "NAME", default="the current one"), Text
    ] = Field(None, description="Context of the home kubeconfig.")
    foreign_kubeconfig: Annotated[
        Path | Literal["in-cluster"],
        Flag(Group.CLUSTERS, "FILE|in-cluster"),
        BeforeValidator(values.kubeconfig),
    ] = Field(
        description="Credentials of the foreign cluster. Never guessed: two clusters that turn "
        "out to be one would be costly.",
    )
    foreign_context: Annotated[
        str | None, Flag(Group.CLUSTERS, "NAME", default="the current one"), Text
    ] = Field(None, description="Context of the foreign kubeconfig.")
    home_api_preflight: Annotated[Preflight, Flag(Group.ACCESS, "|".join(Preflight))] = Field(
        Preflight.WARN,
        description="When farlet itself cannot reach the home API server at the address for "
        "pods: warn and go on, or require it and let pods wait. A wrong certificate always "
        "makes them wait.",
    )
