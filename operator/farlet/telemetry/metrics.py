"""Every metric of farlet, in one registry.

`metric_catalogue` describes the metrics; here they are created and counted. Frequent counters are
bound to their labels once, so that counting is one method call. A value that can be read from
elsewhere is read at each scrape, since a copy could drift.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from farlet.telemetry import metric_catalogue
from farlet.telemetry.metric_catalogue import Description

EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
"""The media type that Prometheus reads."""

PodCounts = Mapping[tuple[str, str], int]
"""Number of pods by (phase, access mode)."""


class Metrics:
    """All metrics of one process, created once and passed to all parts."""

    def __init__(self) -> None:
        # Otherwise every series has a second one with the time of its creation. The library applies
        # this switch to all registries.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        self._depth = self._make_gauge(metric_catalogue.DEPTH)
        self._adds = self._make_counter(metric_catalogue.ADDS)
        self._queued = self._make_histogram(metric_catalogue.QUEUED)
        self._worked = self._make_histogram(metric_catalogue.WORKED)
        self._retries = self._make_counter(metric_catalogue.RETRIES)
        self._requests = self._make_counter(metric_catalogue.REQUESTS)
        self._request_seconds = self._make_histogram(metric_catalogue.REQUEST_SECONDS)
        self._unfinished = self._make_gauge(metric_catalogue.UNFINISHED)
        self._longest = self._make_gauge(metric_catalogue.LONGEST)
        self.leader = LeaderMetrics(
            leading=self._make_gauge(metric_catalogue.LEADER),
            slow=self._make_counter(metric_catalogue.LEADER_SLOW_PATH),
        )
        self._node_name = self._make_gauge(metric_catalogue.NODE_NAME)
        self._unknown_fields = self._make_counter(metric_catalogue.UNKNOWN_FIELDS)
        self._pods = _Pods()
        self.registry.register(self._pods)
        self._make_gauge(metric_catalogue.BUILD).labels(metadata.version("farlet")).set(1)
        self.mirror_latency = self._make_histogram(metric_catalogue.MIRROR_LATENCY)
        self.status_latency = self._make_histogram(metric_catalogue.STATUS_LATENCY)
        self.tokens_granted = self._make_counter(metric_catalogue.TOKENS_GRANTED)
        self.token_refresh_failures = self._make_counter(metric_catalogue.TOKEN_REFRESH_FAILURES)
        self.home_up = self._make_gauge(metric_catalogue.HOME_UP)
        self.foreign_up = self._make_gauge(metric_catalogue.FOREIGN_UP)
        self.credentials_remaining = self._make_gauge(metric_catalogue.CREDENTIALS_REMAINING)
        self.home_api_reachable = self._make_gauge(metric_catalogue.HOME_API_REACHABLE)
        self.gateway_links = self._make_gauge(metric_catalogue.GATEWAY_LINKS)
        self.gateway_connections = self._make_gauge(metric_catalogue.GATEWAY_CONNECTIONS)
        self.status_rejected = self._make_counter(metric_catalogue.STATUS_REJECTED)
        self.events_dropped = self._make_counter(metric_catalogue.EVENTS_DROPPED)
        self.mirror_events_dropped = self._make_counter(metric_catalogue.MIRROR_EVENTS_DROPPED)
        self.kopf_restarts = self._make_counter(metric_catalogue.KOPF_RESTARTS)
        self.loop_lag = self._make_histogram(metric_catalogue.LOOP_LAG)
        self.running_pods = self._make_gauge(metric_catalogue.RUNNING_PODS)
        self.token_age = self._make_gauge(metric_catalogue.TOKEN_AGE)
        self.token_remaining = self._make_gauge(metric_catalogue.TOKEN_REMAINING)
        self.token_remaining.set(math.inf)
        self.serving_certificate_remaining = self._make_gauge(metric_catalogue.SERVING_CERTIFICATE)
        self.serving_certificate_remaining.set(math.inf)
        self.foreign_metrics_up = self._make_gauge(metric_catalogue.FOREIGN_METRICS_UP)
        self.kubelet = KubeletMetrics(
            requests=self._make_counter(metric_catalogue.SERVED),
            seconds=self._make_histogram(metric_catalogue.SERVED_SECONDS),
            inflight=self._make_gauge(metric_catalogue.INFLIGHT),
        )

    def queue(self, name: str) -> QueueMetrics:
        """The metrics of the work queue `name`; a `workqueue.Observer`."""
        return QueueMetrics(
            depth=self._depth.labels(name),
            adds=self._adds.labels(name),
            queued=self._queued.labels(name),
            working=self._worked.labels(name),
            retries=self._retries.labels(name),
            unfinished=self._unfinished.labels(name),
            longest=self._longest.labels(name),
        )

    def client(self, cluster: str) -> ClientMetrics:
        """The metrics of the client of `cluster`, which is `home` or `foreign`."""
        return ClientMetrics(cluster, requests=self._requests, seconds=self._request_seconds)

    def serves(self, node: str) -> None:
        """Set the name of the virtual node."""
        self._node_name.labels(node).set(1)

    def count_pods(self, count: Callable[[], PodCounts]) -> None:
        """Report the result of `count` as `farlet_pods` at each scrape."""
        self._pods.set_function(count)

    def unknown_field(self, field: str) -> None:
        """Count an unknown field that was copied, by a path without names: `spec.newThing`."""
        self._unknown_fields.labels(field).inc()

    def exposition(self) -> bytes:
        """The text format of Prometheus, version 0.0.4."""
        return generate_latest(self.registry)

    def _make_counter(self, what: Description) -> Counter:
        return Counter(what.name, what.text, what.labels, registry=self.registry)

    def _make_gauge(self, what: Description) -> Gauge:
        return Gauge(what.name, what.text, what.labels, registry=self.registry)

    def _make_histogram(self, what: Description) -> Histogram:
        return Histogram(
            what.name, what.text, what.labels, buckets=what.buckets, registry=self.registry
        )


@dataclass(frozen=True, slots=True)
class QueueMetrics:
    """The metrics of one work queue."""

    depth: Gauge
    adds: Counter
    queued: Histogram
    working: Histogram
    retries: Counter
    unfinished: Gauge
    longest: Gauge

    def observe_running(self, running: Callable[[], Sequence[float]]) -> None:
        """Call `running` at each scrape: for how many seconds each key has been in progress."""
        self.unfinished.set_function(lambda: sum(running()))
        self.longest.set_function(lambda: max(running(), default=0.0))

    def added(self, depth: int) -> None:
        """A key was added; `depth` keys wait now."""
        self.adds.inc()
        self.depth.set(depth)

    def worked(self, waited: float, took: float, depth: int) -> None:
        """A key was processed: seconds in the queue, seconds of work, and keys that wait now."""
        self.queued.observe(waited)
        self.working.observe(took)
        self.depth.set(depth)

    def retried(self) -> None:
        """A key failed and was queued again."""
        self.retries.inc()


class ClientMetrics:
    """The metrics of the client of one cluster; label sets are bound at their first use."""

    def __init__(self, cluster: str, *, requests: Counter, seconds: Histogram) -> None:
        self._cluster = cluster
        self._requests = requests
        self._seconds = seconds
        self._by_answer: dict[tuple[str, int | None], Counter] = {}
        self._by_verb: dict[str, Histogram] = {}

    def answered(self, method: str, code: int | None) -> None:
        """Count a request by its HTTP status; `code` None: there was no answer."""
        bound = self._by_answer.get((method, code))
        if bound is None:
            text = metric_catalogue.NO_ANSWER if code is None else str(code)
            bound = self._requests.labels(self._cluster, method, text)
            self._by_answer[method, code] = bound
        bound.inc()

    def took(self, method: str, seconds: float) -> None:
        """Observe the duration of a request other than a watch."""
        bound = self._by_verb.get(method)
        if bound is None:
            bound = self._by_verb[method] = self._seconds.labels(self._cluster, method)
        bound.observe(seconds)


class LeaderMetrics:
    """The metrics of leader election; a `leadership.Observer`."""

    def __init__(self, *, leading: Gauge, slow: Counter) -> None:
        self._leading = leading
        self._slow = slow

    def led(self, lease: str, *, leading: bool) -> None:
        """Set whether this process holds the Lease."""
        self._leading.labels(lease).set(leading)

    def slow_path(self, lease: str) -> None:
        """A renewal found a Lease that another client had changed."""
        self._slow.labels(lease).inc()


class KubeletMetrics:
    """The metrics of the kubelet API, as a kubelet counts them (`Server.ServeHTTP`)."""

    def __init__(self, *, requests: Counter, seconds: Histogram, inflight: Gauge) -> None:
        self._requests = requests
        self._seconds = seconds
        self._inflight = inflight

    @contextlib.contextmanager
    def serving(self, method: str, path: str, *, long_running: bool) -> Iterator[None]:
        """Count one request and measure its duration.

        `method` and `path` come from the table of routes, or are `other`: input of a client must
        never become a label.
        """
        labels = (method, path, "readwrite", str(long_running).lower())
        inflight = self._inflight.labels(*labels)
        self._requests.labels(*labels).inc()
        inflight.inc()
        started = time.monotonic()
        try:
            yield
        finally:
            inflight.dec()
            self._seconds.labels(*labels).observe(time.monotonic() - started)


class _Pods(Collector):
    """`farlet_pods`, whose label values are known only at the scrape."""

    def __init__(self) -> None:
        self._count: Callable[[], PodCounts] = dict

    def set_function(self, count: Callable[[], PodCounts]) -> None:
        self._count = count

    def describe(self) -> Iterator[Metric]:
        """Name and help, without samples."""
        yield GaugeMetricFamily(
            metric_catalogue.PODS.name,
            metric_catalogue.PODS.text,
            labels=metric_catalogue.PODS.labels,
        )

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            metric_catalogue.PODS.name,
            metric_catalogue.PODS.text,
            labels=metric_catalogue.PODS.labels,
        )
        for labels, number in self._count().items():
            family.add_metric(labels, number)
        yield family
