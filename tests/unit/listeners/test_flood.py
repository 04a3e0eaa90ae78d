"""Garbage on every port: farlet stays within its files and its memory, and serves others."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from farlet.listeners import open_files
from unit import listening
from unit.listeners import flooded

MIB = 1024 * 1024
PORTS = ("kubelet", "metrics", "probes", "gateway")


async def closes(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def settled(farlet: flooded.Ports) -> None:
    """Wait until no further connection is accepted."""
    before = -1
    while before != (before := (await farlet.ask("state"))["files"]):  # noqa: ASYNC110
        await asyncio.sleep(0.3)


@pytest.mark.thorough
async def test_clients_that_only_connect_leave_files_for_own_requests(tmp_path: Path) -> None:
    """The clients need more than the soft limit; the hard limit is about the smallest accepted."""
    async with (
        listening.listening(closes) as api_server,
        flooded.listening(tmp_path, soft=256, hard=640) as farlet,
    ):
        assert farlet.limit == (640, 640)
        with contextlib.ExitStack() as opened:
            for port in farlet.ports.values():
                for _ in range(200):
                    with contextlib.suppress(OSError):
                        opened.enter_context(socket.create_connection(("127.0.0.1", port)))
            await settled(farlet)
            assert await farlet.ask(f"dial {api_server}") == {"dial": "ok"}
            assert (await farlet.ask("state"))["files"] < 640 - open_files.RESERVED // 2


@pytest.mark.thorough
async def test_garbage_on_every_port_is_bounded_and_others_are_served(tmp_path: Path) -> None:
    async with (
        listening.listening(closes) as api_server,
        flooded.listening(tmp_path, soft=256, hard=1024) as farlet,
    ):
        for name in PORTS:
            port = farlet.ports[name]
            flooding = asyncio.create_task(flooded.flood(port, seconds=1.5, held=150))
            await asyncio.sleep(1)
            assert await flooded.livez(farlet.ports["probes"]) == b"HTTP/1.1 200 OK\r\n", name
            assert await farlet.ask(f"dial {api_server}") == {"dial": "ok"}, name
            state = await farlet.ask("state")
            assert state["files"] < 1024 - open_files.RESERVED // 2, name
            assert state["memory"] < 256 * MIB, name
            await flooding


@pytest.mark.soak
@pytest.mark.parametrize("name", PORTS)
async def test_a_minute_of_garbage_does_not_delay_the_loop_of_the_lease(
    name: str, tmp_path: Path
) -> None:
    async with flooded.listening(tmp_path, soft=4096, hard=4096) as farlet:
        await flooded.flood(farlet.ports[name], seconds=60)
        state = await farlet.ask("state")
    assert state["lag"] < 0.5
    assert state["memory"] < 256 * MIB
