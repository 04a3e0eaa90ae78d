"""Name, type, labels and meaning of every metric, as data.

There are three families. `workqueue_*`, `rest_client_*` and `leader_election_*` have the names and
labels of client-go, `kubelet_*` those of a kubelet if they mean the same here, so that existing
dashboards work. `farlet_*` are specific to farlet. Labels have few values: never the name of a pod,
a namespace or a user. `docs/reference/metrics.md` is generated from `CATALOGUE`, and `metrics`
creates the metrics from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

_PROCESSING = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)
"""Bucket bounds in seconds for the work of a process."""

_USER_VISIBLE = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Bucket bounds in seconds for delays that users notice."""

_LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Bucket bounds in seconds for the lateness of a timer."""

_SERVED = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bucket bounds of a kubelet for its requests (`metrics.DefBuckets`)."""

NO_ANSWER = "<error>"
"""The `code` of a request without an answer, as in client-go."""


class Kind(StrEnum):
    """Types of metrics."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Description:
    """One metric."""

    kind: Kind
    name: str
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which a query finds it."""
        if self.kind is Kind.HISTOGRAM:
            return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.name,)


def _counter(name: str, text: str, *labels: str) -> Description:
    return Description(Kind.COUNTER, name, text, labels)


def _gauge(name: str, text: str, *labels: str) -> Description:
    return Description(Kind.GAUGE, name, text, labels)


def _histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> Description:
    return Description(Kind.HISTOGRAM, name, text, labels, buckets)


# --- names of client-go -----------------------------------------------------------------------

DEPTH = _gauge("workqueue_depth", "Keys that wait in the queue.", "name")
ADDS = _counter(
    "workqueue_adds_total", "Keys added, without those that were already waiting.", "name"
)
QUEUED = _histogram(
    "workqueue_queue_duration_seconds",
    "How long keys waited before they were processed.",
    "name",
    buckets=_PROCESSING,
)
WORKED = _histogram(
    "workqueue_work_duration_seconds",
    "How long the processing of a key took.",
    "name",
    buckets=_PROCESSING,
)
RETRIES = _counter(
    "workqueue_retries_total", "Keys queued again with backoff after a failure.", "name"
)
UNFINISHED = _gauge(
    "workqueue_unfinished_work_seconds",
    "Sum of the time that the keys in progress have taken so far. Steady growth means that a "
    "worker is stuck.",
    "name",
)
LONGEST = _gauge(
    "workqueue_longest_running_processor_seconds",
    "Time that the oldest key in progress has taken so far.",
    "name",
)
REQUESTS = _counter(
    "rest_client_requests_total",
    f"Requests to an API server by HTTP status; code `{NO_ANSWER}` if there was no answer.",
    *("cluster", "method", "code"),
)
REQUEST_SECONDS = _histogram(
    "rest_client_request_duration_seconds",
    "Time from sending a request to its answer, without watches.",
    *("cluster", "verb"),
    buckets=_PROCESSING,
)
LEADER = _gauge(
    "leader_election_master_status",
    "1 while this process holds the Lease of that name, 0 while it is on standby.",
    "name",
)
LEADER_SLOW_PATH = _counter(
    "leader_election_slowpath_total",
    "Renewals of the Lease of that name that first had to read another client's change.",
    "name",
)

# --- names of a kubelet -----------------------------------------------------------------------

_REQUEST = ("method", "path", "server_type", "long_running")

SERVED = _counter(
    "kubelet_http_requests_total",
    "Requests to the kubelet API. `path` is the first segment of the path, or `other` if it is not "
    "served; `server_type` is always `readwrite`; `long_running` is `true` for exec, attach and "
    "port-forward.",
    *_REQUEST,
)
SERVED_SECONDS = _histogram(
    "kubelet_http_requests_duration_seconds",
    "Duration of requests to the kubelet API, streams included.",
    *_REQUEST,
    buckets=_SERVED,
)
INFLIGHT = _gauge(
    "kubelet_http_inflight_requests",
    "Requests to the kubelet API in progress, streams included.",
    *_REQUEST,
)
NODE_NAME = _gauge("kubelet_node_name", "Always 1; the label contains the virtual node.", "node")
RUNNING_PODS = _gauge("kubelet_running_pods", "Running mirror pods.")
SERVING_CERTIFICATE = _gauge(
    "kubelet_certificate_manager_server_ttl_seconds",
    "Time until the certificate of the kubelet API expires; negative after that, +Inf without a "
    "certificate.",
)

# --- specific to farlet -----------------------------------------------------------------------

