"""farlet reads no Secret of the home cluster to which no pod on its node refers.

Each home namespace of a test has a Secret of that kind, and the namespace `default` 200 of them. At
the end the audit logs show whether any farlet asked for one, asked for Secrets without a name, or
wrote a copy of one.
"""

from collections.abc import Iterable

from clusters import auditlog, identity, workspace
from clusters.pair import Clusters
from permissions_audit import AGENTS

COUNT = 200


def create(clusters: Clusters) -> None:
    """Create those of the namespace `default`. Does nothing in existing clusters."""
    if clusters.home.parts is None:
        return
    names = (f"{workspace.UNREFERENCED}-{number}" for number in range(COUNT))
    clusters.home.apply(
        *({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}} for name in names)
    )


def check(clusters: Clusters) -> None:
    """AssertionError naming each such request. Passes for existing clusters: no audit logs."""
    if clusters.home.parts is None or clusters.foreign.parts is None:
        return
    wrong = [
        *wrong_reads(clusters.home.audit_log.by_agents(*AGENTS)),
        *copies(clusters.foreign.audit_log.by_agents(*AGENTS)),
    ]
    assert not wrong, "farlet asked for Secrets that no pod refers to:\n" + "\n".join(wrong[:20])


def wrong_reads(entries: Iterable[auditlog.Entry]) -> list[str]:
    """Requests to the home API server for such a Secret, or for Secrets of any name."""
    return [
        f"home: {entry.verb} {entry.uri}"
        for entry in entries
        if entry.resource == "secrets"
        and (not entry.name or entry.name.startswith(workspace.UNREFERENCED))
        and not identity.is_other(entry.user)
    ]


def copies(entries: Iterable[auditlog.Entry]) -> list[str]:
    """Writes of such a Secret to the foreign API server."""
    return [
        f"foreign: {entry.verb} {entry.uri}"
        for entry in entries
        if entry.resource == "secrets" and entry.name.startswith(workspace.UNREFERENCED)
    ]
