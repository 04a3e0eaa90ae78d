"""Starts `ports.py`, and floods it."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import os
import socket
import sys
from asyncio import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farlet import listeners
from farlet.gateway import keys, tunnel
from unit.gateway import stage

PATIENCE = 60
"""Seconds, on a busy machine."""

PIECE = 50_000
"""Bytes on each connection: at 200 connections a second 10 MB/s."""

GARBAGE = (
    b"",
    os.urandom(PIECE),
    b"GET /" + b"eyJ" * (PIECE // 3),  # looks like tokens, which the log redacts
    b"GET /livez HTTP/1.1\r\nHost: a\r\nA: " + b"a" * PIECE,
    b"GET /livez HTTP/1.1\r\nHost: a\r\n",
    b"\x16\x03\x01\xff\xff" + os.urandom(PIECE),
)


@dataclass
class Ports:
    """The process, and its ports by name."""

    process: subprocess.Process
    ports: dict[str, int]
    limit: tuple[int, int]

    async def ask(self, line: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        return await _answer(self.process)


async def end_garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A home API server, which ends a connection without a TLS handshake."""
    with contextlib.suppress(OSError):
        if (await reader.read(65536))[:1] == b"\x16":
            while await reader.read(65536):
                pass
    writer.transport.abort()


@contextlib.asynccontextmanager
async def listening(folder: Path, *, soft: int, hard: int) -> AsyncIterator[Ports]:
    own = keys.write(folder)
    code = Path(__file__).parent / "ports.py"
    roots = [str(Path(listeners.__file__).parents[2]), str(Path(__file__).parents[2])]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(code), str(soft), str(hard), str(own.foreign)),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(roots)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        started = await _answer(process)
        ports = started["ports"]
        home = stage.Home(end_garbage)
        async with home.listening():
            sock = socket.create_connection(("127.0.0.1", ports.pop("farlet")))
            sock.setblocking(False)
            link = await tunnel.connect(sock, keys.read(own.home), home.dial)
            await _accepting(ports["gateway"])
            yield Ports(process, ports, tuple(started["limit"]))
            link.abort()
            await link.lost.wait()
    finally:
        process.kill()
        await process.wait()


async def _answer(process: subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        answer: dict[str, Any] = json.loads(await process.stdout.readline())
    return answer


async def _accepting(port: int) -> None:
    """Wait until the gateway listens, which is soon after it has a link."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.transport.abort()
                return
            await asyncio.sleep(0.01)


async def flood(port: int, *, seconds: float, per_second: int = 200, held: int = 400) -> None:
    """Connect from one address and send garbage; the latest connections stay open."""
    loop = asyncio.get_running_loop()
    started, made = loop.time(), 0
    opened: collections.deque[socket.socket] = collections.deque()
    try:
        while (passed := loop.time() - started) < seconds:
            while made < passed * per_second:
                opened.append(await _garbage(port, GARBAGE[made % len(GARBAGE)]))
                made += 1
                if len(opened) > held:
                    opened.popleft().close()
            await asyncio.sleep(0.01)
    finally:
        for sock in opened:
            sock.close()


async def _garbage(port: int, content: bytes) -> socket.socket:
    """A connection that has sent as much as the kernel takes at once."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE)
    sock.setblocking(False)
    with contextlib.suppress(OSError):
        async with asyncio.timeout(0.5):
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        sock.send(content)
    return sock


async def livez(port: int) -> bytes:
    """The status line, for a client with another address than the flood."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.9", 0))
    try:
        writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            return await reader.readline()
    finally:
        writer.transport.abort()
