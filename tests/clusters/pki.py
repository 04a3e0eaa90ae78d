"""One certificate authority per cluster and the certificates it signs.

Made with `cryptography` in milliseconds, so every start has fresh keys and nothing secret is kept.
"""

import dataclasses
import datetime
import ipaddress
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = datetime.timedelta(days=30)
_SKEW = datetime.timedelta(hours=1)


@dataclasses.dataclass(frozen=True)
class Pair:
    """The files of a certificate and its key."""

    certificate: Path
    key: Path


@dataclasses.dataclass(frozen=True)
class Authority:
    """A certificate authority that writes what it signs into one folder."""

    folder: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def files(self) -> Pair:
        return Pair(self.folder / "ca.crt", self.folder / "ca.key")

    def client(self, file: str, *, user: str, groups: Iterable[str] = ()) -> Pair:
        """A client certificate of `user` as a member of `groups`."""
        return self._sign(file, _name(user, groups), ExtendedKeyUsageOID.CLIENT_AUTH, ())

    def server(
        self, file: str, *, user: str, hosts: Iterable[str], groups: Iterable[str] = ()
    ) -> Pair:
        """A serving certificate for each of `hosts`: names or addresses."""
        return self._sign(file, _name(user, groups), ExtendedKeyUsageOID.SERVER_AUTH, hosts)

    def _sign(
        self, file: str, subject: x509.Name, usage: x509.ObjectIdentifier, hosts: Iterable[str]
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(subject, issuer=self.certificate.subject, key=key)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(_usage(signs_certificates=False), critical=True)
            # OpenSSL's strict mode, which Python 3.13 turns on, wants the issuer's key named.
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )
        names = [_general_name(host) for host in hosts]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return _write(self.folder, file, builder.sign(self.key, hashes.SHA256()), key)


def authority(folder: Path, *, name: str) -> Authority:
    """A new certificate authority with its files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name, ())
    certificate = (
        _builder(subject, issuer=subject, key=key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(folder, "ca", certificate, key)
    return Authority(folder, certificate, key)


def signing_key(folder: Path, *, file: str) -> Pair:
    """A key pair for ServiceAccount tokens; the public half stands where a certificate would."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    pair = Pair(folder / f"{file}.pub", folder / f"{file}.key")
    pair.certificate.write_bytes(public)
    _write_key(pair.key, key)
    return pair


def private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A new private key, written to `path`."""
    key = ec.generate_private_key(ec.SECP256R1())
    _write_key(path, key)
    return key


def request(key: ec.EllipticCurvePrivateKey, *, user: str, groups: Iterable[str]) -> bytes:
    """A signing request, for clusters whose authority is not ours."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(user, groups))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _name(common: str, groups: Iterable[str]) -> x509.Name:
    organizations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organizations, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name, *, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFE)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:  # not an address, so a name
        return x509.DNSName(host)


def _write(
    folder: Path, file: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> Pair:
    pair = Pair(folder / f"{file}.crt", folder / f"{file}.key")
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _write_key(pair.key, key)
    return pair


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    content = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.touch(mode=0o600)
    path.write_bytes(content)
