"""A gateway, farlet's end and a home API server in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import asyncssh

from clusters import ports
from farlet.gateway import keys, link, server, tunnel
from farlet.listeners import open_files
from farlet.settings.values import Address
from unit import listening

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

WITHIN = 10.0
"""Seconds, for what is expected to happen immediately."""


def pair() -> tuple[keys.Keys, keys.Keys]:
    """Keys of farlet and of a gateway that trust each other."""
    home, foreign = keys.generate()
    return parsed(home), parsed(foreign)


def parsed(items: dict[str, str]) -> keys.Keys:
    return keys.Keys(
        asyncssh.import_private_key(items[keys.PRIVATE]),
        (asyncssh.import_public_key(items[keys.TRUSTED]),),
    )


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A home API server that echoes, and sends `end` at the end."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write(b"end")
        await writer.drain()
    except OSError:
        pass
    writer.close()


class Home:
    """The home API server that farlet dials."""

    def __init__(self, serve: Serve) -> None:
        self.serve = serve
        self.port = 0
        self.dialled = 0
        self._dialling: set[asyncio.Task[None]] = set()

    async def dial(self, factory: Callable[[], asyncio.BaseProtocol]) -> object:
        self.dialled += 1
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._dialling.add(task)
        try:
            return await loop.create_connection(factory, "127.0.0.1", self.port)
        finally:
            self._dialling.discard(task)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.serve(reader, writer)

        async with listening.listening(served) as self.port:
            try:
                yield
            finally:  # a link that has ended leaves its dials to their time limit
                await listening.cut_off(set(self._dialling))


@dataclass
class Scene:
    """A running gateway, and the keys of both ends."""

    gateway_server: server.GatewayServer
    pods_port: int
    farlet_port: int
    farlet: keys.Keys
    gateway: keys.Keys
    home: Home

    async def link(
        self, own: keys.Keys | None = None, *, dial: tunnel.Dial | None = None, port: int = 0
    ) -> link.Link:
        """Connect farlet, and wait until the gateway has accepted the link."""
        sock = await self.connect_socket(port)
        opened = await tunnel.connect(sock, own or self.farlet, dial or self.home.dial)
        await eventually(lambda: self.gateway_server.problem() is None)
        return opened

    async def connect_socket(self, port: int = 0) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port or self.farlet_port))
        return sock

    async def pod(self) -> Streams:
        """Connect as a pod, once the gateway accepts pods."""
        async with asyncio.timeout(WITHIN):
            while True:
                with contextlib.suppress(ConnectionRefusedError):
                    return await asyncio.open_connection("127.0.0.1", self.pods_port)
                await asyncio.sleep(0.005)

    async def refused(self) -> bool:
        """Whether the gateway refuses pods."""
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.pods_port)
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:  # the listener closed with this connection in its backlog
            return False
        writer.close()
        return False


@contextlib.asynccontextmanager
async def running(serve: Serve = echo, *, limit: int = open_files.ENOUGH) -> AsyncIterator[Scene]:
    """Run a gateway without links, and a home API server. `limit`: open files of the gateway."""
    farlet, gateway = pair()
    pods_port, farlet_port = ports.free(2)
    opened = server.GatewayServer(
        gateway,
        pods_at=Address("127.0.0.1", pods_port),
        farlet_at=Address("127.0.0.1", farlet_port),
        budget=open_files.Budget(limit),
    )
    home = Home(serve)
    async with home.listening(), opened.serving():
        yield Scene(opened, pods_port, farlet_port, farlet, gateway, home)


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN):
        while not holds():  # noqa: ASYNC110 - no event to await
            await asyncio.sleep(0.005)


async def all_of(reader: asyncio.StreamReader) -> bytes:
    """Read until the peer closes. Raises `ConnectionResetError` where it resets."""
    async with asyncio.timeout(WITHIN):
        return await reader.read()


class Network:
    """A TCP connection that a test can stall or cut, like a network."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = 0
        self.open = asyncio.Event()
        self.open.set()
        self.carried = 0
        self._writers: list[asyncio.StreamWriter] = []

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Network]:
        server = await asyncio.start_server(self._served, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        beyond = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, beyond[1]]
        await asyncio.gather(self._copy(reader, beyond[1]), self._copy(beyond[0], writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self.open.wait()
                self.carried += len(data)
                writer.write(data)
                await writer.drain()
        writer.close()
