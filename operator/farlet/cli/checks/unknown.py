"""A node of which the home cluster knows nothing, and about which no settings were given.

It was perhaps mistyped, or the contexts are swapped, or `farlet connect` is the next step. Nothing
else can be checked: what a start would need depends on the settings.
"""

from __future__ import annotations

from collections.abc import Sequence

from farlet import errors
from farlet.cli.checks.findings import Finding, Outcome
from farlet.cli.reading import Absent, Unread, clean, read
from farlet.client import kinds, resources
from farlet.client.cluster import Cluster
from farlet.constants import JSON
from farlet.install.requests import SHOWN
from farlet.manager.virtual_node import FARLET
from farlet.planning import api_refusals
from farlet.settings import Settings

_CONNECTIONS = frozenset(
    {"nodename", "home_context", "home_kubeconfig", "foreign_context", "foreign_kubeconfig"}
)


def is_described(settings: Settings) -> bool:
    """Whether settings of its farlet were given, as for one that is installed by hand."""
    return bool(settings.model_fields_set - _CONNECTIONS)


async def check(settings: Settings, home: Cluster, foreign: Cluster | None) -> Finding | None:
    """`None`: the node exists, or that is not known."""
    node = settings.nodename
    found = await read(home.get(resources.NODES, node))
    if not isinstance(found, Absent):
        return None
    if (others := await _names(home)) is None:
        return None
    what = f"virtual node {node}"
    seen = f"the home cluster has no virtual node {node}. It has: {', '.join(others) or 'none'}"
    if foreign is not None and node in (await _names(foreign) or ()):
        hint = "the foreign cluster has it: swap --home-context and --foreign-context"
        return Finding(what, Outcome.FAILED, seen, hint)
    hint = (
        f"check the name; or create it: farlet connect {api_refusals.CONTEXTS} --node {node}; or, "
        "for an installation by hand, give the settings of farlet (docs/installation.md)"
    )
    return Finding(what, Outcome.FAILED, seen, hint)


async def _names(cluster: Cluster) -> list[str] | None:
    """Those of VirtualNodes, the first few; `None`: they cannot be read."""
    found = await read(_listed(cluster))
    if isinstance(found, Unread):
        return None
    items = () if isinstance(found, Absent) else found
    return [clean(one["metadata"]["name"], most=253) for one in items][:SHOWN]


async def _listed(cluster: Cluster) -> Sequence[JSON]:
    try:
        found = await cluster.list_all(kinds.VIRTUAL_NODES, namespace=FARLET, checked=False)
    except errors.UnknownPath:  # not defined
        return ()
    return found.items
