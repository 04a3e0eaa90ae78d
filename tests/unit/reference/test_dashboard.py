"""The queries of the dashboard use only existing metrics and labels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from farlet.telemetry import metric_catalogue
from farlet.telemetry.metrics import Metrics
from reference import dashboard

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


def problems(query: str) -> list[str]:
    """Metrics and labels in a query that do not exist."""
    names = metrics_in(query)
    found = [f"no metric {name}" for name in names if name not in EXISTING]
    labels_of = {name: EXISTING.get(name, set()) | SCRAPED for name in names}
    found += [
        f"{name} has no label {label}"
        for name, labels in names.items()
        for label in sorted(labels - labels_of[name])
    ]
    everywhere = set().union(*labels_of.values())
    return found + [
        f"no label {label} to group by" for label in sorted(group_labels(query) - everywhere)
    ]


@pytest.mark.parametrize("query", tuple(dashboard.expressions()))
def test_every_query_uses_existing_metrics(query: str) -> None:
    assert metrics_in(query)
    assert problems(query) == []


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param("farlet_podz", ["no metric farlet_podz"], id="an unknown metric"),
        pytest.param(
            "sum(rate(farlet_pod_total[5m]))",
            ["no metric farlet_pod_total"],
            id="an unknown metric in functions",
        ),
        pytest.param(
            "farlet_mirror_latency_seconds",
            ["no metric farlet_mirror_latency_seconds"],
            id="a histogram without a suffix",
        ),
        pytest.param(
            'farlet_pods{stage="Running"}',
            ["farlet_pods has no label stage"],
            id="an unknown label",
        ),
        pytest.param(
            "sum by (mode) (farlet_pods)",
            ["no label mode to group by"],
            id="an unknown label in a grouping",
        ),
        pytest.param(
            "farlet_home_up / on (instance) group_left (node) kubelet_node_names",
            ["no metric kubelet_node_names", "no label node to group by"],
            id="on the other side of an operator",
        ),
    ],
)
def test_unknown_metrics_and_labels_are_found(query: str, found: list[str]) -> None:
    assert problems(query) == found


@pytest.mark.parametrize(
    ("query", "names"),
    [
        pytest.param("up", {"up": set()}, id="only a name"),
        pytest.param('a{b="c{d}",e!~"f"} offset 5m', {"a": {"b", "e"}}, id="a string with braces"),
        pytest.param(
            "max by (le) (rate(a_bucket[5m:1m])) > bool 1.5e3",
            {"a_bucket": set()},
            id="a subquery and a number",
        ),
        pytest.param("a and on (x) b or (c unless d)", {key: set() for key in "abcd"}, id="sets"),
        pytest.param("quantile_over_time(0.9, a[1h]) - Inf", {"a": set()}, id="a function"),
    ],
)
def test_names_and_labels_are_read_from_queries(query: str, names: dict[str, set[str]]) -> None:
    assert metrics_in(query) == names


def test_panels_do_not_overlap() -> None:
    panels = json.loads(dashboard.text())["panels"]
    occupied = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in panels
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(occupied) == len(set(occupied))
    assert max(x for x, _ in occupied) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_every_variable_in_a_query_is_defined() -> None:
    board = json.loads(dashboard.text())
    variables = {one["name"] for one in board["templating"]["list"]} | {"__rate_interval"}
    used = {name for query in dashboard.expressions() for name in re.findall(r"\$(\w+)", query)}
    assert used <= variables
