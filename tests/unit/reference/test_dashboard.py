"""The queries of the dashboard use only existing metrics and labels."""

from __future__ import annotations

import json
import re

import pytest

from reference import dashboard
from unit.reference.queries import metrics_in, problems


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
