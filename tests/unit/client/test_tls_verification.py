"""farlet, Kopf and the preflight check verify an API server alike, and as Go does."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from kopf._cogs.clients import auth

from farlet.client import tls_verification
from farlet.client.credential_sources import ClusterSource
from farlet.context import Endpoint
from farlet.home.kopf_session import KopfSessions
from farlet.homeapi import preflight
from unit import certificates
from unit.reconcile import apiserver

NAME = "kubernetes.default.svc"
HOUR = timedelta(hours=1)


def bare(
    subject: str,
    *extensions: tuple[x509.ExtensionType, bool],
    ca: certificates.Pair | None = None,
) -> certificates.Pair:
    """A certificate with these extensions (and whether each is critical), and no others."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(ca.certificate.subject if ca else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - HOUR)
        .not_valid_after(datetime.now(UTC) + HOUR)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return certificates.Pair(builder.sign(ca.key if ca else key, hashes.SHA256()), key)


CA = (x509.BasicConstraints(ca=True, path_length=None), True)


def names(*hosts: str) -> tuple[x509.ExtensionType, bool]:
    return x509.SubjectAlternativeName([certificates._general_name(one) for one in hosts]), False


def eks(*hosts: str) -> tuple[certificates.Pair, certificates.Pair]:
    """A CA and a server as EKS has them, without key identifiers."""
    ca = bare("kubernetes", CA, (certificates._SIGNING, True))
    use = x509.ExtendedKeyUsage([certificates.SERVER])
    return ca, bare("kube-apiserver", (use, False), names(*hosts), ca=ca)


