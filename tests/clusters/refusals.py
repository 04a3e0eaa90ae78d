"""farlet must get no 403: its permissions are exact, so a 403 shows a wrong Role or request.

Only these are excused:

* in the home cluster, what a cache has not seen yet. The Node authorizer learns by a watch which
  objects a node's pods refer to, and NodeRestriction which pods exist. So while a pod of a
  namespace is bound or deleted and for `LAG_SECONDS` afterwards, and likewise while the API
  server starts, they may answer requests of `LAGGING` with messages of `LAGS`;
* in the home cluster, an Event in a namespace that is being deleted. Every kubelet sends such
  Events: its pods are killed in that moment;
* in both clusters, what a starting API server rejects for users other than nodes: it answers before
  it has read all Roles;
* in both clusters, everything during a test that is marked to expect it (`Excuse`).
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
"""Errors of a TokenRequest while caches lag; farlet retries until it is granted."""
_MOST_TOLD = 20
Span: TypeAlias = tuple[datetime.datetime, datetime.datetime]
"""From the start of a change until the API server has finished it.

On a busy machine the two differ: watchers see a binding before its request is answered, and a
server answers for seconds before it is ready.
"""


@dataclasses.dataclass(frozen=True)
class Excuse:
    """A time during which a test expects 403s for farlet in one cluster."""

    side: str  # a cluster's name
    begin: datetime.datetime
    end: datetime.datetime


def check(clusters: Clusters, excuses: Collection[Excuse]) -> None:
    """AssertionError naming every 403 to a farlet that nothing excuses."""
    unexpected = found(clusters, excuses)
    assert not unexpected, "farlet got a 403 that nothing excuses:\n" + "\n".join(
        f"{count} times {what}" for what, count in unexpected.most_common(_MOST_TOLD)
    )


def found(clusters: Clusters, excuses: Collection[Excuse]) -> collections.Counter[str]:
    """Every 403 to a farlet that nothing excuses, and how often.

    Empty for existing clusters, whose audit logs are not readable.
    """
    if clusters.home.parts is None or clusters.foreign.parts is None:
        return collections.Counter()
    node = clusters.home.parts.node
    home = in_home(
        clusters.home.audit_log,
        starts=clusters.home.apiserver.process.starts,
        kubelet=None if node is None else identity.Identity.NODE.user(node.name),
    )
    starts = clusters.foreign.apiserver.process.starts
    foreign = in_foreign(clusters.foreign.audit_log, starts=starts)
    return collections.Counter(
        [*unexcused("home", home, excuses), *unexcused("foreign", foreign, excuses)]
    )


def in_home(
    log: auditlog.Log, *, starts: Collection[datetime.datetime], kubelet: str | None
) -> list[auditlog.Entry]:
    """403s to farlets in the home cluster, except those excused by lagging caches.

    `starts` of the API server; `kubelet` is a node that is not a virtual one.
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
        if not _is_event_of_ending_namespace(entry)
        and not _lags(entry, during=[*changes.get(entry.namespace, ()), *started])
        and not _has_not_read_roles(entry, started)
    ]


def in_foreign(log: auditlog.Log, *, starts: Collection[datetime.datetime]) -> list[auditlog.Entry]:
    """403s to farlets in the foreign cluster, except those excused by a starting server."""
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
    """Descriptions of the entries outside all excuses of their cluster."""
    times = [(one.begin, one.end) for one in excuses if one.side == side]
    for entry in entries:
        if not any(begin <= entry.time <= end for begin, end in times):
            what = "/".join(word for word in (entry.resource, entry.subresource) if word)
            yield f"{side}: {entry.user}: {entry.verb} {what} in {entry.namespace}: {entry.message}"


def _by_test(entry: auditlog.Entry) -> bool:
    """Whether a test sent it with farlet's credentials."""
    return entry.user_agent.startswith(rest.USER_AGENT)


def _changes(log: auditlog.Log) -> dict[str, list[Span]]:
    """By namespace: when its pods were created, bound or deleted."""
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


def _is_event_of_ending_namespace(entry: auditlog.Entry) -> bool:
    return (entry.verb, entry.resource) == ("create", "events") and (
        "because it is being terminated" in entry.message
    )


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
