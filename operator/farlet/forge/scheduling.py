"""The scheduling fields of a pod, rewritten for the foreign scheduler.

The home scheduler has used these fields to choose the virtual node; the foreign scheduler uses
them to choose a real one. Terms about the virtual node itself would leave the mirror
unschedulable, and expressions that the home API server merged into selectors would make the
foreign API server refuse the mirror. All other terms are copied.

Each function returns its argument when nothing changes, a changed copy otherwise, and `None`
when nothing is left of it; none changes its argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from farlet.access.changes import ChangeLog
from farlet.constants import (
    HOSTNAME_LABEL,
    JSON,
    VIRTUAL_NODE_LABEL,
    VIRTUAL_NODE_LABEL_VALUE,
)
from farlet.context import DROP, Context

Labels: TypeAlias = Mapping[str, str]

NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""Label with its name that API servers give every namespace."""

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"

# All of these are routine: pods need such terms to be scheduled to the virtual node.
_OWN_LABEL = "only the virtual node has this label; foreign nodes do not"
_OWN_TAINT = "only the virtual node has this taint; foreign nodes do not"
_NODE_NAME = "it names a home node; foreign nodes have other names"
_CLASS = "--priority-class-map maps this class of the home cluster"
_OTHER_NAMES = "home namespaces have other names in the foreign cluster"
_MERGED = (
    "the home API server merged (mis)matchLabelKeys into it; the foreign API server does so again"
)


def node_selector(
    selector: dict[str, str], ctx: Context, changes: ChangeLog
) -> dict[str, str] | None:
    """A node selector without the virtual node's own labels."""
    ours = selector.keys() & ctx.node_labels
    if not ours:
        return selector
    for key in sorted(ours):
        changes.dropped(f"spec.nodeSelector[{key}]", _OWN_LABEL, routine=True)
    return {key: value for key, value in selector.items() if key not in ours} or None


def tolerations(original: list[JSON], ctx: Context, changes: ChangeLog) -> list[JSON] | None:
    """Tolerations without those of the virtual node's taints.

    Those for `not-ready` and `unreachable` stay: where the home API server added them
    (DefaultTolerationSeconds), the foreign one would add the same, and where the user or a
    DaemonSet set them, they limit how long the pod stays on a lost foreign node.
    """
    kept = [t for t in original if t.get("key", "") not in ctx.taints]
    if len(kept) == len(original):
        return original
    for t in original:
        if t.get("key", "") in ctx.taints:
            changes.dropped(f"spec.tolerations[{t['key']}]", _OWN_TAINT, routine=True)
    return kept or None


def priority_class(name: str, ctx: Context, changes: ChangeLog) -> str | None:
    """The class of the mirror. The home cluster may have written its default class into the pod."""
    foreign = ctx.foreign_priority_class(name)
    if foreign is None or foreign == name:
        return name
    if foreign == DROP:
        changes.dropped("spec.priorityClassName", _CLASS, routine=True)
        return None
    changes.rewritten("spec.priorityClassName", _CLASS, routine=True)
    return foreign


def spread(constraints: list[JSON], changes: ChangeLog) -> list[JSON]:
    """Topology spread constraints without the keys that the home API server merged in."""
    cleaned = []
    for index, constraint in enumerate(constraints):
        selector = _without_merged_keys(
            constraint, {}, f"spec.topologySpreadConstraints[{index}].labelSelector", changes
        )
        cleaned.append(
            constraint if selector is None else {**constraint, "labelSelector": selector}
        )
    return cleaned


def affinity(original: JSON, labels: Labels, ctx: Context, changes: ChangeLog) -> JSON | None:
    """Node affinity, pod affinity and anti-affinity for foreign nodes and namespaces."""
    cleaned = dict(original)
    if "nodeAffinity" in original:
        _replace(cleaned, "nodeAffinity", _node_affinity(original["nodeAffinity"], ctx, changes))
    for kind in ("podAffinity", "podAntiAffinity"):
        if kind in original:
            _replace(cleaned, kind, _pod_affinity(original[kind], kind, labels, ctx, changes))
    return cleaned or None


