"""Requests on connections of their own: their route and their content."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from clusters import pki
from farlet import errors
from farlet.client import cluster as clusters
from farlet.client import raw_response
from unit import listening
from unit.kubelet import harness
from unit.reconcile import apiserver

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Proxy:
    """A proxy: it answers CONNECT and then relays bytes."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.heads: list[str] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        writer.write(self.answer)
        host, port = head.split(" ")[1].rsplit(":", 1)
        if b"200" in self.answer:
            beyond = await asyncio.open_connection(host, int(port))
            await asyncio.gather(copy(reader, beyond[1]), copy(beyond[0], writer))
        writer.close()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except ConnectionError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def serving(folder: Path, **cluster: Any) -> AsyncIterator[tuple[apiserver.Front, Path]]:
    """An API server over TLS that verifies client certificates, and a kubeconfig for it."""
    tls, _, ca = harness.contexts(folder / "pki")
    async with apiserver.listening(tls) as front:
        path = folder / "kubeconfig"
        yield front, apiserver.kubeconfig(path, front.url, **trusting(ca), **cluster)


def trusting(ca: Path) -> dict[str, Any]:
    return {"certificate-authority": str(ca)}


async def text(cluster: clusters.Cluster, path: str = "/logs") -> bytes:
    exchange = await cluster.open_path("GET", path, [("X-Ours", "1")])
    try:
        return await exchange.text(100)
    finally:
        await exchange.close()


async def test_a_request_contains_our_credentials_and_the_given_headers(tmp_path: Path) -> None:
    async with serving(tmp_path) as (front, kubeconfig):
        seen: list[Any] = []

        async def answer(request: Any) -> Any:
            seen.append(request.headers)
            return await apiserver.ok(request)

        front.answer = answer
        async with apiserver.connection(kubeconfig) as cluster:
            assert b"Pod" in await text(cluster)
        assert seen[0]["Authorization"] == "Bearer first"
        assert seen[0]["X-Ours"] == "1"
        assert seen[0]["Host"] == front.url.removeprefix("https://")


async def test_the_path_of_the_server_url_is_used(tmp_path: Path) -> None:
    async with serving(tmp_path) as (front, kubeconfig):
        kubeconfig.write_text(kubeconfig.read_text().replace(front.url, f"{front.url}/k8s/one/"))
        async with apiserver.connection(kubeconfig) as cluster:
            await text(cluster, "/logs?a=b")
        assert front.asked == ["GET /k8s/one/logs"]


async def test_the_client_certificate_and_the_tls_server_name_are_used(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, **{"tls-server-name": "node"}) as (front, kubeconfig):
        folder = tmp_path / "pki"
        user = {
            "client-certificate": str(folder / "caller.crt"),
            "client-key": str(folder / "caller.key"),
        }
        ca = trusting(folder / "ca.crt")
        apiserver.kubeconfig(kubeconfig, front.url, user=user, **ca, **{"tls-server-name": "node"})
        async with apiserver.connection(kubeconfig) as cluster:
            await text(cluster)
        assert front.logins == ["home-api-server"]
        apiserver.kubeconfig(kubeconfig, front.url, user=user, **ca, **{"tls-server-name": "no"})
        async with apiserver.connection(kubeconfig) as cluster:
            with pytest.raises(errors.Unreachable, match="Hostname mismatch"):
                await text(cluster)


async def test_a_server_with_a_certificate_of_another_ca_gets_no_request(tmp_path: Path) -> None:
    async with serving(tmp_path) as (front, kubeconfig):
        other = pki.authority(tmp_path / "other", name="other").files.certificate
        apiserver.kubeconfig(kubeconfig, front.url, **trusting(other))
        async with apiserver.connection(kubeconfig) as cluster:
            with pytest.raises(errors.Unreachable, match="certificate is not signed by the CA"):
                await text(cluster)
            assert cluster.problem is not None
        assert not front.asked


async def test_plain_http_is_used_if_the_kubeconfig_says_so(tmp_path: Path) -> None:
    async with apiserver.connected(tmp_path) as (_, cluster):
        assert b"Pod" in await text(cluster)


@asynccontextmanager
async def proxied(
    folder: Path, answer: bytes, *, scheme: str = "http", user: str = ""
) -> AsyncIterator[tuple[apiserver.Front, Proxy, clusters.Cluster]]:
    proxy = Proxy(answer)
    async with (
        listening.listening(proxy.connected) as port,
        serving(folder, **{"proxy-url": f"{scheme}://{user}127.0.0.1:{port}"}) as (front, path),
        apiserver.connection(path) as cluster,
    ):
        yield front, proxy, cluster


async def test_a_proxy_gets_a_connect_request_and_sees_only_tls(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 200 Connection established\r\n\r\n"
    async with proxied(tmp_path, answer, user="me:pass%20word@") as (front, proxy, cluster):
        assert b"Pod" in await text(cluster)
        host = front.url.removeprefix("https://")
        login = base64.b64encode(b"me:pass word").decode()
        assert proxy.heads == [
            f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Basic {login}\r\n\r\n"
        ]


@pytest.mark.parametrize(
    ("answer", "scheme", "says"),
    [
        pytest.param(
            b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", "http", "407 to CONNECT", id="refused"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            "http",
            "sent unexpected bytes",
            id="more than an answer",
        ),
        pytest.param(b"", "https", "a proxy with the scheme http", id="a proxy over TLS"),
        pytest.param(b"", "socks5", "a proxy with the scheme http", id="another kind of proxy"),
    ],
)
async def test_a_proxy_that_cannot_be_used_is_named(
    tmp_path: Path, answer: bytes, scheme: str, says: str
) -> None:
    async with proxied(tmp_path, answer, scheme=scheme) as (front, _, cluster):
        with pytest.raises(errors.Unreachable, match=says):
            await text(cluster)
        assert not front.asked


async def test_a_server_that_accepts_no_connections_times_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_response, "CONNECT_SECONDS", 0.2)

    async def silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with listening.listening(silent) as port:
        path = apiserver.kubeconfig(tmp_path / "k", f"https://127.0.0.1:{port}")
        async with apiserver.connection(path) as cluster:
            with pytest.raises(errors.Unreachable, match="timed out"):
                await text(cluster)


async def test_writes_ask_the_guard(tmp_path: Path) -> None:
    def guard() -> float:
        raise errors.NotLeading("another process leads")

    async with apiserver.connected(tmp_path, guard=guard) as (front, cluster):
        with pytest.raises(errors.NotLeading):
            await cluster.open_path("POST", "/exec", [])
        assert not front.asked
        assert b"Pod" in await text(cluster)
