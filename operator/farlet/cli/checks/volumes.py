"""Whether farlet can provide volumes, with `--storage-class-map`."""

from __future__ import annotations

import contextlib

from farlet.cli.checks.findings import Finding, Outcome, of
from farlet.client import credential_sources
from farlet.client.cluster import Cluster
from farlet.client.storage_identity import StorageIdentity
from farlet.context import Context
from farlet.errors import Refused, StartError
from farlet.node import storage
from farlet.settings import Settings
from farlet.telemetry.metrics import Metrics


async def check(settings: Settings, ctx: Context, home: Cluster, metrics: Metrics) -> Finding:
    """What a start would verify, with the identity that it would use."""
    what = "volumes"
    source = credential_sources.storage_source(settings)

    async def checked() -> Finding:
        async with contextlib.AsyncExitStack() as opened:
            cluster = home
            if source is not None:
                made = Cluster("home", source, metrics=metrics.client("home"))
                cluster = await opened.enter_async_context(made)
            try:
                await StorageIdentity(home, cluster).confirm()
                await storage.check(cluster, ctx)
            except (Refused, StartError) as err:
                return Finding(what, Outcome.FAILED, str(err))
        classes = ", ".join(f"{name}={foreign}" for name, foreign in ctx.storage_class_map)
        return Finding(what, Outcome.OK, classes)

    return await of(what, checked(), hint="check --home-storage-kubeconfig (docs/volumes.md)")
