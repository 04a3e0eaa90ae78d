"""Checks that the home API server answers at the endpoint that pods dial.

Pods send a home token to that endpoint, so farlet checks it first: one TLS handshake with the CA
and the name that the pods use. Where that fails, a second handshake without verification only
reads the certificate, for the message. farlet never sends HTTP or a credential there.

Certificates are verified as `client.tls_verification` says, which is what most clients in pods do.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from cryptography import x509

from farlet import errors, redaction
from farlet.client import connection_errors, tls_verification
from farlet.context import Endpoint

WITHIN_SECONDS = 5.0

_EXPIRED, _NOT_YET_VALID = 10, 9
_NAME, _ADDRESS = 62, 64
"""`X509_V_ERR_CERT_HAS_EXPIRED` and others in `openssl/x509_vfy.h`."""


@dataclass(frozen=True, slots=True)
class Route:
    """How farlet connects to the endpoint of pods, and the advice for messages."""

    connect: Callable[[], AbstractAsyncContextManager[socket.socket | None]]
    """A connected socket, or `None` to dial host and port. Raises `OSError` and `FarletError`."""
    advice: str
    """Where something else answers."""
    name_advice: str
    """Where the certificate lacks the name."""


@asynccontextmanager
async def _dial() -> AsyncIterator[None]:
    yield None


DIRECT = Route(
    connect=_dial,
    advice="check --home-api-server-host and --home-api-server-port",
    name_advice="Set --home-api-server-host to one of them, or add this name to the API server's "
    "certificate",
)


@dataclass(frozen=True, slots=True)
class Verified:
    """The certificate is signed by the home CA and contains the name."""


@dataclass(frozen=True, slots=True)
class WrongCertificate:
    """Something answers that is not the home API server, or that pods would reject."""

    message: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """farlet cannot connect. Pods in the foreign cluster possibly can."""

    message: str


PreflightResult: TypeAlias = Verified | WrongCertificate | Unreachable


async def verify(
    endpoint: Endpoint, ca_pem: str, *, within: float, route: Route = DIRECT
) -> PreflightResult:
    """Check `endpoint` with the certificates of `ca_pem`.

    `within` is in seconds and applies to each handshake, of which there are at most two. The
    messages in the result name the endpoint and the flag to change.
    """
    connection = _Connection(endpoint, route, within)
    try:
        await connection.handshake(_verifying_context(ca_pem))
    except (OSError, ValueError, errors.FarletError) as err:
        return await connection.failure(err)
    return Verified()


async def names(
    endpoint: Endpoint, ca_pem: str, *, within: float, route: Route
) -> tuple[str, ...] | WrongCertificate | Unreachable:
    """The names in the certificate at `endpoint`, if it is signed by a CA in `ca_pem`."""
    connection = _Connection(endpoint, route, within)
    try:
        context = _verifying_context(ca_pem)
        context.check_hostname = False
        der = await connection.handshake(context)
    except (OSError, ValueError, errors.FarletError) as err:
        return await connection.failure(err)
    certificate = _parse(der)
    return () if certificate is None else tuple(tls_verification.alternative_names(certificate))


class _UnusableCA(ValueError):
    """The CA bundle contains no usable certificate."""


def _verifying_context(ca_pem: str) -> ssl.SSLContext:
    if "-----BEGIN CERTIFICATE-----" not in ca_pem:
        # OpenSSL treats an empty bundle as an absent one.
        raise _UnusableCA("it contains no certificate")
    try:
        return tls_verification.context(cadata=ca_pem)
    except ssl.SSLError as err:
        raise _UnusableCA(connection_errors.cause(err)) from err


@dataclass(frozen=True, slots=True)
class _Connection:
    """Handshakes with one endpoint."""

    endpoint: Endpoint
    route: Route
    within: float

    async def handshake(self, context: ssl.SSLContext) -> bytes | None:
        """Connect, do the handshake, disconnect. Returns the certificate in DER."""
        name = self.endpoint.host
        async with asyncio.timeout(self.within), self.route.connect() as sock:
            if sock is None:
                opening = asyncio.open_connection(
                    name, self.endpoint.port, ssl=context, server_hostname=name
                )
            else:
                opening = asyncio.open_connection(sock=sock, ssl=context, server_hostname=name)
            _, writer = await opening
            session: ssl.SSLObject = writer.get_extra_info("ssl_object")
            certificate = session.getpeercert(binary_form=True)
            # Not `close`: that waits for a server which never answers the close_notify.
            writer.transport.abort()
            return certificate

    async def failure(self, err: Exception) -> WrongCertificate | Unreachable:
        """The result for a failed handshake."""
        where = self.endpoint.netloc
        if isinstance(err, _UnusableCA):
            return WrongCertificate(
                f"the CA bundle for {where} cannot be used ({err}): --home-api-server-ca-file must "
                "contain PEM certificates"
            )
        if isinstance(err, ssl.SSLCertVerificationError):
            return WrongCertificate(
                _mismatch(self.endpoint, self.route, err, await self._presented())
            )
        if isinstance(err, ssl.SSLEOFError):
            return self._unreachable("the connection was closed during the TLS handshake")
        if isinstance(err, ssl.SSLError):
            return WrongCertificate(
                f"{where} does not answer like an API server ({connection_errors.cause(err)}): "
                f"{self.route.advice}"
            )
        if isinstance(err, TimeoutError):
            return self._unreachable(f"no answer within {self.within:g} s")
        return self._unreachable(connection_errors.cause(err))

    async def _presented(self) -> x509.Certificate | None:
        """The certificate, unverified; `None` if it cannot be read."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            return _parse(await self.handshake(context))
        except (OSError, errors.FarletError):  # the first includes ssl.SSLError and TimeoutError
            return None

    def _unreachable(self, cause: str) -> Unreachable:
        return Unreachable(f"farlet cannot reach {self.endpoint.netloc}: {cause}")


def _parse(der: bytes | None) -> x509.Certificate | None:
    try:
        return x509.load_der_x509_certificate(der) if der else None
    except ValueError:
        return None


def _mismatch(
    endpoint: Endpoint,
    route: Route,
    err: ssl.SSLCertVerificationError,
    certificate: x509.Certificate | None,
) -> str:
    where = f"the certificate at {endpoint.netloc}"
    if certificate is None:
        return f"{where} cannot be verified: {err.verify_message}"
    listed = redaction.names(tls_verification.alternative_names(certificate))
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if err.verify_code in (_NAME, _ADDRESS):
        return (
            f"{where} is not valid for {endpoint.host}; its names (SANs) are: {listed}. "
            f"{route.name_advice}"
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
        "this is the home API server with a certificate of another CA, set "
        f"--home-api-server-ca-file to that CA; otherwise {route.advice}"
    )


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
