"""The metrics and labels that a PromQL query names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set

from prometheus_client.parser import text_string_to_metric_families

from farlet.telemetry import metric_catalogue
from farlet.telemetry.metrics import Metrics

SCRAPED = {"job", "instance"}
"""Labels that Prometheus itself adds."""

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_SELECTOR = re.compile(rf"({_NAME})?\s*\{{([^}}]*)\}}")
_RANGE = re.compile(r"\[[^\]]*\]")
_LABELS = re.compile(
    r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", re.IGNORECASE
)
_WORD = re.compile(rf"(?<![\w.:])({_NAME})\s*(\()?")
_OPERATORS = {"and", "or", "unless", "bool", "offset", "by", "without", "inf", "nan"}


def metrics_in(query: str) -> dict[str, set[str]]:
    """The names of metrics in a PromQL query, each with the labels that its selector names."""
    query = _RANGE.sub("", _STRING.sub('""', query))
    found: dict[str, set[str]] = {}
    for name, matchers in _SELECTOR.findall(query):
        labels = set(re.findall(rf"({_NAME})\s*[=!]", matchers))
        if name:
            found.setdefault(name, set()).update(labels)
    rest = _LABELS.sub("", _SELECTOR.sub(lambda match: match[1] or "", query))
    for word, call in _WORD.findall(rest):
        if not call and word.lower() not in _OPERATORS:
            found.setdefault(word, set())
    return found


def group_labels(query: str) -> set[str]:
    """The labels in the grouping clauses of a query."""
    lists = _LABELS.findall(_STRING.sub('""', query))
    return {label.strip() for one in lists for label in one.split(",") if label.strip()}


def _existing() -> Iterator[tuple[str, set[str]]]:
    for row in metric_catalogue.CATALOGUE:
        if row.kind is metric_catalogue.Kind.HISTOGRAM:
            yield f"{row.name}_bucket", {*row.labels, "le"}
            yield f"{row.name}_sum", set(row.labels)
            yield f"{row.name}_count", set(row.labels)
        else:
            yield row.name, set(row.labels)
    for family in text_string_to_metric_families(Metrics().exposition().decode()):
        if family.name.startswith("process_"):
            yield from ((sample.name, set()) for sample in family.samples)


EXISTING = dict(_existing())


def problems(query: str, *, scraped: Set[str] = SCRAPED) -> list[str]:
    """Metrics and labels in a query that do not exist; `scraped`: labels of every metric."""
    names = metrics_in(query)
    found = [f"no metric {name}" for name in names if name not in EXISTING]
    labels_of = {name: EXISTING.get(name, set()) | scraped for name in names}
    found += [
        f"{name} has no label {label}"
        for name, labels in names.items()
        for label in sorted(labels - labels_of[name])
    ]
    everywhere = set().union(*labels_of.values())
    return found + [
        f"no label {label} to group by" for label in sorted(group_labels(query) - everywhere)
    ]
