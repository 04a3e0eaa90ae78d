"""Generates the dashboard `manifests/grafana/farlet.json` from a table of panels.

Each panel answers one question of an administrator whose pods have problems, from top (is it up,
is it the leader) to bottom (what does the process itself need). Queries use metrics of `catalogue`,
which a test checks. Grafana's own format has forty lines for a panel; the table contains only those
that differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from farlet.constants import JSON

PATH = "manifests/grafana/farlet.json"

_SELECTED = 'job=~"$job",instance=~"$instance"'
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS = 24
"""Width of Grafana's grid."""


class PanelType(StrEnum):
    """Types of panels, by Grafana's names."""

    STAT = "stat"
    LINES = "timeseries"


class Unit(StrEnum):
    """Units, by Grafana's names."""

    NUMBER = "short"
    SECONDS = "s"
    BYTES = "bytes"
    PER_SECOND = "reqps"
    CORES = "none"
    UP = "bool_yes_no"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `queries`: legend to PromQL, where `$OF` stands for the selected processes."""

    title: str
    unit: Unit
    queries: dict[str, str]
    description: str = ""
    type: PanelType = PanelType.LINES
    width: int = 8
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row of panels with a title."""

    title: str
    panels: tuple[Panel, ...]


def _stat(title: str, unit: Unit, query: str, description: str = "") -> Panel:
    return Panel(title, unit, {"{{instance}}": query}, description, PanelType.STAT, width=4)


def _quantiles(title: str, histogram: str, *, description: str = "", by: str = "") -> Panel:
    """The 50th, 95th and 99th percentile of a histogram in seconds."""
    labels = ", ".join(label for label in ("le", by) if label)
    legend = f" {{{{{by}}}}}" if by else ""
    return Panel(
        title,
        Unit.SECONDS,
        {
            f"p{point}{legend}": f"histogram_quantile(0.{point}, "
            f"sum by ({labels}) (rate({histogram}_bucket$OF[$__rate_interval])))"
            for point in (50, 95, 99)
        },
        description,
    )


def _selector(where: str = "") -> str:
    """The selector for the processes selected in the dashboard, and for further labels."""
    return "{" + ",".join(part for part in (_SELECTED, where) if part) + "}"


def _per_second(counter: str, *by: str, where: str = "") -> str:
    """The rate of a counter, by labels."""
    labels = f" by ({', '.join(by)}) " if by else ""
    return f"sum{labels}(rate({counter}{_selector(where)}[$__rate_interval]))"


