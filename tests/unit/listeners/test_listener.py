"""A port that is flooded stays usable for others, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator

import pytest
import structlog

from farlet.listeners import listener
from farlet.listeners.listener import Limits, Listener
from farlet.settings.values import Address

WITHIN = 5.0


class Protocol(asyncio.Protocol):
    def __init__(self, protocols: list[Protocol]) -> None:
        self._protocols = protocols
        self.source = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.source = transport.get_extra_info("peername")[0]
        self._protocols.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocols.remove(self)


class Port:
    """A listener, and its clients of several addresses."""

    def __init__(self, limits: Limits) -> None:
        self.protocols: list[Protocol] = []
        """Of open connections."""
        self.listener = Listener(lambda: Protocol(self.protocols), limits)
        self._stack = contextlib.ExitStack()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Port]:
        await self.listener.bind(Address("127.0.0.1", 0))
        self.listener.listen()
        with self._stack:
            try:
                yield self
            finally:
                self.listener.close()
        await eventually(self, 0)

    async def connect(self, number: int = 1) -> socket.socket:
        """As the client with the address 127.0.0.NUMBER."""
        sock = self._stack.enter_context(socket.socket())
        sock.setblocking(False)
        sock.bind((f"127.0.0.{number}", 0))
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", self.listener.port))
        return sock


async def eventually(port: Port, count: int) -> None:
    async with asyncio.timeout(WITHIN):
        while not len(port.protocols) == port.listener.connections == count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def is_open(sock: socket.socket) -> bool:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(0.1):
            await loop.sock_recv(sock, 1)
    except TimeoutError:
        return True
    except ConnectionError:
        return False
    return False


async def connections(port: Port, *numbers: int) -> list[socket.socket]:
    """Connections of these clients, accepted one after the other."""
    made = []
    for number in numbers:
        before = port.listener.connections
        made.append(await port.connect(number))
        async with asyncio.timeout(WITHIN):
            while port.listener.connections == before:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    return made


@pytest.mark.parametrize(
    ("limits", "before", "newcomer", "dropped"),
    [
        pytest.param(Limits(4, 4), [1, 2, 1, 2], 3, 0, id="oldest of a source with the most"),
        pytest.param(Limits(4, 4), [1, 2, 2, 2], 1, 1, id="oldest of the source with the most"),
        pytest.param(Limits(4, 4), [1, 1, 1, 1], 1, 0, id="its own oldest, on a full port"),
        pytest.param(Limits(8, 2), [2, 1, 1], 1, 1, id="its own oldest, beyond its share"),
    ],
)
async def test_a_newer_connection_displaces(
    limits: Limits, before: list[int], newcomer: int, dropped: int
) -> None:
    async with Port(limits).listening() as port:
        made = await connections(port, *before)
        new = await port.connect(newcomer)
        assert [await is_open(sock) for sock in (*made, new)] == [
            index != dropped for index in range(len(made) + 1)
        ]
        await eventually(port, len(before))


async def test_connections_that_are_kept_are_not_displaced() -> None:
    async with Port(Limits(2, 2, seconds=0.2)).listening() as port:
        kept = await connections(port, 1, 2)
        await eventually(port, 2)
        for protocol in port.protocols:
            port.listener.keep(protocol)
        assert not await is_open(await port.connect(3))
        await asyncio.sleep(0.2)
        port.listener.abort()
        assert [await is_open(sock) for sock in kept] == [True, True]


async def test_a_source_beyond_its_share_is_refused_and_others_are_not() -> None:
    async with Port(Limits(8, 2)).listening() as port:
        await connections(port, 1, 1)
        await eventually(port, 2)
        for protocol in port.protocols:
            port.listener.keep(protocol)
        assert not await is_open(await port.connect(1))
        assert await is_open(await port.connect(2))


async def test_a_connection_is_cut_after_the_time_limit() -> None:
    async with Port(Limits(2, 2, seconds=0.1)).listening() as port:
        await connections(port, 1, 1)
        await eventually(port, 0)


async def test_a_flood_from_one_source_displaces_no_other_source() -> None:
    """Not even while the connections arrive faster than they are accepted."""
    async with Port(Limits(8, 8)).listening() as port:
        (other,) = await connections(port, 2)
        most = 0
        for _ in range(300):
            await port.connect(1)
            most = max(most, len(port.protocols), port.listener.connections)
        assert most <= 8 + listener.ACCEPTED_AT_ONCE  # those that are being closed
        await eventually(port, 8)
        assert await is_open(other)
        assert sorted({protocol.source for protocol in port.protocols}) == [
            "127.0.0.1",
            "127.0.0.2",
        ]


async def test_accepting_pauses_while_the_kernel_has_no_resources(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "PAUSE_SECONDS", 0.05)
    failures = [OSError(errno.EMFILE, "Too many open files")] * 3
    accept = socket.socket.accept

    def failing(sock: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise failures.pop()
        return accept(sock)

    monkeypatch.setattr(socket.socket, "accept", failing)
    async with Port(Limits(2, 2)).listening() as port:
        with structlog.testing.capture_logs() as logged:
            await port.connect()
            await eventually(port, 1)
        assert [one["event"] for one in logged] == ["failed to accept connections"]
        assert not failures


@pytest.mark.parametrize(
    ("peer", "source"),
    [
        pytest.param("192.0.2.1", "192.0.2.1", id="IPv4"),
        pytest.param("::ffff:192.0.2.1", "::ffff:192.0.2.1", id="IPv4 in IPv6"),
        pytest.param("2001:db8:1:2:3::4", "2001:db8:1:2::/64", id="a network with IPv6"),
        pytest.param("fe80::1%eth0", "fe80::/64", id="link-local"),
    ],
)
def test_one_source_is(peer: str, source: str) -> None:
    assert listener._source((peer, 1, 0, 0)) == source


async def test_a_port_in_use_fails_and_leaves_nothing_open() -> None:
    async with Port(Limits(1, 1)).listening() as port:
        second = Listener(asyncio.Protocol, Limits(1, 1))
        with pytest.raises(OSError, match="in use"):
            await second.bind(Address("127.0.0.1", port.listener.port))


async def test_all_interfaces_share_a_port_that_the_kernel_chose() -> None:
    bound = Listener(asyncio.Protocol, Limits(1, 1))
    await bound.bind(Address("", 0))
    assert len({sock.getsockname()[1] for sock in bound._listening}) == 1
    with pytest.raises(ConnectionRefusedError):  # until it listens
        socket.create_connection(("127.0.0.1", bound.port))
    bound.close()
