"""TLS of the kubelet's port: the certificate in force, and whom it asks for theirs.

A client certificate is asked for, not required: who has none may have a token. One that was
shown and does not verify ends the handshake, since Python's `ssl` cannot look at such a one later
as Go does. Each connection gets what is in force when it begins, so a new certificate or a new CA
needs no restart and breaks no connection.
"""

from __future__ import annotations

import math
import ssl
from datetime import UTC, datetime

from farlet.certs import key_pairs
from farlet.certs.client_ca import ClientCA


class ServingTLS:
    """Makes TLS contexts. Whoever keeps the certificate calls `use`."""

    def __init__(self, client_ca: ClientCA) -> None:
        self._client_ca = client_ca
        self._pair: key_pairs.KeyPair | None = None
        self._made: tuple[key_pairs.KeyPair, str, ssl.SSLContext] | None = None

    def remaining(self) -> float:
        """Seconds until the certificate expires; infinite while there is none."""
        if self._pair is None:
            return math.inf
        return (self._pair.leaf.not_valid_after_utc - datetime.now(UTC)).total_seconds()

    def use(self, pair: key_pairs.KeyPair) -> None:
        """Show this certificate from the next connection on.

        Raises `ssl.SSLError` for one that OpenSSL does not take, as for a weak key.
        """
        self._made = pair, self._client_ca.pem, _context(pair, self._client_ca.pem)
        self._pair = pair

    @property
    def context(self) -> ssl.SSLContext:
        """For the next connection. To be asked for once `use` was called."""
        pair, pem = self._pair, self._client_ca.pem
        if pair is None:
            raise RuntimeError("a connection came before there was a certificate")
        if self._made is None or self._made[0] is not pair or self._made[1] != pem:
            self._made = pair, pem, _context(pair, pem)
        return self._made[2]


def _context(pair: key_pairs.KeyPair, client_ca: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with key_pairs.as_file(pair) as path:
        context.load_cert_chain(path)
    context.set_alpn_protocols(["http/1.1"])  # upgrades to SPDY and WebSocket exist there only
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0  # a session that is resumed would not show its certificate again
    if client_ca:
        context.load_verify_locations(cadata=client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        # As Go has it: each certificate of the bundle is an anchor, self-signed or not.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
