"""A port-forward by WebSocket: bytes to and from a port of a pod, and what refusals mean."""

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


def kubelet(speak: Speak, asked: list[str] | None = None) -> apiserver.Answer:
    """A foreign API server whose kubelet speaks so, after the greeting."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if asked is not None:
            asked.append(request.path_qs)
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
    asked: list[str] = []
    blob = os.urandom(3 << 20)
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = kubelet(echo, asked)
        async with port_forward.opened(cluster, POD, PORT) as forward:
            reader, writer = await streams(forward)
            writer.write(blob)
            assert await asyncio.wait_for(reader.readexactly(len(blob)), stage.WITHIN) == blob
            writer.close()
    assert asked == ["/api/v1/namespaces/farlet/pods/gateway-0/portforward?ports=8022"]


async def test_what_the_kubelet_says_of_the_port_is_kept_and_no_data(tmp_path: Path) -> None:
    async def complain(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"\x01error forwarding port 8022: ")
        await socket.send_bytes(b"\x01connection refused")

    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = kubelet(complain)
        async with port_forward.opened(cluster, POD, PORT) as forward:
            reader, writer = await streams(forward)
            assert await stage.all_of(reader) == b""
            assert forward.complaint == "error forwarding port 8022: connection refused"
            writer.close()


async def test_of_a_long_complaint_only_the_beginning_is_kept(tmp_path: Path) -> None:
    async def complain(socket: web.WebSocketResponse) -> None:
        for _ in range(100):
            await socket.send_bytes(b"\x01" + b"no " * 1000)

    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = kubelet(complain)
        async with port_forward.opened(cluster, POD, PORT) as forward:
            reader, writer = await streams(forward)
            assert await stage.all_of(reader) == b""
            assert forward.complaint is not None
            assert len(forward.complaint) == port_forward.COMPLAINT_CHARACTERS
            writer.close()


async def test_a_ping_is_answered_in_between(tmp_path: Path) -> None:
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
    """An echo, and what tells that it has ended."""
    ended = asyncio.Event()

    async def listen(socket: web.WebSocketResponse) -> None:
        try:
            await echo(socket)
        finally:  # the server cancels it
            ended.set()

    return listen, ended


async def test_when_the_caller_ends_the_connection_ends(tmp_path: Path) -> None:
    listen, ended = listener()
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = kubelet(listen)
        async with port_forward.opened(cluster, POD, PORT) as forward:
            _, writer = await streams(forward)
            writer.close()
            await asyncio.wait_for(ended.wait(), stage.WITHIN)


async def test_when_the_context_ends_the_connection_ends(tmp_path: Path) -> None:
    listen, ended = listener()
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = kubelet(listen)
        async with port_forward.opened(cluster, POD, PORT) as forward:
            reader, writer = await streams(forward)
        assert await stage.all_of(reader) == b""
        await asyncio.wait_for(ended.wait(), stage.WITHIN)
        writer.close()


async def test_a_server_that_vanishes_is_an_end(tmp_path: Path) -> None:
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


async def test_a_caller_who_writes_to_what_was_closed_in_order_sees_an_end(tmp_path: Path) -> None:
    async def leave(request: web.Request) -> web.StreamResponse:
        """Says goodbye in the packet that says welcome."""
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
            await asyncio.sleep(0)  # it is about to read the one, and then gets the other
            forward.socket.send(b"hello?")
            reader, writer = await streams(forward)
            assert await stage.all_of(reader) == b""
            writer.close()


async def test_a_slow_pod_makes_the_caller_wait(tmp_path: Path) -> None:
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
    """A 101 that is no answer to the key of this request."""
    assert request.transport is not None
    request.transport.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
    await asyncio.sleep(1)
    raise AssertionError


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        pytest.param(apiserver.status(403), errors.Forbidden, "403", id="no right"),
        pytest.param(apiserver.status(404), errors.NotFound, "404", id="no pod"),
        pytest.param(apiserver.status(500), errors.Unreachable, "HTTP 500", id="kubelet is down"),
        pytest.param(
            apiserver.other(200, apiserver.HTML),
            errors.Unreachable,
            "not an API server",
            id="else",
        ),
        pytest.param(upgraded_to_nothing, errors.Unreachable, "no WebSocket of ours", id="replay"),
    ],
)
async def test_a_refusal_is_an_error_of_its_kind(
    tmp_path: Path, answer: apiserver.Answer, kind: type[errors.FarletError], told: str
) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = answer
        with pytest.raises(kind, match=told):
            await enter(cluster)


async def test_a_server_that_does_not_answer_is_given_up(
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
