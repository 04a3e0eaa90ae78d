"""The containers that count for a pod, and the two documents."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from farlet.kubelet.usage import counters, stats
from farlet.kubelet.usage.counters import Counter, Sample

CORE = 10**9
STARTED = "2026-07-01T10:00:00Z"
STARTED_AT = 1782900000.0
"""`STARTED` in epoch seconds."""


def sample(at: float, nanocores: int = CORE, memory: int = 100) -> Sample:
    return Sample(STARTED_AT + at, 15.0, nanocores=nanocores, memory=memory)


def home(*containers: str, inits: tuple[str, ...] = (), ephemeral: tuple[str, ...] = ()) -> Any:
    def named(names: tuple[str, ...]) -> list[dict[str, str]]:
        return [{"name": name} for name in names]

    return {
        "metadata": {"namespace": "shop", "name": "web", "uid": "u"},
        "spec": {
            "containers": named(containers),
            "initContainers": named(inits),
            "ephemeralContainers": named(ephemeral),
        },
    }


def running(name: str, since: str | None = STARTED) -> Any:
    return {"name": name, "state": {"running": {} if since is None else {"startedAt": since}}}


def mirror(*statuses: Any, **others: Any) -> Any:
    status = {"startTime": STARTED, "containerStatuses": list(statuses), **others}
    return {"metadata": {"namespace": "shop-home", "name": "web", "uid": "m"}, "status": status}


def usage(pod: Any, mirror_pod: Any, samples: Any, before: Any = None) -> stats.PodUsage:
    found = stats.pod_usage(pod, mirror_pod, samples, before)
    assert found is not None
    return found


ENDED = {"name": "main", "state": {"terminated": {"exitCode": 0}}}
WAITING = {"name": "main", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
SOME = {"main": sample(60), "log": sample(60), "proxy": sample(60)}


@pytest.mark.parametrize(
    ("pod", "mirror_pod", "names"),
    [
        pytest.param(home("main"), mirror(running("main")), {"main"}, id="a running container"),
        pytest.param(
            home("main", "log"),
            mirror(running("main"), running("log")),
            {"main", "log"},
            id="two containers",
        ),
        pytest.param(
            home("main"),
            mirror(running("main"), running("proxy")),
            {"main"},
            id="without one that only the mirror has",
        ),
        pytest.param(
            home("main", inits=("log",)),
            mirror(running("main"), initContainerStatuses=[running("log")]),
            {"main", "log"},
            id="a sidecar",
        ),
        pytest.param(
            home("main", ephemeral=("log",)),
            mirror(running("main"), ephemeralContainerStatuses=[running("log")]),
            {"main", "log"},
            id="an ephemeral container",
        ),
        pytest.param(
            home("main", "log"),
            mirror(ENDED, running("log")),
            {"log"},
            id="without a terminated one",
        ),
        pytest.param(
            home("main", "log"),
            mirror(WAITING, running("log")),
            {"log"},
            id="without a waiting one",
        ),
        pytest.param(
            home("main", "log"),
            mirror(running("main", "2026-07-01T10:01:00Z"), running("log")),
            {"log"},
            id="without one started after the sample",
        ),
        pytest.param(
            home("main"), mirror(running("main", None)), {"main"}, id="one without a start time"
        ),
        pytest.param(
            home("main", "other"),
            mirror(running("main"), running("other")),
            {"main"},
            id="without one that has no sample",
        ),
    ],
)
def test_the_usage_of_a_pod_includes(pod: Any, mirror_pod: Any, names: set[str]) -> None:
    found = usage(pod, mirror_pod, SOME)
    assert set(found.containers) == names
    assert (found.namespace, found.name, found.uid) == ("shop", "web", "u")
    assert found.total.last.nanocores == CORE * len(names)
    assert found.total.last.memory == 100 * len(names)


@pytest.mark.parametrize(
    "mirror_pod",
    [
        pytest.param(mirror(), id="an empty status"),
        pytest.param({"metadata": {}}, id="no status"),
        pytest.param(mirror(ENDED), id="all terminated"),
    ],
)
def test_a_pod_without_running_containers_is_left_out(mirror_pod: Any) -> None:
    assert stats.pod_usage(home("main"), mirror_pod, SOME, None) is None


def test_a_restart_resets_the_counter_of_the_container_only() -> None:
    pod, first = home("main"), mirror(running("main"))
    before = usage(pod, first, {"main": sample(60)})
    again = mirror(running("main", "2026-07-01T10:01:10Z"))
    after = usage(pod, again, {"main": sample(75)}, before)
    assert after.containers["main"].since == STARTED_AT + 70
    assert after.containers["main"].nanoseconds == 5 * CORE
    assert after.total.nanoseconds == before.total.nanoseconds + 15 * CORE
    assert after.total.since == before.total.since


def test_a_recreated_mirror_resets_all_counters() -> None:
    pod = home("main")
    before = usage(pod, mirror(running("main")), {"main": sample(60)})
    later = "2026-07-01T10:02:00Z"
    after = usage(
        pod, mirror(running("main", later), startTime=later), {"main": sample(130)}, before
    )
    assert after.total.since == after.containers["main"].since == STARTED_AT + 120


AGENT = Counter(
    STARTED_AT,
    STARTED_AT,
    2 * CORE,
    Sample(STARTED_AT + 60, 10.0, nanocores=CORE // 100, memory=50),
)


def test_the_counter_of_the_node_continues_after_a_pod_is_deleted() -> None:
    pod = usage(home("main"), mirror(running("main")), {"main": sample(60)})
    first = stats.node_total(None, [pod], AGENT, now=STARTED_AT + 60)
    alone = stats.node_total(first, [], AGENT, now=STARTED_AT + 75)
    assert first.last.memory == 150
    assert alone.last.memory == 50
    assert alone.nanoseconds - first.nanoseconds == 15 * CORE // 100


USAGE = stats.Usage(
    node="far",
    agent=AGENT,
    total=Counter(
        STARTED_AT,
        STARTED_AT,
        1500 * 10**6,
        Sample(STARTED_AT + 61, 15.0, nanocores=7, memory=4096),
    ),
    pods=(
        stats.PodUsage(
            namespace="shop",
            name="web",
            uid="u",
            total=Counter(STARTED_AT, STARTED_AT + 45, 30 * CORE, sample(60, 2 * CORE, 300)),
            containers={
                "main": Counter(STARTED_AT, STARTED_AT + 45.5, 20 * CORE, sample(60, CORE, 200)),
                "log": Counter(STARTED_AT, STARTED_AT + 45, 1000, sample(60, 0, 100)),
            },
        ),
    ),
)


def test_the_summary_is_that_of_a_kubelet() -> None:
    at = "2026-07-01T10:01:00Z"
    assert stats.summary(USAGE) == {
        "node": {
            "nodeName": "far",
            "systemContainers": [
                {
                    "name": "kubelet",
                    "startTime": STARTED,
                    "cpu": {
                        "time": at,
                        "usageNanoCores": CORE // 100,
                        "usageCoreNanoSeconds": 2 * CORE,
                    },
                    "memory": {"time": at, "workingSetBytes": 50},
                }
            ],
            "startTime": STARTED,
            "cpu": {
                "time": "2026-07-01T10:01:01Z",
                "usageNanoCores": 7,
                "usageCoreNanoSeconds": 1500 * 10**6,
            },
            "memory": {"time": "2026-07-01T10:01:01Z", "workingSetBytes": 4096},
        },
        "pods": [
            {
                "podRef": {"name": "web", "namespace": "shop", "uid": "u"},
                "startTime": "2026-07-01T10:00:45Z",
                "containers": [
                    {
                        "name": "main",
                        "startTime": "2026-07-01T10:00:45Z",
                        "cpu": {
                            "time": at,
                            "usageNanoCores": CORE,
                            "usageCoreNanoSeconds": 20 * CORE,
                        },
                        "memory": {"time": at, "workingSetBytes": 200},
                    },
                    {
                        "name": "log",
                        "startTime": "2026-07-01T10:00:45Z",
                        "cpu": {"time": at, "usageNanoCores": 0, "usageCoreNanoSeconds": 1000},
                        "memory": {"time": at, "workingSetBytes": 100},
                    },
                ],
                "cpu": {
                    "time": at,
                    "usageNanoCores": 2 * CORE,
                    "usageCoreNanoSeconds": 30 * CORE,
                },
                "memory": {"time": at, "workingSetBytes": 300},
            }
        ],
    }


EXPOSITION = """\
# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the container \
in core-seconds
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="main",namespace="shop",pod="web"} 20.0 1782900060000
container_cpu_usage_seconds_total{container="log",namespace="shop",pod="web"} 1e-06 1782900060000
# HELP container_memory_working_set_bytes [STABLE] Current working set of the container in bytes
# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{container="main",namespace="shop",pod="web"} 200 1782900060000
container_memory_working_set_bytes{container="log",namespace="shop",pod="web"} 100 1782900060000
# HELP container_start_time_seconds [STABLE] Start time of the container since unix epoch in seconds
# TYPE container_start_time_seconds gauge
container_start_time_seconds{container="main",namespace="shop",pod="web"} 1782900045.5
container_start_time_seconds{container="log",namespace="shop",pod="web"} 1782900045.0
# HELP node_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the node \
in core-seconds
# TYPE node_cpu_usage_seconds_total counter
node_cpu_usage_seconds_total 1.5 1782900061000
# HELP node_memory_working_set_bytes [STABLE] Current working set of the node in bytes
# TYPE node_memory_working_set_bytes gauge
node_memory_working_set_bytes 4096 1782900061000
# HELP pod_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the pod in core-seconds
# TYPE pod_cpu_usage_seconds_total counter
pod_cpu_usage_seconds_total{namespace="shop",pod="web"} 30.0 1782900060000
# HELP pod_memory_working_set_bytes [STABLE] Current working set of the pod in bytes
# TYPE pod_memory_working_set_bytes gauge
pod_memory_working_set_bytes{namespace="shop",pod="web"} 300 1782900060000
# HELP resource_scrape_error [STABLE] 1 if there was an error while getting container metrics, \
0 otherwise
# TYPE resource_scrape_error gauge
resource_scrape_error 0
"""


def test_the_metrics_are_those_of_a_kubelet() -> None:
    assert stats.exposition(USAGE) == EXPOSITION


def test_unknown_usage_is_left_out_and_reported_as_an_error() -> None:
    unknown = stats.Usage(node="far", agent=AGENT, total=None, pods=())
    assert set(stats.summary(unknown)["node"]) == {"nodeName", "systemContainers", "startTime"}
    assert stats.summary(unknown)["pods"] == []
    values = {
        family.name: [one.value for one in family.samples]
        for family in text_string_to_metric_families(stats.exposition(unknown))
    }
    assert values == {"resource_scrape_error": [1.0]}


def test_metrics_server_accepts_every_container() -> None:
    # It leaves out a pod if a container has no CPU or memory (`checkContainerMetrics`), and reads
    # seconds as nanoseconds, rounded down.
    minimum = counters.new_counter(sample(60, 0), started_at=0.0)
    pod = stats.PodUsage("shop", "web", "u", total=minimum, containers={"main": minimum})
    usage = stats.Usage(node="far", agent=AGENT, total=AGENT, pods=(pod,))
    families = text_string_to_metric_families(stats.exposition(usage))
    cpu = next(f for f in families if f.name == "container_cpu_usage_seconds")
    assert [int(one.value * 1e9) > 0 for one in cpu.samples] == [True]
