"""Requests to the foreign metrics API, and the documents and warnings if it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from aiohttp import web
from structlog.testing import capture_logs

from farlet.constants import HOME_NAMESPACE, HOME_UID, VIRTUAL_NODE_ID, ObjectKey
from farlet.context import Context, NamespaceMap
from farlet.kubelet.usage import collector
from farlet.store import Store
from farlet.telemetry.metrics import Metrics
from unit.reconcile import apiserver
from unit.reconcile.apiserver import Answer, other, status

CONTEXT = Context(node="far", home_id="there", namespaces=NamespaceMap(home="h", own="farlet"))
API = "/apis/metrics.k8s.io/v1beta1/namespaces"


@pytest.fixture(autouse=True)
def _plain_logs() -> None:
    structlog.reset_defaults()


def pods(name: str, namespace: str = "shop", uid: str | None = None) -> tuple[Any, Any]:
    """A home pod and its mirror, both running."""
    uid = uid or f"{namespace}-{name}"
    started = "2026-07-01T10:00:00Z"
    home = {
        "metadata": {"namespace": namespace, "name": name, "uid": uid, "resourceVersion": "1"},
        "spec": {"containers": [{"name": "main"}]},
    }
    mirror = {
        "metadata": {
            "namespace": f"{namespace}-h",
            "name": name,
            "uid": f"m-{uid}",
            "resourceVersion": "1",
            "labels": {VIRTUAL_NODE_ID: CONTEXT.virtual_node_id},
            "annotations": {HOME_NAMESPACE: namespace, HOME_UID: uid},
        },
        "status": {
            "phase": "Running",
            "startTime": started,
            "containerStatuses": [{"name": "main", "state": {"running": {"startedAt": started}}}],
        },
    }
    return home, mirror


@dataclass
class Harness:
    """A collector with its foreign API server."""

    front: apiserver.Front
    store: Store
    usage: collector.UsageCollector
    metrics: Metrics
    measured: dict[str, list[str]] = field(default_factory=dict)
    """Pod names by foreign namespace."""
    minute: int = 1

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer like metrics-server."""
        namespace = request.path.split("/")[5]
        assert request.query["labelSelector"] == f"{VIRTUAL_NODE_ID}={CONTEXT.virtual_node_id}"
        usage = {"cpu": "500m", "memory": "1Ki"}
        items = [
            {
                "metadata": {"name": name, "namespace": namespace},
                "timestamp": f"2026-07-01T10:{self.minute:02}:00Z",
                "window": "15s",
                "containers": [{"name": "main", "usage": usage}],
            }
            for name in self.measured.get(namespace, ())
        ]
        return web.json_response({"kind": "PodMetricsList", "items": items})

    async def pods(self) -> list[tuple[str, str, int]]:
        """Namespace, name and core-milliseconds of each pod in the summary."""
        document = orjson.loads(await body(await self.usage.table()["/stats/summary"]()))
        return [
            (
                pod["podRef"]["namespace"],
                pod["podRef"]["name"],
                pod["cpu"]["usageCoreNanoSeconds"] // 10**6,
            )
            for pod in document["pods"]
        ]

    async def node(self) -> Any:
        """The node in the summary."""
        return orjson.loads(await body(await self.usage.summary()))["node"]

    @property
    def up(self) -> float | None:
        return self.metrics.registry.get_sample_value("farlet_foreign_metrics_up")


async def body(response: Any) -> bytes:
    assert response.status == 200
    assert isinstance(response.body, bytes)
    return response.body


@asynccontextmanager
async def running(
    folder: Path, *known: tuple[Any, Any], fresh: float = -1.0, seconds: float = 30.0
) -> AsyncIterator[Harness]:
    async with apiserver.connected(folder) as (front, cluster):
        store, metrics = Store(), Metrics()
        for home, mirror in known:
            store.home.put(home)
            store.mirrors.put(mirror)
        usage = collector.UsageCollector(
            cluster,
            store,
            ctx=lambda: CONTEXT,
            up=metrics.foreign_metrics_up,
            fresh=fresh,
            timeout=seconds,
        )
        harness = Harness(front, store, usage, metrics)
        front.answer = harness.answer
        yield harness


async def test_pods_are_reported_with_their_home_names(tmp_path: Path) -> None:
    async with running(tmp_path, pods("web"), pods("db", "data")) as at:
        at.measured = {"shop-h": ["web"], "data-h": ["db"]}
        assert sorted(await at.pods()) == [("data", "db", 7500), ("shop", "web", 7500)]
        assert at.front.asked == [f"GET {API}/data-h/pods", f"GET {API}/shop-h/pods"]
        assert at.up == 1


async def test_counters_continue_between_requests(tmp_path: Path) -> None:
    async with running(tmp_path, pods("web")) as at:
        at.measured = {"shop-h": ["web"]}
        assert await at.pods() == [("shop", "web", 7500)]
        at.minute = 2
        assert await at.pods() == [("shop", "web", 37500)]


async def test_the_metrics_contain_the_same_values(tmp_path: Path) -> None:
    async with running(tmp_path, pods("web")) as at:
        at.measured = {"shop-h": ["web"]}
        response = await at.usage.table()["/metrics/resource"]()
        text = (await body(response)).decode()
    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert 'pod_cpu_usage_seconds_total{namespace="shop",pod="web"} 7.5 1782900060000' in text
    assert "\nresource_scrape_error 0\n" in text


