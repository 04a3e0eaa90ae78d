"""The preflight check of the endpoint, with real TLS over local sockets."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from farlet.context import Endpoint
from farlet.homeapi import preflight
from unit import listening

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Authority:
    name: str
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()


def _names(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def authority(name: str = "home-ca") -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_names(name))
        .issuer_name(_names(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + 10 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(name, key, certificate)


def server_context(
    folder: Path,
    ca: Authority,
    *,
    sans: Sequence[str],
    common_name: str = "kube-apiserver",
    begin: datetime = NOW - DAY,
    end: datetime = NOW + DAY,
) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(_names(common_name))
        .issuer_name(ca.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )
    if sans:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.IPAddress(ipaddress.ip_address(san))
                    if san[0].isdigit() or ":" in san
                    else x509.DNSName(san)
                    for san in sans
                ]
            ),
            critical=False,
        )
    certificate = builder.sign(ca.key, hashes.SHA256())
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@dataclass
class Received:
    """What clients sent after the handshake."""

    data: bytes = b""


@asynccontextmanager
async def serving(
    context: ssl.SSLContext | None, *, host: str = "127.0.0.1", greeting: bytes = b""
) -> AsyncIterator[tuple[int, Received]]:
    received = Received()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        try:
            while data := await reader.read(65536):
                received.data += data
        except OSError:  # the client disconnected without close_notify
            pass
        writer.close()

    async with listening.listening(serve, host=host, tls=context, patience=5) as port:
        yield port, received


@pytest.fixture(scope="module")
def home_ca() -> Authority:
    return authority()


@pytest.mark.parametrize(
    ("host", "sans"),
    [
        pytest.param("127.0.0.1", ["127.0.0.1"], id="an IPv4 address"),
        pytest.param("::1", ["::1"], id="an IPv6 address"),
        pytest.param("localhost", ["api.test", "localhost"], id="a name among others"),
    ],
)
async def test_the_right_certificate_is_verified_and_nothing_is_sent(
    tmp_path: Path, home_ca: Authority, host: str, sans: list[str]
) -> None:
    listen = "::1" if host == "::1" else "127.0.0.1"
    context = server_context(tmp_path, home_ca, sans=sans)
    async with serving(context, host=listen) as (port, received):
        result = await preflight.verify(Endpoint(host, port), home_ca.pem, within=5)
    assert result == preflight.Verified()
    assert received.data == b""


@pytest.mark.parametrize(
    ("host", "sans", "common_name"),
    [
        pytest.param("127.0.0.1", ["10.0.0.1", "kubernetes"], "x", id="another address"),
        pytest.param("localhost", ["127.0.0.1", "kubernetes"], "x", id="the address, not the name"),
        pytest.param("localhost", ["kubernetes"], "localhost", id="only the common name"),
    ],
)
async def test_a_certificate_without_the_name_is_refused_with_its_names(
    tmp_path: Path, home_ca: Authority, host: str, sans: list[str], common_name: str
) -> None:
    context = server_context(tmp_path, home_ca, sans=sans, common_name=common_name)
    async with serving(context) as (port, received):
        result = await preflight.verify(Endpoint(host, port), home_ca.pem, within=5)
    assert isinstance(result, preflight.WrongCertificate)
    assert f"not valid for {host}" in result.message
    for san in sans:
        assert san in result.message
    assert "--home-api-server-host" in result.message
    assert received.data == b""


async def test_a_certificate_without_sans_is_refused_as_such(
    tmp_path: Path, home_ca: Authority
) -> None:
    context = server_context(tmp_path, home_ca, sans=[], common_name="localhost")
    async with serving(context) as (port, _):
        result = await preflight.verify(Endpoint("localhost", port), home_ca.pem, within=5)
    assert isinstance(result, preflight.WrongCertificate)
    assert "its names (SANs) are: none" in result.message


async def test_a_certificate_of_another_ca_is_refused_with_its_issuer(
    tmp_path: Path, home_ca: Authority
) -> None:
    other = authority("other-ca")
    context = server_context(tmp_path, other, sans=["127.0.0.1", "api.test"])
    async with serving(context) as (port, received):
        result = await preflight.verify(Endpoint("127.0.0.1", port), home_ca.pem, within=5)
    assert isinstance(result, preflight.WrongCertificate)
    assert "not signed by the home CA" in result.message
    assert "CN=other-ca" in result.message
    assert "api.test, 127.0.0.1" in result.message
    assert "--home-api-server-ca-file" in result.message
    assert received.data == b""


async def test_a_bundle_can_contain_other_cas(tmp_path: Path, home_ca: Authority) -> None:
    bundle = authority("other-ca").pem + home_ca.pem
    context = server_context(tmp_path, home_ca, sans=["127.0.0.1"])
    async with serving(context) as (port, _):
        result = await preflight.verify(Endpoint("127.0.0.1", port), bundle, within=5)
    assert result == preflight.Verified()


@pytest.mark.parametrize(
    ("begin", "end", "message"),
    [
        pytest.param(NOW - 3 * DAY, NOW - 2 * DAY, "has expired (valid until", id="expired"),
        pytest.param(NOW + DAY, NOW + 2 * DAY, "is not valid yet (from", id="not valid yet"),
    ],
)
async def test_a_certificate_outside_its_validity_is_refused(
    tmp_path: Path, home_ca: Authority, begin: datetime, end: datetime, message: str
) -> None:
    context = server_context(tmp_path, home_ca, sans=["127.0.0.1"], begin=begin, end=end)
    async with serving(context) as (port, _):
        result = await preflight.verify(Endpoint("127.0.0.1", port), home_ca.pem, within=5)
    assert isinstance(result, preflight.WrongCertificate)
    assert message in result.message
    assert f"{(end if end < NOW else begin):%Y-%m-%d}" in result.message


@pytest.mark.parametrize(
    "pem",
    [
        pytest.param("", id="empty"),
        pytest.param("<html>", id="something else"),
        pytest.param("-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n", id="broken"),
    ],
)
async def test_an_unusable_ca_bundle_is_refused_and_system_cas_are_not_used(pem: str) -> None:
    result = await preflight.verify(Endpoint("127.0.0.1", 1), pem, within=5)
    assert isinstance(result, preflight.WrongCertificate)
    assert "--home-api-server-ca-file" in result.message


@pytest.mark.parametrize(
    "greeting",
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="plain HTTP"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="another protocol"),
    ],
)
async def test_a_server_without_tls_is_refused(home_ca: Authority, greeting: bytes) -> None:
    async with serving(None, greeting=greeting) as (port, _):
        result = await preflight.verify(Endpoint("127.0.0.1", port), home_ca.pem, within=5)
    assert isinstance(result, preflight.WrongCertificate)
    assert "does not answer like an API server" in result.message
    assert "--home-api-server-port" in result.message


async def test_a_closed_port_is_unreachable(home_ca: Authority) -> None:
    async with serving(None) as (port, _):
        pass
    result = await preflight.verify(Endpoint("127.0.0.1", port), home_ca.pem, within=5)
    assert result == preflight.Unreachable(
        f"farlet cannot reach 127.0.0.1:{port}: connection refused"
    )


async def test_a_server_that_hangs_is_unreachable(home_ca: Authority) -> None:
    async with serving(None) as (port, _):
        result = await preflight.verify(Endpoint("127.0.0.1", port), home_ca.pem, within=0.2)
    assert result == preflight.Unreachable(
        f"farlet cannot reach 127.0.0.1:{port}: no answer within 0.2 s"
    )


@pytest.mark.parametrize("abort", [True, False], ids=["reset", "closed"])
async def test_a_connection_that_ends_early_is_unreachable(home_ca: Authority, abort: bool) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        if abort:
            writer.transport.abort()
        else:
            await reader.read(65536)
            writer.close()

    async with listening.listening(hang_up) as port:
        result = await preflight.verify(Endpoint("127.0.0.1", port), home_ca.pem, within=5)
    assert isinstance(result, preflight.Unreachable)
    assert result.message.startswith(f"farlet cannot reach 127.0.0.1:{port}: ")


async def test_a_name_that_does_not_resolve_is_unreachable(home_ca: Authority) -> None:
    result = await preflight.verify(Endpoint("api.invalid", 443), home_ca.pem, within=5)
    assert result == preflight.Unreachable(
        "farlet cannot reach api.invalid:443: the name does not resolve"
    )