def _replace(target: JSON, key: str, value: object) -> None:
    if value:
        target[key] = value
    else:
        del target[key]


def _node_affinity(original: JSON, ctx: Context, changes: ChangeLog) -> JSON:
    cleaned = dict(original)
    path = "spec.affinity.nodeAffinity"
    if REQUIRED in original:
        required = original[REQUIRED]
        terms = _required_terms(
            required.get("nodeSelectorTerms") or [], f"{path}.required", ctx, changes
        )
        _replace(cleaned, REQUIRED, {**required, "nodeSelectorTerms": terms} if terms else None)
    if PREFERRED in original:
        preferences = []
        for index, entry in enumerate(original[PREFERRED]):
            term = _without_own_labels(
                entry.get("preference") or {}, f"{path}.preferred[{index}]", ctx, changes
            )
            if term:  # an empty preference prefers nothing
                preferences.append({**entry, "preference": term})
        _replace(cleaned, PREFERRED, preferences)
    return cleaned


def _required_terms(
    terms: Sequence[JSON], path: str, ctx: Context, changes: ChangeLog
) -> list[JSON]:
    """The terms, of which one must match; empty when one required only the virtual node.

    A term without expressions would match nothing. A term that required only the virtual node is
    satisfied, so no term is required any more. A term that excludes the virtual node cannot be
    the one that matched it.
    """
    kept = []
    for index, term in enumerate(terms):
        if _excludes_virtual_node(term, ctx):
            changes.dropped(f"{path}[{index}]", _OWN_LABEL, routine=True)
            continue
        cleaned = _without_own_labels(term, f"{path}[{index}]", ctx, changes)
        if not cleaned and term:
            return []
        kept.append(cleaned)
    return kept


def _excludes_virtual_node(term: JSON, ctx: Context) -> bool:
    """Whether the term cannot match the virtual node, as far as the values of its labels are known.

    Labels of `--node-labels` are known by their keys alone.
    """
    known = {VIRTUAL_NODE_LABEL: VIRTUAL_NODE_LABEL_VALUE, HOSTNAME_LABEL: ctx.node}
    for e in term.get("matchExpressions") or ():
        key, operator = e.get("key"), e.get("operator")
        if key not in ctx.node_labels:
            continue
        if operator == "DoesNotExist":
            return True
        if key in known and operator in ("In", "NotIn"):
            listed = known[key] in (e.get("values") or ())
            if listed is (operator == "NotIn"):
                return True
    return False


def _without_own_labels(term: JSON, path: str, ctx: Context, changes: ChangeLog) -> JSON:
    """A node selector term less our labels, and less node names (`matchFields` knows no other)."""
    cleaned = dict(term)
    if "matchFields" in cleaned:
        del cleaned["matchFields"]
        changes.dropped(f"{path}.matchFields", _NODE_NAME, routine=True)
    expressions = term.get("matchExpressions") or []
    kept = [e for e in expressions if e.get("key") not in ctx.node_labels]
    if len(kept) != len(expressions):
        for e in expressions:
            if e.get("key") in ctx.node_labels:
                changes.dropped(f"{path}.matchExpressions[{e['key']}]", _OWN_LABEL, routine=True)
        _replace(cleaned, "matchExpressions", kept)
    return cleaned


def _pod_affinity(
    original: JSON, kind: str, labels: Labels, ctx: Context, changes: ChangeLog
) -> JSON:
    path = f"spec.affinity.{kind}"

    def shape(term: JSON, at: str) -> JSON:
        shaped = term
        selector = _without_merged_keys(term, labels, f"{at}.labelSelector", changes)
        if selector is not None:
            shaped = {**shaped, "labelSelector": selector}
        if term.get("namespaceSelector") is not None:
            theirs = _namespace_selector(
                term["namespaceSelector"], f"{at}.namespaceSelector", ctx, changes
            )
            shaped = {**shaped, "namespaceSelector": theirs}
        if term.get("namespaces"):
            shaped = {
                **shaped,
                "namespaces": _namespaces(term["namespaces"], f"{at}.namespaces", ctx, changes),
            }
        return shaped

    cleaned = dict(original)
    if REQUIRED in original:
        cleaned[REQUIRED] = [
            shape(term, f"{path}.required[{i}]") for i, term in enumerate(original[REQUIRED])
        ]
    if PREFERRED in original:
        cleaned[PREFERRED] = [
            {**e, "podAffinityTerm": shape(e["podAffinityTerm"], f"{path}.preferred[{i}]")}
            for i, e in enumerate(original[PREFERRED])
        ]
    return cleaned


