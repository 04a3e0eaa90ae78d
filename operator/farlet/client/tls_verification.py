"""How farlet verifies an API server: as Go's `crypto/x509` does it, for every connection.

kubectl, kubelets and most clients in pods are Go programs, so a cluster that works for them works
for farlet, and the reverse. `ssl.create_default_context` is different: since Python 3.13 it sets
`VERIFY_X509_STRICT`, which refuses CAs without an Authority Key Identifier, as EKS has them.

What is verified: the chain to a certificate of the CA bundle, each of which is a trust anchor even
if it is not self-signed; the validity period of each certificate; the use as a server; name
constraints of CAs; and that the subject alternative names contain the name that was dialled. The
common name does not count.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from cryptography import x509

MAX_CERTIFICATES = 16
"""Certificates of one server that are remembered: its replicas, and earlier ones of each."""


def context(*, cadata: str | None = None, cafile: str | None = None) -> ssl.SSLContext:
    """A context for connections to API servers; without a CA bundle the system's CAs count.

    `cadata` and `cafile` contain PEM certificates. Raises `OSError` (`ssl.SSLError` is one) for a
    bundle that cannot be read or contains no certificate.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if cadata is None and cafile is None:
        made.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        made.load_verify_locations(cadata=cadata, cafile=cafile)
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    made.verify_flags &= ~ssl.VERIFY_X509_STRICT
    made.hostname_checks_common_name = False
    return made


class SeenCertificates:
    """The certificates with which one server was verified; remembers the latest ones."""

    def __init__(self) -> None:
        self._names: dict[bytes, tuple[str, ...]] = {}
        """By the certificate in DER, the latest last."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names (SANs) in all of them, those of the latest first.

        Replicas of an API server can have different certificates.
        """
        latest_first = reversed(self._names.values())
        return tuple(dict.fromkeys(name for names in latest_first for name in names))

    def watch(self, context: ssl.SSLContext) -> None:
        """Add the certificate of each server that a connection with `context` verifies."""
        add: Callable[[bytes], None] = self._add

        class Watched(ssl.SSLObject):
            def do_handshake(self) -> None:
                super().do_handshake()
                der = self.getpeercert(binary_form=True)
                if der is not None and self.context.verify_mode is ssl.CERT_REQUIRED:
                    add(der)

        context.sslobject_class = Watched

    def _add(self, der: bytes) -> None:
        names = self._names.pop(der, None)
        if names is None:
            names = _readable_names(der)
        self._names[der] = names
        if len(self._names) > MAX_CERTIFICATES:
            del self._names[next(iter(self._names))]


def _readable_names(der: bytes) -> tuple[str, ...]:
    """Names of a certificate that OpenSSL has verified; none where `cryptography` rejects it."""
    try:
        return tuple(alternative_names(x509.load_der_x509_certificate(der)))
    except (ValueError, x509.InvalidVersion):
        return ()


def alternative_names(certificate: x509.Certificate) -> list[str]:
    """DNS names, then IP addresses, in the certificate's subject alternative names (SAN)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
        ValueError,
    ):
        return []
    ips = names.get_values_for_type(x509.IPAddress)
    return [*names.get_values_for_type(x509.DNSName), *map(str, ips)]
