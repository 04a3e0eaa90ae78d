"""Certificates with their keys: made, asked for, checked, and kept in a folder as a kubelet does.

Nothing here connects to anything or decides when; `certificates.py` does.
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

NODES = "system:nodes"
"""The group of all nodes, which stands in their certificates as organization."""

SELF_SIGNED_LIFE = timedelta(days=365)
SKEW = timedelta(hours=1)
"""So much the clocks of those who look at it may be behind."""

_PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True, eq=False)
class KeyPair:
    """A chain in PEM, its leaf first, and the leaf's key."""

    chain: str
    key: str = field(repr=False)
    leaf: x509.Certificate


def of(chain: bytes, key: bytes) -> KeyPair:
    """Either may hold the other as well, as a file does that has both.

    Raises `ValueError` for what is no certificate or no key, and for a key of another certificate.
    """
    certificates = x509.load_pem_x509_certificates(chain)
    loaded = serialization.load_pem_private_key(key, password=None)
    if loaded.public_key() != certificates[0].public_key():
        raise ValueError("the key is not that of the certificate")
    return KeyPair(
        chain="".join(one.public_bytes(_PEM).decode() for one in certificates),
        key=loaded.private_bytes(
            _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        leaf=certificates[0],
    )


def user(node: str) -> str:
    """The name of a node as a user."""
    return f"system:node:{node}"


def new_key() -> ec.EllipticCurvePrivateKey:
    """ECDSA on P-256, as kubelets make them."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PEM without a password."""
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def request(key: ec.EllipticCurvePrivateKey, *, node: str, addresses: Sequence[str]) -> bytes:
    """A signing request in PEM for the node; `addresses` (IPs, names) only for serving."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, NODES),
            x509.NameAttribute(NameOID.COMMON_NAME, user(node)),
        ]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if addresses:
        builder = builder.add_extension(_names(addresses), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(_PEM)


def self_signed(*, node: str, addresses: Sequence[str], now: datetime) -> KeyPair:
    """A certificate that nobody vouches for."""
    key = new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{node}@{int(now.timestamp())}")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + SELF_SIGNED_LIFE)
        .add_extension(_names(addresses or [node]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    return of(builder.sign(key, hashes.SHA256()).public_bytes(_PEM), key_pem(key))


def covers(leaf: x509.Certificate, *, node: str, addresses: Sequence[str]) -> bool:
    """Whether a certificate is this node's, and holds every one of its addresses."""
    return is_node(leaf, node) and set(addresses) <= set(subject_alternative_names(leaf))


def is_node(leaf: x509.Certificate, node: str) -> bool:
    """Whether it is the node's own, as subjects of nodes are written."""
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    groups = leaf.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return [n.value for n in names] == [user(node)] and NODES in {g.value for g in groups}


def due(leaf: x509.Certificate, jitter: float) -> datetime:
    """When to renew: after 70 to 90 % of its life (`jitteryDuration` of client-go).

    `jitter`: from 0 to 1.
    """
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    return leaf.not_valid_before_utc + life * (0.7 + 0.2 * jitter)


@contextmanager
def as_file(pair: KeyPair) -> Iterator[str]:
    """A path at which both can be read for a moment, which is all that `ssl` can load.

    In memory where the system can; a file system that may be read only is not touched then.
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
    """Where pairs of one kind are kept: `<kind>-<time>.pem`, and a link to the one in force.

    As the file store of `k8s.io/client-go/util/certificate` has it, so that what knows one knows
    the other. Old files stay.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder = folder.absolute()
        self._kind = kind

    @property
    def current(self) -> Path:
        """The file with certificate and key in force, if there is one."""
        return self._folder / f"{self._kind}-current.pem"

    def read(self) -> KeyPair | None:
        """The pair in force. Raises `OSError` and `ValueError` for one that cannot be read."""
        try:
            content = self.current.read_bytes()
        except FileNotFoundError:
            return None
        return of(content, content)

    def store(self, pair: KeyPair, *, now: datetime) -> None:
        """Make this one the pair in force. Raises `OSError`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if self.current.exists() and not self.current.is_symlink():
            raise FileExistsError(f"{self.current} is a file and no link; move it away")
        file = self._folder / f"{self._kind}-{now:%Y-%m-%d-%H-%M-%S}.pem"
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            opened.write(pair.chain + pair.key)
            opened.flush()
            os.fsync(descriptor)
        updated = self._folder / f"{self._kind}-updated.pem"
        updated.unlink(missing_ok=True)
        updated.symlink_to(file)
        updated.replace(self.current)


def _names(addresses: Sequence[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_general_name(one) for one in addresses])


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:  # not an address, so a name
        return x509.DNSName(address)


def subject_alternative_names(leaf: x509.Certificate) -> list[str]:
    """DNS names, then IP addresses, that a certificate is valid for."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return []
    ips = names.get_values_for_type(x509.IPAddress)
    return [*names.get_values_for_type(x509.DNSName), *map(str, ips)]
