"""Attacks through the port of the node fail, with real API servers on both sides."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from clusters import kubeconfig
from integration.streaming import Far

pytestmark = pytest.mark.clusters

SPDY = (
    "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n"
)


@contextlib.asynccontextmanager
async def dialled(
    far: Far, folder: Path
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """The port, used by an administrator of the home cluster."""
    access = kubeconfig.read(far.clusters.home.kubeconfig)
    assert access.certificate is not None
    assert access.key is not None
    shown = folder / "shown.pem"
    shown.write_bytes(access.certificate + b"\n" + access.key)
    context = ssl.create_default_context(cafile=str(far.clusters.home.ca_file))
    context.load_cert_chain(shown)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", far.farlet.kubelet_port, ssl=context
    )
    try:
        yield reader, writer
    finally:
        writer.close()


async def status_of(far: Far, folder: Path, request: str) -> int:
    async with dialled(far, folder) as (reader, writer):
        writer.write(f"{request} HTTP/1.1\r\nHost: node\r\n\r\n".encode("latin-1"))
        return int((await reader.readline()).split(b" ")[1])


async def test_a_request_behind_an_upgrade_is_not_executed_with_farlet_s_permissions(
    far: Far, tmp_path: Path
) -> None:
    await far.pod("web")
    home, foreign = far.workspace.home, far.workspace.foreign
    mark = far.clusters.foreign.audit_mark()
    behind = (
        f"DELETE /api/v1/namespaces/{foreign}/pods/web HTTP/1.1\r\nHost: x\r\n\r\n"
        f"GET /api/v1/namespaces/{foreign}/secrets HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    streams = "input=1&output=1&command=cat"
    for pod, container, upgrade, expected in (
        ("web", "main", SPDY, 101),  # becomes a stream: the following bytes are SPDY data
        ("web", "main", SPDY.replace("SPDY/3.1", "h2c"), 400),
        ("web", "main", SPDY.replace("SPDY/3.1", "nonsense"), 400),
        ("web", "other", SPDY, 500),
        ("web", "main", f"{SPDY}Content-Length: {len(behind)}\r\n", 413),
    ):
        async with dialled(far, tmp_path) as (reader, writer):
            path = f"/exec/{home}/{pod}/{container}?{streams}"
            writer.write(f"POST {path} HTTP/1.1\r\nHost: n\r\n{upgrade}\r\n{behind}".encode())
            answered = await reader.readline()
            assert int(answered.split(b" ")[1]) == expected, (upgrade, answered)
            writer.write(behind.encode())
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(3):
                    rest = await reader.read()
                    assert b"HTTP/1.1" not in rest
    entries = [
        entry
        for entry in far.clusters.foreign.audit(since=mark, user="farlet", namespace=foreign)
        if entry.verb in {"delete", "list"} and entry.resource in {"pods", "secrets"}
    ]
    assert [e for e in entries if e.verb == "delete" or e.resource == "secrets"] == []
    still = await far.home.get("pods", name="web", namespace=home)
    assert still["status"]["phase"] == "Running"


async def test_only_pods_of_this_node_are_reachable(far: Far, tmp_path: Path) -> None:
    await far.pod("web")
    home, foreign = far.workspace.home, far.workspace.foreign
    assert await status_of(far, tmp_path, f"GET /containerLogs/{home}/web/main") == 200
    for path, expected in {
        f"/containerLogs/{foreign}/web/main": 404,
        "/containerLogs/kube-system/web/main": 404,
        f"/containerLogs/{home}/other/main": 404,
        f"/containerLogs/{home}/../{home}/web/main": 400,
        f"/containerLogs/{home}/web%2Fmain": 400,
        f"/containerLogs/{home}/web/%2e%2e/web/main": 400,
        f"/containerLogs//{home}/web/main": 400,
        f"/containerLogs/{home}/web\\main": 400,
        f"/containerLogs/{home}/web/main%00": 400,
        f"/containerLogs/{home}/web/main/log": 404,
    }.items():
        assert await status_of(far, tmp_path, f"GET {path}") == expected, path
    through_home = f"/api/v1/nodes/{far.node}/proxy/containerLogs/{foreign}/web/main"
    result = await far.kubectl().run("get", "--raw", through_home)
    assert result.code != 0


async def test_a_client_with_an_older_websocket_protocol_reaches_the_container(far: Far) -> None:
    """The protocol of the Python and JavaScript clients, which the API server passes on."""
    await far.pod("web")
    access = kubeconfig.read(far.clusters.home.kubeconfig)
    folder = far.clusters.instance.folder
    assert access.certificate is not None
    assert access.key is not None
    (folder / "ws.pem").write_bytes(access.certificate + b"\n" + access.key)
    context = ssl.create_default_context(cafile=str(far.clusters.home.ca_file))
    context.load_cert_chain(folder / "ws.pem")
    url = (
        f"{access.server}/api/v1/namespaces/{far.workspace.home}/pods/web/exec"
        "?stdin=true&stdout=true&stderr=true&command=bash&command=-c"
        "&command=read%20word%3B%20echo%20got%20%24word%3B%20exit%203"
    )
    seen: dict[int, bytes] = {}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=("v4.channel.k8s.io",), ssl=context) as socket,
    ):
        assert socket.protocol == "v4.channel.k8s.io"
        await socket.send_bytes(b"\x00hello\n")
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                seen[message.data[0]] = seen.get(message.data[0], b"") + message.data[1:]
    assert seen[1] == b"got hello\n"
    assert b'"reason":"ExitCode","message":"3"' in seen[3]