def handshake(context: ssl.SSLContext, server: certificates.Pair, folder: Path) -> None:
    """In memory. Raises what the client's verification raises."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(back, there, server_hostname=NAME)
    serving = certificates.server_context(server, folder).wrap_bio(there, back, server_side=True)
    for _ in range(4):
        for side in (client, serving):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


Server = Callable[[], tuple[certificates.Pair, certificates.Pair]]


def issued(**options: Any) -> tuple[certificates.Pair, certificates.Pair]:
    ca = certificates.authority()
    return ca, certificates.issue(
        ca, **{"uses": (certificates.SERVER,), "hosts": (NAME,), **options}
    )


def by_intermediate() -> tuple[certificates.Pair, certificates.Pair]:
    """The bundle contains only the intermediate CA, which is not self-signed."""
    ca = certificates.authority("intermediate", of=certificates.authority("root"))
    return ca, certificates.issue(ca, uses=(certificates.SERVER,), hosts=(NAME,))


def constrained(domain: str) -> tuple[certificates.Pair, certificates.Pair]:
    limits = x509.NameConstraints([x509.DNSName(domain)], None)
    ca = bare("limited", CA, (certificates._SIGNING, True), (limits, True))
    return ca, bare("server", names(NAME), ca=ca)


@pytest.mark.parametrize(
    "server",
    [
        pytest.param(issued, id="of a usual CA"),
        pytest.param(lambda: eks(NAME), id="of a CA without key identifiers"),
        pytest.param(by_intermediate, id="of an intermediate CA in the bundle"),
        pytest.param(lambda: constrained("svc"), id="of a CA that is allowed to sign the name"),
    ],
)
def test_a_certificate_is_accepted(server: Server, tmp_path: Path) -> None:
    ca, pair = server()
    handshake(tls_verification.context(cadata=ca.pem), pair, tmp_path)


@pytest.mark.parametrize(
    ("server", "why"),
    [
        pytest.param(lambda: issued(hosts=("home-worker-1",)), "Hostname mismatch", id="name"),
        pytest.param(
            lambda: issued(hosts=(), user=NAME), "Hostname mismatch", id="a common name alone"
        ),
        pytest.param(
            lambda: issued(ends=datetime.now(UTC) - timedelta(minutes=1)), "expired", id="expired"
        ),
        pytest.param(
            lambda: issued(begins=datetime.now(UTC) + timedelta(minutes=1)),
            "not yet valid",
            id="not valid yet",
        ),
        pytest.param(lambda: issued(uses=(certificates.CLIENT,)), "purpose", id="for clients"),
        pytest.param(
            lambda: (certificates.authority(), issued()[1]), "issuer certificate", id="another CA"
        ),
        pytest.param(lambda: constrained("example"), "permitted subtree", id="name constraints"),
    ],
)
def test_a_certificate_is_refused(server: Server, why: str, tmp_path: Path) -> None:
    ca, pair = server()
    with pytest.raises(ssl.SSLCertVerificationError, match=why):
        handshake(tls_verification.context(cadata=ca.pem), pair, tmp_path)


def test_python_would_refuse_the_same_ca_since_3_13(tmp_path: Path) -> None:
    ca, pair = eks(NAME)
    with pytest.raises(ssl.SSLCertVerificationError, match="Authority Key Identifier"):
        handshake(_strict(cadata=ca.pem), pair, tmp_path)


_DEFAULT = ssl.create_default_context


def _strict(*args: Any, **kwargs: Any) -> ssl.SSLContext:
    """What `ssl.create_default_context` returns since Python 3.13."""
    made = _DEFAULT(*args, **kwargs)
    made.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    return made


async def by_farlet(kubeconfig: Path, url: str, ca: str) -> None:
    async with apiserver.connection(kubeconfig, "home") as cluster:
        await cluster.call("GET", "/api")


async def by_kopf(kubeconfig: Path, url: str, ca: str) -> None:
    source = ClusterSource(kubeconfig=str(kubeconfig), context=None)
    login = await KopfSessions(source).log_in()
    context = auth.APIContext(login)
    try:
        async with context.session.get(f"{login.server}/api") as response:
            assert response.status == 200
    finally:
        await context.close()


async def by_preflight(kubeconfig: Path, url: str, ca: str) -> None:
    where = urlsplit(url)
    endpoint = Endpoint(str(where.hostname), where.port or 0)
    assert await preflight.verify(endpoint, ca, within=5) == preflight.Verified()


@pytest.mark.parametrize("connect", [by_farlet, by_kopf, by_preflight])
async def test_clusters_with_a_ca_like_that_of_eks_are_reachable(
    connect: Callable[[Path, str, str], Awaitable[None]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ca, pair = eks("127.0.0.1")
    (tmp_path / "ca.crt").write_text(ca.pem)
    async with apiserver.listening(certificates.server_context(pair, tmp_path)) as front:
        cluster: dict[str, Any] = {"certificate-authority": str(tmp_path / "ca.crt")}
        kubeconfig = apiserver.kubeconfig(tmp_path / "kubeconfig", front.url, **cluster)
        monkeypatch.setattr(ssl, "create_default_context", _strict)
        await connect(kubeconfig, front.url, ca.pem)


@pytest.mark.parametrize("connect", [by_farlet, by_kopf])
async def test_the_name_in_the_kubeconfig_is_verified_in_place_of_the_host(
    connect: Callable[[Path, str, str], Awaitable[None]], tmp_path: Path
) -> None:
    ca, pair = issued(hosts=("api.example",))
    (tmp_path / "ca.crt").write_text(ca.pem)
    async with apiserver.listening(certificates.server_context(pair, tmp_path)) as front:
        cluster: dict[str, Any] = {
            "certificate-authority": str(tmp_path / "ca.crt"),
            "tls-server-name": "api.example",
        }
        kubeconfig = apiserver.kubeconfig(tmp_path / "kubeconfig", front.url, **cluster)
        await connect(kubeconfig, front.url, ca.pem)


@pytest.mark.parametrize(
    ("verified", "expected"),
    [pytest.param(True, (NAME,), id="verified"), pytest.param(False, (), id="not verified")],
)
def test_the_names_of_a_verified_server_are_remembered(
    verified: bool, expected: tuple[str, ...], tmp_path: Path
) -> None:
    ca, pair = issued()
    context, seen = tls_verification.context(cadata=ca.pem), tls_verification.SeenCertificates()
    seen.watch(context)
    if not verified:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    handshake(context, pair, tmp_path)
    assert seen.names == expected


EDI_PARTY_NAME = bytes.fromhex("a503810178")  # [5] { [1] "x" }


def test_a_certificate_with_a_name_of_a_kind_that_cannot_be_read_has_no_names() -> None:
    """OpenSSL verifies it, so that it must not fail the connection afterwards."""
    names = bytes([0x82, len(NAME)]) + NAME.encode() + EDI_PARTY_NAME
    unreadable = x509.UnrecognizedExtension(
        x509.SubjectAlternativeName.oid, bytes([0x30, len(names)]) + names
    )
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(unreadable, critical=False)
        .sign(key, hashes.SHA256())
    )
    with pytest.raises(x509.UnsupportedGeneralNameType):
        _ = certificate.extensions
    assert tls_verification.alternative_names(certificate) == []


def test_a_server_that_is_refused_is_not_remembered(tmp_path: Path) -> None:
    ca, pair = issued(hosts=("home-worker-1",))
    context, seen = tls_verification.context(cadata=ca.pem), tls_verification.SeenCertificates()
    seen.watch(context)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(context, pair, tmp_path)
    assert seen.names == ()


def test_only_the_latest_certificates_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_verification, "MAX_CERTIFICATES", 2)
    ca = certificates.authority()
    context, seen = tls_verification.context(cadata=ca.pem), tls_verification.SeenCertificates()
    seen.watch(context)
    for number in (1, 2, 3, 2):
        hosts = (NAME, f"api-{number}")
        pair = certificates.issue(ca, uses=(certificates.SERVER,), hosts=hosts)
        handshake(context, pair, tmp_path)
    assert seen.names == (NAME, "api-2", "api-3")