async def test_only_mirrors_of_this_nodes_pods_are_reported(tmp_path: Path) -> None:
    other_node = pods("theirs")
    other_node[1]["metadata"]["labels"] = {VIRTUAL_NODE_ID: "another"}
    another_uid = pods("old")
    another_uid[1]["metadata"]["annotations"] = {HOME_UID: "before"}
    _, no_home = pods("left")
    async with running(tmp_path, other_node, another_uid) as at:
        at.store.mirrors.put(no_home)
        at.measured = {"shop-h": ["theirs", "old", "left", "unknown"]}
        assert await at.pods() == []


async def test_concurrent_requests_share_one_answer(tmp_path: Path) -> None:
    async with running(tmp_path, pods("web")) as at:
        at.measured = {"shop-h": ["web"]}
        await asyncio.gather(at.usage.summary(), at.usage.resource(), at.usage.summary())
        assert len(at.front.asked) == 1


async def test_a_cancelled_caller_does_not_cancel_the_answer_of_others(tmp_path: Path) -> None:
    async with running(tmp_path, pods("web")) as at:
        at.measured = {"shop-h": ["web"]}
        first, second = (asyncio.create_task(at.usage.summary()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).status == 200
        assert len(at.front.asked) == 1
        assert first.cancelled()


@pytest.mark.parametrize(
    ("fresh", "requests"),
    [pytest.param(60.0, 1, id="fresh"), pytest.param(-1.0, 2, id="stale")],
)
async def test_an_answer_is_shared_while_it_is_fresh(
    tmp_path: Path, fresh: float, requests: int
) -> None:
    async with running(tmp_path, pods("web"), fresh=fresh) as at:
        await at.usage.summary()
        await at.usage.summary()
        assert len(at.front.asked) == requests


async def test_without_mirrors_no_request_is_sent(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        node = await at.node()
        assert at.front.asked == []
        assert node["nodeName"] == "far"
        assert node["memory"]["workingSetBytes"] > 0, "the memory of farlet's own process"


FAILURES: dict[str, tuple[Answer, str]] = {
    "no metrics API": (other(404, "404 page not found"), "install metrics-server there"),
    "no permission": (
        status(403, "forbidden"),
        "not allowed to list pods of metrics.k8s.io in the foreign",
    ),
    "no server behind it": (
        other(503, "service unavailable"),
        "kubectl describe apiservice v1beta1.metrics",
    ),
    "an unexpected status": (status(500), "HTTP 500"),
    "not a PodMetricsList": (other(200, "<html>"), "PodMetricsList"),
    "credentials refused": (status(401), "HTTP 401"),
}


@pytest.mark.parametrize(("answer", "cause"), FAILURES.values(), ids=FAILURES)
async def test_unknown_usage_is_left_out_and_one_warning_has_the_cause(
    answer: Answer, cause: str, tmp_path: Path
) -> None:
    async with running(tmp_path, pods("web")) as at:
        at.measured = {"shop-h": ["web"]}
        at.front.answer = answer
        with capture_logs() as logs:
            node = await at.node()
            text = (await body(await at.usage.resource())).decode()
        assert (node["nodeName"], "cpu" in node, await at.pods()) == ("far", False, [])
        assert text.endswith("\nresource_scrape_error 1\n")
        assert at.up == 0
        warnings = [line for line in logs if line["log_level"] == "warning"]
        assert len(warnings) == 1
        assert cause in warnings[0]["err"]
        at.front.answer = at.answer
        with capture_logs() as logs:
            assert await at.pods() == [("shop", "web", 7500)]
        assert [line["event"] for line in logs] == ["foreign metrics are available again"]
        assert at.up == 1


async def test_a_failing_namespace_does_not_affect_the_others(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, pods("web"), pods("db", "data")) as at:
        at.measured = {"shop-h": ["web"], "data-h": ["db"]}
        await at.pods()
        at.minute, failing = 2, status(403, "no")

        async def half(request: web.Request) -> web.StreamResponse:
            return await (failing if "/data-h/" in request.path else at.answer)(request)

        at.front.answer = half
        assert await at.pods() == [("shop", "web", 37500)]
        assert "cpu" not in await at.node(), "the usage of the node is unknown"
        at.minute, at.front.answer = 3, at.answer
        assert sorted(await at.pods()) == [("data", "db", 67500), ("shop", "web", 67500)]


async def test_a_metrics_api_that_hangs_times_out(tmp_path: Path) -> None:
    async with running(tmp_path, pods("web"), seconds=0.05) as at:
        over = asyncio.Event()

        async def hang(_request: web.Request) -> web.StreamResponse:
            await over.wait()
            return web.Response()

        at.front.answer = hang
        with capture_logs() as logs:
            assert await at.pods() == []
        over.set()
        assert "did not answer within" in logs[0]["err"]


async def test_a_deleted_pod_is_forgotten(tmp_path: Path) -> None:
    (home, mirror), (next_home, next_mirror) = pods("web"), pods("web", uid="next")
    next_mirror["metadata"]["resourceVersion"] = "2"
    async with running(tmp_path, (home, mirror)) as at:
        at.measured = {"shop-h": ["web"]}
        assert await at.pods() == [("shop", "web", 7500)]
        at.store.home.remove(ObjectKey("shop", "web"), home["metadata"]["uid"])
        assert await at.pods() == []
        at.store.home.put(next_home)
        at.store.mirrors.put(next_mirror)
        at.minute = 2
        assert await at.pods() == [("shop", "web", 7500)]
