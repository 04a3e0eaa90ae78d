"""A server on this machine that answers HTTP as an API server would, or quite differently.

For what the connection makes of answers; `unit.planning.model` is for what a cluster does.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import test_utils, web

from farlet.client import cluster as clusters
from farlet.client import credentials, write_guard
from farlet.client.credential_sources import ClusterSource
from farlet.telemetry.metrics import Metrics
from unit.listening import turns

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
HTML = "<html><body>the load balancer has no backend</body></html>"


class Front:
    """A server whose answers the test changes as it likes."""

    def __init__(self) -> None:
        self.answer: Answer = ok
        self.asked: list[str] = []
        self.peers: set[tuple[str, int]] = set()
        """Where requests came from: one for each connection."""
        self.logins: list[str] = []
        """The common names of the client certificates that requests came with."""
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Every request ends here."""
        self.asked.append(f"{request.method} {request.path}")
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        certificate = request.transport.get_extra_info("peercert") or {}
        self.logins += [
            v for names in certificate.get("subject", ()) for k, v in names if k == "commonName"
        ]
        return await self.answer(request)


async def ok(_request: web.Request) -> web.StreamResponse:
    """An object."""
    return web.json_response({"kind": "Pod", "metadata": {"name": "web"}})


def status(code: int, message: str = "no", **headers: str) -> Answer:
    """The Status that an API server sends instead of an object."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        body = {"kind": "Status", "code": code, "message": message, "reason": "Because"}
        return web.json_response(body, status=code, headers=headers)

    return answer


def other(code: int, body: str, **headers: str) -> Answer:
    """An answer of something that is not an API server."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text=body, headers=headers, content_type="text/html")

    return answer


@asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None) -> AsyncIterator[Front]:
    """It listens while the context lasts."""
    front = Front()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", front.handle)
    server = test_utils.TestServer(app, scheme="https" if tls else "http")
    # An answer that a failed test left hanging is not waited for.
    await server.start_server(shutdown_timeout=0.5, ssl=tls)
    try:
        front.url = f"{server.scheme}://127.0.0.1:{server.port}"
        yield front
    finally:
        await server.close()
        await turns()


def kubeconfig(
    path: Path,
    server: str,
    *,
    token: str = "first",
    user: dict[str, Any] | None = None,
    **cluster: Any,
) -> Path:
    """Written, or written again; `user` instead of a token."""
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "one", "cluster": {"server": server, **cluster}}],
                "users": [{"name": "one", "user": user or {"token": token}}],
                "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
                "current-context": "one",
            }
        )
    )
    return path


def connection(
    path: Path,
    name: credentials.Name = "foreign",
    *,
    guard: write_guard.Guard = write_guard.unguarded,
) -> clusters.Cluster:
    """What farlet opens with that kubeconfig."""
    source = ClusterSource(kubeconfig=str(path), context=None)
    return clusters.Cluster(name, source, metrics=Metrics().client(name), guard=guard)


@asynccontextmanager
async def connected(
    folder: Path, *, guard: write_guard.Guard = write_guard.unguarded
) -> AsyncIterator[tuple[Front, clusters.Cluster]]:
    """A server and a connection to it; the kubeconfig is `folder/kubeconfig`."""
    async with listening() as front:
        path = kubeconfig(folder / "kubeconfig", front.url)
        async with connection(path, guard=guard) as cluster:
            yield front, cluster
