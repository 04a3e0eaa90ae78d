"""Usage of pods and node, and the two documents in which a kubelet reports it.

`/stats/summary` is `Summary` of `k8s.io/kubelet/pkg/apis/stats/v1alpha1`; `/metrics/resource` is
the output of `pkg/kubelet/metrics/collectors/resource_metrics.go`, which metrics-server reads.
A metrics API knows only CPU and the working set of memory, so the optional rest is left out. Pods
and containers have their home names. Pure: times are epoch seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from farlet.constants import JSON
from farlet.forge import timestamps
from farlet.forge.timestamps import rfc3339
from farlet.k8s_types import ContainerStatus, Pod
from farlet.kubelet.usage import counters, metrics_api
from farlet.kubelet.usage.counters import Counter, Sample

_NANO = 10**9


@dataclass(frozen=True, slots=True)
class PodUsage:
    """Usage of a home pod's mirror, in total and by container."""

    namespace: str
    name: str
    uid: str
    total: Counter
    containers: Mapping[str, Counter]


@dataclass(frozen=True, slots=True)
class Usage:
    """Usage of the virtual node.

    `agent` is farlet's own process, in the place of the kubelet. `total` is all pods and the agent;
    `None` while the usage of some pods is unknown.
    """

    node: str
    agent: Counter
    total: Counter | None
    pods: tuple[PodUsage, ...]


def pod_usage(
    home: Pod, mirror: Pod, samples: metrics_api.PodSamples, before: PodUsage | None
) -> PodUsage | None:
    """Usage of a pod as of `samples`, continued from `before`; `None` if it is unknown.

    Containers are left out that only the mirror has, that do not run, or that started after the
    samples were taken.
    """
    metadata = home["metadata"]
    previous = before.containers if before is not None else {}
    found: dict[str, Counter] = {}
    for name, started in _running(home, mirror):
        sample = samples.get(name)
        if sample is not None and sample.at > started:
            found[name] = counters.add_sample(previous.get(name), sample, started_at=started)
    if not found:
        return None
    return PodUsage(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        total=counters.add_sample(
            before.total if before is not None else None,
            _sum(counter.last for counter in found.values()),
            started_at=timestamps.epoch(mirror.get("status", {}).get("startTime")) or 0.0,
        ),
        containers=found,
    )


def node_total(
    before: Counter | None, pods: Iterable[PodUsage], agent: Counter, *, now: float
) -> Counter:
    """Usage of the node: a counter of the current total rate of its pods and the agent.

    It is not the sum of their counters, which decreases when a pod is deleted.
    """
    parts = [pod.total.last for pod in pods]
    window = max((part.window for part in parts), default=agent.last.window)
    total = _sum((*parts, agent.last))
    sample = Sample(now, window, nanocores=total.nanocores, memory=total.memory)
    return counters.add_sample(before, sample, started_at=agent.since)


def _running(home: Pod, mirror: Pod) -> Iterator[tuple[str, float]]:
    """Running containers of the mirror that the home pod has too, each with its start time."""
    spec, status = home.get("spec", {}), mirror.get("status", {})
    ephemeral = {one["name"] for one in spec.get("ephemeralContainers", ())}
    names = {one["name"] for one in (*spec["containers"], *spec.get("initContainers", ()))}
    statuses: tuple[ContainerStatus, ...] = (
        *status.get("containerStatuses", ()),
        *status.get("initContainerStatuses", ()),
        *status.get("ephemeralContainerStatuses", ()),
    )
    for one in statuses:
        running = one.get("state", {}).get("running")
        if running is not None and one["name"] in names | ephemeral:
            yield one["name"], timestamps.epoch(running.get("startedAt")) or 0.0


def _sum(samples: Iterable[Sample]) -> Sample:
    """The sum of all samples, as old as the oldest."""
    parts = list(samples)
    return Sample(
        at=min(part.at for part in parts),
        window=max(part.window for part in parts),
        nanocores=sum(part.nanocores for part in parts),
        memory=sum(part.memory for part in parts),
    )


