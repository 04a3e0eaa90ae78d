"""kubectl top and an autoscaler in the home cluster, with a metrics-server in each cluster."""

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from clusters import metricsserver, pair, rest
from clusters.cluster import Cluster
from clusters.workspace import Workspace
from conftest import StartFarlet
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.takes(90)]

SECONDS = 480.0
BUSY_MILLIS = 20
"""Minimum millicores of a busy container, which an idle one never reaches. The limit is 200, but
other work on this machine may leave little of it."""
TARGET_PERCENT = 10
BUSY = ("bash", "-c", "while :; do :; done")


@pytest.fixture(scope="module")
def metrics_api(request: pytest.FixtureRequest, clusters: pair.Clusters) -> Iterator[None]:
    """Both clusters have a metrics API, or none: each test selects which."""
    with contextlib.ExitStack() as stack:
        if request.param:
            for cluster in (clusters.foreign, clusters.home):
                stack.enter_context(metricsserver.running(cluster))
        yield


with_metrics_api = pytest.mark.parametrize("metrics_api", [True], ids=["measured"], indirect=True)
without_metrics_api = pytest.mark.parametrize(
    "metrics_api", [False], ids=["not measured"], indirect=True
)


@pytest.mark.usefixtures("metrics_api")
@without_metrics_api
async def test_without_a_foreign_metrics_api_the_node_answers_and_logs_it_once(
    clusters: pair.Clusters,
    home: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    farlet = await start_farlet(node)
    await _run(home, workspace, _pod("web", "sleep", "infinity"), node)
    for _ in range(2):
        text = await _proxied(clusters.home, node, "/metrics/resource")
        found = {family.name: family for family in text_string_to_metric_families(text)}
        assert [one.value for one in found["resource_scrape_error"].samples] == [1.0]
        assert len(found) == 1
        await asyncio.sleep(6)  # the cached response expires after a few seconds
    summary = json.loads(await _proxied(clusters.home, node, "/stats/summary"))
    assert summary["node"]["nodeName"] == node
    assert summary["pods"] == []
    assert f'kubelet_node_name{{node="{node}"}} 1.0' in await _proxied(
        clusters.home, node, "/metrics"
    )
    assert farlet.log.count("failed to read foreign metrics") == 1
    assert "install metrics-server there" in farlet.log
    assert "farlet_foreign_metrics_up 0.0" in await farlet.metrics()
    assert "farlet_foreign_up 1.0" in await farlet.metrics()


@pytest.mark.usefixtures("metrics_api")
@with_metrics_api
async def test_kubectl_top_shows_the_same_in_both_clusters(
    clusters: pair.Clusters,
    home: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    await start_farlet(node)
    await _run(home, workspace, _pod("busy", *BUSY), node)
    await _run(home, workspace, _pod("idle", "sleep", "infinity"), node)

    async def same() -> bool:
        home_usage = await _usage(clusters.home, workspace.home)
        foreign_usage = await _usage(clusters.foreign, workspace.foreign)
        return (
            len(home_usage) == 2
            and home_usage == foreign_usage
            and home_usage["busy"][0] > 1000 * BUSY_MILLIS
        )

    await _until("both metrics APIs return the same", same)
    listed = await _kubectl(
        clusters.home, "top", "pod", "--containers", "--no-headers", f"-n={workspace.home}"
    )
    rows = [line.split() for line in listed.splitlines()]
    assert [row[:2] for row in rows] == [["busy", "main"], ["idle", "main"]]
    busy, idle = (int(row[2].removesuffix("m")) for row in rows)
    assert busy > BUSY_MILLIS > idle
    (far,) = (await _kubectl(clusters.home, "top", "node", node, "--no-headers")).splitlines()
    assert far.split()[0] == node
    assert int(far.split()[1].removesuffix("m")) >= busy // 2
    assert "unknown" not in far


@pytest.mark.usefixtures("metrics_api")
@with_metrics_api
async def test_a_home_autoscaler_scales_by_the_usage_of_mirror_pods(
    clusters: pair.Clusters,
    home: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    await start_farlet(node)
    await asyncio.to_thread(clusters.home.apply, *_scaled(workspace.home, node))

    async def scaled() -> bool:
        said = await _kubectl(
            clusters.home, "get", f"-n={workspace.home}", "deployment/web", "hpa/web", "-o=json"
        )
        deployment, autoscaler = json.loads(said)["items"]
        measured = autoscaler.get("status", {}).get("currentMetrics") or [{}]
        use = measured[0].get("resource", {}).get("current", {}).get("averageUtilization", 0)
        return bool(deployment["spec"]["replicas"] == 2 and use > TARGET_PERCENT)

    await _until("the Deployment has two replicas", scaled)


async def _run(home: rest.Api, workspace: Workspace, pod: rest.Object, node: str) -> None:
    await home.create("pods", realpods.bound(pod, node), namespace=workspace.home)
    await home.until(
        "pods",
        rest.phase("Running"),
        name=pod["metadata"]["name"],
        namespace=workspace.home,
        seconds=180,
    )


def _pod(name: str, *command: str) -> rest.Object:
    limits = {"cpu": "200m", "memory": "64Mi"}
    return realpods.pod(
        name,
        annotations={realpods.ACCESS: "disabled"},
        containers=[realpods.container("main", *command, resources={"limits": limits})],
    )


def _scaled(namespace: str, node: str) -> list[dict[str, Any]]:
    """A Deployment with one busy pod, and its autoscaler."""
    pod = _pod("web", *BUSY)
    metadata = {"name": "web", "namespace": namespace}
    labels = {"app": "web"}
    template = {
        "metadata": {"labels": labels, "annotations": pod["metadata"]["annotations"]},
        "spec": {**pod["spec"], "restartPolicy": "Always", "nodeName": node},
    }
    target = {"type": "Utilization", "averageUtilization": TARGET_PERCENT}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": metadata,
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "minReplicas": 1,
                "maxReplicas": 2,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            },
        },
    ]


async def _usage(cluster: Cluster, namespace: str) -> dict[str, tuple[int, str]]:
    """CPU (microcores) and memory by pod, from a metrics API."""
    path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods"
    listed = json.loads(await _kubectl(cluster, "get", "--raw", path))
    usages = {i["metadata"]["name"]: i["containers"][0]["usage"] for i in listed["items"]}
    return {name: (_micro(usage["cpu"]), usage["memory"]) for name, usage in usages.items()}


def _micro(cpu: str) -> int:
    number, suffix = cpu.rstrip("num"), cpu.lstrip("0123456789")
    return round(int(number) * {"n": 1e-3, "u": 1, "m": 1e3, "": 1e6}[suffix])


async def _proxied(cluster: Cluster, node: str, path: str) -> str:
    return await _kubectl(cluster, "get", "--raw", f"/api/v1/nodes/{node}/proxy{path}")


async def _kubectl(cluster: Cluster, *arguments: str) -> str:
    return await asyncio.to_thread(cluster.kubectl, *arguments)


async def _until(what: str, done: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + SECONDS
    while not await done():
        assert time.monotonic() < deadline, f"timeout; waited until {what}"
        await asyncio.sleep(2)
