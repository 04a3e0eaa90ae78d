"""No farlet may be refused: its rights are exact, so a 403 is a right or a request to be mended.

What is excused, and nothing else:

* at home, what a cache has not seen yet. The Node authorizer learns by watching which objects a
  node's pods refer to, and NodeRestriction which pods there are. So while a pod of a namespace is
  bound or deleted and for `LAG_SECONDS` afterwards, and likewise while the API server starts, they
  may answer requests of `LAGGING` in the words of `LAGS`;
* on either side, what an API server that starts refuses to others than nodes: it answers before it
  has read all Roles;
* on either side, whatever happens during a test that is marked to want it (`Excuse`).
"""

import collections
import dataclasses
import datetime
from collections.abc import Collection, Iterable, Iterator
from typing import TypeAlias

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
ASKED_TOO_SOON = frozenset({403, 404})
"""How a TokenRequest is answered while caches lag; farlet asks again until it is granted one."""
_MOST_TOLD = 20
Span: TypeAlias = tuple[datetime.datetime, datetime.datetime]
"""From when a change was begun until the API server had done it.

On a busy machine the two are apart: others hear of a binding before the request for it is answered,
and a server answers for seconds before it is ready.
"""


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
    started = _starting(log, starts)
    return [
        entry
        for entry in refused
        if not _lags(entry, during=[*changes.get(entry.namespace, ()), *started])
        and not _has_not_read_roles(entry, started)
    ]


def abroad(log: auditlog.Log, *, starts: Collection[datetime.datetime]) -> list[auditlog.Entry]:
    """403s to farlets in the foreign cluster, but for what a server that starts excuses."""
    started = _starting(log, starts)
    return [
        entry
        for entry in log.refused()
        if f"{entry.user}-".startswith(f"{workspace.USER}-")
        and not _by_test(entry)
        and not _has_not_read_roles(entry, started)
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


def _changes(log: auditlog.Log) -> dict[str, list[Span]]:
    """By namespace: when pods of it were made, bound or deleted."""
    found: dict[str, list[Span]] = collections.defaultdict(list)
    for entry in log.entries(resource="pods"):
        if entry.verb in {"create", "delete", "deletecollection"} and entry.code < 300:
            found[entry.namespace].append((entry.began, entry.time))
    return found


def _starting(log: auditlog.Log, starts: Collection[datetime.datetime]) -> list[Span]:
    """Each start of an API server, until it was ready or started once more."""
    ready = list(log.readiness()) if starts else []
    begun = sorted(starts)
    return [
        (start, min((one for one in [*ready, *begun] if one > start), default=start))
        for start in begun
    ]


def _lags(entry: auditlog.Entry, *, during: Iterable[Span]) -> bool:
    return (
        any(words in entry.message for words in LAGS)
        and (entry.verb, entry.resource, entry.subresource) in LAGGING
        and _at_or_soon_after(entry, during)
    )


def _has_not_read_roles(entry: auditlog.Entry, starting: Iterable[Span]) -> bool:
    return not entry.user.startswith("system:node:") and _at_or_soon_after(entry, starting)


def _at_or_soon_after(entry: auditlog.Entry, spans: Iterable[Span]) -> bool:
    lag = datetime.timedelta(seconds=LAG_SECONDS)
    return any(begin <= entry.time <= end + lag for begin, end in spans)
