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
import dataclasses
import os
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

import structlog

from farlet.context import Context, Endpoint
from farlet.vocabulary import Reason

if TYPE_CHECKING:
    from cryptography import x509

WITHIN_SECONDS = 5.0
_REQUIRED = (
    "Pods wait, as --home-api-preflight=require asks. Let farlet reach that address, or start it "
    "with --home-api-preflight=warn if only pods abroad can"
)

log = structlog.get_logger()

_EXPIRED, _NOT_YET_VALID = 10, 9
_NAME, _ADDRESS = 62, 64
"""`X509_V_ERR_CERT_HAS_EXPIRED` and others in `openssl/x509_vfy.h`."""


@dataclass(frozen=True, slots=True)
class Verified:
    """The address answers with a certificate of the right CA and name."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Something answers that pods would not, or must not, take for the home API server."""

    message: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Nothing answers from where farlet stands; pods abroad may still reach it."""

    message: str


Verdict: TypeAlias = Verified | Mismatch | Unreachable


async def verify(endpoint: Endpoint, ca_pem: str, *, within: float) -> Verdict:
    """Look at `endpoint` with the certificates of `ca_pem`.

    `within` is in seconds and holds for each of the at most two handshakes. Messages are for a
    person: what is wrong, where, and which flag to look at.
    """
    try:
        context = _verifying(ca_pem)
    except (ssl.SSLError, ValueError) as err:
        return Mismatch(
            f"the CA bundle for {endpoint.netloc} cannot be used ({_cause(err)}): "
            "--home-api-server-ca-file must hold PEM certificates"
        )
    try:
        await _handshake(endpoint, context, within=within)
    except ssl.SSLCertVerificationError as err:
        certificate = await _presented(endpoint, within=within)
        return Mismatch(_mismatch(endpoint, err, certificate))
    except ssl.SSLEOFError:
        return _unreachable(endpoint, "the connection was closed within the TLS handshake")
    except ssl.SSLError as err:
        return Mismatch(
            f"{endpoint.netloc} answers, but not as an API server does ({_cause(err)}): check "
            "--home-api-server-host and --home-api-server-port"
        )
    except TimeoutError:
        return _unreachable(endpoint, f"no answer within {within:g} s")
    except OSError as err:
        return _unreachable(endpoint, _cause(err))
    return Verified()


def _verifying(ca_pem: str) -> ssl.SSLContext:
    if "-----BEGIN CERTIFICATE-----" not in ca_pem:
        # OpenSSL would take an empty bundle for "none given".
        raise ValueError("it holds no certificate")
    # Not `create_default_context`: from Python 3.13 on that is stricter than Go is, and refuses
    # CAs of clusters that work.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca_pem)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.hostname_checks_common_name = False
    return context


async def _handshake(endpoint: Endpoint, context: ssl.SSLContext, *, within: float) -> bytes | None:
    """Connect, shake hands, hang up; the certificate in DER. Raises what `ssl` and sockets do."""
    async with asyncio.timeout(within):
        _, writer = await asyncio.open_connection(
            endpoint.host, endpoint.port, ssl=context, server_hostname=endpoint.host
        )
    session: ssl.SSLObject = writer.get_extra_info("ssl_object")
    certificate = session.getpeercert(binary_form=True)
    # Not `close`: a server that never answers the goodbye would keep us.
    writer.transport.abort()
    return certificate


async def _presented(endpoint: Endpoint, *, within: float) -> x509.Certificate | None:
    """The certificate that is shown there, believed in nothing; `None` if it cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    from cryptography import x509  # 8 MiB, for those who have a wrong certificate

    try:
        der = await _handshake(endpoint, context, within=within)
        return x509.load_der_x509_certificate(der) if der else None
    except (OSError, ValueError):  # the first includes ssl.SSLError and TimeoutError
        return None


def _mismatch(
    endpoint: Endpoint, err: ssl.SSLCertVerificationError, certificate: x509.Certificate | None
) -> str:
    where = f"the certificate at {endpoint.netloc}"
    if certificate is None:
        return f"{where} does not verify: {err.verify_message}"
    names = ", ".join(sans(certificate)) or "none"
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if err.verify_code in (_NAME, _ADDRESS):
        return (
            f"{where} is not valid for {endpoint.host}; its names (SANs) are: {names}. Give one "
            "of them as --home-api-server-host, or add this one to the API server's certificate"
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
        f"{certificate.issuer.rfc4514_string() or 'unnamed'}, its names (SANs) are: {names}. If "
        "this is the home API server behind another certificate, give that one's CA by "
        "--home-api-server-ca-file; else check --home-api-server-host and --home-api-server-port"
    )


def sans(certificate: x509.Certificate) -> list[str]:
    """DNS names, then IP addresses, that a certificate is valid for."""
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return []
    return [
        *found.get_values_for_type(x509.DNSName),
        *map(str, found.get_values_for_type(x509.IPAddress)),
    ]


def _unreachable(endpoint: Endpoint, cause: str) -> Unreachable:
    return Unreachable(f"{endpoint.netloc} cannot be reached from farlet: {cause}")


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


async def checked(ctx: Context, *, required: bool) -> Context:
    """The context with what a look at its endpoint gave; logs what has changed.

    `required`: an address that farlet cannot reach is refused too.
    """
    if ctx.endpoint is None:
        return ctx
    verdict = await verify(ctx.endpoint, ctx.home_ca, within=WITHIN_SECONDS)
    refusal, reason = None, Reason.HOME_API_CERTIFICATE
    if isinstance(verdict, Mismatch):
        refusal = verdict.message
    elif isinstance(verdict, Unreachable) and required:
        refusal, reason = f"{verdict.message}. {_REQUIRED}", Reason.HOME_API_UNVERIFIED
    after = dataclasses.replace(
        ctx,
        endpoint_refusal=refusal,
        endpoint_refusal_reason=reason,
        endpoint_verified=isinstance(verdict, Verified),
    )
    if after != ctx:
        where = ctx.endpoint.netloc
        if refusal is not None:
            log.error("home API address was refused", endpoint=where, err=refusal)
        elif isinstance(verdict, Unreachable):
            log.warning("home API address was not verified", endpoint=where, err=verdict.message)
        else:
            log.info("home API address was verified", endpoint=where)
    return after
