"""Connections of pods through a gateway: data, half-close, resets, flow control."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable

import pytest

from farlet.gateway import link
from unit.gateway import stage

MIB = 1 << 20
ONE_READ = 256 * 1024
"""The most bytes that an asyncio transport reads from its socket in one call."""
CHANNEL_MARK = 64 * 1024
"""Bytes buffered for an SSH channel, above which asyncssh pauses its writer."""


async def test_bytes_arrive_whole_in_both_directions() -> None:
    blob = os.urandom(8 * MIB)
    async with stage.running() as scene:
        await scene.link()
        reader, writer = await scene.pod()

        async def send() -> None:
            writer.write(blob)
            await writer.drain()
            writer.write_eof()

        _, got = await asyncio.gather(send(), stage.all_of(reader))
        assert got == blob + b"end"
        writer.close()


@pytest.mark.thorough
async def test_concurrent_connections_do_not_mix() -> None:
    async with stage.running() as scene:
        opened = await scene.link()

        async def one(number: int) -> bool:
            reader, writer = await scene.pod()
            word = f"pod {number} ".encode() * 1000
            writer.write(word)
            writer.write_eof()
            got = await stage.all_of(reader)
            writer.close()
            return got == word + b"end"

        assert all(await asyncio.gather(*map(one, range(200))))
        await stage.eventually(lambda: opened.load == 0)


async def test_a_pod_that_has_closed_its_side_still_gets_the_answer() -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = await reader.read()
        await asyncio.sleep(0.05)  # the half-close must not have closed the connection meanwhile
        writer.write(str(len(sent)).encode())
        writer.close()

    async with stage.running(count) as scene:
        await scene.link()
        reader, writer = await scene.pod()
        writer.write(bytes(100_000))
        writer.write_eof()
        assert await stage.all_of(reader) == b"100000"
        writer.close()


async def test_a_pod_can_send_after_home_has_closed_its_side() -> None:
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def first_word(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"that is all")
        writer.write_eof()
        got.set_result(await reader.read())
        writer.close()

    async with stage.running(first_word) as scene:
        await scene.link()
        reader, writer = await scene.pod()
        assert await stage.all_of(reader) == b"that is all"
        writer.write(b"not yet")
        writer.close()
        assert await asyncio.wait_for(got, stage.WITHIN) == b"not yet"


async def test_a_reset_at_home_is_a_reset_for_the_pod() -> None:
    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        reset(writer)

    async with stage.running(slam) as scene:
        await scene.link()
        reader, writer = await scene.pod()
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await stage.all_of(reader)


async def test_a_reset_by_the_pod_is_a_reset_at_home() -> None:
    seen: asyncio.Future[type[BaseException] | None] = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
            seen.set_result(None)
        except OSError as err:
            seen.set_result(type(err))
        writer.close()

    async with stage.running(listen) as scene:
        opened = await scene.link()
        _, writer = await scene.pod()
        await stage.eventually(lambda: scene.home.dialled == 1)
        reset(writer)
        assert await asyncio.wait_for(seen, stage.WITHIN) is ConnectionResetError
        await stage.eventually(lambda: opened.load == 0)


def reset(writer: asyncio.StreamWriter) -> None:
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_pods_are_refused_while_there_is_no_link() -> None:
    async with stage.running() as scene:
        assert await scene.refused()
        assert scene.gateway_server.problem() == "farlet is not connected"
        opened = await scene.link()
        _, writer = await scene.pod()
        writer.close()
        opened.abort()
        await stage.eventually(lambda: scene.gateway_server.problem() is not None)
        async with asyncio.timeout(stage.WITHIN):
            while not await scene.refused():  # noqa: ASYNC110 - no event to await
                await asyncio.sleep(0.005)
        await scene.link()
        reader, writer = await scene.pod()
        writer.write_eof()
        assert await stage.all_of(reader) == b"end"
        writer.close()


async def test_connections_are_reset_at_both_ends_when_their_link_is_cut() -> None:
    broken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(65536):
                pass
            broken.set_result(False)
        except ConnectionResetError:
            broken.set_result(True)
        writer.close()

    async with (
        stage.running(listen) as scene,
        stage.Network(scene.farlet_port).listening() as network,
    ):
        await scene.link(port=network.port)
        reader, writer = await scene.pod()
        writer.write(b"x")
        await stage.eventually(lambda: scene.home.dialled == 1)
        network.cut()
        with pytest.raises(ConnectionResetError):
            await stage.all_of(reader)
        assert await asyncio.wait_for(broken, stage.WITHIN)


async def test_a_silent_peer_is_given_up_at_both_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(link.OPTIONS, "keepalive_interval", 0.05)
    async with stage.running() as scene, stage.Network(scene.farlet_port).listening() as network:
        opened = await scene.link(port=network.port)
        reader, writer = await scene.pod()
        writer.write(b"x")
        assert await reader.read(1) == b"x"
        network.open.clear()
        with pytest.raises(ConnectionResetError):
            await stage.all_of(reader)
        await asyncio.wait_for(opened.lost.wait(), stage.WITHIN)
        assert "not responding" in opened.reason
        assert scene.gateway_server.problem() is not None


async def test_an_idle_link_stays_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(link.OPTIONS, "keepalive_interval", 0.02)
    async with stage.running() as scene:
        opened = await scene.link()
        reader, writer = await scene.pod()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(opened.lost.wait(), 0.6)  # 30 keepalives, each answered
        writer.write_eof()
        assert await stage.all_of(reader) == b"end"
        writer.close()


async def test_rekeying_does_not_disturb_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(link.OPTIONS, "rekey_bytes", 256 * 1024)
    blob = os.urandom(4 * MIB)
    async with stage.running() as scene:
        await scene.link()
        reader, writer = await scene.pod()
        writer.write(blob)
        writer.write_eof()
        assert await stage.all_of(reader) == blob + b"end"
        writer.close()


async def test_an_unreachable_home_resets_the_pod_and_the_link_stays() -> None:
    async with stage.running() as scene:
        opened = await scene.link()
        port, scene.home.port = scene.home.port, 1
        reader, writer = await scene.pod()
        with pytest.raises(ConnectionResetError):
            await stage.all_of(reader)
        writer.close()
        assert not opened.lost.is_set()
        assert opened.load == 0
        scene.home.port = port
        reader, writer = await scene.pod()
        writer.write_eof()
        assert await stage.all_of(reader) == b"end"
        writer.close()


async def test_a_home_that_does_not_answer_resets_the_pod_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("farlet.gateway.tunnel.DIAL_SECONDS", 0.1)

    async def never(_factory: Callable[[], asyncio.BaseProtocol]) -> object:
        return await asyncio.Event().wait()

    async with stage.running() as scene:
        opened = await scene.link(dial=never)
        reader, _ = await scene.pod()
        with pytest.raises(ConnectionResetError):
            await stage.all_of(reader)
        assert opened.load == 0


async def test_a_pod_that_disconnects_early_leaves_no_connection_behind() -> None:
    going = asyncio.Event()

    async with stage.running() as scene:

        async def slow(factory: Callable[[], asyncio.BaseProtocol]) -> object:
            await going.wait()
            return await scene.home.dial(factory)

        opened = await scene.link(dial=slow)
        _, writer = await scene.pod()
        await stage.eventually(lambda: opened.load == 1)
        reset(writer)
        going.set()
        await stage.eventually(lambda: opened.load == 0 and scene.home.dialled == 1)


# --- several links --------------------------------------------------------------------------------


async def test_a_new_connection_uses_the_link_with_the_fewest() -> None:
    async with stage.running() as scene:
        first, second = await scene.link(), await scene.link()
        pods = [await scene.pod() for _ in range(6)]
        for reader, writer in pods:
            writer.write(b"x")
            assert await reader.read(1) == b"x"
        assert (first.load, second.load) == (3, 3)
        for _, writer in pods:
            writer.close()


async def test_a_connection_that_one_farlet_cannot_open_uses_another_farlet() -> None:
    async def refuse(_factory: Callable[[], asyncio.BaseProtocol]) -> object:
        raise ConnectionRefusedError

    async with stage.running() as scene:
        failing = await scene.link(dial=refuse)
        working = await scene.link()
        pods = [await scene.pod() for _ in range(4)]
        for reader, writer in pods:
            writer.write(b"x")
            assert await reader.read(1) == b"x"
        assert (failing.load, working.load) == (0, 4)
        working.abort()
        for reader, writer in pods:
            with pytest.raises(ConnectionResetError):
                await stage.all_of(reader)
            writer.close()


async def test_a_late_answer_of_farlet_leaves_no_connection_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("farlet.gateway.server.OPEN_SECONDS", 0.1)
    going = asyncio.Event()
    async with stage.running() as scene:

        async def slow(factory: Callable[[], asyncio.BaseProtocol]) -> object:
            await going.wait()
            return await scene.home.dial(factory)

        late = await scene.link(dial=slow)
        reader, writer = await scene.pod()
        with pytest.raises(ConnectionResetError):
            await stage.all_of(reader)
        writer.close()
        going.set()
        await stage.eventually(lambda: scene.home.dialled == 1 and late.load == 0)
        reader, writer = await scene.pod()  # the link still works
        writer.write_eof()
        assert await stage.all_of(reader) == b"end"
        writer.close()


# --- bounds ---------------------------------------------------------------------------------------


async def filled(writer: asyncio.StreamWriter) -> int:
    """Send until nothing is accepted for 0.5 s. Returns the number of bytes."""
    sent = 0
    while True:
        writer.write(bytes(65536))
        try:
            async with asyncio.timeout(0.5):
                await writer.drain()
        except TimeoutError:
            return sent
        sent += 65536


async def test_a_peer_that_does_not_read_stalls_only_its_own_connection() -> None:
    released = asyncio.Event()

    async def lazy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(1) == b"l":
            await released.wait()
        await stage.echo(reader, writer)

    async with stage.running(lazy) as scene:
        await scene.link()
        _, stuck = await scene.pod()
        stuck.write(b"l")
        # The window, and the buffers of two kernels and two processes.
        assert await filled(stuck) < 24 * MIB
        reader, writer = await scene.pod()
        writer.write(b"q" + bytes(4 * MIB))
        writer.write_eof()
        assert len(await stage.all_of(reader)) == 4 * MIB + 3
        released.set()
        for one in (stuck, writer):
            one.transport.abort()


@pytest.mark.thorough
async def test_a_stalled_link_reads_none_of_its_connections() -> None:
    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        with contextlib.suppress(OSError):
            while True:
                writer.write(bytes(65536))
                await writer.drain()

    async with (
        stage.running(pour) as scene,
        stage.Network(scene.farlet_port).listening() as network,
    ):
        opened = await scene.link(port=network.port)
        pods = [await scene.pod() for _ in range(32)]
        for _, writer in pods:
            writer.write(b"x")
        reading = [asyncio.create_task(drink(reader)) for reader, _ in pods]
        await stage.eventually(lambda: network.carried > 32 * MIB)
        network.open.clear()
        await asyncio.sleep(0.5)  # for what is read before the pause takes effect
        # Per connection at most one read of asyncio above the mark at which asyncssh pauses it. The
        # windows of 32 connections are 32 MiB.
        assert link.BACKLOG < opened.buffered < link.BACKLOG + 32 * (ONE_READ + CHANNEL_MARK)
        network.open.set()
        for task in reading:
            task.cancel()
        for _, writer in pods:
            writer.transport.abort()


async def drink(reader: asyncio.StreamReader) -> None:
    while await reader.read(1 << 18):
        pass