def _rates(title: str, counter: str, *by: str, where: str = "", description: str = "") -> Panel:
    """A panel with the rate of a counter, by labels."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by)
    queries = {legend: _per_second(counter, *by, where=where)}
    return Panel(title, Unit.PER_SECOND, queries, description)


ROWS = (
    Row(
        "Current state",
        (
            _stat("Home API server answers", Unit.UP, "farlet_home_up$OF"),
            _stat("Foreign API server answers", Unit.UP, "farlet_foreign_up$OF"),
            _stat(
                "Is leader",
                Unit.UP,
                "leader_election_master_status$OF",
                "One of the processes for a node is the leader.",
            ),
            _stat("Running pods", Unit.NUMBER, "kubelet_running_pods$OF"),
            _stat(
                "First token expires in",
                Unit.SECONDS,
                "farlet_token_remaining_seconds$OF",
                "Less than half of a token's lifetime means that refreshes fail.",
            ),
            _stat(
                "Open streams",
                Unit.NUMBER,
                "sum by (instance) (kubelet_http_inflight_requests"
                + _selector('long_running="true"')
                + ")",
                "exec, attach and port-forward.",
            ),
        ),
    ),
    Row(
        "Pods",
        (
            Panel(
                "Pods by phase",
                Unit.NUMBER,
                {"{{phase}}": "sum by (phase) (farlet_pods$OF)"},
                stacked=True,
            ),
            Panel(
                "Pods by access mode",
                Unit.NUMBER,
                {"{{access}}": "sum by (access) (farlet_pods$OF)"},
                "'invalid': the annotation contains an unknown mode, and the pod waits.",
                stacked=True,
            ),
            Panel(
                "Anomalies",
                Unit.PER_SECOND,
                {
                    "status rejected": _per_second("farlet_status_rejected_total"),
                    "event dropped": _per_second("farlet_events_dropped_total"),
                    "event of a mirror dropped": _per_second("farlet_mirror_events_dropped_total"),
                    "watch of home pods restarted": _per_second("farlet_kopf_restarts_total"),
                    "unknown field {{field}}": _per_second("farlet_unknown_fields_total", "field"),
                },
            ),
            _quantiles("Binding to mirror creation", "farlet_mirror_latency_seconds"),
            _quantiles("Mirror change to home status", "farlet_status_latency_seconds"),
            Panel(
                "Age of tokens",
                Unit.SECONDS,
                {
                    "oldest": "max(farlet_token_age_seconds$OF)",
                    "first to expire": "min(farlet_token_remaining_seconds$OF)",
                },
            ),
            Panel(
                "Token requests",
                Unit.PER_SECOND,
                {
                    "granted": _per_second("farlet_tokens_granted_total"),
                    "refresh failed": _per_second("farlet_token_refresh_failures_total"),
                },
            ),
        ),
    ),
    Row(
        "API servers",
        (
            _rates("Requests", "rest_client_requests_total", "cluster", "method"),
            _rates(
                "Failed requests",
                "rest_client_requests_total",
                "cluster",
                "method",
                "code",
                where='code!~"2.."',
                description="404 after a deletion and 409 in a race are usual.",
            ),
            _quantiles(
                "Duration of requests", "rest_client_request_duration_seconds", by="cluster"
            ),
        ),
    ),
    Row(
        "Work queue",
        (
            Panel(
                "Waiting pods",
                Unit.NUMBER,
                {"{{name}}": "sum by (name) (workqueue_depth$OF)"},
            ),
            _quantiles("Time in the queue", "workqueue_queue_duration_seconds"),
            _quantiles("Processing of a pod", "workqueue_work_duration_seconds"),
            _rates("Retries", "workqueue_retries_total", "name"),
            Panel(
                "Work in progress",
                Unit.SECONDS,
                {
                    "longest": "max(workqueue_longest_running_processor_seconds$OF)",
                    "all": "sum(workqueue_unfinished_work_seconds$OF)",
                },
                "Steady growth means that a worker is stuck.",
            ),
            _rates("Added keys", "workqueue_adds_total", "name"),
        ),
    ),
    Row(
        "Kubelet API",
        (
            _rates("Requests by path", "kubelet_http_requests_total", "path"),
            Panel(
                "Requests in progress",
                Unit.NUMBER,
                {"{{path}}": "sum by (path) (kubelet_http_inflight_requests$OF)"},
            ),
            Panel(
                "Serving certificate expires in",
                Unit.SECONDS,
                {
                    "{{instance}}": "min by (instance) ("
                    "kubelet_certificate_manager_server_ttl_seconds$OF)"
                },
            ),
        ),
    ),
    Row(
        "Process",
        (
            _quantiles(
                "Lag of the event loop",
                "farlet_event_loop_lag_seconds",
                description="All requests and streams are delayed by as much.",
            ),
            Panel(
                "CPU",
                Unit.CORES,
                {"{{instance}}": "rate(process_cpu_seconds_total$OF[$__rate_interval])"},
            ),
            Panel("Memory", Unit.BYTES, {"{{instance}}": "process_resident_memory_bytes$OF"}),
        ),
    ),
)


def expressions() -> Iterator[str]:
    """Every query as Grafana sends it, apart from Grafana's own variables."""
    for row in ROWS:
        for panel in row.panels:
            for query in panel.queries.values():
                yield query.replace("$OF", _selector())


def text() -> str:
    """The file, with one line for each panel, so that diffs are short."""
    head = {
        "title": "farlet",
        "uid": "farlet",
        "description": "Generated by `make generate`; change the code, not this file.",
        "tags": ["farlet", "kubernetes"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": list(_variables())},
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    panels = ",\n".join(f"  {json.dumps(panel)}" for panel in _panels())
    return "{\n" + "\n".join(lines) + '\n "panels": [\n' + panels + "\n ]\n}\n"


def _variables() -> Iterator[JSON]:
    yield {"name": "datasource", "type": "datasource", "query": "prometheus"}
    for name, selector in (("job", ""), ("instance", '{job=~"$job"}')):
        yield {
            "name": name,
            "type": "query",
            "datasource": _DATASOURCE,
            "query": f"label_values(farlet_build_info{selector}, {name})",
            "refresh": 2,
            "multi": True,
            "includeAll": True,
        }


def _panels() -> Iterator[JSON]:
    number, top = 0, 0
    for row in ROWS:
        number += 1
        position = {"x": 0, "y": top, "w": _COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": row.title, "gridPos": position}
        top, left, height = top + 1, 0, 0
        for panel in row.panels:
            number += 1
            if left + panel.width > _COLUMNS:
                top, left = top + height, 0
            height = 4 if panel.type is PanelType.STAT else 8
            position = {"x": left, "y": top, "w": panel.width, "h": height}
            yield _panel(panel, number=number, position=position)
            left += panel.width
        top += height


def _panel(panel: Panel, *, number: int, position: dict[str, int]) -> JSON:
    custom = {"stacking": {"mode": "normal"}, "fillOpacity": 30} if panel.stacked else {}
    return {
        "id": number,
        "type": panel.type.value,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "gridPos": position,
        "fieldConfig": {
            "defaults": {"unit": panel.unit.value, "custom": custom},
            "overrides": [],
        },
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "expr": query.replace("$OF", _selector()),
                "legendFormat": legend,
            }
            for at, (legend, query) in enumerate(panel.queries.items())
        ],
    }
