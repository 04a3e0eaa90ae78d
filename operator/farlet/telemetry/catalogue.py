"""What there is to measure: name, type, labels and meaning of every metric, as data.

Three families. `workqueue_*`, `rest_client_*` and `leader_election_*` have the names and labels
that client-go gives them, and `kubelet_*` those of a kubelet where they mean the same here, so that
dashboards made for others work; `farlet_*` are ours. Labels have few values: never the name
of a pod, a namespace or a user. `docs/reference/metrics.md` is made from `CATALOGUE`, and `metrics`
makes from it what is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

_FAST = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)
"""Bucket bounds in seconds for what a process does."""

_FELT = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Bucket bounds in seconds for what a person waits for."""

_LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Bucket bounds in seconds for how late a timer is."""

_SERVED = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Those of a kubelet for its requests (`metrics.DefBuckets`)."""

NO_ANSWER = "<error>"
"""The `code` of a request that got no answer, as client-go names it."""


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

    @property
    def series(self) -> tuple[str, ...]:
        """The names that a query may use for it."""
        if self.kind is Kind.HISTOGRAM:
            return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.name,)


def _counter(name: str, text: str, *labels: str) -> Description:
    return Description(Kind.COUNTER, name, text, labels)


def _gauge(name: str, text: str, *labels: str) -> Description:
    return Description(Kind.GAUGE, name, text, labels)


def _histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> Description:
    return Description(Kind.HISTOGRAM, name, text, labels, buckets)


# --- as client-go names them ------------------------------------------------------------------

DEPTH = _gauge("workqueue_depth", "Keys that wait in the queue.", "name")
ADDS = _counter(
    "workqueue_adds_total", "Keys added; one that waits already is not added again.", "name"
)
QUEUED = _histogram(
    "workqueue_queue_duration_seconds",
    "How long keys waited until they were taken.",
    "name",
    buckets=_FAST,
)
WORKED = _histogram(
    "workqueue_work_duration_seconds", "How long the work on a key took.", "name", buckets=_FAST
)
RETRIES = _counter("workqueue_retries_total", "Keys put back with backoff after a failure.", "name")
UNFINISHED = _gauge(
    "workqueue_unfinished_work_seconds",
    "How long the keys that are worked on now have been so, added up. One that grows and grows: "
    "a worker is stuck.",
    "name",
)
LONGEST = _gauge(
    "workqueue_longest_running_processor_seconds",
    "How long the key that is worked on longest now has been so.",
    "name",
)
REQUESTS = _counter(
    "rest_client_requests_total",
    f"Requests to an API server by HTTP status; code `{NO_ANSWER}` where no answer came.",
    *("cluster", "method", "code"),
)
REQUEST_SECONDS = _histogram(
    "rest_client_request_duration_seconds",
    "From sending a request to its answer; watches are not in it.",
    *("cluster", "verb"),
    buckets=_FAST,
)
LEADER = _gauge(
    "leader_election_master_status",
    "1 while this process holds the Lease of that name, 0 while it stands by.",
    "name",
)
LEADER_SLOW_PATH = _counter(
    "leader_election_slowpath_total",
    "Renewals of the Lease of that name that first had to see what somebody else had written.",
    "name",
)

# --- as a kubelet names them ------------------------------------------------------------------

_REQUEST = ("method", "path", "server_type", "long_running")

SERVED = _counter(
    "kubelet_http_requests_total",
    "Requests to the kubelet API. `path` is the first part of it, `other` for one that is not "
    "served; `server_type` is always `readwrite`; `long_running`: exec, attach, port-forward.",
    *_REQUEST,
)
SERVED_SECONDS = _histogram(
    "kubelet_http_requests_duration_seconds",
    "How long requests to the kubelet API lasted, streams included.",
    *_REQUEST,
    buckets=_SERVED,
)
INFLIGHT = _gauge(
    "kubelet_http_inflight_requests",
    "Requests to the kubelet API that are being answered, streams included.",
    *_REQUEST,
)
NODE_NAME = _gauge("kubelet_node_name", "Always 1; the virtual node is in the label.", "node")
RUNNING_PODS = _gauge("kubelet_running_pods", "Mirrors that run.")
SERVING_CERTIFICATE = _gauge(
    "kubelet_certificate_manager_server_ttl_seconds",
    "Until the certificate of the kubelet API expires; negative once it has, +Inf without one.",
)

