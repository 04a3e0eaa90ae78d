"""TLS of the kubelet port: the current serving certificate, and the request for a client's.

A client certificate is requested but not required: a caller without one may have a token. A
certificate that does not verify ends the handshake, since Python's `ssl` cannot verify it later as
Go does. Each connection uses the certificate and CA that are current when it starts, so new ones
need no restart and break no connection.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable
from datetime import datetime

from farlet.certs import key_pairs
from farlet.certs.client_ca import ClientCA


class ServingTLS:
    """Creates TLS contexts. A `CertificateManager` calls `use`."""

    def __init__(self, client_ca: ClientCA, *, now: Callable[[], datetime]) -> None:
        self._client_ca = client_ca
        self._now = now
        self._pair: key_pairs.KeyPair | None = None
        self._cached: tuple[key_pairs.KeyPair, str, ssl.SSLContext] | None = None

    def remaining(self) -> float:
        """Seconds until the certificate expires; infinite while there is none."""
        if self._pair is None:
            return math.inf
        return (self._pair.leaf.not_valid_after_utc - self._now()).total_seconds()

    def use(self, pair: key_pairs.KeyPair) -> None:
        """Serve this certificate from the next connection on.

        Raises `ssl.SSLError` if OpenSSL does not accept it, for example because of a weak key.
        """
        self._cached = pair, self._client_ca.pem, _context(pair, self._client_ca.pem)
        self._pair = pair

    @property
    def context(self) -> ssl.SSLContext:
        """The context for the next connection, available after `use` was called."""
        pair, pem = self._pair, self._client_ca.pem
        if pair is None:
            raise RuntimeError("a connection arrived before there was a certificate")
        if self._cached is None or self._cached[0] is not pair or self._cached[1] != pem:
            self._cached = pair, pem, _context(pair, pem)
        return self._cached[2]


def _context(pair: key_pairs.KeyPair, client_ca: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with key_pairs.as_file(pair) as path:
        context.load_cert_chain(path)
    context.set_alpn_protocols(["http/1.1"])  # HTTP/2 has no upgrades to SPDY and WebSocket
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0  # a resumed session would not present its certificate again
    if client_ca:
        context.load_verify_locations(cadata=client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        # As in Go, each certificate of the bundle is a trust anchor, self-signed or not.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
