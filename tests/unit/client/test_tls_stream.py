"""One TLS connection: how it ends, what is lost when it closes, and how much memory it keeps."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from farlet.client import tls_stream
from unit.kubelet import harness

MIB = 1 << 20


async def everything(channel: tls_stream.TLSStream) -> bytes:
    read = b""
    while data := await channel.read():
        read += data
    return read


async def test_one_direction_can_end_while_the_other_carries_data(tmp_path: Path) -> None:
    async with harness.channel_pairs(tmp_path, 1) as ((one, other),):
        await other.write(b"not read yet")
        await asyncio.sleep(0.05)  # it lies there, unread, when `end` looks for the peer's end
        one.end()
        assert await other.read() == b""
        await other.write(b", and more")
        other.end()
        assert await everything(one) == b"not read yet, and more"


async def test_a_cut_connection_is_not_a_proper_end(tmp_path: Path) -> None:
    async with harness.channel_pairs(tmp_path, 1) as ((one, other),):
        await one.write(b"the beginning")
        assert await other.read() == b"the beginning"
        one.abort()
        with pytest.raises(OSError, match=r"EOF|reset"):
            await other.read()
        with pytest.raises(OSError, match=r"EOF|reset|cut"):
            await other.write(bytes(10 * MIB))


@pytest.mark.parametrize(
    "behind",
    [
        pytest.param(b"", id="cut"),
        pytest.param(b"\x17\x03\x03\x00\x20" + bytes(32), id="a record that was not encrypted"),
    ],
)
async def test_what_arrived_before_an_error_is_read_first(tmp_path: Path, behind: bytes) -> None:
    async with harness.channel_pairs(tmp_path, 1) as ((one, other),):
        await one.write(b"x" * 3 * tls_stream.RECORD)
        one._transport.write(behind)
        one._transport.close()
        await asyncio.sleep(0.05)  # everything has arrived
        whole = b"x" * 3 * tls_stream.RECORD
        read = b""
        while len(read) < len(whole):
            read += await other.read()
        assert read == whole
        for _ in range(2):
            with pytest.raises(OSError, match=r"EOF|MAC|BAD_RECORD"):
                await other.read()


async def test_a_cancelled_read_loses_nothing(tmp_path: Path) -> None:
    async with harness.channel_pairs(tmp_path, 1) as ((one, other),):
        for number in range(50):
            reading = asyncio.create_task(other.read())
            await asyncio.sleep(0)
            await one.write(bytes([number]))
            await asyncio.sleep(0.001 * (number % 3))
            reading.cancel()
            await asyncio.wait([reading])
            got = await other.read() if reading.cancelled() else reading.result()
            assert got == bytes([number])


async def test_what_was_written_before_a_close_arrives_although_the_rest_was_not_read(
    tmp_path: Path,
) -> None:
    async with harness.channel_pairs(tmp_path, 1) as ((one, other),):
        shouting = asyncio.create_task(one.write(bytes(100 * MIB)))
        await other.write(b"go away")
        closing = asyncio.create_task(other.close())
        assert await one.read() == b"go away"
        assert await one.read() == b""
        one.abort()
        await closing
        with pytest.raises(OSError, match=r"reset|cut|Broken"):
            await shouting


async def test_a_peer_that_reads_nothing_does_not_delay_a_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_stream, "CLOSE_SECONDS", 0.1)
    async with harness.channel_pairs(tmp_path, 1) as ((_, other),):
        filling = asyncio.create_task(other.write(bytes(100 * MIB)))
        await asyncio.sleep(0.2)
        filling.cancel()
        async with asyncio.timeout(5):
            await other.close()


@pytest.mark.thorough
async def test_both_directions_arrive_complete_at_the_same_time(tmp_path: Path) -> None:
    blobs = os.urandom(8 * MIB), os.urandom(8 * MIB)
    async with harness.channel_pairs(tmp_path, 1) as ((one, other),):

        async def send(channel: tls_stream.TLSStream, blob: bytes) -> None:
            await channel.write(blob)
            channel.end()

        from_other, from_one, *_ = await asyncio.gather(
            everything(one), everything(other), send(one, blobs[0]), send(other, blobs[1])
        )
    assert (from_one, from_other) == blobs
