"""Real handshakes: which clients get through, and what is in force from which connection on."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from farlet.certs import client_ca, key_pairs, serving_tls
from farlet.client import tls_stream
from unit import certificates, listening
from unit.certificates import CLIENT, HOUR, SERVER, Pair
from unit.certs.home_server import Home

CA, STRANGER = certificates.authority(), certificates.authority("a stranger")
BELOW = certificates.authority("an intermediate", of=CA)
NOW = datetime.now(UTC)


def _pair(pair: Pair) -> key_pairs.KeyPair:
    return key_pairs.of(pair.pem.encode(), pair.key_pem.encode())


def _served(user: str = "system:node:far", ca: Pair = CA) -> key_pairs.KeyPair:
    return _pair(certificates.issue(ca, user=user, hosts=["127.0.0.1"], uses=[SERVER]))


class _Door:
    """A port that tells each caller whose certificate it has seen."""

    def __init__(self, folder: Path, *anchors: Pair) -> None:
        self.file = folder / "client-ca.crt"
        self.ca = client_ca.ClientCA(Home(), file=self.file)
        self.believe(*anchors)
        self.tls = serving_tls.ServingTLS(self.ca)
        self.port = 0

    def believe(self, *anchors: Pair) -> None:
        if anchors:
            self.file.write_text("".join(anchor.pem for anchor in anchors))
            self.ca.look()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        scratch = bytearray(tls_stream.CHUNK)
        tasks: set[asyncio.Task[None]] = set()

        def opened(channel: tls_stream.TLSStream) -> None:
            tasks.add(asyncio.ensure_future(self._serve(channel)))

        server = await asyncio.get_running_loop().create_server(
            lambda: tls_stream.TLSStream(scratch, opened=opened), "127.0.0.1", 0
        )
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            await listening.cut_off(tasks)

    async def _serve(self, channel: tls_stream.TLSStream) -> None:
        try:
            await channel.secure(self.tls.context, server_side=True)
            while await channel.read():
                await channel.write(channel.certificate or b"nobody")
        except ssl.SSLError:  # what the tests ask of the other end
            return
        finally:
            channel.abort()

    async def call(self, context: ssl.SSLContext) -> tuple[bytes, ssl.SSLObject]:
        """What the port says, and the session. Raises `OSError` where it hangs up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        try:
            writer.write(b"who am I")
            answer = await reader.read(4096)
            if not answer:
                raise ConnectionResetError("hung up")
            session: ssl.SSLObject = writer.get_extra_info("ssl_object")
            return answer, session
        finally:
            writer.transport.abort()


def _client(folder: Path, certificate: Pair | None = None, *, ca: Pair = CA) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ca.pem)
    context.set_alpn_protocols(["h2", "http/1.1"])
    if certificate is not None:
        context.load_cert_chain(*certificate.write(folder, "client"))
    return context


def _issue(ca: Pair = CA, **how: Any) -> Pair:
    return certificates.issue(ca, user="kube-apiserver", **how)


@pytest.mark.parametrize(
    "certificate",
    [
        pytest.param(_issue(), id="of the client CA"),
        pytest.param(_issue(uses=[]), id="for no use in particular"),
        pytest.param(_issue(uses=[SERVER, CLIENT]), id="for both uses"),
    ],
)
async def test_a_certificate_is_seen(certificate: Pair, tmp_path: Path) -> None:
    door = _Door(tmp_path, CA)
    door.tls.use(_served())
    async with door.open():
        seen, _ = await door.call(_client(tmp_path, certificate))
        assert seen == certificate.der


async def test_an_intermediate_of_the_bundle_is_enough(tmp_path: Path) -> None:
    door = _Door(tmp_path, BELOW)
    door.tls.use(_served())
    certificate = _issue(BELOW)
    async with door.open():
        assert (await door.call(_client(tmp_path, certificate)))[0] == certificate.der


async def test_nobody_has_to_show_a_certificate(tmp_path: Path) -> None:
    door = _Door(tmp_path, CA)
    door.tls.use(_served())
    async with door.open():
        assert (await door.call(_client(tmp_path)))[0] == b"nobody"


