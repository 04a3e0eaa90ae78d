"""A foreign API server with a Service and pods behind it, whose port-forwards lead to TLS here."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from farlet import settings
from farlet.constants import Reason
from farlet.context import Context, HomeAPI, Refused
from farlet.homeapi import discovery
from farlet.settings import loading
from unit import certificates
from unit.gateway import stage as gateways
from unit.reconcile import apiserver

SERVICES = "/api/v1/namespaces/farlet/services"
PODS = "/api/v1/namespaces/farlet/pods"
USUAL = ("kubernetes", "kubernetes.default.svc", "10.96.0.1")
"""Names in a certificate of an API server."""
GREETINGS = (b"\x00\x2b\x19", b"\x01\x2b\x19")
"""Port 6443, little-endian."""


def service(ip: str = "10.96.3.4", **spec: Any) -> dict[str, Any]:
    return {
        "kind": "Service",
        "metadata": {
            "name": "home-api",
            "namespace": "farlet",
            "uid": "home-api",
            "resourceVersion": "2",
        },
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
        "spec": {
            "containers": [{"name": "gateway", "ports": [{"name": port, "containerPort": 6443}]}]
        },
        "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


@dataclasses.dataclass
class ForeignCluster:
    """The objects of the foreign API server, which a test changes."""

    folder: Path
    ca: certificates.Pair
    service: dict[str, Any] | None = None
    pods: list[dict[str, Any]] = dataclasses.field(default_factory=lambda: [pod()])
    forbids: str = ""
    """Requests to paths with this prefix are answered with 403."""
    complaint: str = ""
    """Error of the kubelet in place of a connection."""
    forwarded: list[str] = dataclasses.field(default_factory=list)
    received: bytes = b""
    """Data after the handshake."""
    _tls: ssl.SSLContext | None = None
    _watches: list[web.StreamResponse] = dataclasses.field(default_factory=list)

    def present(self, *names: str, ca: certificates.Pair | None = None) -> None:
        """Serve a certificate of these names behind the Service."""
        pair = certificates.issue(
            ca or self.ca, user="kube-apiserver", uses=(certificates.SERVER,), hosts=names
        )
        self._tls = certificates.server_context(pair, self.folder / "tls")

    async def set_service(self, service: dict[str, Any] | None) -> None:
        """Create, change or delete the Service, and send the watch event."""
        kind = "DELETED" if service is None else "MODIFIED" if self.service else "ADDED"
        shown = service or self.service
        self.service = service
        await gateways.eventually(lambda: bool(self._watches))
        line = json.dumps({"type": kind, "object": shown}).encode() + b"\n"
        for watch in self._watches:
            await watch.write(line)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.forbids and request.path.startswith(self.forbids):
            return await apiserver.status(403, "forbidden")(request)
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
        serving: list[asyncio.Task[None]] = []

        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            serving.append(asyncio.create_task(self._served(reader, writer)))

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
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
                for task in serving:  # one can still be in its handshake
                    task.cancel()
                await asyncio.gather(*serving, return_exceptions=True)
        return socket

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                if self._tls is not None:
                    await writer.start_tls(self._tls)
                while data := await reader.read(65536):
                    self.received += data
        finally:
            writer.transport.abort()


def _listed(items: list[dict[str, Any]]) -> web.Response:
    return web.json_response({"kind": "List", "metadata": {"resourceVersion": "1"}, "items": items})


async def _back(reader: asyncio.StreamReader, socket: web.WebSocketResponse) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(32768):
            await socket.send_bytes(b"\x00" + data)
    await socket.close()


@dataclasses.dataclass
class Scene:
    """A running discovery."""

    foreign: ForeignCluster
    discovery: discovery.Discovery
    changes: list[Context]
    """After the first check."""
    ca_file: Path
    home_tls: ssl.SSLContext

    def home_presents(self, *names: str) -> None:
        """Serve another certificate at the home API server from the next connection on."""
        self.home_tls.load_cert_chain(
            *home_certificate(self.foreign.ca, names).write(self.ca_file.parent, "home-server")
        )

    @property
    def ctx(self) -> Context:
        return self.discovery.ctx()

    @property
    def home_api(self) -> HomeAPI:
        return self.ctx.home_api

    def refusal(self, reason: Reason) -> str:
        """The message of a refusal with this reason; empty where there is none."""
        match self.home_api:
            case Refused(reason=found, message=message) if found is reason:
                return message
        return ""

    async def check(self) -> None:
        """Check twice: the first to end possibly began before the test changed something."""
        for _ in range(2):
            self.discovery.checked.clear()
            self.discovery.recheck()
            await gateways.eventually(self.discovery.checked.is_set)


def home_certificate(ca: certificates.Pair, names: Sequence[str]) -> certificates.Pair:
    """A certificate of the home API server, which farlet dials by its address."""
    hosts = (*names, "127.0.0.1")
    return certificates.issue(ca, user="kube-apiserver", uses=(certificates.SERVER,), hosts=hosts)


@contextlib.asynccontextmanager
async def discovering(
    folder: Path,
    foreign_cluster: ForeignCluster,
    *,
    home_names: Sequence[str] = USUAL,
    home_verified: bool = True,
    gateway_problem: str | None = None,
    **flags: str,
) -> AsyncIterator[Scene]:
    """Run a discovery, whose first check is over at the beginning of the block."""
    ca_file = folder / "home-ca.crt"
    ca_file.write_text(foreign_cluster.ca.pem)
    changes: list[Context] = []
    home_tls = certificates.server_context(
        home_certificate(foreign_cluster.ca, home_names), folder / "home-tls"
    )
    verification: dict[str, Any] = (
        {"certificate-authority": str(ca_file)}
        if home_verified
        else {"insecure-skip-tls-verify": True}
    )
    async with (
        apiserver.listening() as front,
        apiserver.listening(home_tls) as at_home,
        apiserver.connection(apiserver.kubeconfig(folder / "far", front.url)) as foreign,
        apiserver.connection(
            apiserver.kubeconfig(folder / "home", at_home.url, **verification), "home"
        ) as home,
    ):
        front.answer = foreign_cluster.answer
        loaded = loading.load(
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
            loaded,
            home,
            foreign,
            on_change=lambda: changes.append(found.ctx()),
            gateway_problem=lambda: gateway_problem,
        )
        assert await found.identify_home(asyncio.Event())
        running = asyncio.create_task(found.run())
        try:
            await gateways.eventually(found.checked.is_set)
            changes.clear()
            yield Scene(foreign_cluster, found, changes, ca_file, home_tls)
        finally:
            running.cancel()
            await asyncio.wait([running])
