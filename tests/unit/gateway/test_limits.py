"""One pod cannot take the places or the memory of all."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from farlet.gateway import relay, relay_budget
from farlet.gateway.relay_budget import RelayBudget
from farlet.listeners import open_files
from unit.gateway import stage

LIMIT = open_files.LEAST
PLACES = open_files.Budget(LIMIT).relays
SHARE = PLACES // 4


async def pods(scene: stage.Scene, number: int, *, host: str) -> list[stage.Streams]:
    opened = []
    for _ in range(number):
        with contextlib.suppress(OSError):
            opened.append(
                await asyncio.open_connection("127.0.0.1", scene.pods_port, local_addr=(host, 0))
            )
    return opened


async def echoes(streams: stage.Streams) -> bool:
    reader, writer = streams
    with contextlib.suppress(OSError):
        writer.write(b"x")
        async with asyncio.timeout(stage.WITHIN):
            return await reader.read(1) == b"x"
    return False


async def test_one_pod_gets_a_quarter_of_the_places_and_keeps_what_it_has() -> None:
    async with stage.running(limit=LIMIT) as scene:
        opened = await scene.link()
        greedy = await pods(scene, SHARE, host="127.0.0.2")
        await stage.eventually(lambda: opened.load == SHARE)
        refused = await pods(scene, 3, host="127.0.0.2")
        assert [await echoes(one) for one in refused] == [False] * 3
        (other,) = await pods(scene, 1, host="127.0.0.3")
        assert await echoes(other)
        assert all([await echoes(one) for one in greedy])
        for _, writer in (*greedy, *refused, other):
            writer.transport.abort()


async def flooding(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A home API server that sends much data."""
    with contextlib.suppress(OSError):
        await reader.read(1)
        for _ in range(64):
            writer.write(bytes(64 * 1024))
            await writer.drain()
        await reader.read()  # until the pod has everything
    writer.transport.abort()


async def test_pods_that_do_not_read_are_reset_beyond_the_total(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The gateway buffers a window for each; those that have stalled for the longest time end."""
    most = 4
    held = relay.WINDOW + relay.PACKET + relay.BUFFER
    monkeypatch.setattr(
        "farlet.gateway.server.RelayBudget",
        lambda relays: RelayBudget(relays=relays, stalled_bytes=most * held),
    )
    async with stage.running(flooding) as scene:
        opened = await scene.link()
        deaf = []
        for number in range(most + 3):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, ("127.0.0.1", scene.pods_port))
            await loop.sock_sendall(sock, b"x")
            deaf.append(sock)
            await stage.eventually(lambda: _stalled(scene) == min(number + 1, most))  # noqa: B023
        await stage.eventually(lambda: opened.load == most)
        reader, writer = await scene.pod()  # that reads
        writer.write(b"x")
        assert len(await reader.readexactly(64 * 64 * 1024)) == 64 * 64 * 1024
        writer.transport.abort()
        for sock in deaf:
            sock.close()


def _stalled(scene: stage.Scene) -> int:
    return len(scene.gateway_server._relays._stalled)


async def test_a_slow_reader_that_has_ended_its_direction_gets_everything() -> None:
    """asyncssh reports no end of data behind a close."""
    size = 3 * relay.WINDOW

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.write(bytes(size))
        await writer.drain()
        writer.close()

    async with stage.running(serve) as scene:
        await scene.link()
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", scene.pods_port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=4096)
        writer.write_eof()
        await asyncio.sleep(0.5)
        assert len(await stage.all_of(reader)) == size
        writer.close()


class Held:
    def __init__(self, name: str, aborted: list[str], budget: RelayBudget) -> None:
        self._name, self._aborted, self._budget = name, aborted, budget

    def abort(self) -> None:
        self._aborted.append(self._name)
        self._budget.remove(self)


@pytest.mark.parametrize(
    ("steps", "aborted"),
    [
        pytest.param([("a", 4), ("b", 6)], "", id="as much as allowed"),
        pytest.param([("a", 4), ("b", 6), ("c", 1)], "a", id="the longest stalled first"),
        pytest.param(
            [("a", 4), ("b", 6), ("a", 0), ("c", 4)], "", id="who continues holds nothing"
        ),
        pytest.param(
            [("a", 4), ("b", 4), ("a", 0), ("a", 4), ("c", 4)], "b", id="from the last stall on"
        ),
        pytest.param([("a", 4), ("b", 4), ("a", 7)], "a", id="one that holds more"),
        pytest.param([("a", 9), ("b", 9), ("c", 9)], "ab", id="as many as necessary"),
    ],
)
def test_a_budget_ends_relays_that_stall(steps: list[tuple[str, int]], aborted: str) -> None:
    budget, ended = RelayBudget(stalled_bytes=10), list[str]()
    relays = {name: Held(name, ended, budget) for name in "abc"}
    for name, holds in steps:
        budget.stalls(relays[name], holds)
    assert "".join(ended) == aborted


def test_the_worst_case_fits_into_the_memory_of_the_manifest() -> None:
    """docs/gateway.md has the sum, with what was measured for an idle connection."""
    started, idle = 74, 24 / 1024
    kernel = 2 * relay.SEND_BUFFER / 2**20
    sum_mib = (
        started
        + open_files.MAX_RELAYS * (idle + relay.BUFFER / 2**20)
        + relay_budget.STALLED_BYTES / 2**20
    )
    assert sum_mib < 512 - 100
    assert kernel < 0.1
