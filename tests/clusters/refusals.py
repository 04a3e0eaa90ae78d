"""No farlet may be refused: its rights are exact, so a 403 is a right or a request to be mended.

What is excused, and nothing else:

* at home, what a cache has not seen yet. The Node authorizer learns by watching which objects a
  node's pods refer to, and NodeRestriction which pods there are. So for `LAG_SECONDS` after a pod
  of a namespace was bound or went, or the API server started, they may answer requests of
  `LAGGING` in the words of `LAGS`;
* on either side, what an API server that has only just started refuses to others than nodes: it
  answers before it has read all Roles;
* on either side, whatever happens during a test that is marked to want it (`Excuse`).
"""

import collections
import dataclasses
import datetime
from collections.abc import Collection, Iterable, Iterator

from clusters import auditlog, identity, rest, workspace
from clusters.pair import Clusters

LAG_SECONDS = 10.0
LAGGING = frozenset(
    {
        ("create", "serviceaccounts", "token"),
        *(
            (verb, what, "")
            for verb in ("get", "list", "watch")
            for what in ("configmaps", "secrets")
        ),
    }
)
"""Verb, resource and subresource of what the Node authorizer grants by a pod's references."""
LAGS = (
    "no relationship found between node",
    "pod scheduled on a different node",
    "does not match the UID in record",
)
_MOST_TOLD = 20


@dataclasses.dataclass(frozen=True)
class Excuse:
    """A time during which farlet is refused on one side because a test wants it."""

    side: str  # a cluster's name
    begin: datetime.datetime
    end: datetime.datetime


def check(clusters: Clusters, excuses: Collection[Excuse]) -> None:
    """AssertionError naming every 403 to a farlet that nothing excuses.

    Says nothing of given clusters, whose audit logs are not ours to read.
    """
    if clusters.home.parts is None or clusters.foreign.parts is None:
        return
    node = clusters.home.parts.node
    home = at_home(
        clusters.home.audit_log,
        starts=clusters.home.apiserver.process.starts,
        kubelet=None if node is None else identity.Identity.NODE.user(node.name),
    )
    starts = clusters.foreign.apiserver.process.starts
    foreign = abroad(clusters.foreign.audit_log, starts=starts)
    told = collections.Counter(
        [*unexcused("home", home, excuses), *unexcused("foreign", foreign, excuses)]
    )
    assert not told, "farlet was refused, and nothing excuses it:\n" + "\n".join(
        f"{count} times {what}" for what, count in told.most_common(_MOST_TOLD)
    )


def at_home(
    log: auditlog.Log, *, starts: Collection[datetime.datetime], kubelet: str | None
) -> list[auditlog.Entry]:
    """403s to farlets at home, but for what lagging caches excuse.

    `starts` of the API server; `kubelet` is a node that is none of ours.
    """
    refused = [
        entry
        for entry in log.refused()
        if identity.is_farlet(entry.user) and entry.user != kubelet and not _by_test(entry)
    ]
    changes = _changes(log) if refused else {}
    return [
        entry
        for entry in refused
        if not _lags(entry, since=[*changes.get(entry.namespace, ()), *starts])
        and not _has_not_read_roles(entry, starts)
    ]


def abroad(log: auditlog.Log, *, starts: Collection[datetime.datetime]) -> list[auditlog.Entry]:
    """403s to farlets in the foreign cluster, but for what a server that has started excuses."""
    return [
        entry
        for entry in log.refused()
        if f"{entry.user}-".startswith(f"{workspace.USER}-")
        and not _by_test(entry)
        and not _has_not_read_roles(entry, starts)
    ]


def unexcused(
    side: str, entries: Iterable[auditlog.Entry], excuses: Collection[Excuse]
) -> Iterator[str]:
    """What to tell of entries outside all excuses of their side."""
    times = [(one.begin, one.end) for one in excuses if one.side == side]
    for entry in entries:
        if not any(begin <= entry.time <= end for begin, end in times):
            what = "/".join(word for word in (entry.resource, entry.subresource) if word)
            yield f"{side}: {entry.user}: {entry.verb} {what} in {entry.namespace}: {entry.message}"


def _by_test(entry: auditlog.Entry) -> bool:
    """Sent by a test that logs in as farlet does."""
    return entry.user_agent.startswith(rest.USER_AGENT)


def _changes(log: auditlog.Log) -> dict[str, list[datetime.datetime]]:
    """By namespace: when pods of it were made, bound or deleted."""
    found: dict[str, list[datetime.datetime]] = collections.defaultdict(list)
    for entry in log.entries(resource="pods"):
        if entry.verb in {"create", "delete"} and entry.code < 300:
            found[entry.namespace].append(entry.time)
    return found


def _lags(entry: auditlog.Entry, *, since: Iterable[datetime.datetime]) -> bool:
    return (
        any(words in entry.message for words in LAGS)
        and (entry.verb, entry.resource, entry.subresource) in LAGGING
        and _soon_after(entry, since)
    )


def _has_not_read_roles(entry: auditlog.Entry, starts: Iterable[datetime.datetime]) -> bool:
    return not entry.user.startswith("system:node:") and _soon_after(entry, starts)


def _soon_after(entry: auditlog.Entry, moments: Iterable[datetime.datetime]) -> bool:
    return any(0 <= (entry.time - moment).total_seconds() <= LAG_SECONDS for moment in moments)
