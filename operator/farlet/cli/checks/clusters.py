"""Findings of `farlet check` about the identity of both clusters.

The modules that verify this at the start of farlet compute them, so both have the same result.
"""

from __future__ import annotations

from farlet import errors
from farlet.cli.checks.findings import Finding, Outcome
from farlet.client import same_cluster
from farlet.client.cluster import Cluster
from farlet.context import Context
from farlet.foreign import inventory
from farlet.node import cluster_record
from farlet.planning import cluster_identity
from farlet.settings import Settings

WHAT = "foreign cluster"


async def findings(
    settings: Settings, ctx: Context, home: Cluster, foreign: Cluster
) -> list[Finding]:
    """Whether the foreign cluster is another one than home, and the one that the Node records, and
    whether pods run in the same namespaces of it as before."""
    try:
        await same_cluster.refuse(home, foreign)
        return [await _identity(settings, ctx, home, foreign)]
    except errors.StartError as err:
        return [Finding(WHAT, Outcome.FAILED, "farlet would not start", str(err))]
    except errors.FarletError as err:
        return [Finding(WHAT, Outcome.FAILED, str(err), "see the checks above; try again")]


async def _identity(settings: Settings, ctx: Context, home: Cluster, foreign: Cluster) -> Finding:
    own = ctx.namespaces.own
    try:
        compared = await cluster_record.compare(home, foreign, ctx=ctx)
    except (errors.Forbidden, errors.NotFound, errors.Unauthorized) as err:
        if err.cluster == "home":
            raise
        raise inventory.unusable(own, err) from err
    seen = f"the namespace {own} has the uid {compared.found.uid}"
    if compared.doubt is None:
        inventory.verify(compared.found.namespaces, ctx)
        recorded = "not recorded yet" if compared.known.foreign is None else "as the Node records"
        return Finding(WHAT, Outcome.OK, f"{seen}, {recorded}")
    if settings.adopt_foreign_cluster == compared.word:
        hint = f"the next start adopts it: {cluster_identity.ADOPTION}"
        return Finding(WHAT, Outcome.WARNING, compared.doubt, hint)
    text = cluster_identity.unconfirmed(compared.doubt, node=ctx.node, adopt=compared.word)
    return Finding(WHAT, Outcome.FAILED, seen, str(text))
