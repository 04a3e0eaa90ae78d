"""Tunnels to gateway pods: opened, kept, opened again, closed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from farlet.gateway import keys, tunnel_manager
from farlet.gateway.relay_budget import RelayBudget
from unit.gateway import stage
from unit.reconcile import apiserver


def pod(name: str, *, uid: str = "", phase: str = "Running") -> dict[str, Any]:
    metadata = {"name": name, "namespace": "farlet", "uid": uid or f"{name}-uid"}
    return {
        "kind": "Pod",
        "metadata": {**metadata, "resourceVersion": "2"},
        "spec": {"containers": [{"name": "gateway"}]},
        "status": {"phase": phase},
    }


@dataclass
class ForeignCluster:
    """A foreign API server with gateway pods, and port-forwards to a gateway in this loop."""

    scene: stage.Scene
    pods: list[dict[str, Any]]
    forwards: int = 0
    refusing: int = 0
    """How many port-forwards to refuse from now on."""
    selectors: list[str] = field(default_factory=list)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    changes: int = 0
    """How often `on_change` was called."""
    _watches: list[web.StreamResponse] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/portforward"):
            return await self._forward(request)
        assert request.path == "/api/v1/namespaces/farlet/pods"
        if "watch" in request.query:
            return await self._watch(request)
        self.selectors.append(request.query["labelSelector"])
        return web.json_response(
            {"kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": self.pods}
        )

    async def send_event(self, kind: str, obj: dict[str, Any]) -> None:
        await stage.eventually(lambda: bool(self._watches))
        for watch in self._watches:
            await watch.write(json.dumps({"type": kind, "object": obj}).encode() + b"\n")

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self._watches.append(response)
        try:
            await asyncio.Event().wait()
        finally:
            self._watches.remove(response)
        return response

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        assert request.query["ports"] == "8022"
        self.forwards += 1
        if self.refusing:
            self.refusing -= 1
            return await apiserver.status(500, "the kubelet does not answer")(request)
        socket = web.WebSocketResponse(protocols=["v4.channel.k8s.io"])
        await socket.prepare(request)
        self.sockets.append(socket)
        for greeting in (b"\x00\x56\x1f", b"\x01\x56\x1f"):
            await socket.send_bytes(greeting)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.scene.farlet_port)

        async def back() -> None:
            while data := await reader.read(32768):
                await socket.send_bytes(b"\x00" + data)
            await socket.close()

        backwards = asyncio.create_task(back())
        try:
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    writer.write(message.data[1:])
                    await writer.drain()
        finally:
            backwards.cancel()
            writer.transport.abort()
            self.sockets.remove(socket)
        return socket


@contextlib.asynccontextmanager
async def managing(
    folder: Path, *pods: dict[str, Any], refusing: int = 0
) -> AsyncIterator[tuple[tunnel_manager.TunnelManager, ForeignCluster]]:
    """Run a manager, whose tunnels all lead to one gateway."""
    own = folder / "keys"
    own.mkdir()
    async with stage.running() as scene, apiserver.connected(folder) as (front, cluster):
        (own / keys.PRIVATE).write_bytes(scene.farlet.private.export_private_key())
        (own / keys.TRUSTED).write_bytes(scene.farlet.trusted[0].export_public_key())
        foreign = ForeignCluster(scene, list(pods), refusing=refusing)
        front.answer = foreign.answer

        def changed() -> None:
            foreign.changes += 1

        manager = tunnel_manager.TunnelManager(
            cluster,
            namespace="farlet",
            folder=own,
            dial=scene.home.dial,
            on_change=changed,
            budget=RelayBudget(),
        )
        running = asyncio.create_task(manager.run())
        try:
            yield manager, foreign
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


async def test_every_running_gateway_is_connected(tmp_path: Path) -> None:
    pods = pod("one"), pod("two"), pod("starting", phase="Pending")
    async with managing(tmp_path, *pods) as (manager, foreign):
        await stage.eventually(lambda: manager.links == 2)
        assert foreign.selectors == ["app.kubernetes.io/name=farlet-gateway"]
        assert manager.problem() is None
        reader, writer = await foreign.scene.pod()
        writer.write_eof()
        assert await stage.all_of(reader) == b"end"
        writer.close()
        await foreign.send_event("MODIFIED", pod("starting"))
        await stage.eventually(lambda: manager.links == 3)


@pytest.mark.parametrize(
    ("kind", "phase"),
    [
        pytest.param("DELETED", "Running", id="deleted"),
        pytest.param("MODIFIED", "Failed", id="evicted"),
    ],
)
async def test_the_tunnel_ends_with_its_gateway_pod(tmp_path: Path, kind: str, phase: str) -> None:
    async with managing(tmp_path, pod("one")) as (manager, foreign):
        await stage.eventually(lambda: manager.problem() is None)
        await foreign.send_event(kind, pod("one", phase=phase))
        await stage.eventually(lambda: manager.problem() == "no gateway pod is running")
        await stage.eventually(lambda: not foreign.sockets)
        assert foreign.forwards == 1


async def test_a_broken_tunnel_is_opened_again_immediately(tmp_path: Path) -> None:
    async with managing(tmp_path, pod("one")) as (manager, foreign):
        for times in (1, 2, 3):
            await stage.eventually(lambda: manager.problem() is None)
            assert foreign.forwards == times
            await foreign.sockets[0].close()
            await stage.eventually(lambda: manager.problem() is not None)


async def test_a_connected_gateway_that_becomes_ready_is_a_change(
    tmp_path: Path,
) -> None:
    """Only then the Service leads to it."""
    async with managing(tmp_path, pod("one")) as (manager, foreign):
        await stage.eventually(lambda: manager.problem() is None)
        before = foreign.changes
        await foreign.send_event("MODIFIED", pod("one"))
        await stage.eventually(lambda: foreign.changes > before)


async def test_a_problem_is_reported_until_it_is_solved(tmp_path: Path) -> None:
    async with managing(tmp_path, pod("one"), refusing=2) as (manager, foreign):
        await stage.eventually(lambda: "the kubelet does not answer" in (manager.problem() or ""))
        assert (manager.problem() or "").startswith("gateway pod farlet/one is not connected: ")
        await stage.eventually(lambda: manager.problem() is None)
        assert foreign.forwards == 3


async def test_keys_are_read_again_for_each_tunnel(tmp_path: Path) -> None:
    async with managing(tmp_path, pod("one")) as (manager, foreign):
        await stage.eventually(lambda: manager.problem() is None)
        stranger, _ = keys.generate()
        (tmp_path / "keys" / keys.PRIVATE).write_text(stranger[keys.PRIVATE])
        await foreign.sockets[0].close()
        await stage.eventually(lambda: "does not trust farlet's key" in (manager.problem() or ""))


async def test_a_missing_gateway_is_reported(tmp_path: Path) -> None:
    async with managing(tmp_path) as (manager, _):
        assert manager.problem() == "the list of gateway pods has not been read yet"
        await stage.eventually(lambda: manager.problem() == "no gateway pod is running")


async def test_waiting_ends_when_a_gateway_is_connected(tmp_path: Path) -> None:
    async with managing(tmp_path, pod("one"), refusing=2) as (manager, _):
        await manager.wait_connected()
        assert manager.problem() is None


async def test_waiting_for_a_gateway_that_does_not_answer_times_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel_manager, "CONNECT_SECONDS", 0.3)
    async with managing(tmp_path, pod("one"), refusing=1000) as (manager, _):
        async with asyncio.timeout(stage.WITHIN):
            await manager.wait_connected()
        assert manager.problem() is not None


async def test_waiting_ends_when_no_gateway_exists(tmp_path: Path) -> None:
    async with managing(tmp_path) as (manager, _):
        await manager.wait_connected()
        assert manager.problem() == "no gateway pod is running"


async def test_waiting_ends_when_the_foreign_api_server_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel_manager, "CONNECT_SECONDS", 2 * stage.WITHIN)
    async with managing(tmp_path, pod("one")) as (_, foreign):
        path = apiserver.kubeconfig(tmp_path / "dead", "http://127.0.0.1:1")
        async with apiserver.connection(path) as dead:
            manager = tunnel_manager.TunnelManager(
                dead,
                namespace="farlet",
                folder=tmp_path,
                dial=foreign.scene.home.dial,
                on_change=lambda: None,
                budget=RelayBudget(),
            )
            running = asyncio.create_task(manager.run())
            async with asyncio.timeout(stage.WITHIN):
                await manager.wait_connected()
            assert "127.0.0.1" in (manager.problem() or "")
            running.cancel()
            await asyncio.wait([running])


async def test_the_same_failure_is_reported_once(tmp_path: Path) -> None:
    async with managing(tmp_path, pod("one"), refusing=1000) as (manager, foreign):
        await stage.eventually(
            lambda: "does not answer" in (manager.problem() or "") and foreign.forwards > 1
        )
        before = foreign.changes
        await stage.eventually(lambda: foreign.forwards > 3)
        assert foreign.changes == before
