"""Connections of pods from farlet to the home API server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from farlet import errors
from farlet.gateway import home_dialer
from unit import listening
from unit.gateway import stage
from unit.reconcile import apiserver

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def proxy_url(proxy: str | None) -> dict[str, Any]:
    """Fields of a cluster in a kubeconfig."""
    return {} if proxy is None else {"proxy-url": proxy}


class Pod(asyncio.Protocol):
    """Records what arrives."""

    def __init__(self) -> None:
        self.received = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data


@contextlib.asynccontextmanager
async def serving(answer: bytes = b"") -> AsyncIterator[tuple[int, list[bytes]]]:
    """Echo. With `answer`, first read one HTTP head and answer it. Yields port and heads."""
    heads: list[bytes] = []

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
        await stage.echo(reader, writer)

    async with listening.listening(served) as port:
        yield port, heads


async def test_without_a_proxy_farlet_connects_directly(tmp_path: Path) -> None:
    async with serving() as (port, _):
        path = apiserver.kubeconfig(tmp_path / "home", f"https://127.0.0.1:{port}")
        async with apiserver.connection(path, "home") as home:
            dial = home_dialer.HomeDialer(home)
            dial.check()
            pod = Pod()
            await dial(lambda: pod)
            assert pod.transport is not None
            pod.transport.write(b"hello")
            await stage.eventually(lambda: pod.received == b"hello")
            pod.transport.abort()


async def test_with_a_proxy_farlet_sends_connect(tmp_path: Path) -> None:
    async with serving(ESTABLISHED) as (port, heads):
        path = apiserver.kubeconfig(
            tmp_path / "home", "https://[fd00::7]:6443", **proxy_url(f"http://127.0.0.1:{port}")
        )
        async with apiserver.connection(path, "home") as home:
            dial = home_dialer.HomeDialer(home)
            dial.check()
            pod = Pod()
            await dial(lambda: pod)
            assert pod.transport is not None
            pod.transport.write(b"hello")
            await stage.eventually(lambda: pod.received == b"hello")
            pod.transport.abort()
    assert heads[0].startswith(b"CONNECT [fd00::7]:6443 HTTP/1.1\r\n")


async def test_a_refusal_of_the_proxy_is_an_error(tmp_path: Path) -> None:
    refusal = b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"
    async with serving(refusal) as (port, _):
        path = apiserver.kubeconfig(
            tmp_path / "home", "https://home:6443", **proxy_url(f"http://127.0.0.1:{port}")
        )
        async with apiserver.connection(path, "home") as home:
            with pytest.raises(OSError, match="answered 403 to CONNECT"):
                await home_dialer.HomeDialer(home)(Pod)


@pytest.mark.parametrize(
    ("server", "proxy", "message"),
    [
        pytest.param("http://home:8080", None, "only over https", id="no TLS"),
        pytest.param("https://home/k8s/c-1", None, "without a path", id="a path"),
        pytest.param("https://home", "https://proxy:3128", "https://proxy", id="a proxy over TLS"),
        pytest.param("https://home", "socks5://proxy", "an http:// URL", id="a SOCKS proxy"),
    ],
)
async def test_an_unsupported_home_api_server_is_refused_at_start(
    tmp_path: Path, server: str, proxy: str | None, message: str
) -> None:
    path = apiserver.kubeconfig(tmp_path / "home", server, **proxy_url(proxy))
    async with apiserver.connection(path, "home") as home:
        with pytest.raises(errors.StartError, match=message) as caught:
            home_dialer.HomeDialer(home).check()
    assert "--gateway-keys" in str(caught.value)
