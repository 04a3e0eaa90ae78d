"""Relayed streams: every byte is delivered, and each direction ends separately."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import math
import os
import sys
import termios
from pathlib import Path

import pytest

from farlet.client import tls_stream
from farlet.kubelet import streams
from unit.kubelet import harness
from unit.kubelet.harness import EXEC, SPDY, Peer

MIB = 1 << 20


async def everything(channel: tls_stream.TLSStream, size: float = math.inf) -> bytes:
    """All bytes until the end, or until `size` bytes were read."""
    read = bytearray()
    while len(read) < size and (data := await channel.read()):
        read += data
    return bytes(read)


def _in_transit(channel: tls_stream.TLSStream) -> int:
    """Written bytes that the kernel of the other end has not received yet."""
    connection = channel._transport.get_extra_info("socket")
    queued = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    return channel._transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)


# --- ends -------------------------------------------------------------------------------------


async def test_the_end_of_one_direction_leaves_the_other_open(tmp_path: Path) -> None:
    blob = os.urandom(MIB)
    async with harness.channel_pairs(tmp_path, 2) as ((caller, caller_side), (server_side, server)):

        async def call() -> bytes:
            await caller.write(blob)
            caller.end()
            return await everything(caller)

        async def serve() -> None:
            digest = hashlib.sha256(await everything(server)).digest()
            await server.write(digest)
            server.end()

        relaying = streams.relay(caller_side, server_side, to_caller=b"first", to_server=b"")
        got, *_ = await asyncio.gather(call(), serve(), relaying)
    assert got == b"first" + hashlib.sha256(blob).digest()


async def test_a_relay_ends_when_the_remaining_side_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SILENCE_SECONDS", 0.05)
    monkeypatch.setattr(streams, "FINAL_READ_SECONDS", 0.05)
    async with harness.channel_pairs(tmp_path, 2) as ((caller, caller_side), (server_side, server)):
        relaying = asyncio.create_task(
            streams.relay(caller_side, server_side, to_caller=b"", to_server=b"")
        )
        caller.end()
        for _ in range(5):  # longer than the allowed silence, but not silent
            await asyncio.sleep(0.02)
            await server.write(b"more")
            assert await caller.read() == b"more"
        async with asyncio.timeout(5):
            await relaying


@pytest.mark.thorough
@pytest.mark.parametrize("how", ["closed", "cut", "closed as by Go"])
async def test_output_before_a_close_is_delivered_although_the_caller_still_sends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """As when a program exits while its output is in transit and pings arrive."""
    # On a busy machine the caller needs longer than usual for its output.
    monkeypatch.setattr(streams, "OUTPUT_FIRST_SECONDS", 60.0)
    blob = os.urandom(16 * MIB)
    async with harness.channel_pairs(tmp_path, 2) as ((caller, caller_side), (server_side, server)):
        relaying = asyncio.create_task(
            streams.relay(caller_side, server_side, to_caller=b"", to_server=b"")
        )

        async def send() -> None:
            with contextlib.suppress(OSError):
                while True:
                    await caller.write(b"ping")
                    await asyncio.sleep(0.01)

        async def serve() -> None:
            await server.write(blob)
            if how != "cut":
                server.end()
            if how == "closed as by Go":  # incoming bytes are not read any more
                # So the kernel resets the connection and drops bytes that are not delivered yet.
                while _in_transit(server):  # noqa: ASYNC110 - no event marks its end
                    await asyncio.sleep(0.001)
                server._transport.close()
            else:
                await server.finish(seconds=10)

        sending, serving = asyncio.create_task(send()), asyncio.create_task(serve())
        got = bytearray()
        with contextlib.suppress(OSError):
            while data := await caller.read():
                got += data
                await asyncio.sleep(0.0005)
        caller.abort()
        await asyncio.gather(sending, serving, relaying)
    assert bytes(got) == blob


# --- large amounts ----------------------------------------------------------------------------


@pytest.mark.thorough
async def test_input_of_a_caller_that_reads_only_later_waits_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "OUTPUT_FIRST_SECONDS", 0.05)
    flood, blob = bytes(32 * MIB), os.urandom(4 * MIB)
    async with harness.channel_pairs(tmp_path, 2) as ((caller, caller_side), (server_side, server)):
        relaying = asyncio.create_task(
            streams.relay(caller_side, server_side, to_caller=b"", to_server=b"")
        )
        flooding = asyncio.create_task(server.write(flood))
        await asyncio.sleep(0.3)  # all buffers in between are full now
        writing = asyncio.create_task(caller.write(blob))
        got = b""
        async with asyncio.timeout(5):
            while len(got) < len(blob):
                got += await server.read()
        assert got == blob
        await writing
        caller.end()
        assert len(await everything(caller, len(flood))) == len(flood)
        await flooding
        server.end()
        await relaying


@pytest.mark.thorough
async def test_large_amounts_in_both_directions_are_delivered_completely(tmp_path: Path) -> None:
    blob = os.urandom(16 * MIB)

    async def script(peer: Peer) -> None:
        await harness.accept(peer)
        while data := await peer.reader.read(100_000):
            await peer.send(data)

    async with harness.running(tmp_path, script=script) as api:
        caller = await api.call()
        await caller.request(EXEC, *SPDY)
        assert (await caller.answer())[0] == 101
        sending = asyncio.create_task(caller.send(blob))
        assert await caller.reader.readexactly(len(blob)) == blob
        await sending


@pytest.mark.parametrize("reading", ["caller", "upstream"])
async def test_a_stopped_reader_stops_the_writer_and_bounds_memory(
    tmp_path: Path, reading: str
) -> None:
    sent = 0

    async def flood(peer: Peer) -> None:
        nonlocal sent
        while True:
            await peer.send(bytes(64 * 1024))
            sent += 64 * 1024

    held = asyncio.Event()

    async def script(peer: Peer) -> None:
        await harness.accept(peer)
        if reading == "caller":
            await flood(peer)
        await held.wait()

    async with harness.running(tmp_path, script=script) as api:
        caller = await api.call()
        await caller.request(EXEC, *SPDY)
        assert (await caller.answer())[0] == 101
        flooding = asyncio.create_task(flood(caller)) if reading == "upstream" else None
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.3)
        # The sockets of three connections buffer this much; an endless flood would exceed it.
        assert 0 < sent < 64 * MIB
        if flooding is not None:
            flooding.cancel()
        held.set()