PODS = _gauge("farlet_pods", "Home pods bound to this virtual node.", "phase", "access")
MIRROR_LATENCY = _histogram(
    "farlet_mirror_latency_seconds",
    "Time from the binding of a pod to the creation of its mirror.",
    buckets=_USER_VISIBLE,
)
STATUS_LATENCY = _histogram(
    "farlet_status_latency_seconds",
    "Time from the watch event of a changed mirror to the update of the home pod's status.",
    buckets=_USER_VISIBLE,
)
TOKENS_GRANTED = _counter(
    "farlet_tokens_granted_total", "Home tokens granted for pods, refreshes included."
)
TOKEN_REFRESH_FAILURES = _counter(
    "farlet_token_refresh_failures_total",
    "Failed refreshes of home tokens; the pod keeps its old token until a refresh succeeds.",
)
TOKEN_AGE = _gauge(
    "farlet_token_age_seconds",
    "Age of the oldest home token of the current mirror pods; 0 without any.",
)
TOKEN_REMAINING = _gauge(
    "farlet_token_remaining_seconds",
    "Time until the first home token of the current mirror pods expires; negative after that, +Inf "
    "without any. Tokens are refreshed at half of their lifetime.",
)
HOME_UP = _gauge(
    "farlet_home_up",
    "1 while the home API server answers and accepts farlet's credentials, else 0.",
)
FOREIGN_UP = _gauge(
    "farlet_foreign_up",
    "1 while the foreign API server answers and accepts farlet's credentials, else 0.",
)
CREDENTIALS_REMAINING = _gauge(
    "farlet_credentials_remaining_seconds",
    "Time until the client certificate or token with which farlet authenticates expires; negative "
    "after that, +Inf if it does not expire or does not contain when.",
    "cluster",
)
HOME_API_REACHABLE = _gauge(
    "farlet_home_api_reachable",
    "1 while farlet can verify that the address given to mirror pods leads to the home API server, "
    "else 0; also 0 if only pods can reach that address.",
)
GATEWAY_LINKS = _gauge("farlet_gateway_links", "Gateways that farlet is connected to.")
GATEWAY_CONNECTIONS = _gauge(
    "farlet_gateway_connections",
    "Connections of mirror pods to the home API server through this farlet.",
)
FOREIGN_METRICS_UP = _gauge(
    "farlet_foreign_metrics_up",
    "1 if the foreign metrics API answered the last requests for all namespaces, else 0. farlet "
    "sends them when the home cluster requests usage.",
)
LOOP_LAG = _histogram(
    "farlet_event_loop_lag_seconds",
    "Delay of a timer of 100 ms in the event loop; all requests and streams are delayed by as "
    "much.",
    buckets=_LAG,
)
UNKNOWN_FIELDS = _counter(
    "farlet_unknown_fields_total",
    "Fields of pod specs that this version of farlet does not know and copied unchanged.",
    "field",
)
STATUS_REJECTED = _counter(
    "farlet_status_rejected_total",
    "Statuses that the home API server rejected as invalid. Each is a bug in farlet.",
)
EVENTS_DROPPED = _counter("farlet_events_dropped_total", "Kubernetes Events that were not written.")
MIRROR_EVENTS_DROPPED = _counter(
    "farlet_mirror_events_dropped_total",
    "Kubernetes Events of mirror pods that were not written to home pods: one pod had too many, "
    "too many waited (Normal ones give way first), or the home API server rejected them.",
    "type",
)
KOPF_RESTARTS = _counter(
    "farlet_kopf_restarts_total", "Restarts of the watch of home pods after a failure."
)
BUILD = _gauge("farlet_build_info", "Always 1; the label contains the version.", "version")

CATALOGUE = (
    *(DEPTH, ADDS, QUEUED, WORKED, RETRIES, UNFINISHED, LONGEST),
    *(REQUESTS, REQUEST_SECONDS, LEADER, LEADER_SLOW_PATH),
    *(SERVED, SERVED_SECONDS, INFLIGHT, NODE_NAME, RUNNING_PODS, SERVING_CERTIFICATE),
    *(PODS, MIRROR_LATENCY, STATUS_LATENCY),
    *(TOKENS_GRANTED, TOKEN_REFRESH_FAILURES, TOKEN_AGE, TOKEN_REMAINING),
    *(HOME_UP, FOREIGN_UP, CREDENTIALS_REMAINING, FOREIGN_METRICS_UP, LOOP_LAG),
    *(HOME_API_REACHABLE, GATEWAY_LINKS, GATEWAY_CONNECTIONS),
    *(UNKNOWN_FIELDS, STATUS_REJECTED, EVENTS_DROPPED),
    *(MIRROR_EVENTS_DROPPED, KOPF_RESTARTS, BUILD),
)
"""All metrics but `process_*`, which the client library describes."""
