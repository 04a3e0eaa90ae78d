"""Port-forwards over a WebSocket: data to and from a port of a pod, and errors."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from wsproto.utilities import generate_accept_token

from farlet import errors
from farlet.client import cluster as clusters
from farlet.constants import ObjectKey
from farlet.gateway import port_forward
from unit.gateway import stage
from unit.reconcile import apiserver

POD = ObjectKey("farlet", "gateway-0")
PORT = 8022
GREETINGS = (b"\x00\x56\x1f", b"\x01\x56\x1f")
"""Port 8022, little-endian, on both channels: what `websocket.go` sends first."""

Speak = Callable[[web.WebSocketResponse], Awaitable[None]]


def kubelet(speak: Speak, requests: list[str] | None = None) -> apiserver.Answer:
    """A foreign API server whose kubelet runs `speak` after the greeting."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if requests is not None:
            requests.append(request.path_qs)
        socket = web.WebSocketResponse(protocols=["v4.channel.k8s.io"])
        await socket.prepare(request)
        assert socket.ws_protocol == "v4.channel.k8s.io"
        for greeting in GREETINGS:
            await socket.send_bytes(greeting)
        await speak(socket)
        await socket.close()
        return socket

    return answer


async def echo(socket: web.WebSocketResponse) -> None:
    async for message in socket:
        assert message.type is aiohttp.WSMsgType.BINARY
        assert message.data[0] == 0
        await socket.send_bytes(message.data)


async def streams(forward: port_forward.Forward) -> stage.Streams:
    return await asyncio.open_connection(sock=forward.socket)


async def test_bytes_arrive_whole_in_both_directions(tmp_path: Path) -> None:
    requests: list[str] = []
    blob = os.urandom(3 << 20)
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = kubelet(echo, requests)
        async with port_forward.opened(cluster, POD, PORT) as forward:
            reader, writer = await streams(forward)
            writer.write(blob)
            assert await asyncio.wait_for(reader.readexactly(len(blob)), stage.WITHIN) == blob
            writer.close()
    assert requests == ["/api/v1/namespaces/farlet/pods/gateway-0/portforward?ports=8022"]


async def test_an_error_of_the_kubelet_is_kept_apart_from_data(tmp_path: Path) -> None:
    async def send_error(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"\x01error forwarding port 8022: ")
        await socket.send_bytes(b"\x01connection refused")

    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = kubelet(send_error)
        async with port_forward.opened(cluster, POD, PORT) as forward:
            reader, writer = await streams(forward)
            assert await stage.all_of(reader) == b""
            assert forward.kubelet_error == "error forwarding port 8022: connection refused"
            writer.close()


async def test_a_long_error_of_the_kubelet_is_cut(tmp_path: Path) -> None:
    async def send_error(socket: web.WebSocketResponse) -> None:
        for _ in range(100):
            await socket.send_bytes(b"\x01" + b"no " * 1000)

    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = kubelet(send_error)
        async with port_forward.opened(cluster, POD, PORT) as forward:
            reader, writer = await streams(forward)
            assert await stage.all_of(reader) == b""
            assert forward.kubelet_error is not None
            assert len(forward.kubelet_error) == port_forward.MAX_KUBELET_ERROR
            writer.close()


async def test_a_ping_is_answered(tmp_path: Path) -> None:
    async def ping(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"\x00before")
        await socket.ping(b"there?")
        await socket.send_bytes(b"\x00, after")
        assert (await socket.receive()).type is aiohttp.WSMsgType.PONG
        await socket.send_bytes(b"\x00, heard")

    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = kubelet(ping)

        async def answer(request: web.Request) -> web.StreamResponse:
            socket = web.WebSocketResponse(protocols=["v4.channel.k8s.io"], autoping=False)
            await socket.prepare(request)
            for greeting in GREETINGS:
                await socket.send_bytes(greeting)
            await ping(socket)
            await socket.close()
            return socket

        front.answer = answer
        async with port_forward.opened(cluster, POD, PORT) as forward:
            reader, writer = await streams(forward)
            assert await stage.all_of(reader) == b"before, after, heard"
            writer.close()


def listener() -> tuple[Callable[[web.WebSocketResponse], Awaitable[None]], asyncio.Event]:
    """An echo, and an event for its end."""
    ended = asyncio.Event()

    async def listen(socket: web.WebSocketResponse) -> None:
        try:
            await echo(socket)
        finally:  # the server cancels it
            ended.set()

    return listen, ended


