"""Two sides of a tunnel: every byte arrives, and each direction ends alone."""

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
from unit.kubelet import stage
from unit.kubelet.stage import EXEC, SPDY, Peer

MIB = 1 << 20


async def everything(channel: tls_stream.TLSStream, size: float = math.inf) -> bytes:
    """All until the end, or until so much has come."""
    read = bytearray()
    while len(read) < size and (data := await channel.read()):
        read += data
    return bytes(read)


def _under_way(channel: tls_stream.TLSStream) -> int:
    """How many bytes of what was written the other end's kernel has not got yet."""
    connection = channel._transport.get_extra_info("socket")
    queued = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    return channel._transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)


# --- ends -------------------------------------------------------------------------------------


async def test_an_end_of_one_direction_is_an_end_of_that_direction_only(tmp_path: Path) -> None:
    blob = os.urandom(MIB)
    async with stage.channel_pairs(tmp_path, 2) as ((caller, left), (right, server)):

        async def call() -> bytes:
            await caller.write(blob)
            caller.end()
            return await everything(caller)

        async def serve() -> None:
            digest = hashlib.sha256(await everything(server)).digest()
            await server.write(digest)
            server.end()

        spliced = streams.splice(left, right, to_left=b"first", to_right=b"")
        got, *_ = await asyncio.gather(call(), serve(), spliced)
    assert got == b"first" + hashlib.sha256(blob).digest()


async def test_a_side_that_never_ends_is_not_waited_for_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SILENCE_SECONDS", 0.05)
    monkeypatch.setattr(streams, "TAKING_SECONDS", 0.05)
    async with stage.channel_pairs(tmp_path, 2) as ((caller, left), (right, server)):
        spliced = asyncio.create_task(streams.splice(left, right, to_left=b"", to_right=b""))
        caller.end()
        for _ in range(5):  # longer than silence may last, but not silent
            await asyncio.sleep(0.02)
            await server.write(b"more")
            assert await caller.read() == b"more"
        async with asyncio.timeout(5):
            await spliced


@pytest.mark.parametrize("how", ["in order", "cut", "as Go does"])
async def test_what_was_sent_before_a_side_closed_arrives_although_the_other_still_talks(
    tmp_path: Path, how: str
) -> None:
    """As when a program ends whose output is still on its way, and pings come meanwhile."""
    blob = os.urandom(16 * MIB)
    async with stage.channel_pairs(tmp_path, 2) as ((caller, left), (right, server)):
        spliced = asyncio.create_task(streams.splice(left, right, to_left=b"", to_right=b""))

        async def talk() -> None:
            with contextlib.suppress(OSError):
                while True:
                    await caller.write(b"ping")
                    await asyncio.sleep(0.01)

        async def serve() -> None:
            await server.write(blob)
            if how != "cut":
                server.end()
            if how == "as Go does":  # nothing reads any more what comes in
                # So the kernel resets the connection, and drops what has not arrived by then.
                while _under_way(server):  # noqa: ASYNC110 - no event marks its end
                    await asyncio.sleep(0.001)
                server._transport.close()
            else:
                await server.finish(seconds=10)

        talking, serving = asyncio.create_task(talk()), asyncio.create_task(serve())
        got = bytearray()
        with contextlib.suppress(OSError):
            while data := await caller.read():
                got += data
                await asyncio.sleep(0.0005)
        caller.abort()
        await asyncio.gather(talking, serving, spliced)
    assert bytes(got) == blob


# --- much at once -----------------------------------------------------------------------------


async def test_a_caller_who_writes_everything_before_he_reads_is_not_waited_for_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "TURN_SECONDS", 0.05)
    flood, blob = bytes(32 * MIB), os.urandom(4 * MIB)
    async with stage.channel_pairs(tmp_path, 2) as ((caller, left), (right, server)):
        spliced = asyncio.create_task(streams.splice(left, right, to_left=b"", to_right=b""))
        flooding = asyncio.create_task(server.write(flood))
        await asyncio.sleep(0.3)  # everything between is full now
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
        await spliced


async def test_a_lot_goes_both_ways_at_once_and_arrives_whole(tmp_path: Path) -> None:
    blob = os.urandom(16 * MIB)

    async def script(peer: Peer) -> None:
        await stage.accept(peer)
        while data := await peer.reader.read(100_000):
            await peer.send(data)

    async with stage.playing(tmp_path, script=script) as all_:
        caller = await all_.call()
        await caller.ask(EXEC, *SPDY)
        assert (await caller.answer())[0] == 101
        sending = asyncio.create_task(caller.send(blob))
        assert await caller.reader.readexactly(len(blob)) == blob
        await sending


@pytest.mark.parametrize("reading", ["caller", "upstream"])
async def test_a_reader_that_stops_stops_the_writer_and_not_our_memory(
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
        await stage.accept(peer)
        if reading == "caller":
            await flood(peer)
        await held.wait()

    async with stage.playing(tmp_path, script=script) as all_:
        caller = await all_.call()
        await caller.ask(EXEC, *SPDY)
        assert (await caller.answer())[0] == 101
        flooding = asyncio.create_task(flood(caller)) if reading == "upstream" else None
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.3)
        # So much fits into the sockets of three connections; an endless flood would not.
        assert 0 < sent < 64 * MIB
        if flooding is not None:
            flooding.cancel()
        held.set()
