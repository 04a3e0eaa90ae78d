"""Settings of the connections to both clusters, and of the preflight."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from farlet.settings import values
from farlet.settings.base import BaseFarletSettings, Text
from farlet.settings.loading import Flag, Group


class Preflight(StrEnum):
    """Handling of an endpoint that farlet itself cannot reach."""

    WARN = "warn"
    REQUIRE = "require"


class HomeConnectionSettings(BaseFarletSettings):
    """Credentials for the home API server."""

    home_kubeconfig: Annotated[
        Path | Literal["in-cluster"] | None,
        Flag(
            Group.CLUSTERS,
            "FILE|in-cluster",
            aliases=("--kubeconfig",),
            default="in-cluster in a pod, else $KUBECONFIG, else ~/.kube/config",
            common=True,
        ),
        BeforeValidator(values.kubeconfig),
    ] = Field(None, description="Credentials of the home cluster.")
    home_context: Annotated[
        str | None,
        Flag(
            Group.CLUSTERS, "NAME", aliases=("--context",), default="current context", common=True
        ),
        Text,
    ] = Field(None, description="Context of the home kubeconfig.")


class ConnectionSettings(HomeConnectionSettings):
    """Credentials for both API servers."""

    home_storage_kubeconfig: Annotated[
        Path | Literal["in-cluster"] | None,
        Flag(Group.CLUSTERS, "FILE|in-cluster", default="the credentials of the home cluster"),
        BeforeValidator(values.kubeconfig),
    ] = Field(
        None,
        description="Credentials of the home cluster for PersistentVolumes and their claims, with "
        "--storage-class-map. A node is not allowed to write those: use a ServiceAccount with "
        "the ClusterRole farlet-volumes (docs/volumes.md).",
    )
    foreign_kubeconfig: Annotated[
        Path | Literal["in-cluster"],
        Flag(Group.CLUSTERS, "FILE|in-cluster", common=True),
        BeforeValidator(values.kubeconfig),
    ] = Field(
        description="Credentials of the foreign cluster. Required, so that farlet never uses the "
        "home cluster as the foreign one by mistake.",
    )
    foreign_context: Annotated[
        str | None, Flag(Group.CLUSTERS, "NAME", default="current context", common=True), Text
    ] = Field(None, description="Context of the foreign kubeconfig.")
    adopt_foreign_cluster: Annotated[str | None, Flag(Group.CLUSTERS, "UID[/TERM]"), Text] = Field(
        None,
        description="Use the foreign cluster although the Node records another one, or another "
        "term. The message of the Node's condition farlet.io/ForeignReachable contains the value "
        "and the consequences (docs/recovery.md). Only the cluster with exactly this value is "
        "adopted, once.",
    )
    home_api_preflight: Annotated[Preflight, Flag(Group.ACCESS, "|".join(Preflight))] = Field(
        Preflight.WARN,
        description="What farlet does if it cannot itself reach the home API server at the address "
        "for pods. 'warn': it logs a warning and creates mirror pods. 'require': pods stay Pending "
        "until it can. With a wrong certificate pods always stay Pending.",
    )
