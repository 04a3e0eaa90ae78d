"""Asking the foreign metrics API: when, for what, and what is told when it fails."""

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

from farlet.constants import HOME_UID, VIRTUAL_NODE_ID, ObjectKey
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
            "annotations": {HOME_UID: uid},
        },
        "status": {
            "phase": "Running",
            "startTime": started,
            "containerStatuses": [{"name": "main", "state": {"running": {"startedAt": started}}}],
        },
    }
    return home, mirror


@dataclass
class Scene:
    """A meter, and the API server that it asks."""

    front: apiserver.Front
    store: Store
    meter: collector.UsageCollector
    metrics: Metrics
    measured: dict[str, list[str]] = field(default_factory=dict)
    """Names of pods by foreign namespace."""
    minute: int = 1

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """As metrics-server does."""
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

    async def told(self) -> list[tuple[str, str, int]]:
        """Namespace, name and core-milliseconds of each pod in the summary."""
        document = orjson.loads(await body(await self.meter.table()["/stats/summary"]()))
        return [
            (
                pod["podRef"]["namespace"],
                pod["podRef"]["name"],
                pod["cpu"]["usageCoreNanoSeconds"] // 10**6,
            )
            for pod in document["pods"]
        ]

    async def node(self) -> Any:
        """The node's part of the summary."""
        return orjson.loads(await body(await self.meter.summary()))["node"]

    @property
    def up(self) -> float | None:
        return self.metrics.registry.get_sample_value("farlet_foreign_metrics_up")


async def body(response: Any) -> bytes:
    assert response.status == 200
    assert isinstance(response.body, bytes)
    return response.body


@asynccontextmanager
async def scene(
    folder: Path, *known: tuple[Any, Any], fresh: float = -1.0, patience: float = 30.0
) -> AsyncIterator[Scene]:
    async with apiserver.connected(folder) as (front, cluster):
        store, metrics = Store(), Metrics()
        for home, mirror in known:
            store.home.put(home)
            store.mirrors.put(mirror)
        meter = collector.UsageCollector(
            cluster,
            store,
            ctx=lambda: CONTEXT,
            up=metrics.foreign_metrics_up,
            fresh=fresh,
            patience=patience,
        )
        made = Scene(front, store, meter, metrics)
        front.answer = made.answer
        yield made


async def test_pods_are_told_by_their_home_names(tmp_path: Path) -> None:
    async with scene(tmp_path, pods("web"), pods("db", "data")) as at:
        at.measured = {"shop-h": ["web"], "data-h": ["db"]}
        assert sorted(await at.told()) == [("data", "db", 7500), ("shop", "web", 7500)]
        assert at.front.asked == [f"GET {API}/data-h/pods", f"GET {API}/shop-h/pods"]
        assert at.up == 1


async def test_counters_go_on_from_one_time_to_the_next(tmp_path: Path) -> None:
    async with scene(tmp_path, pods("web")) as at:
        at.measured = {"shop-h": ["web"]}
        assert await at.told() == [("shop", "web", 7500)]
        at.minute = 2
        assert await at.told() == [("shop", "web", 37500)]


async def test_the_metrics_hold_the_same(tmp_path: Path) -> None:
    async with scene(tmp_path, pods("web")) as at:
        at.measured = {"shop-h": ["web"]}
        response = await at.meter.table()["/metrics/resource"]()
        text = (await body(response)).decode()
    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert 'pod_cpu_usage_seconds_total{namespace="shop",pod="web"} 7.5 1782900060000' in text
    assert "\nresource_scrape_error 0\n" in text


async def test_only_mirrors_of_this_node_s_pods_are_told(tmp_path: Path) -> None:
    other_node = pods("theirs")
    other_node[1]["metadata"]["labels"] = {VIRTUAL_NODE_ID: "another"}
    another_uid = pods("old")
    another_uid[1]["metadata"]["annotations"] = {HOME_UID: "before"}
    _, no_home = pods("left")
    async with scene(tmp_path, other_node, another_uid) as at:
        at.store.mirrors.put(no_home)
        at.measured = {"shop-h": ["theirs", "old", "left", "stranger"]}
        assert await at.told() == []


async def test_all_who_ask_at_once_share_one_answer(tmp_path: Path) -> None:
    async with scene(tmp_path, pods("web")) as at:
        at.measured = {"shop-h": ["web"]}
        await asyncio.gather(at.meter.summary(), at.meter.resource(), at.meter.summary())
        assert len(at.front.asked) == 1


