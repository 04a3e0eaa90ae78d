"""Which gateways farlet is connected to, and for how long."""

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
from unit.gateway import stage
from unit.reconcile import apiserver


def pod(name: str, *, uid: str = "", phase: str = "Running") -> dict[str, Any]:
    metadata = {"name": name, "namespace": "farlet", "uid": uid or f"{name}-uid"}
    return {
        "kind": "Pod",
        "metadata": {**metadata, "resourceVersion": "2"},
        "status": {"phase": phase},
    }


@dataclass
class Abroad:
    """A foreign API server: gateway pods, and port-forwards that lead to a gateway in this loop."""

    scene: stage.Scene
    pods: list[dict[str, Any]]
    forwards: int = 0
    refusing: int = 0
    """How many port-forwards are still to be refused."""
    selectors: list[str] = field(default_factory=list)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    changes: int = 0
    """How often it was told that something has changed."""
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

    async def tell(self, kind: str, obj: dict[str, Any]) -> None:
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
            return await apiserver.status(500, "the kubelet is away")(request)
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
async def keeping(
    folder: Path, *pods: dict[str, Any], refusing: int = 0
) -> AsyncIterator[tuple[tunnel_manager.TunnelManager, Abroad]]:
    """farlet keeps tunnels to a gateway, at which all pods end."""
    own = folder / "keys"
    own.mkdir()
    async with stage.standing() as scene, apiserver.connected(folder) as (front, cluster):
        (own / keys.PRIVATE).write_bytes(scene.farlet.private.export_private_key())
        (own / keys.TRUSTED).write_bytes(scene.farlet.trusted[0].export_public_key())
        abroad = Abroad(scene, list(pods), refusing=refusing)
        front.answer = abroad.answer

        def changed() -> None:
            abroad.changes += 1

        kept = tunnel_manager.TunnelManager(
            cluster, namespace="farlet", folder=own, dial=scene.home.dial, on_change=changed
        )
        running = asyncio.create_task(kept.run())
        try:
            yield kept, abroad
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


async def test_every_gateway_that_runs_is_connected_to(tmp_path: Path) -> None:
    pods = pod("one"), pod("two"), pod("starting", phase="Pending")
    async with keeping(tmp_path, *pods) as (kept, abroad):
        await stage.eventually(lambda: kept.links == 2)
        assert abroad.selectors == ["app.kubernetes.io/name=farlet-gateway"]
        assert kept.problem() is None
        reader, writer = await abroad.scene.pod()
        writer.write_eof()
        assert await stage.all_of(reader) == b"end"
        writer.close()
        await abroad.tell("MODIFIED", pod("starting"))
        await stage.eventually(lambda: kept.links == 3)


@pytest.mark.parametrize(
    ("kind", "phase"),
    [
        pytest.param("DELETED", "Running", id="it was deleted"),
        pytest.param("MODIFIED", "Failed", id="it was evicted"),
    ],
)
async def test_a_gateway_that_is_gone_is_let_go(tmp_path: Path, kind: str, phase: str) -> None:
    async with keeping(tmp_path, pod("one")) as (kept, abroad):
        await stage.eventually(lambda: kept.problem() is None)
        await abroad.tell(kind, pod("one", phase=phase))
        await stage.eventually(lambda: kept.problem() == "no gateway pod is running")
        await stage.eventually(lambda: not abroad.sockets)
        assert abroad.forwards == 1


async def test_a_tunnel_that_breaks_is_made_again_at_once(tmp_path: Path) -> None:
    async with keeping(tmp_path, pod("one")) as (kept, abroad):
        for times in (1, 2, 3):
            await stage.eventually(lambda: kept.problem() is None)
            assert abroad.forwards == times
            await abroad.sockets[0].close()
            await stage.eventually(lambda: kept.problem() is not None)


async def test_a_gateway_that_was_connected_to_and_becomes_ready_is_a_change(
    tmp_path: Path,
) -> None:
    """The Service leads somewhere only then."""
    async with keeping(tmp_path, pod("one")) as (kept, abroad):
        await stage.eventually(lambda: kept.problem() is None)
        before = abroad.changes
        await abroad.tell("MODIFIED", pod("one"))
        await stage.eventually(lambda: abroad.changes > before)


async def test_what_stands_in_the_way_is_told_until_it_does_not_any_more(tmp_path: Path) -> None:
    async with keeping(tmp_path, pod("one"), refusing=2) as (kept, abroad):
        await stage.eventually(lambda: "the kubelet is away" in (kept.problem() or ""))
        assert (kept.problem() or "").startswith("gateway pod farlet/one is not connected: ")
        await stage.eventually(lambda: kept.problem() is None)
        assert abroad.forwards == 3


async def test_keys_are_read_anew_for_each_tunnel(tmp_path: Path) -> None:
    async with keeping(tmp_path, pod("one")) as (kept, abroad):
        await stage.eventually(lambda: kept.problem() is None)
        stranger, _ = keys.generate()
        (tmp_path / "keys" / keys.PRIVATE).write_text(stranger[keys.PRIVATE])
        await abroad.sockets[0].close()
        await stage.eventually(lambda: "trusted" in (kept.problem() or ""))


async def test_no_gateway_is_told_as_such(tmp_path: Path) -> None:
    async with keeping(tmp_path) as (kept, _):
        assert kept.problem() == "the list of gateway pods is not read yet"
        await stage.eventually(lambda: kept.problem() == "no gateway pod is running")


async def test_what_is_in_the_making_is_awaited(tmp_path: Path) -> None:
    async with keeping(tmp_path, pod("one"), refusing=2) as (kept, _):
        await kept.wait_connected()
        assert kept.problem() is None


async def test_a_gateway_that_does_not_answer_is_not_awaited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel_manager, "CONNECT_SECONDS", 0.3)
    async with keeping(tmp_path, pod("one"), refusing=1000) as (kept, _):
        async with asyncio.timeout(stage.WITHIN):
            await kept.wait_connected()
        assert kept.problem() is not None


async def test_without_gateways_nothing_is_awaited(tmp_path: Path) -> None:
    async with keeping(tmp_path) as (kept, _):
        await kept.wait_connected()
        assert kept.problem() == "no gateway pod is running"


async def test_a_foreign_api_server_that_does_not_answer_is_not_awaited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel_manager, "CONNECT_SECONDS", 2 * stage.WITHIN)
    async with keeping(tmp_path, pod("one")) as (_, abroad):
        path = apiserver.kubeconfig(tmp_path / "dead", "http://127.0.0.1:1")
        async with apiserver.connection(path) as dead:
            kept = tunnel_manager.TunnelManager(
                dead,
                namespace="farlet",
                folder=tmp_path,
                dial=abroad.scene.home.dial,
                on_change=lambda: None,
            )
            running = asyncio.create_task(kept.run())
            async with asyncio.timeout(stage.WITHIN):
                await kept.wait_connected()
            assert "127.0.0.1" in (kept.problem() or "")
            running.cancel()
            await asyncio.wait([running])


async def test_the_same_failure_is_told_once(tmp_path: Path) -> None:
    async with keeping(tmp_path, pod("one"), refusing=1000) as (kept, abroad):
        await stage.eventually(lambda: "is away" in (kept.problem() or "") and abroad.forwards > 1)
        before = abroad.changes
        await stage.eventually(lambda: abroad.forwards > 3)
        assert abroad.changes == before
