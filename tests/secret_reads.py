"""farlet reads no Secret of the home cluster to which no pod on its node refers.

Each home namespace of a test has a Secret of that kind. At the end the audit logs show whether any
farlet asked for it, asked for Secrets without a name, or wrote a copy of it.
"""

from collections.abc import Iterable

from clusters import auditlog, identity, workspace
from clusters.pair import Clusters
from permissions_audit import AGENTS


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
    """Requests to the home API server for the Secret, or for Secrets of any name."""
    return [
        f"home: {entry.verb} {entry.uri}"
        for entry in entries
        if entry.resource == "secrets"
        and entry.name in {"", workspace.UNREFERENCED}
        and not identity.is_other(entry.user)
    ]


def copies(entries: Iterable[auditlog.Entry]) -> list[str]:
    """Writes of the Secret to the foreign API server."""
    return [
        f"foreign: {entry.verb} {entry.uri}"
        for entry in entries
        if entry.resource == "secrets" and entry.name.startswith(workspace.UNREFERENCED)
    ]
