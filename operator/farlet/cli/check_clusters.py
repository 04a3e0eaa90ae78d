"""Findings of `farlet check` about the identity of both clusters.

They come from the modules that a start uses, so that both come to the same result.
"""

from __future__ import annotations

from farlet import errors
from farlet.cli.findings import Finding, Outcome
from farlet.client import resources, same_cluster
from farlet.client.cluster import Cluster
from farlet.context import Context
from farlet.foreign.identity import ForeignIdentity
from farlet.foreign.inventory import NamespaceInventory
from farlet.planning import cluster_identity
from farlet.planning.cluster_identity import Record
from farlet.settings import Settings

WHAT = "foreign cluster"


async def findings(
    settings: Settings, ctx: Context, home: Cluster, foreign: Cluster
) -> list[Finding]:
    """Whether the foreign cluster is another one than home, and the one that the Node records."""
    try:
        await same_cluster.refuse(home, foreign)
        return [await _identity(settings, ctx, home, foreign)]
    except errors.StartError as err:
        return [Finding(WHAT, Outcome.FAILED, str(err), "see docs/recovery.md")]
    except errors.FarletError as err:
        return [Finding(WHAT, Outcome.FAILED, str(err), "see the checks above; try again")]


async def _identity(settings: Settings, ctx: Context, home: Cluster, foreign: Cluster) -> Finding:
    inventory = NamespaceInventory(foreign, ctx)
    own = settings.foreign_system_namespace
    try:
        found = await ForeignIdentity(foreign, inventory, namespace=own).read()
    except (errors.Forbidden, errors.NotFound, errors.Unauthorized) as err:
        raise inventory.unusable(err) from err
    known = await _record(settings, home)
    seen = f"the namespace {own} has the uid {found.uid}"
    why = cluster_identity.doubt(known, found, home_id=ctx.home_id)
    if why is None:
        recorded = "not recorded yet" if known.foreign is None else "as the Node records"
        return Finding(WHAT, Outcome.OK, f"{seen}, {recorded}")
    word = cluster_identity.word(known, found)
    if settings.adopt_foreign_cluster == word:
        hint = f"the next start adopts it: {cluster_identity.ADOPTION}"
        return Finding(WHAT, Outcome.WARNING, why, hint)
    text = str(cluster_identity.unconfirmed(why, node=settings.nodename, adopt=word))
    return Finding(WHAT, Outcome.FAILED, seen, text)


async def _record(settings: Settings, home: Cluster) -> Record:
    try:
        node = await home.get(resources.NODES, settings.nodename)
    except errors.NotFound:
        return Record()
    return cluster_identity.record(node["metadata"].get("annotations", {}))
