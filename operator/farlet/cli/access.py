"""An administrator's access to both clusters, for `farlet connect` and `farlet disconnect`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping
from pathlib import Path
from typing import Any

import click

from farlet import errors
from farlet.cli import commands
from farlet.client import credential_sources
from farlet.client.cluster import Cluster
from farlet.client.credential_sources import ClusterSource
from farlet.client.credentials import Name
from farlet.install import checks
from farlet.install.credentials import ForeignServer
from farlet.manager.kubeconfig_client import KubeconfigClients
from farlet.manager.kubeconfigs import Kubeconfig
from farlet.telemetry import logs
from farlet.telemetry.metrics import Metrics

INTERRUPTED = 130
"""Exit code of shells after SIGINT."""
REACH_SECONDS = 5.0
"""How long an address may take to answer that perhaps only pods reach."""


def run(work: Coroutine[Any, Any, None], interrupted: str) -> None:
    """Run a command until it ends; Ctrl-C prints `interrupted`."""
    logs.silence()
    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        click.echo(interrupted, err=True)
        sys.exit(INTERRUPTED)


@contextlib.asynccontextmanager
async def clusters(
    flags: Mapping[str, Any], *, home: bool = True, foreign: bool = True
) -> AsyncIterator[tuple[Cluster | None, Cluster | None]]:
    """Both clusters; `None` for one that is not wanted. Raises `UsageError`, `StartError`."""
    at_home, there = (_source(flags, side) for side in ("home", "foreign"))
    if home and foreign and at_home == there:
        raise errors.UsageError(
            "--home-context and --foreign-context select the same credentials. Set both, to the "
            "contexts of two clusters"
        )
    metrics = Metrics()
    async with contextlib.AsyncExitStack() as opened:
        found: list[Cluster | None] = []
        sides: tuple[tuple[Name, ClusterSource, bool], ...] = (
            ("home", at_home, home),
            ("foreign", there, foreign),
        )
        for name, source, wanted in sides:
            cluster = Cluster(name, source, metrics=metrics.client(name))
            found.append(await opened.enter_async_context(cluster) if wanted else None)
        yield found[0], found[1]


async def foreign_server(foreign: Cluster, url: str | None) -> ForeignServer:
    """Where pods of the home cluster reach the foreign API server.

    Raises `UsageError` for an address of this machine, and without verification.
    """
    login = await foreign.login()
    if not login.verified:
        raise errors.UsageError(
            "the foreign kubeconfig disables the verification of the API server "
            "(insecure-skip-tls-verify). Put its CA there (certificate-authority-data)"
        )
    authority = None
    if login.ca_file is not None:
        authority = await asyncio.to_thread(Path(login.ca_file).read_text, encoding="utf-8")
    return ForeignServer(
        checks.foreign_server(url or login.server), authority, login.server_hostname
    )


def given(flags: Mapping[str, Any]) -> tuple[commands.Connection, commands.Connection]:
    """The home and the foreign cluster, as they were given."""
    home, foreign = (
        commands.Connection(side, flags[f"{side}_context"], flags[f"{side}_kubeconfig"])
        for side in ("home", "foreign")
    )
    return home, foreign


async def unreached(server: ForeignServer) -> str | None:
    """Why this machine does not reach a foreign API server; `None`: it does.

    Pods of the home cluster may do so nevertheless, in another network.
    """
    config = Kubeconfig(server.url, authority=server.authority, server_name=server.server_name)
    clients = KubeconfigClients(Metrics())
    try:
        async with asyncio.timeout(REACH_SECONDS), clients("foreign", config) as client:
            await client.server_version()
    except TimeoutError:
        return f"no answer in {REACH_SECONDS:g} s"
    except errors.Unreachable as err:
        return err.cause
    except errors.ApiError:  # it answers, to those whom it knows
        pass
    return None


def _source(flags: Mapping[str, Any], side: str) -> ClusterSource:
    kubeconfig = flags[f"{side}_kubeconfig"] or credential_sources.default_kubeconfig(os.environ)
    return ClusterSource(kubeconfig=kubeconfig, context=flags[f"{side}_context"])