# --- ours -------------------------------------------------------------------------------------

PODS = _gauge("farlet_pods", "Home pods bound to this virtual node.", "phase", "access")
MIRROR_LATENCY = _histogram(
    "farlet_mirror_latency_seconds",
    "From the binding of a pod to the creation of its mirror.",
    buckets=_FELT,
)
STATUS_LATENCY = _histogram(
    "farlet_status_latency_seconds",
    "From learning of a change of a mirror to the home status that tells it.",
    buckets=_FELT,
)
TOKENS_GRANTED = _counter(
    "farlet_tokens_granted_total", "Home tokens granted for pods, refreshes included."
)
TOKEN_REFRESH_FAILURES = _counter(
    "farlet_token_refresh_failures_total",
    "Refreshes of home tokens that failed; the pod keeps its old token meanwhile.",
)
TOKEN_AGE = _gauge(
    "farlet_token_age_seconds",
    "Age of the oldest home token that a pod abroad has now; 0 where none has one.",
)
TOKEN_REMAINING = _gauge(
    "farlet_token_remaining_seconds",
    "Until the first home token that a pod abroad has now expires; negative once it has, +Inf "
    "where none has one. Tokens are refreshed at half of their life.",
)
HOME_UP = _gauge("farlet_home_up", "1 while the home API server answers, else 0.")
FOREIGN_UP = _gauge("farlet_foreign_up", "1 while the foreign API server answers, else 0.")
HOME_API_REACHABLE = _gauge(
    "farlet_home_api_reachable",
    "1 while farlet sees that the address of the home API server for pods abroad leads there, "
    "else 0; also where only pods can see it.",
)
GATEWAY_LINKS = _gauge("farlet_gateway_links", "Gateways that farlet is connected to.")
GATEWAY_CONNECTIONS = _gauge(
    "farlet_gateway_connections", "Connections of pods to home that go by way of this farlet."
)
FOREIGN_METRICS_UP = _gauge(
    "farlet_foreign_metrics_up",
    "1 if the foreign metrics API answered for all namespaces when it was last asked, else 0. It "
    "is asked when home asks for usage.",
)
LOOP_LAG = _histogram(
    "farlet_event_loop_lag_seconds",
    "How late the event loop was with a timer of 100 ms; all requests and streams wait as long.",
    buckets=_LAG,
)
UNKNOWN_FIELDS = _counter(
    "farlet_unknown_fields_total",
    "Fields of pod specs that this version of farlet does not know and copied as they were.",
    "field",
)
STATUS_REJECTED = _counter(
    "farlet_status_rejected_total",
    "Statuses that the home API server refused as invalid. Each is a bug of farlet.",
)
EVENTS_DROPPED = _counter("farlet_events_dropped_total", "Kubernetes Events that were not written.")
KOPF_RESTARTS = _counter(
    "farlet_kopf_restarts_total", "Restarts of the watch of home pods after a failure."
)
BUILD = _gauge("farlet_build_info", "Always 1; the version is in the label.", "version")

CATALOGUE = (
    *(DEPTH, ADDS, QUEUED, WORKED, RETRIES, UNFINISHED, LONGEST),
    *(REQUESTS, REQUEST_SECONDS, LEADER, LEADER_SLOW_PATH),
    *(SERVED, SERVED_SECONDS, INFLIGHT, NODE_NAME, RUNNING_PODS, SERVING_CERTIFICATE),
    *(PODS, MIRROR_LATENCY, STATUS_LATENCY),
    *(TOKENS_GRANTED, TOKEN_REFRESH_FAILURES, TOKEN_AGE, TOKEN_REMAINING),
    *(HOME_UP, FOREIGN_UP, FOREIGN_METRICS_UP, LOOP_LAG),
    *(HOME_API_REACHABLE, GATEWAY_LINKS, GATEWAY_CONNECTIONS),
    *(UNKNOWN_FIELDS, STATUS_REJECTED, EVENTS_DROPPED, KOPF_RESTARTS, BUILD),
)
"""All of them, `process_*` apart, which the client library describes."""
