"""The dashboard in `manifests/grafana/farlet.json`, as a table of panels.

One panel answers one question of an administrator whose pods do not work, from top
(is it up, is it leading) to bottom (what does the process itself need). Queries name metrics of
`catalogue`; a test compares. Grafana's own format has forty lines for a panel, of which these are
the ones that differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from farlet.constants import JSON

PATH = "manifests/grafana/farlet.json"

_OF = 'job=~"$job",instance=~"$instance"'
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS = 24
"""In Grafana's grid."""


class Look(StrEnum):
    """How a panel shows its series."""

    STAT = "stat"
    LINES = "timeseries"


class Unit(StrEnum):
    """As Grafana names them."""

    NUMBER = "short"
    SECONDS = "s"
    BYTES = "bytes"
    PER_SECOND = "reqps"
    CORES = "none"
    UP = "bool_yes_no"


@dataclass(frozen=True, slots=True)
class Panel:
    """One question. `queries`: legend to PromQL, where `$OF` stands for the chosen processes."""

    title: str
    unit: Unit
    queries: dict[str, str]
    about: str = ""
    look: Look = Look.LINES
    width: int = 8
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Panels that belong together."""

    title: str
    panels: tuple[Panel, ...]


def _stat(title: str, unit: Unit, query: str, about: str = "") -> Panel:
    return Panel(title, unit, {"{{instance}}": query}, about, Look.STAT, width=4)


def _quantiles(title: str, histogram: str, *, about: str = "", by: str = "") -> Panel:
    """The 50th, 95th and 99th percentile of what took `histogram` seconds."""
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
        about,
    )


def _chosen(where: str = "") -> str:
    """The selector of the processes that were chosen in the dashboard, and of more labels."""
    return "{" + ",".join(part for part in (_OF, where) if part) + "}"


def _per_second(counter: str, *by: str, where: str = "") -> str:
    """How often `counter` counts, by labels."""
    labels = f" by ({', '.join(by)}) " if by else ""
    return f"sum{labels}(rate({counter}{_chosen(where)}[$__rate_interval]))"


def _rates(title: str, counter: str, *by: str, where: str = "", about: str = "") -> Panel:
    """How often per second `counter` counts, by labels."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by)
    return Panel(title, Unit.PER_SECOND, {legend: _per_second(counter, *by, where=where)}, about)


ROWS = (
    Row(
        "Now",
        (
            _stat("Home API server answers", Unit.UP, "farlet_home_up$OF"),
            _stat("Foreign API server answers", Unit.UP, "farlet_foreign_up$OF"),
            _stat(
                "Leads",
                Unit.UP,
                "leader_election_master_status$OF",
                "Of several processes for one node, one.",
            ),
            _stat("Running pods", Unit.NUMBER, "kubelet_running_pods$OF"),
            _stat(
                "First token expires in",
                Unit.SECONDS,
                "farlet_token_remaining_seconds$OF",
                "Below half of a token's life, refreshes fail.",
            ),
            _stat(
                "Open streams",
                Unit.NUMBER,
                "sum by (instance) (kubelet_http_inflight_requests"
                + _chosen('long_running="true"')
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
                "Pods by access to an API",
                Unit.NUMBER,
                {"{{access}}": "sum by (access) (farlet_pods$OF)"},
                "'invalid': the annotation names no mode; the pod waits.",
                stacked=True,
            ),
            Panel(
                "What should not happen",
                Unit.PER_SECOND,
                {
                    "status refused": _per_second("farlet_status_rejected_total"),
                    "event dropped": _per_second("farlet_events_dropped_total"),
                    "watch of home restarted": _per_second("farlet_kopf_restarts_total"),
                    "unknown {{field}}": _per_second("farlet_unknown_fields_total", "field"),
                },
            ),
            _quantiles("Bound to mirror", "farlet_mirror_latency_seconds"),
            _quantiles("Change of a mirror to home status", "farlet_status_latency_seconds"),
            Panel(
                "Tokens of pods",
                Unit.SECONDS,
                {
                    "oldest": "max(farlet_token_age_seconds$OF)",
                    "first to expire": "min(farlet_token_remaining_seconds$OF)",
                },
            ),
            Panel(
                "Grants of tokens",
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
                "Requests that failed",
                "rest_client_requests_total",
                "cluster",
                "method",
                "code",
                where='code!~"2.."',
                about="404 after a deletion and 409 in a race are usual.",
            ),
            _quantiles("Answers", "rest_client_request_duration_seconds", by="cluster"),
        ),
    ),
    Row(
        "Work",
        (
            Panel(
                "Pods that wait for work",
                Unit.NUMBER,
                {"{{name}}": "sum by (name) (workqueue_depth$OF)"},
            ),
            _quantiles("Wait in the queue", "workqueue_queue_duration_seconds"),
            _quantiles("Work on a pod", "workqueue_work_duration_seconds"),
            _rates("Retries", "workqueue_retries_total", "name"),
            Panel(
                "Longest work now",
                Unit.SECONDS,
                {
                    "longest": "max(workqueue_longest_running_processor_seconds$OF)",
                    "all": "sum(workqueue_unfinished_work_seconds$OF)",
                },
                "What grows without end is a worker that is stuck.",
            ),
            _rates("Added", "workqueue_adds_total", "name"),
        ),
    ),
    Row(
        "Kubelet API",
        (
            _rates("Requests by path", "kubelet_http_requests_total", "path"),
            Panel(
                "Being answered",
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
                "Lateness of the event loop",
                "farlet_event_loop_lag_seconds",
                about="All requests and streams wait as long.",
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
    """Every query, as Grafana sends it but for its own variables."""
    for row in ROWS:
        for panel in row.panels:
            for query in panel.queries.values():
                yield query.replace("$OF", _chosen())


def text() -> str:
    """The file: one line for each panel, so that a change of one is a change of a line."""
    head = {
        "title": "farlet",
        "uid": "farlet",
        "description": "Made by `python -m reference.pages`; change the code, not this file.",
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
    for name, of in (("job", ""), ("instance", '{job=~"$job"}')):
        yield {
            "name": name,
            "type": "query",
            "datasource": _DATASOURCE,
            "query": f"label_values(farlet_build_info{of}, {name})",
            "refresh": 2,
            "multi": True,
            "includeAll": True,
        }


def _panels() -> Iterator[JSON]:
    number, top = 0, 0
    for row in ROWS:
        number += 1
        place = {"x": 0, "y": top, "w": _COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": row.title, "gridPos": place}
        top, left, height = top + 1, 0, 0
        for panel in row.panels:
            number += 1
            if left + panel.width > _COLUMNS:
                top, left = top + height, 0
            height = 4 if panel.look is Look.STAT else 8
            place = {"x": left, "y": top, "w": panel.width, "h": height}
            yield _panel(panel, number=number, place=place)
            left += panel.width
        top += height


def _panel(panel: Panel, *, number: int, place: dict[str, int]) -> JSON:
    custom = {"stacking": {"mode": "normal"}, "fillOpacity": 30} if panel.stacked else {}
    return {
        "id": number,
        "type": panel.look.value,
        "title": panel.title,
        "description": panel.about,
        "datasource": _DATASOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {"unit": panel.unit.value, "custom": custom},
            "overrides": [],
        },
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "expr": query.replace("$OF", _chosen()),
                "legendFormat": legend,
            }
            for at, (legend, query) in enumerate(panel.queries.items())
        ],
    }
