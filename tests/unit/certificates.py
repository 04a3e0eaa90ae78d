"""Certificates as tests need them: of any CA, for any use, valid for any time."""

from __future__ import annotations

import dataclasses
import ipaddress
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
HOUR = timedelta(hours=1)


@dataclasses.dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        """The certificate alone."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def key_pem(self) -> str:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()

    def write(self, folder: Path, name: str = "pair") -> tuple[Path, Path]:
        """`name.crt` and `name.key`, written or written again."""
        folder.mkdir(parents=True, exist_ok=True)
        files = folder / f"{name}.crt", folder / f"{name}.key"
        files[0].write_text(self.pem)
        files[1].write_text(self.key_pem)
        return files


def authority(name: str = "a CA", *, of: Pair | None = None, ends: datetime | None = None) -> Pair:
    """A root CA, or an intermediate CA that `of` signs."""
    return _issue(of, _name(name), ends=ends, signs=True)


def issue(
    ca: Pair,
    *,
    user: str = "someone",
    groups: Sequence[str] = (),
    uses: Sequence[x509.ObjectIdentifier] = (CLIENT,),
    hosts: Sequence[str] = (),
    begins: datetime | None = None,
    ends: datetime | None = None,
    subject: x509.Name | None = None,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> Pair:
    """A certificate for a client, or for what `uses` says; no use at all leaves it open."""
    subject = _name(user, *groups) if subject is None else subject
    return _issue(ca, subject, begins=begins, ends=ends, uses=uses, hosts=hosts, key=key)


def sign(ca: Pair, request: bytes, *, begins: datetime, ends: datetime) -> str:
    """What a signer makes of a request: the certificate in PEM."""
    asked = x509.load_pem_x509_csr(request)
    assert asked.is_signature_valid
    builder = (
        x509.CertificateBuilder()
        .subject_name(asked.subject)
        .issuer_name(ca.certificate.subject)
        .public_key(asked.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
    for extension in asked.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    signed = builder.sign(ca.key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def server_context(server: Pair, folder: Path, *, clients: Pair | None = None) -> ssl.SSLContext:
    """For a server; `clients`: the CAs of the client certificates that it requires."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*server.write(folder, "server"))
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=clients.pem)
    return context


def _name(common: str, *groups: str) -> x509.Name:
    organizations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organizations, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _issue(
    ca: Pair | None,
    subject: x509.Name,
    *,
    begins: datetime | None = None,
    ends: datetime | None = None,
    uses: Sequence[x509.ObjectIdentifier] = (),
    hosts: Sequence[str] = (),
    signs: bool = False,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> Pair:
    key = key or ec.generate_private_key(ec.SECP256R1())
    signer = ca.key if ca else key
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ca.certificate.subject if ca else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins or now - HOUR)
        .not_valid_after(ends or now + HOUR)
        # Without these two, OpenSSL's strict mode takes no certificate (Python 3.13 and later).
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
            critical=False,
        )
    )
    if signs:
        builder = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        ).add_extension(_SIGNING, critical=True)
    if uses:
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    if hosts:
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return Pair(builder.sign(signer, hashes.SHA256()), key)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:  # not an address, so a name
        return x509.DNSName(host)


_SIGNING = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
