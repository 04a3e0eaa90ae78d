"""Compare the requests in the audit logs of both API servers with `farlet.rbac.TABLE`.

A request without a row is a permission that the documentation does not list. A row without a
request is a permission that farlet does not need. Requests are found by user agent, Kopf's
included, whatever identity farlet had; refused requests count as well.
"""

import collections
import dataclasses
from collections.abc import Collection, Iterable, Iterator

from clusters import auditlog, identity, workspace
from clusters.pair import Clusters
from farlet import rbac
from farlet.rbac import Identity, Permission, Side, Where

AGENTS = ("farlet/", "kopf/")
_NAMED = {
    (Side.HOME, Where.OWN): "farlet",
    **{
        (Side.FOREIGN, place): workspace.FARLET_NAMESPACE
        for place in Where
        if place.value.startswith(Where.OWN.value)
    },
    **{(Side.HOME, place): place.value for place in (Where.DEFAULT, Where.KUBE_NODE_LEASE)},
    (Side.HOME, Where.KUBE_SYSTEM): Where.KUBE_SYSTEM.value,
}
_NODE = "system:node:"


@dataclasses.dataclass(frozen=True)
class Used:
    """One verb of one row; what must have been asked by the end of all tests."""

    permission: Permission
    verb: str

    def __str__(self) -> str:
        permission = self.permission
        group = f" ({permission.group})" if permission.group else ""
        name = f" {permission.name}" if permission.name else ""
        where = f"{permission.side.value}, {permission.where.value}"
        return f"{where}: {self.verb} {permission.resource}{name}{group}"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """`without_row`: requests without a row, and how often. `used`: the rows with requests."""

    without_row: collections.Counter[str]
    used: frozenset[Used]

    def check(self) -> None:
        """AssertionError naming every request without a row."""
        assert not self.without_row, (
            "no row of farlet.rbac allows these requests of farlet:\n"
            + "\n".join(f"{count} times {what}" for what, count in self.without_row.most_common())
        )


def unused(used: Collection[Used]) -> list[str]:
    """Rows, verb by verb, that are not among the used ones."""
    return [
        str(one)
        for permission in rbac.TABLE
        for one in (Used(permission, verb) for verb in permission.verbs)
        if permission.audited and one not in used
    ]


def read(
    clusters: Clusters,
    *,
    home: auditlog.Mark = auditlog.START,
    foreign: auditlog.Mark = auditlog.START,
) -> Comparison:
    """The requests of all farlets to both clusters since these marks.

    Empty for existing clusters, whose audit logs are not readable.
    """
    without_row: collections.Counter[str] = collections.Counter()
    used: set[Used] = set()
    if clusters.home.parts is not None and clusters.foreign.parts is not None:
        for side, log, mark in (
            (Side.HOME, clusters.home.audit_log, home),
            (Side.FOREIGN, clusters.foreign.audit_log, foreign),
        ):
            entries = log.by_agents(*AGENTS, since=mark)
            found = compare(side, (entry for entry in entries if not identity.is_other(entry.user)))
            without_row += found.without_row
            used |= found.used
    return Comparison(without_row, frozenset(used))


def compare(side: Side, entries: Iterable[auditlog.Entry]) -> Comparison:
    """Every request beside its rows."""
    without_row: collections.Counter[str] = collections.Counter()
    used: set[Used] = set()
    for entry in entries:
        if rows := _most_special(side, entry):
            used.update(Used(permission, entry.verb) for permission in rows)
        else:
            without_row[_description(side, entry)] += 1
    return Comparison(without_row, frozenset(used))


def _most_special(side: Side, entry: auditlog.Entry) -> Collection[Permission]:
    """The rows that allow it; a row for its namespace comes before one for any namespace."""
    rows = [
        permission
        for permission in rbac.TABLE
        if permission.side is side and _allows(permission, entry)
    ]
    named = [permission for permission in rows if (side, permission.where) in _NAMED]
    return named or rows


def _allows(permission: Permission, entry: auditlog.Entry) -> bool:
    if entry.verb not in permission.verbs or not _is(permission.identity, entry):
        return False
    if permission.where is Where.URL:
        return not entry.resource and entry.uri.startswith(permission.resource)
    group = entry.raw.get("objectRef", {}).get("apiGroup", "")
    resource = "/".join(word for word in (entry.resource, entry.subresource) if word)
    if (permission.group, permission.resource) != (group, resource):
        return False
    if permission.name and entry.name != (
        _node(entry) if permission.name == rbac.NODE else permission.name
    ):
        return False
    if permission.where in {Where.OFFLOADED, Where.CREATED}:
        return bool(entry.namespace) and entry.namespace != _NAMED.get((permission.side, Where.OWN))
    return (
        permission.where in {Where.CLUSTER, Where.ANYONE}
        or entry.namespace == _NAMED[permission.side, permission.where]
    )


def _is(who: Identity, entry: auditlog.Entry) -> bool:
    return who is Identity.EITHER or (who is Identity.NODE) is entry.user.startswith(_NODE)


def _node(entry: auditlog.Entry) -> str:
    """The virtual node of the requesting farlet; RBAC ensures that an account uses no other."""
    user = entry.user
    return user.removeprefix(_NODE) if user.startswith(_NODE) else entry.name


def _description(side: Side, entry: auditlog.Entry) -> str:
    what = "/".join(_words(entry)) or entry.uri
    where = f" in {entry.namespace}" if entry.namespace else ""
    return f"{side.value}: {entry.verb} {what}{where} by {entry.user} ({entry.user_agent})"


def _words(entry: auditlog.Entry) -> Iterator[str]:
    for word in (entry.raw.get("objectRef", {}).get("apiGroup", ""), entry.resource):
        if word:
            yield word
    if entry.subresource:
        yield entry.subresource
