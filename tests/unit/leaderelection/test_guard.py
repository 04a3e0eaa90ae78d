"""The guard of a connection: which requests it is asked about, when, and what it prevents."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import http, web
from aiohttp.base_protocol import BaseProtocol

from farlet import errors
from farlet.client import cluster as clusters
from farlet.client import write_guard
from unit import listening
from unit.reconcile import apiserver

PODS = "/api/v1/namespaces/default/pods"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/far"


class Gate:
    """A guard that the test opens and closes."""

    def __init__(self, *, opened: int = 0) -> None:
        self.opened = opened
        self.asked = 0

    def __call__(self) -> float:
        self.asked += 1
        if self.asked > self.opened:
            raise errors.NotLeading("another process leads")
        return math.inf


@asynccontextmanager
async def all_slots_taken(front: apiserver.Front, cluster: clusters.Cluster) -> AsyncIterator[None]:
    """While the block runs, reads that wait for their answers take all slots."""
    taken, over = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/slow"):
            if len(front.asked) == clusters.REQUESTS_AT_ONCE:
                taken.set()
            await over.wait()
        return await apiserver.ok(request)

    front.answer = answer
    reads = [
        asyncio.create_task(cluster.call("GET", f"/slow/{n}"))
        for n in range(clusters.REQUESTS_AT_ONCE)
    ]
    await taken.wait()
    front.asked.clear()
    try:
        yield
    finally:
        over.set()
        await asyncio.gather(*reads)


@pytest.mark.parametrize(
    ("method", "body"),
    [
        pytest.param("POST", {"kind": "Pod"}, id="a POST"),
        pytest.param("PUT", {"kind": "Pod"}, id="a PUT"),
        pytest.param("PATCH", {}, id="a PATCH"),
        pytest.param("DELETE", {"kind": "DeleteOptions"}, id="a DELETE"),
        pytest.param("DELETE", None, id="a DELETE without a body"),
    ],
)
async def test_a_write_that_the_guard_refuses_is_not_sent(
    tmp_path: Path, method: str, body: object
) -> None:
    gate = Gate()
    async with apiserver.connected(tmp_path, guard=gate) as (front, cluster):
        with pytest.raises(errors.NotLeading, match="another process leads"):
            await cluster.call(method, PODS, body=body)
        assert front.asked == []
        assert cluster.problem is None
        gate.opened = 2
        await cluster.call(method, PODS, body=body)
        assert front.asked == [f"{method} {PODS}"]


async def test_reads_and_the_lease_ask_no_guard(tmp_path: Path) -> None:
    async with apiserver.connected(tmp_path, guard=Gate()) as (front, cluster):
        await cluster.call("GET", PODS)
        await cluster.call_unqueued("GET", LEASE, seconds=5)
        await cluster.call_unqueued("PUT", LEASE, body={"kind": "Lease"}, seconds=5)
        assert front.asked == [f"GET {PODS}", f"GET {LEASE}", f"PUT {LEASE}"]


async def test_the_guard_is_asked_after_the_wait_for_a_slot(tmp_path: Path) -> None:
    gate = Gate(opened=1)
    async with apiserver.connected(tmp_path, guard=gate) as (front, cluster):
        async with all_slots_taken(front, cluster):
            write = asyncio.create_task(cluster.call("POST", PODS, body={}))
            await asyncio.sleep(0)
            gate.opened = 0
        with pytest.raises(errors.NotLeading):
            await write
        assert f"POST {PODS}" not in front.asked


async def test_the_guard_is_asked_after_the_connection_is_established(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(opened=1)
    loop = asyncio.get_running_loop()
    look_up = loop.getaddrinfo

    async def slow(*args: Any, **kwargs: Any) -> Any:
        gate.opened = 0
        return await look_up(*args, **kwargs)

    monkeypatch.setattr(loop, "getaddrinfo", slow)
    async with apiserver.listening() as front:
        server = front.url.replace("127.0.0.1", "localhost")
        path = apiserver.kubeconfig(tmp_path / "kubeconfig", server)
        async with apiserver.connection(path, guard=gate) as cluster:
            with pytest.raises(errors.NotLeading):
                await cluster.call("POST", PODS, body={})
        assert gate.asked == 1
        assert front.asked == []


async def test_the_lease_does_not_wait_for_a_slot(tmp_path: Path) -> None:
    async with (
        apiserver.connected(tmp_path) as (front, cluster),
        all_slots_taken(front, cluster),
    ):
        await cluster.call_unqueued("PUT", LEASE, body={"kind": "Lease"}, seconds=5)
        assert front.asked == [f"PUT {LEASE}"]


async def test_the_guard_is_asked_again_when_new_credentials_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farlet.client.credentials.RELOAD_SECONDS", 0.0)
    gate = Gate(opened=1)
    async with apiserver.connected(tmp_path, guard=gate) as (front, cluster):
        front.answer = apiserver.status(401)
        with pytest.raises(errors.NotLeading):
            await cluster.call("POST", PODS, body={})
        assert front.asked == [f"POST {PODS}"]
        assert gate.asked == 2


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [
        pytest.param(7.25, 7250, id="while the write may arrive"),
        pytest.param(0.0001, 1, id="at least a moment"),
        pytest.param(math.inf, 0, id="without a limit where no other process leads"),
    ],
)
async def test_the_kernel_sends_a_write_no_longer_than_it_may_arrive(
    seconds: float, milliseconds: int
) -> None:
    loop = asyncio.get_running_loop()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with listening.listening(deaf) as port:
        transport, protocol = await loop.create_connection(
            lambda: BaseProtocol(loop), "127.0.0.1", port
        )
        body = write_guard.Body(b"{}", "application/json", guard=lambda: seconds)
        await body.write_with_length(http.StreamWriter(protocol, loop), None)
        found = transport.get_extra_info("socket")
        assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == milliseconds
        transport.abort()


async def test_a_stream_that_the_guard_refuses_is_not_opened(tmp_path: Path) -> None:
    async with apiserver.connected(tmp_path, guard=Gate()) as (front, cluster):
        with pytest.raises(errors.NotLeading):
            await cluster.open_path("POST", f"{PODS}/web/exec", [])
        assert front.asked == []
        looked = await cluster.open_path("GET", f"{PODS}/web/log", [])
        looked.abort()
        assert front.asked == [f"GET {PODS}/web/log"]
