"""What neither end of a link gets, whoever asks: all but connections to the home API server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncssh
import pytest

from farlet.gateway import link, server, tunnel
from unit.gateway import stage

Ask = Callable[[Any], Awaitable[object]]


# --- who is not the other end ---------------------------------------------------------------------


async def test_a_stranger_s_farlet_is_not_taken_for_ours() -> None:
    async with stage.standing() as scene:
        stranger, _ = stage.pair()
        sock = await scene.connect_socket()
        with pytest.raises(asyncssh.Error):
            await tunnel.connect(sock, stranger, scene.home.dial)
        assert scene.gateway_server.problem() is not None
        assert await scene.refused()


async def test_a_stranger_that_knows_the_gateway_s_public_key_gets_nothing_either() -> None:
    async with stage.standing() as scene:
        stranger, _ = stage.pair()
        knowing = type(stranger)(stranger.private, scene.farlet.trusted)
        sock = await scene.connect_socket()
        with pytest.raises(asyncssh.Error):
            await tunnel.connect(sock, knowing, scene.home.dial)
        assert scene.gateway_server.problem() is not None


async def test_a_stranger_s_gateway_is_not_connected_to_home() -> None:
    async with stage.standing() as scene:
        ours, theirs = socket.socketpair()
        _, stranger = stage.pair()
        believing = type(stranger)(stranger.private, scene.gateway.trusted)
        asking = asyncio.create_task(quietly(as_gateway(theirs, believing)))
        with pytest.raises(asyncssh.Error):
            await tunnel.connect(ours, scene.farlet, scene.home.dial)
        await asking
        assert scene.home.dialled == 0


async def quietly(work: Awaitable[object]) -> None:
    with contextlib.suppress(asyncssh.Error, OSError):
        await work


async def test_farlet_offers_no_other_proof_than_a_key() -> None:
    farlet, _ = stage.pair()
    ours, theirs = socket.socketpair()
    connecting = asyncio.create_task(quietly(tunnel.connect(ours, farlet, never)))
    offered: list[str] = []

    class Curious(asyncssh.SSHClient):
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
            client_factory=Curious,
            agent_path=None,
        )
    await connecting
    assert offered == ["publickey"]


async def never(_factory: Callable[[], asyncio.Protocol]) -> object:
    raise AssertionError("nothing may be dialled")


async def test_visitors_who_say_nothing_are_few_and_go_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "HANDSHAKE_SECONDS", 1.0)
    async with stage.standing() as scene:
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


# --- what the right gateway does not get from farlet ----------------------------------------------


async def as_gateway(sock: socket.socket, own: Any) -> asyncssh.SSHClientConnection:
    """A program that has the gateway's key and no scruples."""
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
async def wicked_gateway() -> AsyncIterator[tuple[asyncssh.SSHClientConnection, stage.Home]]:
    farlet, gateway = stage.pair()
    ours, theirs = socket.socketpair()
    home = stage.Home(stage.echo)
    async with home.listening():
        opened, connection = await asyncio.gather(
            tunnel.connect(ours, farlet, home.dial), as_gateway(theirs, gateway)
        )
        try:
            yield connection, home
        finally:
            connection.abort()
            await opened.lost.wait()


def opens(host: str, port: int) -> Ask:
    return lambda connection: connection.open_connection(host, port)


ASKED_OF_FARLET: dict[str, Ask] = {
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


@pytest.mark.parametrize("ask", ASKED_OF_FARLET.values(), ids=ASKED_OF_FARLET)
async def test_a_gateway_gets_nothing_but_the_home_api_server(ask: Ask) -> None:
    async with wicked_gateway() as (connection, home):
        with pytest.raises((asyncssh.ChannelOpenError, asyncssh.ChannelListenError)):
            await asyncio.wait_for(ask(connection), stage.WITHIN)
        assert home.dialled == 0
        reader, writer = await connection.open_connection(*link.DESTINATION)
        writer.write(b"x")
        assert await reader.read(1) == b"x"


async def test_a_gateway_cannot_open_more_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "MAX_RELAYS", 3)
    async with wicked_gateway() as (connection, home):
        for _ in range(3):
            await connection.open_connection(*link.DESTINATION)
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection(*link.DESTINATION)
        assert home.dialled == 3


# --- what farlet, or who has its key, does not get from a gateway ---------------------------------


@contextlib.asynccontextmanager
async def wicked_farlet() -> AsyncIterator[tuple[asyncssh.SSHServerConnection, stage.Scene]]:
    async with stage.standing() as scene:
        sock = await scene.connect_socket()
        connection = await asyncssh.connect_reverse(
            sock=sock,
            config=None,
            server_host_keys=[scene.farlet.private],
            server_factory=Lax,
        )
        await stage.eventually(lambda: scene.gateway_server.problem() is None)
        try:
            yield connection, scene
        finally:
            connection.abort()


class Lax(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return True


ASKED_OF_A_GATEWAY: dict[str, Ask] = {
    "a connection within its cluster": lambda connection: connection.open_connection(
        "10.96.0.1", 443, "", 0
    ),
    "a connection as if it had asked for it": lambda connection: connection.open_connection(
        "home-api", 443, "", 0
    ),
    "a socket file": lambda connection: connection.open_unix_connection("/run/any.sock"),
    "its agent": lambda connection: connection.open_agent_connection(),
}


@pytest.mark.parametrize("ask", ASKED_OF_A_GATEWAY.values(), ids=ASKED_OF_A_GATEWAY)
async def test_farlet_gets_nothing_from_a_gateway(ask: Ask) -> None:
    async with wicked_farlet() as (connection, scene):
        with pytest.raises((asyncssh.ChannelOpenError, OSError)):
            await asyncio.wait_for(ask(connection), stage.WITHIN)
        assert scene.gateway_server.problem() is None


@pytest.mark.parametrize(
    "kind", [b"session", b"direct-tcpip", b"x11", b"auth-agent@openssh.com", b"tun@openssh.com"]
)
async def test_a_gateway_opens_no_channel_of_any_kind(kind: bytes) -> None:
    async with wicked_farlet() as (connection, _):
        channel = connection.create_tcp_channel()
        with pytest.raises((asyncssh.ChannelOpenError, asyncssh.ConnectionLost)):
            await asyncio.wait_for(
                channel._open_forward(asyncssh.SSHTCPSession, kind), stage.WITHIN
            )
