"""Endpoints that do not stream: lists of pods, health, and unsupported ones."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from unit.kubelet import harness


async def test_pods_lists_the_pods_that_home_bound_to_this_node(tmp_path: Path) -> None:
    async with harness.running(tmp_path) as api:
        for number in range(120):
            api.store.home.put(harness.pods(f"web-{number}")[0])
        caller = await api.call()
        await caller.request("GET /pods")
        status, headers, body = await caller.answer()
        assert (status, headers["content-type"]) == (200, "application/json")
        listed = orjson.loads(body)
        assert (listed["kind"], listed["apiVersion"]) == ("PodList", "v1")
        assert len(listed["items"]) == 121
        assert listed["items"][0]["spec"]["containers"] == [{"name": "main"}]


async def test_runningpods_lists_pods_with_running_containers(tmp_path: Path) -> None:
    async with harness.running(tmp_path) as api:
        caller = await api.call()
        await caller.request("GET /runningpods/")
        assert orjson.loads((await caller.answer())[2])["items"] == []
        home, _ = harness.pods("up")
        home["status"]["containerStatuses"] = [
            {"name": "main", "image": "web:1", "state": {"running": {}}},
            {"name": "done", "image": "web:1", "state": {"terminated": {}}},
        ]
        api.store.home.put(home)
        await caller.request("GET /runningpods/")
        assert orjson.loads((await caller.answer())[2])["items"] == [
            {
                "metadata": {"name": "up", "namespace": "shop", "uid": "home-up"},
                "spec": {"containers": [{"name": "main", "image": "web:1", "resources": {}}]},
                "status": {},
            }
        ]


@pytest.mark.parametrize(
    ("line", "status", "text"),
    [
        ("GET /healthz", 200, "ok"),
        ("GET /healthz/ping", 200, "ok"),
        ("GET /configz", 501, "does not serve /configz"),
        ("POST /run/shop/web/main?cmd=id", 501, "does not serve /run"),
        ("POST /run/shop/other/main?cmd=id", 404, "pod does not exist"),
        ("POST /checkpoint/shop/web/main", 501, "does not serve /checkpoint"),
        ("POST /checkpoint/shop/web/other", 404, "container other does not exist"),
        ("GET /logs/", 405, "logs endpoint is disabled."),
        ("GET /logs/kubelet.log", 405, "logs endpoint is disabled."),
        ("GET /debug/pprof/heap", 405, "profiling endpoint is disabled."),
        ("GET /debug/flags/v", 405, "flags endpoint is disabled."),
        ("GET /debug/other", 404, "404: Page Not Found"),
        ("GET /metrics/cadvisor", 404, "404: Page Not Found"),
        ("DELETE /pods", 405, "405: Method Not Allowed"),
    ],
)
async def test_other_endpoints_answer_like_a_kubelet(
    tmp_path: Path, line: str, status: int, text: str
) -> None:
    async with harness.running(tmp_path) as api:
        caller = await api.call()
        await caller.request(line)
        got, _, body = await caller.answer()
        assert got == status
        assert text in body.decode()


async def test_requests_are_counted_as_a_kubelet_counts_them(tmp_path: Path) -> None:
    async with harness.running(tmp_path) as api:
        caller = await api.call()
        for path in ("/healthz", "/pods", "/unknown/path"):
            await caller.request(f"GET {path}")
            await caller.answer()
        exposition = api.metrics.exposition().decode()
        for path in ("healthz", "pods", "other"):
            labels = f'long_running="false",method="GET",path="{path}",server_type="readwrite"'
            assert f"kubelet_http_requests_total{{{labels}}} 1.0" in exposition
            assert f"kubelet_http_inflight_requests{{{labels}}} 0.0" in exposition
