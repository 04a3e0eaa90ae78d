"""A peer without the right key gets nothing, whatever else it authenticates with."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any

import asyncssh
import pytest
from asyncssh.packet import String, UInt32

from farlet.gateway import keys, link, server, tunnel
from unit.gateway import stage

Options = Callable[[keys.Keys], dict[str, Any]]


# --- at farlet's end ------------------------------------------------------------------------------


class Answering(asyncssh.SSHClient):
    """Answers every authentication request."""

    def __init__(self) -> None:
        self.tried: list[str] = []

    def password_auth_requested(self) -> str | None:
        self.tried.append("password")
        return "secret" if len(self.tried) == 1 else None

    def kbdint_auth_requested(self) -> str | None:
        self.tried.append("keyboard-interactive")
        return "" if len(self.tried) == 1 else None


def certified(signer: asyncssh.SSHKey, key: asyncssh.SSHKey) -> dict[str, Any]:
    """A key with a certificate in OpenSSH's format."""
    certificate = signer.generate_user_certificate(key, "gateway", principals=["gateway"])
    return {"client_keys": [(key, certificate)]}


def new(kind: str) -> asyncssh.SSHKey:
    if kind == "ssh-rsa":
        return asyncssh.generate_private_key(kind, key_size=2048)  # faster than the default size
    return asyncssh.generate_private_key(kind)


PROOFS: dict[str, Options] = {
    "none": lambda _: {"preferred_auth": "none", "client_keys": None},
    "a password": lambda _: {"preferred_auth": "password", "client_keys": None},
    "keyboard-interactive": lambda _: {
        "preferred_auth": "keyboard-interactive",
        "client_keys": None,
    },
    "a host key": lambda own: {
        "preferred_auth": "hostbased",
        "client_host_keys": [own.private],
        "client_host": "gateway",
        "client_keys": None,
    },
    "another key": lambda _: {"client_keys": [new("ssh-ed25519")]},
    "a key of another type": lambda _: {"client_keys": [new("ecdsa-sha2-nistp256")]},
    "an RSA key": lambda _: {"client_keys": [new("ssh-rsa")]},
    "a key with a certificate of its own": lambda _: certified(
        new("ssh-ed25519"), new("ssh-ed25519")
    ),
    "a key with a certificate of the gateway": lambda own: certified(
        own.private, new("ssh-ed25519")
    ),
}


@pytest.mark.parametrize("proof", PROOFS.values(), ids=PROOFS)
@pytest.mark.parametrize("name", ["gateway", "root"])
async def test_farlet_accepts_only_the_key_of_the_gateway(proof: Options, name: str) -> None:
    farlet, gateway = stage.pair()
    ours, theirs = socket.socketpair()
    home = stage.Home(stage.echo)
    async with home.listening():
        connecting = asyncio.create_task(tunnel.connect(ours, farlet, home.dial))
        with pytest.raises((asyncssh.PermissionDenied, asyncssh.KeyExchangeFailed)):
            await asyncssh.connect(
                "farlet",
                sock=theirs,
                config=None,
                known_hosts=None,
                username=name,
                client_factory=Answering,
                agent_path=None,
                **proof(gateway),
            )
        with pytest.raises(asyncssh.Error):
            await asyncio.wait_for(connecting, stage.WITHIN)
        assert home.dialled == 0


# --- at a gateway's end ---------------------------------------------------------------------------


class NoAuthentication(asyncssh.SSHServer):
    """Requires no authentication."""

    def begin_auth(self, username: str) -> bool:
        return False


class OtherMethods(asyncssh.SSHServer):
    """Requests what a gateway could disclose."""

    def password_auth_supported(self) -> bool:
        return True

    def kbdint_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        raise AssertionError("a gateway sent a password")

    def get_kbdint_challenge(
        self, username: str, lang: str, submethods: str
    ) -> tuple[str, str, str, list[tuple[str, bool]]]:
        raise AssertionError("a gateway answered a challenge")


async def as_farlet(
    sock: socket.socket, key: Any, server: Callable[[], asyncssh.SSHServer]
) -> asyncssh.SSHServerConnection:
    """Connect to a gateway as an SSH server."""
    return await asyncssh.connect_reverse(
        sock=sock, config=None, server_host_keys=[key], server_factory=server
    )


@pytest.mark.parametrize("server", [NoAuthentication, OtherMethods])
async def test_a_gateway_links_only_after_public_key_authentication(
    server: Callable[[], asyncssh.SSHServer],
) -> None:
    async with stage.running() as scene:
        sock = await scene.connect_socket()
        with contextlib.suppress(asyncssh.Error):
            connection = await as_farlet(sock, scene.farlet.private, server)
            await asyncio.wait_for(connection.wait_closed(), stage.WITHIN)
        assert scene.gateway_server.problem() is not None
        assert await scene.refused()


