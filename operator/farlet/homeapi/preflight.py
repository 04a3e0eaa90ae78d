"""Does the address that pods will dial answer as the home API server?

A home token goes wherever that address leads, so before any pod is sent there farlet looks for
itself: one TLS handshake with the CA and the name that the pods will use. Where that fails, a
second one without verification only reads the certificate, to tell what it does carry. No byte
of HTTP and no credential is ever sent.

Verification is that of Go's `crypto/x509`, with which most clients in pods look at the
certificate: names count only as SANs, any certificate of the bundle may be the anchor.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from farlet import errors
from farlet.context import Endpoint

if TYPE_CHECKING:
    from cryptography import x509

WITHIN_SECONDS = 5.0

_EXPIRED, _NOT_YET_VALID = 10, 9
_NAME, _ADDRESS = 62, 64
"""`X509_V_ERR_CERT_HAS_EXPIRED` and others in `openssl/x509_vfy.h`."""


@dataclass(frozen=True, slots=True)
class Approach:
    """How farlet gets to an address of which pods are told, and what is said when it cannot."""

    connected: Callable[[], AbstractAsyncContextManager[socket.socket | None]]
    """A connection to it; `None`: just dial host and port. Raises `OSError` and `FarletError`."""
    cure: str
    """What decides where that address leads."""
    name_cure: str
    """What to do when its certificate lacks the name."""


@asynccontextmanager
async def _dialled() -> AsyncIterator[None]:
    yield None


DIRECT = Approach(
    connected=_dialled,
    cure="check --home-api-server-host and --home-api-server-port",
    name_cure="Give one of them as --home-api-server-host, or add this one to the API server's "
    "certificate",
)


@dataclass(frozen=True, slots=True)
class Verified:
    """The address answers with a certificate of the right CA and name."""


@dataclass(frozen=True, slots=True)
class WrongCertificate:
    """Something answers that pods would not, or must not, take for the home API server."""

    message: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Nothing answers from where farlet stands; pods abroad may still reach it."""

    message: str


PreflightResult: TypeAlias = Verified | WrongCertificate | Unreachable


async def verify(
    endpoint: Endpoint, ca_pem: str, *, within: float, by: Approach = DIRECT
) -> PreflightResult:
    """Look at `endpoint` with the certificates of `ca_pem`.

    `within` is in seconds and holds for each of the at most two handshakes. Messages are for a
    person: what is wrong, where, and which flag to look at.
    """
    look = _Connection(endpoint, by, within)
    try:
        await look.handshake(_verifying(ca_pem))
    except (OSError, ValueError, errors.FarletError) as err:
        return await look.verdict(err)
    return Verified()


async def names(
    endpoint: Endpoint, ca_pem: str, *, within: float, by: Approach
) -> tuple[str, ...] | WrongCertificate | Unreachable:
    """The names in the certificate at `endpoint`, if one of `ca_pem` has signed it."""
    look = _Connection(endpoint, by, within)
    try:
        context = _verifying(ca_pem)
        context.check_hostname = False
        der = await look.handshake(context)
    except (OSError, ValueError, errors.FarletError) as err:
        return await look.verdict(err)
    certificate = _parsed(der)
    return () if certificate is None else tuple(sans(certificate))


class _UnusableCA(ValueError):
    """The certificates to verify with are none."""


def _verifying(ca_pem: str) -> ssl.SSLContext:
    if "-----BEGIN CERTIFICATE-----" not in ca_pem:
        # OpenSSL would take an empty bundle for "none given".
        raise _UnusableCA("it holds no certificate")
    # Not `create_default_context`: from Python 3.13 on that is stricter than Go is, and refuses
    # CAs of clusters that work.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=ca_pem)
    except ssl.SSLError as err:
        raise _UnusableCA(_cause(err)) from err
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.hostname_checks_common_name = False
    return context