@pytest.mark.parametrize(
    "certificate",
    [
        pytest.param(_issue(STRANGER), id="of a stranger"),
        pytest.param(_issue(begins=NOW - 2 * HOUR, ends=NOW - HOUR), id="that has expired"),
        pytest.param(_issue(uses=[SERVER]), id="for servers"),
        pytest.param(certificates.authority("kube-apiserver"), id="signed by itself"),
    ],
)
async def test_the_handshake_fails_with_one(certificate: Pair, tmp_path: Path) -> None:
    door = _Door(tmp_path, CA)
    door.tls.use(_served())
    async with door.open():
        # An alert, or the end of the connection, as it meets the client.
        with pytest.raises(OSError):  # noqa: PT011
            await door.call(_client(tmp_path, certificate))


async def test_where_no_client_ca_is_known_no_certificate_is_asked_for(tmp_path: Path) -> None:
    door = _Door(tmp_path)
    door.tls.use(_served())
    async with door.open():
        assert (await door.call(_client(tmp_path, _issue())))[0] == b"nobody"


async def test_a_new_serving_certificate_is_shown_from_the_next_connection_on(
    tmp_path: Path,
) -> None:
    door = _Door(tmp_path, CA)
    door.tls.use(_served())
    async with door.open():
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", door.port, ssl=_client(tmp_path)
        )
        door.tls.use(_served(ca=STRANGER))
        writer.write(b"still there?")
        assert await reader.read(4096) == b"nobody"
        writer.transport.abort()
        assert (await door.call(_client(tmp_path, ca=STRANGER)))[0] == b"nobody"
        with pytest.raises(ssl.SSLCertVerificationError):
            await door.call(_client(tmp_path))


async def test_a_new_client_ca_counts_from_the_next_connection_on(tmp_path: Path) -> None:
    door = _Door(tmp_path, CA)
    door.tls.use(_served())
    mine, theirs = _issue(), _issue(STRANGER)
    async with door.open():
        await door.call(_client(tmp_path, mine))
        door.believe(STRANGER)
        assert (await door.call(_client(tmp_path, theirs)))[0] == theirs.der
        with pytest.raises(OSError):  # noqa: PT011
            await door.call(_client(tmp_path, mine))


async def test_http_2_is_not_spoken(tmp_path: Path) -> None:
    door = _Door(tmp_path, CA)
    door.tls.use(_served())
    async with door.open():
        _, session = await door.call(_client(tmp_path))
        assert session.selected_alpn_protocol() == "http/1.1"


@pytest.mark.parametrize(
    ("version", "accepted"),
    [
        pytest.param(ssl.TLSVersion.TLSv1_1, False, id="1.1"),
        pytest.param(ssl.TLSVersion.TLSv1_2, True, id="1.2"),
        pytest.param(ssl.TLSVersion.TLSv1_3, True, id="1.3"),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_tls(version: ssl.TLSVersion, accepted: bool, tmp_path: Path) -> None:
    door = _Door(tmp_path, CA)
    door.tls.use(_served())
    certificate = _issue()
    context = _client(tmp_path, certificate)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    async with door.open():
        if accepted:
            assert (await door.call(context))[0] == certificate.der
        else:
            with pytest.raises(OSError):  # noqa: PT011
                await door.call(context)


async def test_a_session_is_not_resumed(tmp_path: Path) -> None:
    door = _Door(tmp_path, CA)
    door.tls.use(_served())
    async with door.open():
        _, session = await door.call(_client(tmp_path, _issue()))
        assert session.session is None or not session.session.has_ticket


async def test_a_key_that_openssl_refuses_leaves_what_was_shown(tmp_path: Path) -> None:
    door = _Door(tmp_path, CA)
    door.tls.use(_served())
    good = _served()
    broken = key_pairs.KeyPair(chain=good.chain, key=_served().key, leaf=good.leaf)
    with pytest.raises(ssl.SSLError):
        door.tls.use(broken)
    async with door.open():
        assert (await door.call(_client(tmp_path)))[0] == b"nobody"


def test_how_long_the_certificate_lasts(tmp_path: Path) -> None:
    door = _Door(tmp_path, CA)
    assert door.tls.remaining() == float("inf")
    door.tls.use(_served())
    assert 3500 < door.tls.remaining() <= 3600
