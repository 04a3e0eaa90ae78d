"""A foreign API server with a Service and pods behind it, whose port-forwards lead to TLS here."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from farlet import settings
from farlet.context import Context
from farlet.homeapi import discovery
from farlet.settings import loading
from unit import certificates
from unit.gateway import stage as gateways
from unit.reconcile import apiserver

SERVICES = "/api/v1/namespaces/farlet/services"
PODS = "/api/v1/namespaces/farlet/pods"
GREETINGS = (b"\x00\x2b\x19", b"\x01\x2b\x19")
"""Port 6443, little-endian."""


def service(ip: str = "10.96.3.4", **spec: Any) -> dict[str, Any]:
    return {
        "kind": "Service",
        "metadata": {"name": "home-api", "namespace": "farlet", "resourceVersion": "2"},
        "spec": {
            "clusterIP": ip,
            "clusterIPs": [ip],
            "selector": {"app": "gateway"},
            "ports": [{"name": "https", "port": 443, "targetPort": "pods"}],
            **spec,
        },
    }


def pod(name: str = "gateway-0", *, ready: bool = True, port: str = "pods") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "farlet", "uid": name, "resourceVersion": "2"},
        "spec": {"containers": [{"ports": [{"name": port, "containerPort": 6443}]}]},
        "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


@dataclasses.dataclass
class Abroad:
    """What the foreign API server knows, to be changed by the test."""

    folder: Path
    ca: certificates.Pair
    service: dict[str, Any] | None = None
    pods: list[dict[str, Any]] = dataclasses.field(default_factory=lambda: [pod()])
    forbids: str = ""
    """Paths that begin so are answered 403."""
    complaint: str = ""
    """What the kubelet says in place of a connection."""
    forwarded: list[str] = dataclasses.field(default_factory=list)
    heard: bytes = b""
    """What came behind a handshake."""
    _tls: ssl.SSLContext | None = None
    _watches: list[web.StreamResponse] = dataclasses.field(default_factory=list)

    def presents(self, *names: str, ca: certificates.Pair | None = None) -> None:
        """Behind the Service there is from now on a certificate of these names."""
        pair = certificates.issue(
            ca or self.ca, user="kube-apiserver", uses=(certificates.SERVER,), hosts=names
        )
        self._tls = certificates.server_context(pair, self.folder / "tls")

    async def becomes(self, service: dict[str, Any] | None) -> None:
        """The Service is made, changed or deleted, and whoever watches hears of it."""
        kind = "DELETED" if service is None else "MODIFIED" if self.service else "ADDED"
        told = service or self.service
        self.service = service
        await gateways.eventually(lambda: bool(self._watches))
        line = json.dumps({"type": kind, "object": told}).encode() + b"\n"
        for watch in self._watches:
            await watch.write(line)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.forbids and request.path.startswith(self.forbids):
            return await apiserver.status(403, "may not")(request)
        if request.path == SERVICES and "watch" in request.query:
            return await self._watch(request)
        if request.path == SERVICES:
            assert request.query["fieldSelector"] == "metadata.name=home-api"
            return _listed([] if self.service is None else [self.service])
        if request.path == PODS:
            assert request.query["labelSelector"] == "app=gateway"
            return _listed(self.pods)
        return await self._forward(request)

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
        self.forwarded.append(request.path_qs.removeprefix(f"{PODS}/"))
        socket = web.WebSocketResponse(protocols=["v4.channel.k8s.io"])
        await socket.prepare(request)
        for greeting in GREETINGS:
            await socket.send_bytes(greeting)
        if self.complaint:
            await socket.send_bytes(b"\x01" + self.complaint.encode())
            await socket.close()
            return socket
        server = await asyncio.start_server(self._served, "127.0.0.1", 0, ssl=self._tls)
        async with server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            back = asyncio.create_task(_back(reader, socket))
            try:
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.BINARY:
                        writer.write(message.data[1:])
            finally:
                back.cancel()
                writer.transport.abort()
        return socket

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                self.heard += data
        writer.close()


def _listed(items: list[dict[str, Any]]) -> web.Response:
    return web.json_response({"kind": "List", "metadata": {"resourceVersion": "1"}, "items": items})


async def _back(reader: asyncio.StreamReader, socket: web.WebSocketResponse) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(32768):
            await socket.send_bytes(b"\x00" + data)
    await socket.close()


@dataclasses.dataclass
class Scene:
    """farlet looks for the address."""

    abroad: Abroad
    discovery: discovery.Discovery
    changes: list[Context]
    """After the first look."""
    ca_file: Path

    @property
    def ctx(self) -> Context:
        return self.discovery.ctx()

    async def looks(self) -> None:
        """Once more, to the end. The first to end may have begun before the test changed things."""
        for _ in range(2):
            self.discovery.looked.clear()
            self.discovery.look_again()
            await gateways.eventually(self.discovery.looked.is_set)


@contextlib.asynccontextmanager
async def looking(
    folder: Path, abroad: Abroad, *, gateway_problem: str | None = None, **flags: str
) -> AsyncIterator[Scene]:
    """Until the block ends; the first look is over at its beginning."""
    ca_file = folder / "home-ca.crt"
    ca_file.write_text(abroad.ca.pem)
    changes: list[Context] = []
    async with (
        apiserver.listening() as front,
        apiserver.listening() as at_home,
        apiserver.connection(apiserver.kubeconfig(folder / "far", front.url)) as foreign,
        apiserver.connection(apiserver.kubeconfig(folder / "home", at_home.url), "home") as home,
    ):
        front.answer = abroad.answer
        wanted = loading.load(
            settings.Settings,
            {
                "nodename": "far",
                "home_id": "home-1",
                "home_kubeconfig": str(folder / "home"),
                "foreign_kubeconfig": str(folder / "far"),
                "home_api_server_ca_file": str(ca_file),
                "node_ip": "192.0.2.1",
                **flags,
            },
        )
        found = discovery.Discovery(
            wanted,
            home,
            foreign,
            on_change=lambda: changes.append(found.ctx()),
            gateway_problem=lambda: gateway_problem,
        )
        assert await found.find_out(asyncio.Event())
        running = asyncio.create_task(found.run(ready=_now))
        try:
            await gateways.eventually(found.looked.is_set)
            changes.clear()
            yield Scene(abroad, found, changes, ca_file)
        finally:
            running.cancel()
            await asyncio.wait([running])


async def _now() -> None:
    """What leads there is there."""
