"""Why a test failed without a rule: what an API server or farlet itself said about that rule.

A test that fails for another reason shows nothing about the rule.
"""

import collections
import dataclasses
import re
from collections.abc import Iterable, Iterator

from clusters import auditlog
from clusters.cluster import Cluster
from clusters.pair import Clusters
from permissions.rules import Rule
from permissions_audit import AGENTS

_OTHERWISE = {
    "clusterroles": "attempting to grant RBAC permissions",
    "signers": "not permitted to approve requests",
}
"""Errors about rules that are not checked as a request of their own."""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The audit log of the cluster of a rule, since a moment."""

    rule: Rule
    cluster: Cluster
    since: auditlog.Mark

    @classmethod
    def begin(cls, clusters: Clusters, rule: Rule) -> "Evidence":
        """From now on."""
        cluster: Cluster = getattr(clusters, rule.cluster)
        return cls(rule, cluster, cluster.audit_mark())

    def cause(self, texts: Iterable[str]) -> str | None:
        """A few words, or nothing. `texts` are the errors of the test."""
        refused = collections.Counter(self._refused())
        if refused:
            what, count = refused.most_common(1)[0]
            return f"403 for {what}" + (f", {count} times" if count > 1 else "")
        return start_refused(self.rule, texts)

    def _refused(self) -> Iterator[str]:
        """What the API server refused to farlet for lack of this rule."""
        for entry in self.cluster.audit_log.by_agents(*AGENTS, since=self.since):
            if entry.code != 403 or entry.stage != "ResponseComplete":
                continue
            if self.rule.namespace in {"", entry.namespace}:
                yield from lacking(self.rule, entry)


def lacking(rule: Rule, entry: auditlog.Entry) -> Iterator[str]:
    """The verb and resource of the rule that a 403 is about, if it is.

    Some entries have no message. A WebSocket requires `create` beside the `get` of its request, and
    the error does not name it.
    """
    row = rule.row
    group = entry.raw.get("objectRef", {}).get("apiGroup", "")
    resource = "/".join(word for word in (entry.resource, entry.subresource) if word)
    same = (group, resource) == (row.group, row.resource)
    unnamed = ""
    if not entry.message:
        unnamed = entry.verb
    elif entry.message.endswith("is forbidden: "):
        unnamed = "create"
    for verb in rule.verbs:
        usual = f'cannot {verb} resource "{row.resource}" in API group "{row.group}"'
        expected = _OTHERWISE.get(row.resource, usual)
        if expected in entry.message or (same and verb == unnamed):
            yield f"{verb} {row.resource}"


def start_refused(rule: Rule, texts: Iterable[str]) -> str | None:
    """What farlet says where it does not start without the rule."""
    pattern = rf"is not allowed to [a-z, ]*\b{re.escape(rule.row.resource)}\b"
    found = (re.search(pattern, text) for text in texts)
    return next((f"farlet does not start: it {one[0]}" for one in found if one), None)
