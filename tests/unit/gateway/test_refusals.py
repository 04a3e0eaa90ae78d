"""Neither end of a link can open anything but connections to the home API server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncssh
import pytest

from farlet.gateway import link, server, tunnel
from farlet.gateway.relay_budget import RelayBudget
from unit.gateway import stage

Request = Callable[[Any], Awaitable[object]]


# --- peers with other keys ------------------------------------------------------------------------


async def test_a_gateway_rejects_a_farlet_with_other_keys() -> None:
    async with stage.running() as scene:
        stranger, _ = stage.pair()
        sock = await scene.connect_socket()
        with pytest.raises(asyncssh.Error):
            await tunnel.connect(sock, stranger, scene.home.dial)
        assert scene.gateway_server.problem() is not None
        assert await scene.refused()


async def test_a_gateway_rejects_a_peer_that_only_knows_its_public_key() -> None:
    async with stage.running() as scene:
        stranger, _ = stage.pair()
        peer = type(stranger)(stranger.private, scene.farlet.trusted)
        sock = await scene.connect_socket()
        with pytest.raises(asyncssh.Error):
            await tunnel.connect(sock, peer, scene.home.dial)
        assert scene.gateway_server.problem() is not None


async def test_farlet_rejects_a_gateway_with_other_keys() -> None:
    async with stage.running() as scene:
        ours, theirs = socket.socketpair()
        _, stranger = stage.pair()
        peer = type(stranger)(stranger.private, scene.gateway.trusted)
        connecting = asyncio.create_task(quietly(as_gateway(theirs, peer)))
        with pytest.raises(asyncssh.Error) as caught:
            await tunnel.connect(ours, scene.farlet, scene.home.dial)
        assert tunnel.failure(caught.value) == (
            "the gateway presented a key that trusted-keys does not contain"
        )
        await connecting
        assert scene.home.dialled == 0


async def quietly(work: Awaitable[object]) -> None:
    with contextlib.suppress(asyncssh.Error, OSError):
        await work


async def test_farlet_offers_public_key_authentication_only() -> None:
    farlet, _ = stage.pair()
    ours, theirs = socket.socketpair()
    connecting = asyncio.create_task(quietly(tunnel.connect(ours, farlet, never)))
    offered: list[str] = []

    class Recorder(asyncssh.SSHClient):
        def auth_banner_received(self, msg: str, lang: str) -> None:
            raise AssertionError

        def password_auth_requested(self) -> str:
            offered.append("password")
            return ""

        def kbdint_auth_requested(self) -> str:
            offered.append("keyboard-interactive")
            return ""

        def public_key_auth_requested(self) -> None:
            offered.append("publickey")

    with pytest.raises(asyncssh.PermissionDenied):
        await asyncssh.connect(
            "farlet",
            sock=theirs,
            config=None,
            known_hosts=None,
            username="gateway",
            client_factory=Recorder,
            agent_path=None,
        )
    await connecting
    assert offered == ["publickey"]


async def never(_factory: Callable[[], asyncio.BaseProtocol]) -> object:
    raise AssertionError("farlet dialled")


async def test_silent_connections_are_limited_and_time_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "HANDSHAKE_SECONDS", 1.0)
    async with stage.running() as scene:
        silent = [await scene.connect_socket() for _ in range(server.MAX_UNAUTHENTICATED)]
        loop = asyncio.get_running_loop()
        one_more = await scene.connect_socket()
        assert await asyncio.wait_for(loop.sock_recv(one_more, 1), stage.WITHIN) == b""
        for sock in silent:
            assert await asyncio.wait_for(loop.sock_recv(sock, 7), stage.WITHIN) == b"SSH-2.0"
        async with asyncio.timeout(stage.WITHIN):
            while scene.gateway_server.problem() is not None:
                with contextlib.suppress(asyncssh.Error, OSError):
                    await scene.link()
        for sock in (*silent, one_more):
            sock.close()


# --- a malicious gateway with the right key -------------------------------------------------------


async def as_gateway(sock: socket.socket, own: Any) -> asyncssh.SSHClientConnection:
    """Connect with the gateway's key, and with a client that can request anything."""
    return await asyncssh.connect(
        "farlet",
        sock=sock,
        config=None,
        known_hosts=(list(own.trusted), [], []),
        client_keys=[own.private],
        username="gateway",
        agent_path=None,
    )