async def test_the_connection_ends_with_the_caller(tmp_path: Path) -> None:
    listen, ended = listener()
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = kubelet(listen)
        async with port_forward.opened(cluster, POD, PORT) as forward:
            _, writer = await streams(forward)
            writer.close()
            await asyncio.wait_for(ended.wait(), stage.WITHIN)


async def test_the_connection_ends_with_the_block(tmp_path: Path) -> None:
    listen, ended = listener()
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = kubelet(listen)
        async with port_forward.opened(cluster, POD, PORT) as forward:
            reader, writer = await streams(forward)
        assert await stage.all_of(reader) == b""
        await asyncio.wait_for(ended.wait(), stage.WITHIN)
        writer.close()


async def test_a_lost_connection_to_the_server_is_an_end(tmp_path: Path) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):

        async def vanish(request: web.Request) -> web.StreamResponse:
            socket = web.WebSocketResponse(protocols=["v4.channel.k8s.io"])
            await socket.prepare(request)
            assert request.transport is not None
            request.transport.abort()
            return socket

        front.answer = vanish
        async with port_forward.opened(cluster, POD, PORT) as forward:
            reader, writer = await streams(forward)
            assert await stage.all_of(reader) == b""
            writer.close()


async def test_a_caller_that_writes_after_a_close_sees_an_end(tmp_path: Path) -> None:
    async def leave(request: web.Request) -> web.StreamResponse:
        """Close in the packet that accepts the upgrade."""
        accepted = generate_accept_token(request.headers["Sec-WebSocket-Key"].encode()).decode()
        assert request.transport is not None
        request.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n"
            b"Sec-WebSocket-Accept: " + accepted.encode() + b"\r\n\r\n\x88\x02\x03\xe8"
        )
        await asyncio.sleep(1)
        raise AssertionError

    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = leave
        async with port_forward.opened(cluster, POD, PORT) as forward:
            await asyncio.sleep(0)  # it reads the upgrade before the close
            forward.socket.send(b"hello?")
            reader, writer = await streams(forward)
            assert await stage.all_of(reader) == b""
            writer.close()


async def test_a_pod_that_does_not_read_stalls_the_caller(tmp_path: Path) -> None:
    going = asyncio.Event()

    async def lazy(socket: web.WebSocketResponse) -> None:
        await going.wait()
        await echo(socket)

    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = kubelet(lazy)
        async with port_forward.opened(cluster, POD, PORT) as forward:
            _, writer = await streams(forward)
            writer.write(bytes(64 << 20))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(writer.drain(), 0.5)
            assert writer.transport.get_write_buffer_size() > 40 << 20
            writer.transport.abort()
        going.set()


async def upgraded_to_nothing(request: web.Request) -> web.StreamResponse:
    """A 101 that does not answer the key of this request."""
    assert request.transport is not None
    request.transport.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
    await asyncio.sleep(1)
    raise AssertionError


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        pytest.param(apiserver.status(403), errors.Forbidden, "403", id="forbidden"),
        pytest.param(apiserver.status(404), errors.NotFound, "404", id="no pod"),
        pytest.param(apiserver.status(500), errors.Unreachable, "HTTP 500", id="kubelet is down"),
        pytest.param(
            apiserver.other(200, apiserver.HTML),
            errors.Unreachable,
            "not an API server",
            id="not an API server",
        ),
        pytest.param(
            upgraded_to_nothing, errors.Unreachable, "did not accept the WebSocket", id="replay"
        ),
    ],
)
async def test_a_refusal_raises_its_error(
    tmp_path: Path, answer: apiserver.Answer, kind: type[errors.FarletError], message: str
) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = answer
        with pytest.raises(kind, match=message):
            await enter(cluster)


async def test_a_server_that_does_not_answer_times_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port_forward, "OPEN_SECONDS", 0.1)
    never = asyncio.Event()

    async def silent(_request: web.Request) -> web.StreamResponse:
        await never.wait()
        raise AssertionError

    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = silent
        with pytest.raises(errors.Unreachable, match="timed out"):
            await enter(cluster)


async def enter(cluster: clusters.Cluster) -> None:
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(port_forward.opened(cluster, POD, PORT))
