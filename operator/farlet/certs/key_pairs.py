"""Certificates with their keys: created, parsed, checked, and stored as a kubelet stores them.

Nothing here connects to an API server or decides when to renew: `client_certificate` and
`serving_certificate` do.
"""

from __future__ import annotations

import ipaddress
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from farlet import names
from farlet.client import tls_verification

SELF_SIGNED_LIFETIME = timedelta(days=365)
MAX_CLOCK_SKEW = timedelta(hours=1)
"""By how much the clocks of verifiers may be behind."""

_PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True, eq=False)
class KeyPair:
    """A chain in PEM with the leaf first, and the leaf's key."""

    chain: str
    key: str = field(repr=False)
    leaf: x509.Certificate


def parse(chain: bytes, key: bytes) -> KeyPair:
    """Parse PEM; both arguments may be the same file with certificates and key.

    Raises `ValueError` if either is not valid, or the private key does not match the certificate.
    """
    certificates = x509.load_pem_x509_certificates(chain)
    loaded = serialization.load_pem_private_key(key, password=None)
    if loaded.public_key() != certificates[0].public_key():
        raise ValueError("the private key does not match the certificate")
    return KeyPair(
        chain="".join(one.public_bytes(_PEM).decode() for one in certificates),
        key=loaded.private_bytes(
            _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        leaf=certificates[0],
    )


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key for ECDSA on P-256, as kubelets create them."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def request(key: ec.EllipticCurvePrivateKey, *, node: str, addresses: Sequence[str]) -> bytes:
    """A PKCS#10 request in PEM for the node; `addresses` (IPs, names) only for serving."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, names.NODES),
            x509.NameAttribute(NameOID.COMMON_NAME, names.node_user(node)),
        ]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if addresses:
        builder = builder.add_extension(_alternative_names(addresses), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(_PEM)


def self_signed(*, node: str, addresses: Sequence[str], now: datetime) -> KeyPair:
    key = new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{node}@{int(now.timestamp())}")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - MAX_CLOCK_SKEW)
        .not_valid_after(now + SELF_SIGNED_LIFETIME)
        .add_extension(_alternative_names(addresses or [node]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    return parse(builder.sign(key, hashes.SHA256()).public_bytes(_PEM), key_pem(key))


def covers(leaf: x509.Certificate, *, node: str, addresses: Sequence[str]) -> bool:
    """Whether a certificate is this node's and contains all of its addresses."""
    return is_node(leaf, node) and set(addresses) <= set(tls_verification.alternative_names(leaf))


def is_node(signed: x509.Certificate | x509.CertificateSigningRequest, node: str) -> bool:
    """Whether the subject is this node (`CN=system:node:<node>, O=system:nodes`)."""
    users = signed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    groups = signed.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return [user.value for user in users] == [names.node_user(node)] and names.NODES in {
        g.value for g in groups
    }


def renew_at(leaf: x509.Certificate, jitter: float) -> datetime:
    """When to renew: after 70 to 90 % of the lifetime (`jitteryDuration` of client-go).

    `jitter` is from 0 to 1.
    """
    lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    return leaf.not_valid_before_utc + lifetime * (0.7 + 0.2 * jitter)


@contextmanager
def as_file(pair: KeyPair) -> Iterator[str]:
    """A temporary file with chain and key, since `ssl` loads certificates only from a path.

    On Linux the file is in memory, since the file system may be read-only.
    """
    content = f"{pair.chain}{pair.key}".encode()
    if hasattr(os, "memfd_create"):  # Linux
        with os.fdopen(os.memfd_create("farlet"), "wb", buffering=0) as file:
            file.write(content)
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile(buffering=0) as named:
            named.write(content)
            yield named.name


class CertificateStore:
    """A directory with key pairs: `<prefix>-<time>.pem`, and a link to the current one.

    The layout is that of the file store in `k8s.io/client-go/util/certificate`, so that tools for
    one work with the other. Old files are kept.
    """

    def __init__(self, directory: Path, prefix: str) -> None:
        self._directory = directory.absolute()
        self._prefix = prefix

    @property
    def current(self) -> Path:
        """The path of the current certificate and key; the file may be missing."""
        return self._directory / f"{self._prefix}-current.pem"

    def read(self) -> KeyPair | None:
        """The current pair. Raises `OSError` and `ValueError` if it cannot be read."""
        try:
            content = self.current.read_bytes()
        except FileNotFoundError:
            return None
        return parse(content, content)

    def write(self, pair: KeyPair, *, now: datetime) -> None:
        """Make this the current pair. Raises `OSError`."""
        self._directory.mkdir(parents=True, exist_ok=True)
        if self.current.exists() and not self.current.is_symlink():
            raise FileExistsError(
                f"{self.current} is not a symbolic link, so farlet does not replace it; "
                "move it away"
            )
        file = self._directory / f"{self._prefix}-{now:%Y-%m-%d-%H-%M-%S}.pem"
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            opened.write(pair.chain + pair.key)
            opened.flush()
            os.fsync(descriptor)
        updated = self._directory / f"{self._prefix}-updated.pem"
        updated.unlink(missing_ok=True)
        updated.symlink_to(file)
        updated.replace(self.current)


def _alternative_names(addresses: Sequence[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_general_name(one) for one in addresses])


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:  # not an IP address, so a DNS name
        return x509.DNSName(address)