@contextlib.asynccontextmanager
async def malicious_gateway(
    budget: RelayBudget | None = None,
) -> AsyncIterator[tuple[asyncssh.SSHClientConnection, stage.Home]]:
    farlet, gateway = stage.pair()
    ours, theirs = socket.socketpair()
    home = stage.Home(stage.echo)
    async with home.listening():
        opened, connection = await asyncio.gather(
            tunnel.connect(ours, farlet, home.dial, budget), as_gateway(theirs, gateway)
        )
        try:
            yield connection, home
        finally:
            connection.abort()
            await opened.lost.wait()


def opens(host: str, port: int) -> Request:
    return lambda connection: connection.open_connection(host, port)


REQUESTS_TO_FARLET: dict[str, Request] = {
    "another host": opens("kubernetes.default.svc", 443),
    "another port": opens("home-api", 22),
    "loopback": opens("127.0.0.1", 443),
    "another spelling": opens("HOME-API", 443),
    "a shell": lambda connection: connection.create_process(),
    "a command": lambda connection: connection.create_process("id"),
    "a subsystem": lambda connection: connection.start_sftp_client(),
    "a socket file": lambda connection: connection.open_unix_connection("/var/run/docker.sock"),
    "a listener": lambda connection: connection.start_server(lambda *_: None, "", 0),
    "a listening socket file": lambda connection: connection.start_unix_server(
        lambda *_: None, "/tmp/farlet.sock"
    ),
    "a network device": lambda connection: connection.open_tun(),
    "an ethernet device": lambda connection: connection.open_tap(),
}


@pytest.mark.parametrize("request_", REQUESTS_TO_FARLET.values(), ids=REQUESTS_TO_FARLET)
async def test_a_gateway_reaches_only_the_home_api_server(request_: Request) -> None:
    async with malicious_gateway() as (connection, home):
        with pytest.raises((asyncssh.ChannelOpenError, asyncssh.ChannelListenError)):
            await asyncio.wait_for(request_(connection), stage.WITHIN)
        assert home.dialled == 0
        reader, writer = await connection.open_connection(*link.DESTINATION)
        writer.write(b"x")
        assert await reader.read(1) == b"x"


async def test_a_gateway_cannot_open_more_connections_than_the_limit() -> None:
    async with malicious_gateway(RelayBudget(relays=3)) as (connection, home):
        for _ in range(3):
            await connection.open_connection(*link.DESTINATION)
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection(*link.DESTINATION)
        assert home.dialled == 3


# --- a malicious farlet with the right key --------------------------------------------------------


@contextlib.asynccontextmanager
async def malicious_farlet() -> AsyncIterator[tuple[asyncssh.SSHServerConnection, stage.Scene]]:
    async with stage.running() as scene:
        sock = await scene.connect_socket()
        connection = await asyncssh.connect_reverse(
            sock=sock,
            config=None,
            server_host_keys=[scene.farlet.private],
            server_factory=Permissive,
        )
        await stage.eventually(lambda: scene.gateway_server.problem() is None)
        try:
            yield connection, scene
        finally:
            connection.abort()


class Permissive(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return True


REQUESTS_TO_GATEWAY: dict[str, Request] = {
    "a connection in its cluster": lambda connection: connection.open_connection(
        "10.96.0.1", 443, "", 0
    ),
    "a forwarded connection that was not requested": lambda connection: connection.open_connection(
        "home-api", 443, "", 0
    ),
    "a socket file": lambda connection: connection.open_unix_connection("/run/any.sock"),
    "its agent": lambda connection: connection.open_agent_connection(),
}


@pytest.mark.parametrize("request_", REQUESTS_TO_GATEWAY.values(), ids=REQUESTS_TO_GATEWAY)
async def test_farlet_opens_nothing_at_a_gateway(request_: Request) -> None:
    async with malicious_farlet() as (connection, scene):
        with pytest.raises((asyncssh.ChannelOpenError, OSError)):
            await asyncio.wait_for(request_(connection), stage.WITHIN)
        assert scene.gateway_server.problem() is None


@pytest.mark.parametrize(
    "kind", [b"session", b"direct-tcpip", b"x11", b"auth-agent@openssh.com", b"tun@openssh.com"]
)
async def test_a_gateway_rejects_all_types_of_channels(kind: bytes) -> None:
    async with malicious_farlet() as (connection, _):
        channel = connection.create_tcp_channel()
        with pytest.raises((asyncssh.ChannelOpenError, asyncssh.ConnectionLost)):
            await asyncio.wait_for(
                channel._open_forward(asyncssh.SSHTCPSession, kind), stage.WITHIN
            )
