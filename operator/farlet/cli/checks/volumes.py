"""Whether farlet can provide volumes, with `--storage-class-map`."""

from __future__ import annotations

import contextlib

from farlet.cli.checks import subjects
from farlet.cli.checks.findings import Finding, Outcome, of
from farlet.cli.checks.subjects import Subject
from farlet.client import credential_sources
from farlet.client.cluster import Cluster
from farlet.client.reviews import User
from farlet.client.storage_identity import StorageIdentity
from farlet.context import Context
from farlet.errors import Refused, StartError
from farlet.manager import virtual_node
from farlet.node import storage
from farlet.settings import Settings
from farlet.telemetry.metrics import Metrics


async def check(
    settings: Settings, ctx: Context, home: Cluster, metrics: Metrics, subject: Subject | None
) -> Finding:
    """What a start would verify, with the identity that it would use.

    `subject`: that of farlet in the home cluster, if it is not the caller.
    """
    what = "volumes"
    source = None if subject else credential_sources.storage_source(settings)

    async def checked() -> Finding:
        async with contextlib.AsyncExitStack() as opened:
            cluster = home
            if source is not None:
                made = Cluster("home", source, metrics=metrics.client("home"))
                cluster = await opened.enter_async_context(made)
            try:
                await StorageIdentity(home, cluster).confirm()
                user = None if subject is None else _user(settings, subject)
                await storage.check(cluster, ctx, user=user)
            except (Refused, StartError) as err:
                return Finding(what, Outcome.FAILED, str(err))
        classes = ", ".join(f"{name}={foreign}" for name, foreign in ctx.storage_class_map)
        return Finding(what, Outcome.OK, classes)

    return await of(what, checked(), hint="check --home-storage-kubeconfig (docs/volumes.md)")


def _user(settings: Settings, subject: Subject) -> User:
    """A pod of the node has no other identity for volumes than its ServiceAccount."""
    if settings.home_storage_kubeconfig is None:
        return subject.user
    return subjects.account(virtual_node.FARLET, virtual_node.object_name(settings.nodename))
