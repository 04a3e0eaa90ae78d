"""The two documents in which a kubelet tells what its pods use, and what is put into them.

`/stats/summary` is `Summary` of `k8s.io/kubelet/pkg/apis/stats/v1alpha1`; `/metrics/resource` is
what `pkg/kubelet/metrics/collectors/resource_metrics.go` makes of it, which metrics-server reads.
A metrics API knows CPU and the working set of memory, so the optional rest is left out. Pods and
containers have their names at home. Pure: times are epoch seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from farlet.constants import JSON
from farlet.forge.conditions import rfc3339
from farlet.k8s_types import ContainerStatus, Pod
from farlet.kubelet.usage import counters, metrics_api
from farlet.kubelet.usage.counters import Counter, Sample

_NANO = 10**9


@dataclass(frozen=True, slots=True)
class PodUsage:
    """What a home pod uses abroad: all of it, and by container."""

    namespace: str
    name: str
    uid: str
    total: Counter
    containers: Mapping[str, Counter]


@dataclass(frozen=True, slots=True)
class Usage:
    """What the virtual node uses.

    `agent` is the process of farlet itself, which a kubelet's machine has too. `total` is all pods
    and the agent; `None` while some of the pods cannot be asked for.
    """

    node: str
    agent: Counter
    total: Counter | None
    pods: tuple[PodUsage, ...]


def pod_usage(
    home: Pod, mirror: Pod, samples: metrics_api.PodSamples, before: PodUsage | None
) -> PodUsage | None:
    """What a pod uses as of `samples`, counted on from `before`; `None` if it is not known.

    Containers that only the mirror has, or that do not run, or that were started after the samples
    were taken, are left out.
    """
    metadata = home["metadata"]
    known = before.containers if before is not None else {}
    found: dict[str, Counter] = {}
    for name, started in _running(home, mirror):
        sample = samples.get(name)
        if sample is not None and sample.at > started:
            found[name] = counters.counted(known.get(name), sample, born=started)
    if not found:
        return None
    return PodUsage(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        total=counters.counted(
            before.total if before is not None else None,
            _sum(counter.last for counter in found.values()),
            born=_epoch(mirror.get("status", {}).get("startTime")),
        ),
        containers=found,
    )


def node_total(
    before: Counter | None, pods: Iterable[PodUsage], agent: Counter, *, now: float
) -> Counter:
    """What the node uses: counted by what its pods and the agent use at the moment.

    Not the sum of their counters, which falls when a pod goes.
    """
    parts = [pod.total.last for pod in pods]
    window = max((part.window for part in parts), default=agent.last.window)
    total = _sum((*parts, agent.last))
    sample = Sample(now, window, nanocores=total.nanocores, memory=total.memory)
    return counters.counted(before, sample, born=agent.since)


def _running(home: Pod, mirror: Pod) -> Iterator[tuple[str, float]]:
    """Containers of the home pod that run abroad, and since when."""
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
            yield one["name"], _epoch(running.get("startedAt"))


def _sum(samples: Iterable[Sample]) -> Sample:
    """All together; as old as the oldest of them."""
    parts = list(samples)
    return Sample(
        at=min(part.at for part in parts),
        window=max(part.window for part in parts),
        nanocores=sum(part.nanocores for part in parts),
        memory=sum(part.memory for part in parts),
    )


def _epoch(time: str | None) -> float:
    return 0.0 if time is None else metrics_api.epoch(time)


# --- /stats/summary ---------------------------------------------------------------------------


def summary(usage: Usage) -> JSON:
    """The document of `/stats/summary`."""
    node: JSON = {
        "nodeName": usage.node,
        # The system container of this name is "tracking Kubelet usage": farlet is the kubelet.
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
    """One metric: what it is of (a prefix of its name), its name's rest, help and value."""

    rest: str
    kind: str
    help: str
    value: Callable[[Counter], str]
    timed: bool = True
    """With the time of the sample, as all that was measured at a time."""


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
    timed=False,
)
_ERROR = "resource_scrape_error"
_ERROR_HELP = "1 if there was an error while getting container metrics, 0 otherwise"


def exposition(usage: Usage) -> str:
    """The document of `/metrics/resource`: families by name, with times, as a kubelet prints them.

    `resource_scrape_error` is 1 where some pods could not be asked for; its deprecated name
    `scrape_error` is hidden in a kubelet 1.36 as well.
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
    for of, rows in (("node", node), ("pod", pods)):
        for family in (_CPU, _MEMORY):
            lines += _lines(of, family, rows)
    lines += _head(_ERROR, "gauge", _ERROR_HELP)
    lines.append(f"{_ERROR} {int(usage.total is None)}")
    return "\n".join(lines) + "\n"


def _lines(of: str, family: _Family, rows: Iterable[tuple[str, Counter]]) -> Iterator[str]:
    name = f"{of}_{family.rest}"
    head = _head(name, family.kind, family.help.format(of))
    for labels, counter in rows:
        yield from head
        head = []
        time = f" {round(counter.last.at * 1000)}" if family.timed else ""
        yield f"{name}{labels} {family.value(counter)}{time}"


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} [STABLE] {text}", f"# TYPE {name} {kind}"]