async def test_who_goes_away_does_not_take_the_answer_along(tmp_path: Path) -> None:
    async with scene(tmp_path, pods("web")) as at:
        at.measured = {"shop-h": ["web"]}
        first, second = (asyncio.create_task(at.meter.summary()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).status == 200
        assert len(at.front.asked) == 1
        assert first.cancelled()


@pytest.mark.parametrize(
    ("fresh", "asked"),
    [pytest.param(60.0, 1, id="fresh enough"), pytest.param(-1.0, 2, id="too old")],
)
async def test_an_answer_serves_for_a_while(tmp_path: Path, fresh: float, asked: int) -> None:
    async with scene(tmp_path, pods("web"), fresh=fresh) as at:
        await at.meter.summary()
        await at.meter.summary()
        assert len(at.front.asked) == asked


async def test_without_mirrors_nobody_is_asked(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        node = await at.node()
        assert at.front.asked == []
        assert node["nodeName"] == "far"
        assert node["memory"]["workingSetBytes"] > 0, "that of farlet itself"


FAILURES: dict[str, tuple[Answer, str]] = {
    "no metrics API": (other(404, "404 page not found"), "install metrics-server there"),
    "no right": (status(403, "forbidden"), "may not list pods of metrics.k8s.io in the foreign"),
    "no server behind it": (other(503, "service unavailable"), "see APIService v1beta1.metrics"),
    "a strange status": (status(500), "HTTP 500"),
    "no PodMetricsList": (other(200, "<html>"), "PodMetricsList"),
    "credentials refused": (status(401), "HTTP 401"),
}


@pytest.mark.parametrize(("answer", "why"), FAILURES.values(), ids=FAILURES)
async def test_what_is_not_known_is_left_out_and_one_warning_says_why(
    answer: Answer, why: str, tmp_path: Path
) -> None:
    async with scene(tmp_path, pods("web")) as at:
        at.measured = {"shop-h": ["web"]}
        at.front.answer = answer
        with capture_logs() as logs:
            node = await at.node()
            text = (await body(await at.meter.resource())).decode()
        assert (node["nodeName"], "cpu" in node, await at.told()) == ("far", False, [])
        assert text.endswith("\nresource_scrape_error 1\n")
        assert at.up == 0
        warnings = [line for line in logs if line["log_level"] == "warning"]
        assert len(warnings) == 1
        assert why in warnings[0]["err"]
        at.front.answer = at.answer
        with capture_logs() as logs:
            assert await at.told() == [("shop", "web", 7500)]
        assert [line["event"] for line in logs] == ["foreign metrics API can be used again"]
        assert at.up == 1


async def test_one_namespace_that_fails_leaves_the_others_and_their_counters(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path, pods("web"), pods("db", "data")) as at:
        at.measured = {"shop-h": ["web"], "data-h": ["db"]}
        await at.told()
        at.minute, failing = 2, status(403, "no")

        async def half(request: web.Request) -> web.StreamResponse:
            return await (failing if "/data-h/" in request.path else at.answer)(request)

        at.front.answer = half
        assert await at.told() == [("shop", "web", 37500)]
        assert "cpu" not in await at.node(), "half of the pods are not the node"
        at.minute, at.front.answer = 3, at.answer
        assert sorted(await at.told()) == [("data", "db", 67500), ("shop", "web", 67500)]


async def test_a_metrics_api_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    async with scene(tmp_path, pods("web"), patience=0.05) as at:
        over = asyncio.Event()

        async def hang(_request: web.Request) -> web.StreamResponse:
            await over.wait()
            return web.Response()

        at.front.answer = hang
        with capture_logs() as logs:
            assert await at.told() == []
        over.set()
        assert "did not answer within" in logs[0]["err"]


async def test_a_pod_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    (home, mirror), (next_home, next_mirror) = pods("web"), pods("web", uid="next")
    next_mirror["metadata"]["resourceVersion"] = "2"
    async with scene(tmp_path, (home, mirror)) as at:
        at.measured = {"shop-h": ["web"]}
        assert await at.told() == [("shop", "web", 7500)]
        at.store.home.remove(ObjectKey("shop", "web"), home["metadata"]["uid"])
        assert await at.told() == []
        at.store.home.put(next_home)
        at.store.mirrors.put(next_mirror)
        at.minute = 2
        assert await at.told() == [("shop", "web", 7500)]