def _namespaces(names: Sequence[str], path: str, ctx: Context, changes: ChangeLog) -> list[str]:
    """The foreign names of home namespaces.

    A namespace that is not offloaded keeps its name: an empty list would mean the pod's own
    namespace.
    """
    changes.rewritten(path, _OTHER_NAMES, routine=True)
    return _foreign_names(names, path, ctx, changes)


def _namespace_selector(selector: JSON, path: str, ctx: Context, changes: ChangeLog) -> JSON:
    """A selector of namespaces, with foreign names in the label that each namespace has.

    Other labels are those of foreign namespaces, whose owners set them.
    """
    labels: dict[str, str] = selector.get("matchLabels") or {}
    expressions: list[JSON] = selector.get("matchExpressions") or []
    if not labels and not expressions:
        changes.unchanged(
            path, "it selects all namespaces of the foreign cluster, those of other users too"
        )
    for key in dict.fromkeys([*labels, *(e["key"] for e in expressions)]):
        if key != NAMESPACE_NAME:
            changes.unchanged(
                f"{path}[{key}]",
                "it selects foreign namespaces by this label; the labels of home namespaces do not "
                "count",
            )
    named = [e for e in expressions if e["key"] == NAMESPACE_NAME and e.get("values")]
    if NAMESPACE_NAME not in labels and not named:
        return selector
    changes.rewritten(f"{path}[{NAMESPACE_NAME}]", _OTHER_NAMES, routine=True)
    rewritten = dict(selector)
    if NAMESPACE_NAME in labels:
        (name,) = _foreign_names([labels[NAMESPACE_NAME]], path, ctx, changes)
        rewritten["matchLabels"] = {**labels, NAMESPACE_NAME: name}
    if named:
        rewritten["matchExpressions"] = [
            {**e, "values": _foreign_names(e["values"], path, ctx, changes)} if e in named else e
            for e in expressions
        ]
    return rewritten


def _foreign_names(names: Sequence[str], path: str, ctx: Context, changes: ChangeLog) -> list[str]:
    mapped = []
    for name in names:
        foreign = ctx.namespaces.foreign(name)
        if foreign is None:
            why = "the namespace is not offloaded; the foreign cluster has none of its pods"
            changes.unchanged(f"{path}[{name}]", why)
        mapped.append(foreign or name)
    return mapped


def _without_merged_keys(term: JSON, labels: Labels, path: str, changes: ChangeLog) -> JSON | None:
    """The label selector without the expressions of `matchLabelKeys` and `mismatchLabelKeys`.

    `applyLabelKeysToLabelSelector` (`pkg/registry/core/pod/strategy.go`) appends `key In
    [value]` on create and validation then refuses a second expression on a key of
    `matchLabelKeys`, so the server added every `In` on such a key. For `mismatchLabelKeys` the
    user may have expressions on the same key; the server's is the last that matches. `None`
    where nothing changes.
    """
    selector: JSON | None = term.get("labelSelector")
    expressions = (selector or {}).get("matchExpressions")
    if selector is None or not expressions:
        return None
    match = set(term.get("matchLabelKeys") or ())
    mismatch = set(term.get("mismatchLabelKeys") or ())
    kept: list[JSON] = []
    for e in reversed(expressions):
        key, operator = e["key"], e["operator"]
        if key in match and operator == "In":
            continue
        if key in mismatch and operator == "NotIn" and e.get("values") == [labels.get(key)]:
            mismatch.discard(key)
            continue
        kept.append(e)
    kept.reverse()
    if len(kept) == len(expressions):
        return None
    changes.rewritten(path, _MERGED, routine=True)
    cleaned = dict(selector)
    _replace(cleaned, "matchExpressions", kept)
    return cleaned