@dataclass(frozen=True, slots=True)
class _Connection:
    """One address, and what handshakes with it say."""

    endpoint: Endpoint
    by: Approach
    within: float

    async def handshake(self, context: ssl.SSLContext) -> bytes | None:
        """Connect, shake hands, hang up; the certificate in DER. Raises what is in the way."""
        name = self.endpoint.host
        async with asyncio.timeout(self.within), self.by.connected() as sock:
            if sock is None:
                made = asyncio.open_connection(
                    name, self.endpoint.port, ssl=context, server_hostname=name
                )
            else:
                made = asyncio.open_connection(sock=sock, ssl=context, server_hostname=name)
            _, writer = await made
            session: ssl.SSLObject = writer.get_extra_info("ssl_object")
            certificate = session.getpeercert(binary_form=True)
            # Not `close`: a server that never answers the goodbye would keep us.
            writer.transport.abort()
            return certificate

    async def verdict(self, err: Exception) -> WrongCertificate | Unreachable:
        """What a failed handshake means."""
        where = self.endpoint.netloc
        if isinstance(err, _UnusableCA):
            return WrongCertificate(
                f"the CA bundle for {where} cannot be used ({err}): --home-api-server-ca-file must "
                "hold PEM certificates"
            )
        if isinstance(err, ssl.SSLCertVerificationError):
            return WrongCertificate(_mismatch(self.endpoint, self.by, err, await self._presented()))
        if isinstance(err, ssl.SSLEOFError):
            return self._unreachable("the connection was closed within the TLS handshake")
        if isinstance(err, ssl.SSLError):
            return WrongCertificate(
                f"{where} answers, but not as an API server does ({_cause(err)}): {self.by.cure}"
            )
        if isinstance(err, TimeoutError):
            return self._unreachable(f"no answer within {self.within:g} s")
        return self._unreachable(_cause(err))

    async def _presented(self) -> x509.Certificate | None:
        """The certificate that is shown there, believed in nothing; `None` if it is unreadable."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            return _parsed(await self.handshake(context))
        except (OSError, errors.FarletError):  # the first includes ssl.SSLError and TimeoutError
            return None

    def _unreachable(self, cause: str) -> Unreachable:
        return Unreachable(f"{self.endpoint.netloc} cannot be reached from farlet: {cause}")


def _parsed(der: bytes | None) -> x509.Certificate | None:
    from cryptography import x509  # 8 MiB

    try:
        return x509.load_der_x509_certificate(der) if der else None
    except ValueError:
        return None


def _mismatch(
    endpoint: Endpoint,
    by: Approach,
    err: ssl.SSLCertVerificationError,
    certificate: x509.Certificate | None,
) -> str:
    where = f"the certificate at {endpoint.netloc}"
    if certificate is None:
        return f"{where} does not verify: {err.verify_message}"
    listed = ", ".join(sans(certificate)) or "none"
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if err.verify_code in (_NAME, _ADDRESS):
        return (
            f"{where} is not valid for {endpoint.host}; its names (SANs) are: {listed}. "
            f"{by.name_cure}"
        )
    if err.verify_code == _EXPIRED:
        return f"{where}, or its CA, has expired (valid until {_day(end)}): renew it"
    if err.verify_code == _NOT_YET_VALID:
        return (
            f"{where}, or its CA, is not valid yet (from {_day(begin)}; here it is "
            f"{_day(datetime.now(UTC))}): check the clocks"
        )
    return (
        f"{where} is not signed by the home CA ({err.verify_message}); its issuer is "
        f"{certificate.issuer.rfc4514_string() or 'unnamed'}, its names (SANs) are: {listed}. If "
        "this is the home API server behind another certificate, give that one's CA by "
        f"--home-api-server-ca-file; else {by.cure}"
    )


def sans(certificate: x509.Certificate) -> list[str]:
    """DNS names, then IP addresses, that a certificate is valid for."""
    from farlet.certs import key_pairs

    return key_pairs.subject_alternative_names(certificate)


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _cause(err: Exception) -> str:
    if isinstance(err, socket.gaierror):
        return "its name does not resolve here"
    if isinstance(err, ssl.SSLError):
        return (err.reason or str(err)).replace("_", " ").lower()
    if isinstance(err, OSError) and err.errno:
        return os.strerror(err.errno)  # asyncio's own words say less
    return str(err)
