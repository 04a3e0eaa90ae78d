"""Real handshakes: which clients are accepted, and when new certificates are used."""

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

CA, OTHER_CA = certificates.authority(), certificates.authority("another CA")
INTERMEDIATE = certificates.authority("an intermediate", of=CA)
NOW = datetime.now(UTC)


def _parsed(pair: Pair) -> key_pairs.KeyPair:
    return key_pairs.parse(pair.pem.encode(), pair.key_pem.encode())


def _serving(user: str = "system:node:far", ca: Pair = CA) -> key_pairs.KeyPair:
    return _parsed(certificates.issue(ca, user=user, hosts=["127.0.0.1"], uses=[SERVER]))


class _Port:
    """A port that answers with the caller's certificate."""

    def __init__(self, folder: Path, *anchors: Pair) -> None:
        self.file = folder / "client-ca.crt"
        self.ca = client_ca.ClientCA(Home(), file=self.file)
        self.trust(*anchors)
        self.tls = serving_tls.ServingTLS(self.ca, now=lambda: datetime.now(UTC))
        self.port = 0

    def trust(self, *anchors: Pair) -> None:
        if anchors:
            self.file.write_text("".join(anchor.pem for anchor in anchors))
            self.ca.read_file()

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
                await channel.write(channel.certificate or b"no certificate")
        except ssl.SSLError:  # the tests check it at the client
            return
        finally:
            channel.abort()

    async def call(self, context: ssl.SSLContext) -> tuple[bytes, ssl.SSLObject]:
        """The answer and the TLS session. Raises `OSError` if the port closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        try:
            writer.write(b"request")
            answer = await reader.read(4096)
            if not answer:
                raise ConnectionResetError("closed")
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
        pytest.param(_issue(uses=[]), id="without extended key usage"),
        pytest.param(_issue(uses=[SERVER, CLIENT]), id="for servers and clients"),
    ],
)
async def test_a_client_certificate_is_accepted(certificate: Pair, tmp_path: Path) -> None:
    port = _Port(tmp_path, CA)
    port.tls.use(_serving())
    async with port.open():
        seen, _ = await port.call(_client(tmp_path, certificate))
        assert seen == certificate.der


async def test_a_certificate_of_an_intermediate_ca_in_the_bundle_is_accepted(
    tmp_path: Path,
) -> None:
    port = _Port(tmp_path, INTERMEDIATE)
    port.tls.use(_serving())
    certificate = _issue(INTERMEDIATE)
    async with port.open():
        assert (await port.call(_client(tmp_path, certificate)))[0] == certificate.der


async def test_a_client_certificate_is_optional(tmp_path: Path) -> None:
    port = _Port(tmp_path, CA)
    port.tls.use(_serving())
    async with port.open():
        assert (await port.call(_client(tmp_path)))[0] == b"no certificate"


@pytest.mark.parametrize(
    "certificate",
    [
        pytest.param(_issue(OTHER_CA), id="of another CA"),
        pytest.param(_issue(begins=NOW - 2 * HOUR, ends=NOW - HOUR), id="that has expired"),
        pytest.param(_issue(uses=[SERVER]), id="for servers"),
        pytest.param(certificates.authority("kube-apiserver"), id="that is self-signed"),
    ],
)
async def test_the_handshake_fails_with_a_certificate(certificate: Pair, tmp_path: Path) -> None:
    port = _Port(tmp_path, CA)
    port.tls.use(_serving())
    async with port.open():
        # An alert or a closed connection, whichever the client notices first.
        with pytest.raises(OSError):  # noqa: PT011
            await port.call(_client(tmp_path, certificate))


async def test_without_a_client_ca_no_certificate_is_requested(tmp_path: Path) -> None:
    port = _Port(tmp_path)
    port.tls.use(_serving())
    async with port.open():
        assert (await port.call(_client(tmp_path, _issue())))[0] == b"no certificate"


async def test_a_new_serving_certificate_is_used_from_the_next_connection(
    tmp_path: Path,
) -> None:
    port = _Port(tmp_path, CA)
    port.tls.use(_serving())
    async with port.open():
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port.port, ssl=_client(tmp_path)
        )
        port.tls.use(_serving(ca=OTHER_CA))
        writer.write(b"request")
        assert await reader.read(4096) == b"no certificate"
        writer.transport.abort()
        assert (await port.call(_client(tmp_path, ca=OTHER_CA)))[0] == b"no certificate"
        with pytest.raises(ssl.SSLCertVerificationError):
            await port.call(_client(tmp_path))


async def test_a_new_client_ca_is_used_from_the_next_connection(tmp_path: Path) -> None:
    port = _Port(tmp_path, CA)
    port.tls.use(_serving())
    old, new = _issue(), _issue(OTHER_CA)
    async with port.open():
        await port.call(_client(tmp_path, old))
        port.trust(OTHER_CA)
        assert (await port.call(_client(tmp_path, new)))[0] == new.der
        with pytest.raises(OSError):  # noqa: PT011
            await port.call(_client(tmp_path, old))


async def test_http_2_is_not_negotiated(tmp_path: Path) -> None:
    port = _Port(tmp_path, CA)
    port.tls.use(_serving())
    async with port.open():
        _, session = await port.call(_client(tmp_path))
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
    port = _Port(tmp_path, CA)
    port.tls.use(_serving())
    certificate = _issue()
    context = _client(tmp_path, certificate)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    async with port.open():
        if accepted:
            assert (await port.call(context))[0] == certificate.der
        else:
            with pytest.raises(OSError):  # noqa: PT011
                await port.call(context)


async def test_a_session_is_not_resumed(tmp_path: Path) -> None:
    port = _Port(tmp_path, CA)
    port.tls.use(_serving())
    async with port.open():
        _, session = await port.call(_client(tmp_path, _issue()))
        assert session.session is None or not session.session.has_ticket


async def test_a_key_that_openssl_rejects_leaves_the_previous_certificate(tmp_path: Path) -> None:
    port = _Port(tmp_path, CA)
    port.tls.use(_serving())
    good = _serving()
    broken = key_pairs.KeyPair(chain=good.chain, key=_serving().key, leaf=good.leaf)
    with pytest.raises(ssl.SSLError):
        port.tls.use(broken)
    async with port.open():
        assert (await port.call(_client(tmp_path)))[0] == b"no certificate"


def test_the_remaining_lifetime_of_the_certificate(tmp_path: Path) -> None:
    port = _Port(tmp_path, CA)
    assert port.tls.remaining() == float("inf")
    port.tls.use(_serving())
    assert 3500 < port.tls.remaining() <= 3600
