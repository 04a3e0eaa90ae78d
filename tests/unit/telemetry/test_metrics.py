"""Names, labels and values of metrics."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from farlet.telemetry import metric_catalogue, metrics


def value(found: metrics.Metrics, name: str, /, **labels: str) -> float | None:
    return found.registry.get_sample_value(name, labels)


def test_queues_have_metrics_by_name() -> None:
    found = metrics.Metrics()
    pods = found.queue("pods")
    pods.added(1)
    pods.added(2)
    pods.worked(0.2, 0.5, 1)
    pods.retried()
    assert value(found, "workqueue_depth", name="pods") == 1
    assert value(found, "workqueue_adds_total", name="pods") == 2
    assert value(found, "workqueue_queue_duration_seconds_sum", name="pods") == 0.2
    assert value(found, "workqueue_work_duration_seconds_sum", name="pods") == 0.5
    assert value(found, "workqueue_retries_total", name="pods") == 1


def test_keys_in_progress_are_read_at_each_scrape() -> None:
    found = metrics.Metrics()
    running = [2.0, 5.0]
    found.queue("pods").observe_running(lambda: running)
    longest = "workqueue_longest_running_processor_seconds"
    assert value(found, "workqueue_unfinished_work_seconds", name="pods") == 7.0
    assert value(found, longest, name="pods") == 5.0
    running.clear()
    assert value(found, "workqueue_unfinished_work_seconds", name="pods") == 0.0
    assert value(found, longest, name="pods") == 0.0


def test_a_kubelet_request_is_counted_at_its_start_and_measured_at_its_end() -> None:
    found = metrics.Metrics()
    labels = {
        "method": "POST",
        "path": "exec",
        "server_type": "readwrite",
        "long_running": "true",
    }
    with found.kubelet.serving("POST", "exec", long_running=True):
        assert value(found, "kubelet_http_requests_total", **labels) == 1
        assert value(found, "kubelet_http_inflight_requests", **labels) == 1
    assert value(found, "kubelet_http_inflight_requests", **labels) == 0
    assert value(found, "kubelet_http_requests_duration_seconds_count", **labels) == 1


def test_a_request_that_fails_is_no_longer_in_flight() -> None:
    found = metrics.Metrics()
    labels = {"method": "GET", "path": "pods", "server_type": "readwrite", "long_running": "false"}
    with pytest.raises(ConnectionResetError):
        _fail_request(found)
    assert value(found, "kubelet_http_inflight_requests", **labels) == 0
    assert value(found, "kubelet_http_requests_duration_seconds_count", **labels) == 1


def _fail_request(found: metrics.Metrics) -> None:
    with found.kubelet.serving("GET", "pods", long_running=False):
        raise ConnectionResetError


def test_the_leader_is_reported_by_the_name_of_the_lease() -> None:
    found = metrics.Metrics()
    found.leader.led("farlet", leading=True)
    found.leader.slow_path("farlet")
    assert value(found, "leader_election_master_status", name="farlet") == 1


def test_the_remaining_lifetime_is_infinite_without_certificate_or_token() -> None:
    found = metrics.Metrics()
    assert value(found, "kubelet_certificate_manager_server_ttl_seconds") == float("inf")
    assert value(found, "farlet_token_remaining_seconds") == float("inf")


def test_requests_are_counted_by_cluster_method_and_code() -> None:
    found = metrics.Metrics()
    home, foreign = found.client("home"), found.client("foreign")
    home.answered("GET", 200)
    home.answered("GET", 200)
    home.took("GET", 0.25)
    foreign.answered("POST", None)

    def requests(cluster: str, method: str, code: str) -> float | None:
        labels = {"cluster": cluster, "method": method, "code": code}
        return value(found, "rest_client_requests_total", **labels)

    assert requests("home", "GET", "200") == 2
    assert requests("foreign", "POST", "<error>") == 1
    assert requests("foreign", "GET", "200") is None
    name = "rest_client_request_duration_seconds_sum"
    assert value(found, name, cluster="home", verb="GET") == 0.25


def test_pods_are_counted_at_each_scrape() -> None:
    found = metrics.Metrics()
    pods = {("Running", "home"): 2}
    assert value(found, "farlet_pods", phase="Running", access="home") is None
    found.count_pods(lambda: pods)
    assert value(found, "farlet_pods", phase="Running", access="home") == 2
    pods["Running", "home"] = 1
    assert value(found, "farlet_pods", phase="Running", access="home") == 1


def test_registries_are_separate() -> None:
    first, second = metrics.Metrics(), metrics.Metrics()
    first.status_rejected.inc()
    assert value(second, "farlet_status_rejected_total") == 0


def test_unknown_fields_are_counted_by_path() -> None:
    found = metrics.Metrics()
    found.unknown_field("spec.newThing")
    assert value(found, "farlet_unknown_fields_total", field="spec.newThing") == 1


def test_the_exposition_is_valid_and_contains_the_whole_catalogue() -> None:
    found = metrics.Metrics()
    families = {f.name for f in text_string_to_metric_families(found.exposition().decode())}
    listed = {row.name.removesuffix("_total") for row in metric_catalogue.CATALOGUE}
    names = {name for name in families if not name.startswith("process_")}
    assert names == listed
    assert "process_resident_memory_bytes" in families


@pytest.mark.parametrize("row", metric_catalogue.CATALOGUE, ids=lambda row: row.name)
def test_names_follow_the_conventions(row: metric_catalogue.Description) -> None:
    families = "farlet|kubelet|leader_election|rest_client|workqueue"
    assert re.fullmatch(rf"({families})_[a-z_]+", row.name)
    assert row.name.endswith("_total") is (row.kind is metric_catalogue.Kind.COUNTER)
    assert not row.name.endswith("_counter")
    assert row.name.endswith("_seconds") or row.kind is not metric_catalogue.Kind.HISTOGRAM
    assert not {"pod", "namespace", "uid", "user"} & set(row.labels)
    assert row.text.endswith(".")