# --- /stats/summary ---------------------------------------------------------------------------


def summary(usage: Usage) -> JSON:
    node: JSON = {
        "nodeName": usage.node,
        # The system container "tracking Kubelet usage" has this name, and farlet is the kubelet.
        "systemContainers": [_container("kubelet", usage.agent)],
        "startTime": rfc3339(usage.agent.since),
    }
    if usage.total is not None:
        node |= _cpu_and_memory(usage.total)
    return {"node": node, "pods": [_pod(pod) for pod in usage.pods]}


def _pod(pod: PodUsage) -> JSON:
    return {
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "startTime": rfc3339(pod.total.since),
        "containers": [_container(name, counter) for name, counter in pod.containers.items()],
        **_cpu_and_memory(pod.total),
    }


def _container(name: str, counter: Counter) -> JSON:
    return {"name": name, "startTime": rfc3339(counter.since), **_cpu_and_memory(counter)}


def _cpu_and_memory(counter: Counter) -> JSON:
    at = rfc3339(counter.last.at)
    return {
        "cpu": {
            "time": at,
            "usageNanoCores": counter.last.nanocores,
            "usageCoreNanoSeconds": counter.nanoseconds,
        },
        "memory": {"time": at, "workingSetBytes": counter.last.memory},
    }


# --- /metrics/resource ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Family:
    """One metric for containers, pods or the node, which prefix the `suffix` of its name."""

    suffix: str
    kind: str
    help: str
    value: Callable[[Counter], str]
    has_timestamp: bool = True
    """Whether lines have the time of the sample, as measured values do."""


_CPU = _Family(
    "cpu_usage_seconds_total",
    "counter",
    "Cumulative cpu time consumed by the {} in core-seconds",
    lambda counter: repr(counter.nanoseconds / _NANO),
)
_MEMORY = _Family(
    "memory_working_set_bytes",
    "gauge",
    "Current working set of the {} in bytes",
    lambda counter: str(counter.last.memory),
)
_START = _Family(
    "start_time_seconds",
    "gauge",
    "Start time of the {} since unix epoch in seconds",
    lambda counter: repr(counter.since),
    has_timestamp=False,
)
_ERROR = "resource_scrape_error"
_ERROR_HELP = "1 if there was an error while getting container metrics, 0 otherwise"


def exposition(usage: Usage) -> str:
    """The document of `/metrics/resource`: metrics with timestamps, as a kubelet prints them.

    `resource_scrape_error` is 1 if the usage of some pods is unknown; its deprecated name
    `scrape_error` is hidden in a kubelet 1.36 too.
    """
    containers = [
        (f'{{container="{name}",namespace="{pod.namespace}",pod="{pod.name}"}}', counter)
        for pod in usage.pods
        for name, counter in pod.containers.items()
    ]
    pods = [(f'{{namespace="{pod.namespace}",pod="{pod.name}"}}', pod.total) for pod in usage.pods]
    node = [] if usage.total is None else [("", usage.total)]
    lines: list[str] = []
    for family in (_CPU, _MEMORY, _START):
        lines += _lines("container", family, containers)
    for subject, rows in (("node", node), ("pod", pods)):
        for family in (_CPU, _MEMORY):
            lines += _lines(subject, family, rows)
    lines += _head(_ERROR, "gauge", _ERROR_HELP)
    lines.append(f"{_ERROR} {int(usage.total is None)}")
    return "\n".join(lines) + "\n"


def _lines(subject: str, family: _Family, rows: Iterable[tuple[str, Counter]]) -> Iterator[str]:
    name = f"{subject}_{family.suffix}"
    head = _head(name, family.kind, family.help.format(subject))
    for labels, counter in rows:
        yield from head
        head = []
        time = f" {round(counter.last.at * 1000)}" if family.has_timestamp else ""
        yield f"{name}{labels} {family.value(counter)}{time}"


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} [STABLE] {text}", f"# TYPE {name} {kind}"]