HOST_KEYS: dict[str, Callable[[keys.Keys], Any]] = {
    "another key": lambda _: new("ssh-ed25519"),
    "a key of another type": lambda _: new("ecdsa-sha2-nistp256"),
    "a key with a certificate of its own": lambda _: host_certified(new("ssh-ed25519")),
    "a key with a certificate of farlet": lambda own: host_certified(own.private),
}


def host_certified(signer: asyncssh.SSHKey) -> Any:
    key = new("ssh-ed25519")
    certificate = signer.generate_host_certificate(key, "farlet", principals=["home-api"])
    return key, certificate


@pytest.mark.parametrize("key", HOST_KEYS.values(), ids=HOST_KEYS)
async def test_a_gateway_accepts_only_the_key_of_farlet(
    key: Callable[[keys.Keys], Any],
) -> None:
    authenticating = False

    class Recorder(OtherMethods):
        def begin_auth(self, username: str) -> bool:
            nonlocal authenticating
            authenticating = True
            return True

    async with stage.running() as scene:
        sock = await scene.connect_socket()
        with pytest.raises(asyncssh.Error):
            await as_farlet(sock, key(scene.farlet), Recorder)
        assert not authenticating  # the gateway does not start to authenticate itself
        assert scene.gateway_server.problem() is not None


# --- data that is not SSH -------------------------------------------------------------------------

INVALID = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "TLS": bytes.fromhex("1603010200010001fc0303") + bytes(500),
    "noise": os.urandom(100_000),
    "a line without an end": b"x" * 1_000_000,
    "a greeting without an end": b"SSH-2.0-" + b"x" * 1_000_000,
    "lines without an end": b"hello\r\n" * 100_000,
    "a packet of four gigabytes": b"SSH-2.0-x\r\n\xff\xff\xff\xff" + bytes(1_000_000),
    "half a packet": b"SSH-2.0-x\r\n" + (1000).to_bytes(4, "big") + b"\x04\x14",
    "an older SSH": b"SSH-1.5-x\r\n",
}


LONG = "go\x1b[2J away\nnow" + " please" * 2000


def disconnect(text: str) -> bytes:
    """A greeting and an SSH disconnect message with this text."""
    message = b"\x01" + UInt32(11) + String(text) + String("")
    padding = 16 - (len(message) + 5) % 8
    packet = UInt32(len(message) + 1 + padding) + bytes([padding]) + message + bytes(padding)
    return b"SSH-2.0-x\r\n" + packet


async def test_the_text_of_a_peer_becomes_one_short_line() -> None:
    farlet, _ = stage.pair()
    ours, theirs = socket.socketpair()
    theirs.sendall(disconnect(LONG))
    with pytest.raises(asyncssh.DisconnectError) as caught:
        await tunnel.connect(ours, farlet, stage.Home(stage.echo).dial)
    theirs.close()
    text = link.summary(caught.value)
    assert text.startswith("go [2J away now please please")
    assert text.isprintable()
    assert len(text) == link.MAX_TEXT


async def send(sock: socket.socket, text: bytes) -> None:
    """Send the text and close. The peer possibly does not read it."""
    with contextlib.suppress(OSError):
        await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(sock, text), stage.WITHIN)
    sock.close()


@pytest.mark.parametrize("text", INVALID.values(), ids=INVALID)
async def test_invalid_data_does_not_keep_farlet_from_a_gateway(text: bytes) -> None:
    async with stage.running() as scene:
        for _ in range(server.MAX_UNAUTHENTICATED + 1):
            await send(await scene.connect_socket(), text)
        async with asyncio.timeout(stage.WITHIN):
            while scene.gateway_server.problem() is not None:
                with contextlib.suppress(asyncssh.Error, OSError):
                    await scene.link()
        reader, writer = await scene.pod()
        writer.write_eof()
        assert await stage.all_of(reader) == b"end"
        writer.close()


@pytest.mark.parametrize("text", INVALID.values(), ids=INVALID)
async def test_invalid_data_from_a_gateway_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, text: bytes
) -> None:
    monkeypatch.setattr(link, "HANDSHAKE_SECONDS", 2.0)
    farlet, _ = stage.pair()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    home = stage.Home(stage.echo)
    sending = asyncio.create_task(send(theirs, text))
    with pytest.raises((asyncssh.Error, OSError, TimeoutError)):
        await asyncio.wait_for(tunnel.connect(ours, farlet, home.dial), stage.WITHIN)
    await sending
    assert home.dialled == 0
