"""The alerts are those of the documentation and use only existing metrics and labels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from farlet.manager.objects import PodParameters, desired
from farlet.manager.virtual_node import VirtualNode
from reference import alerts
from unit.reference import queries

ROOT = Path(__file__).parents[3]
FROM_PROMETHEUS = {"up"}
SCRAPED = queries.SCRAPED | {"node"}
"""The PodMonitor adds the name of the virtual node."""

_ROW = re.compile(r"^\| `(\w+)` \| `([^|]+)`(?: for (\d+) min)? \| (.+) \|$", re.MULTILINE)


@pytest.mark.parametrize("alert", alerts.ALERTS, ids=lambda alert: alert.name)
def test_an_alert_uses_existing_metrics(alert: alerts.Alert) -> None:
    expected = [
        f"no metric {name}" for name in FROM_PROMETHEUS & {*queries.metrics_in(alert.expression)}
    ]
    assert queries.problems(alert.expression, scraped=SCRAPED) == expected


def test_the_documentation_lists_the_alerts_of_the_rules() -> None:
    section = (
        (ROOT / "docs" / "metrics.md").read_text().partition("### Alerts")[2].partition("\n## ")[0]
    )
    listed = [
        (name, query, int(pending or 0), text)
        for name, query, pending, text in _ROW.findall(section)
    ]
    assert listed == [(one.name, one.expression, one.pending, one.summary) for one in alerts.ALERTS]


def test_rules_have_what_prometheus_requires() -> None:
    (group,) = yaml.safe_load(alerts.text())["spec"]["groups"]
    for rule in group["rules"]:
        assert {"alert", "expr", "labels", "annotations"} <= rule.keys()
        assert rule["labels"]["severity"] in {"critical", "warning"}
    names = [rule["alert"] for rule in group["rules"]]
    assert len(names) == len(set(names)) == len(alerts.ALERTS)


def by_hand() -> dict[str, Any]:
    text = (ROOT / "manifests" / "home" / "base" / "deployment.yaml").read_text()
    template: dict[str, Any] = yaml.safe_load(text)["spec"]["template"]
    return template


def by_the_manager() -> dict[str, Any]:
    sample = yaml.safe_load((ROOT / "manifests" / "samples" / "virtual-node.yaml").read_text())
    sample["metadata"] |= {"uid": "u", "generation": 1}
    node = VirtualNode.parse(sample)
    parameters = PodParameters(image="farlet", stop_seconds=30.0, own_account=False)
    (made,) = (one for one in desired(node, parameters) if one["kind"] == "Deployment")
    template: dict[str, Any] = made["spec"]["template"]
    return template


@pytest.mark.parametrize("pod", [by_hand(), by_the_manager()], ids=["by hand", "by the manager"])
def test_the_monitor_reads_the_port_and_the_label_that_farlet_pods_have(
    pod: dict[str, Any],
) -> None:
    monitor = yaml.safe_load((ROOT / "manifests" / "prometheus" / "podmonitor.yaml").read_text())
    assert monitor["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    (relabeling,) = endpoint["relabelings"]
    label = "app.kubernetes.io/instance"
    assert pod["metadata"]["labels"][label] == "far"
    changed = re.sub(r"\W", "_", label)
    assert relabeling["sourceLabels"] == [f"__meta_kubernetes_pod_label_{changed}"]
