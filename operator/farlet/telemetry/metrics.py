"""Every metric of farlet, in a registry of its own.

`workqueue_*` and `rest_client_*` have the names and labels that client-go gives them, so that
dashboards made for other controllers work; `farlet_*` are ours. Labels have few values: never
the name of a pod, a namespace or a user. What is counted often is bound to its labels once, so
that counting is one method call. `docs/reference/metrics.md` is made from `CATALOGUE`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
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

_FAST = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)
"""Bucket bounds in seconds for what a process does."""

_FELT = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Bucket bounds in seconds for what a person waits for."""

NO_ANSWER = "<error>"
"""The `code` of a request that got no answer, as client-go names it."""

PodCounts = Mapping[tuple[str, str], int]
"""Number of pods by (phase, access mode)."""


class Kind(StrEnum):
    """Prometheus types in use."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Description:
    """One metric as it is documented and made."""

    kind: Kind
    name: str
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


def _counter(name: str, text: str, *labels: str) -> Description:
    return Description(Kind.COUNTER, name, text, labels)


def _gauge(name: str, text: str, *labels: str) -> Description:
    return Description(Kind.GAUGE, name, text, labels)


def _histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> Description:
    return Description(Kind.HISTOGRAM, name, text, labels, buckets)


_DEPTH = _gauge("workqueue_depth", "Keys that wait in the queue.", "name")
_ADDS = _counter(
    "workqueue_adds_total", "Keys added; one that waits already is not added again.", "name"
)
_QUEUED = _histogram(
    "workqueue_queue_duration_seconds",
    "How long keys waited until they were taken.",
    "name",
    buckets=_FAST,
)
_WORKED = _histogram(
    "workqueue_work_duration_seconds", "How long the work on a key took.", "name", buckets=_FAST
)
_RETRIES = _counter(
    "workqueue_retries_total", "Keys put back with backoff after a failure.", "name"
)
_REQUESTS = _counter(
    "rest_client_requests_total",
    f"Requests to an API server by HTTP status; code `{NO_ANSWER}` where no answer came.",
    *("cluster", "method", "code"),
)
_REQUEST_SECONDS = _histogram(
    "rest_client_request_duration_seconds",
    "From sending a request to its answer; watches are not in it.",
    *("cluster", "verb"),
    buckets=_FAST,
)
_PODS = _gauge("farlet_pods", "Home pods bound to this virtual node.", "phase", "access")
_MIRROR_LATENCY = _histogram(
    "farlet_mirror_latency_seconds",
    "From the binding of a pod to the creation of its mirror.",
    buckets=_FELT,
)
_STATUS_LATENCY = _histogram(
    "farlet_status_latency_seconds",
    "From learning of a change of a mirror to the home status that tells it.",
    buckets=_FELT,
)
_TOKENS_GRANTED = _counter(
    "farlet_tokens_granted_total", "Home tokens granted for pods, refreshes included."
)
_TOKEN_REFRESH_FAILURES = _counter(
    "farlet_token_refresh_failures_total",
    "Refreshes of home tokens that failed; the pod keeps its old token meanwhile.",
)
_HOME_UP = _gauge("farlet_home_up", "1 while the home API server answers, else 0.")
_FOREIGN_UP = _gauge("farlet_foreign_up", "1 while the foreign API server answers, else 0.")
_UNKNOWN_FIELDS = _counter(
    "farlet_unknown_fields_total",
    "Fields of pod specs that this version of farlet does not know and copied as they were.",
    "field",
)
_STATUS_REJECTED = _counter(
    "farlet_status_rejected_total",
    "Statuses that the home API server refused as invalid. Each is a bug of farlet.",
)
_EVENTS_DROPPED = _counter(
    "farlet_events_dropped_total", "Kubernetes Events that were not written."
)
_KOPF_RESTARTS = _counter(
    "farlet_kopf_restarts_total", "Restarts of the watch of home pods after a failure."
)
_BUILD = _gauge("farlet_build_info", "Always 1; the version is in the label.", "version")

CATALOGUE = (
    *(_DEPTH, _ADDS, _QUEUED, _WORKED, _RETRIES),
    *(_REQUESTS, _REQUEST_SECONDS),
    *(_PODS, _MIRROR_LATENCY, _STATUS_LATENCY, _TOKENS_GRANTED, _TOKEN_REFRESH_FAILURES),
    *(_HOME_UP, _FOREIGN_UP, _UNKNOWN_FIELDS, _STATUS_REJECTED, _EVENTS_DROPPED),
    *(_KOPF_RESTARTS, _BUILD),
)
"""All of them, `process_*` apart, which the client library describes."""


class Metrics:
    """All metrics of one process. Made once and handed on; two never meet."""

    def __init__(self) -> None:
        # Otherwise every series comes twice, once as the time of its creation. The switch is the
        # library's own and the same for all registries.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        self._depth = self._make_gauge(_DEPTH)
        self._adds = self._make_counter(_ADDS)
        self._queued = self._make_histogram(_QUEUED)
        self._worked = self._make_histogram(_WORKED)
        self._retries = self._make_counter(_RETRIES)
        self._requests = self._make_counter(_REQUESTS)
        self._request_seconds = self._make_histogram(_REQUEST_SECONDS)
        self._unknown_fields = self._make_counter(_UNKNOWN_FIELDS)
        self._pods = _Pods()
        self.registry.register(self._pods)
        self._make_gauge(_BUILD).labels(metadata.version("farlet")).set(1)
        self.mirror_latency = self._make_histogram(_MIRROR_LATENCY)
        self.status_latency = self._make_histogram(_STATUS_LATENCY)
        self.tokens_granted = self._make_counter(_TOKENS_GRANTED)
        self.token_refresh_failures = self._make_counter(_TOKEN_REFRESH_FAILURES)
        self.home_up = self._make_gauge(_HOME_UP)
        self.foreign_up = self._make_gauge(_FOREIGN_UP)
        self.status_rejected = self._make_counter(_STATUS_REJECTED)
        self.events_dropped = self._make_counter(_EVENTS_DROPPED)
        self.kopf_restarts = self._make_counter(_KOPF_RESTARTS)

    def queue(self, name: str) -> QueueMetrics:
        """What the work queue `name` tells of itself; a `workqueue.Observer`."""
        return QueueMetrics(
            depth=self._depth.labels(name),
            adds=self._adds.labels(name),
            queued=self._queued.labels(name),
            working=self._worked.labels(name),
            retries=self._retries.labels(name),
        )

    def client(self, cluster: str) -> ClientMetrics:
        """What the client of `cluster`, which is `home` or `foreign`, counts."""
        return ClientMetrics(cluster, requests=self._requests, seconds=self._request_seconds)

    def count_pods(self, count: Callable[[], PodCounts]) -> None:
        """Let `farlet_pods` be what `count` returns when someone scrapes."""
        self._pods.count = count

    def unknown_field(self, field: str) -> None:
        """Count a field that was copied unknown, by a path without names: `spec.newThing`."""
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
    """What one work queue tells of itself, bound to its name."""

    depth: Gauge
    adds: Counter
    queued: Histogram
    working: Histogram
    retries: Counter

    def added(self, depth: int) -> None:
        """A key was added, and this many wait now."""
        self.adds.inc()
        self.depth.set(depth)

    def worked(self, waited: float, took: float, depth: int) -> None:
        """A key was worked on: seconds in the queue and at work, and how many wait now."""
        self.queued.observe(waited)
        self.working.observe(took)
        self.depth.set(depth)

    def retried(self) -> None:
        """A key failed and will come again."""
        self.retries.inc()


class ClientMetrics:
    """What the client of one cluster counts; label sets are bound when first seen."""

    def __init__(self, cluster: str, *, requests: Counter, seconds: Histogram) -> None:
        self._cluster = cluster
        self._requests = requests
        self._seconds = seconds
        self._by_answer: dict[tuple[str, int | None], Counter] = {}
        self._by_verb: dict[str, Histogram] = {}

    def answered(self, method: str, code: int | None) -> None:
        """Count a request by its HTTP status; `code` None: no answer came."""
        bound = self._by_answer.get((method, code))
        if bound is None:
            text = NO_ANSWER if code is None else str(code)
            bound = self._requests.labels(self._cluster, method, text)
            self._by_answer[method, code] = bound
        bound.inc()

    def took(self, method: str, seconds: float) -> None:
        """Observe how long a request took; not for watches, which last as they like."""
        bound = self._by_verb.get(method)
        if bound is None:
            bound = self._by_verb[method] = self._seconds.labels(self._cluster, method)
        bound.observe(seconds)


class _Pods(Collector):
    """`farlet_pods`, counted when scraped: a count that is kept up can only drift."""

    def __init__(self) -> None:
        self.count: Callable[[], PodCounts] = dict

    def describe(self) -> Iterator[Metric]:
        """Name and help, without counting."""
        yield GaugeMetricFamily(_PODS.name, _PODS.text, labels=_PODS.labels)

    def collect(self) -> Iterator[Metric]:
        """The pods there are now."""
        family = GaugeMetricFamily(_PODS.name, _PODS.text, labels=_PODS.labels)
        for labels, number in self.count().items():
            family.add_metric(labels, number)
        yield family
