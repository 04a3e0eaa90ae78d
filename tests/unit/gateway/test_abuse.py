"""A peer with the right key that sends requests beyond the protocol of links.

The tests send single SSH messages, since client libraries do not send such requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import asyncssh
import pytest
from asyncssh.packet import Boolean, String, UInt32

from farlet.gateway import link, relay, tunnel
from farlet.gateway.relay_budget import RelayBudget
from unit.gateway import stage
from unit.gateway.test_refusals import as_gateway, malicious_farlet

GLOBAL_REQUEST, REQUEST_SUCCESS, CHANNEL_DATA = 80, 81, 94


@contextlib.asynccontextmanager
async def malicious_gateway(
    budget: RelayBudget | None = None,
) -> AsyncIterator[tuple[asyncssh.SSHClientConnection, link.Link, stage.Home]]:
    """The gateway's connection, farlet's end of it, and home."""
    farlet, gateway = stage.pair()
    ours, theirs = socket.socketpair()
    home = stage.Home(stage.echo)
    async with home.listening():
        opened, connection = await asyncio.gather(
            tunnel.connect(ours, farlet, home.dial, budget), as_gateway(theirs, gateway)
        )
        try:
            yield connection, opened, home
        finally:
            connection.abort()
            await opened.lost.wait()


FORWARDS = {
    "tcpip-forward": String("") + UInt32(0),
    "cancel-tcpip-forward": String("") + UInt32(443),
    "streamlocal-forward@openssh.com": String("/tmp/farlet.sock"),
    "hostkeys-prove-00@openssh.com": String(b"key"),
    "no-more-sessions@openssh.com": b"",
    "elevation": b"",
}


@pytest.mark.parametrize("name", FORWARDS)
async def test_farlet_rejects_global_requests(name: str) -> None:
    async with malicious_gateway() as (connection, _made, home):
        kind, _ = await asyncio.wait_for(
            connection._make_global_request(name.encode(), FORWARDS[name]), stage.WITHIN
        )
        assert kind != REQUEST_SUCCESS
        assert home.dialled == 0


@pytest.mark.parametrize("name", FORWARDS)
async def test_a_gateway_rejects_global_requests(name: str) -> None:
    async with malicious_farlet() as (connection, scene):
        kind, _ = await asyncio.wait_for(
            connection._make_global_request(name.encode(), FORWARDS[name]), stage.WITHIN
        )
        assert kind != REQUEST_SUCCESS
        assert scene.gateway_server.problem() is None


KINDS = (
    "session",
    "x11",
    "auth-agent@openssh.com",
    "forwarded-tcpip",
    "forwarded-streamlocal@openssh.com",
    "tun@openssh.com",
    "elevation",
)


@pytest.mark.parametrize("kind", KINDS)
async def test_farlet_rejects_other_types_of_channels(kind: str) -> None:
    async with malicious_gateway() as (connection, _made, home):
        channel = connection.create_tcp_channel()
        with pytest.raises(asyncssh.ChannelOpenError):
            await asyncio.wait_for(
                channel._open_forward(asyncssh.SSHTCPSession, kind.encode()), stage.WITHIN
            )
        assert home.dialled == 0


REQUESTS = {
    "shell": b"",
    "exec": String("id"),
    "subsystem": String("sftp"),
    "env": String("PATH") + String("/tmp"),
    "pty-req": String("xterm") + UInt32(80) * 4 + String(""),
    "x11-req": Boolean(False) + String("MIT-MAGIC-COOKIE-1") + String("00") + UInt32(0),
    "auth-agent-req@openssh.com": b"",
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_channel_rejects_requests_for_sessions(name: str) -> None:
    async with malicious_gateway() as (connection, opened, _):
        reader, writer = await connection.open_connection(*link.DESTINATION)
        channel = writer.channel
        granted = await asyncio.wait_for(
            channel._make_request(name.encode(), REQUESTS[name]), stage.WITHIN
        )
        assert not granted
        writer.write(b"x")
        assert await reader.read(1) == b"x"
        assert not opened.lost.is_set()


async def test_the_limit_of_connections_holds_for_concurrent_requests() -> None:
    async with malicious_gateway(RelayBudget(relays=3)) as (connection, opened, home):
        requests = (connection.open_connection(*link.DESTINATION) for _ in range(50))
        answers = await asyncio.gather(*requests, return_exceptions=True)
        refused = [one for one in answers if isinstance(one, asyncssh.ChannelOpenError)]
        assert len(refused) == 47
        assert (home.dialled, opened.load) == (3, 3)


@pytest.mark.thorough
async def test_a_peer_that_does_not_read_answers_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """asyncssh answers each request, and each counts as a sign of life."""
    monkeypatch.setattr(link, "MAX_UNREAD", 256 * 1024)
    # A busy machine must not drop it earlier, for unanswered keepalives.
    monkeypatch.setitem(link.OPTIONS, "keepalive_interval", 600.0)
    async with malicious_gateway() as (connection, opened, _):
        transport = connection._transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        most = 0
        async with asyncio.timeout(6 * stage.WITHIN):
            while not opened.lost.is_set():
                if transport.get_write_buffer_size() < 65536 and not transport.is_closing():
                    for _ in range(100):
                        connection.send_packet(GLOBAL_REQUEST, String("elevation"), Boolean(True))
                most = max(most, opened.buffered)
                await asyncio.sleep(0)
        assert "does not read" in opened.reason
        assert most < 2 * link.MAX_UNREAD


async def test_a_peer_that_sends_more_than_the_window_is_dropped() -> None:
    """Home does not read. farlet buffers one window for it."""
    async with malicious_gateway() as (connection, opened, home):

        async def deaf(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await opened.lost.wait()
            await reader.read(1)

        home.serve = deaf
        _, writer = await connection.open_connection(*link.DESTINATION)
        channel = writer.channel
        piece = String(bytes(32 * 1024))
        async with asyncio.timeout(stage.WITHIN):
            # More than the kernels buffer in between.
            for _ in range(20 * relay.WINDOW // len(piece)):
                if opened.lost.is_set():
                    break
                channel.send_packet(CHANNEL_DATA, piece)
                await asyncio.sleep(0)
            await opened.lost.wait()
        assert "Window" in opened.reason
