"""Why a connection failed, in words of our own for every library.

The texts of libraries quote what they were given: aiohttp prints the URL of a proxy with user and
password, Kopf whole answers. So known errors get a sentence, and all others are shown with their
type, cut and without credentials.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl

import aiohttp

from farlet import errors, redaction

_ERRNO = re.compile(r"\[Errno (\d{1,9})\]")

_UNSIGNED = frozenset({2, 7, 18, 19, 20, 21})
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = frozenset({62, 64})
"""Verification results of OpenSSL (`X509_V_ERR_*` in `x509_vfy.h`)."""


def cause(err: BaseException) -> str:
    """For example "127.0.0.1:1: connection refused", where aiohttp says "Cannot connect to host
    127.0.0.1:1 ssl:default [Connect call failed ('127.0.0.1', 1)]".

    One short text without credentials; never empty.
    """
    return redaction.message(_where(err) + _plain(_wrapped(err)))


def _where(err: BaseException) -> str:
    """The address that a connection was made to, if the error knows it."""
    if not isinstance(err, aiohttp.ClientConnectorError) or not err.host or not err.port:
        return ""
    proxy = "the proxy " if isinstance(err, aiohttp.ClientProxyConnectionError) else ""
    return f"{proxy}{err.host}:{err.port}: "


def _wrapped(err: BaseException) -> BaseException:
    """What the operating system or OpenSSL raised."""
    if isinstance(err, aiohttp.ClientConnectorCertificateError):
        return err.certificate_error
    return err.os_error if isinstance(err, aiohttp.ClientConnectorError) else err


def _plain(err: BaseException) -> str:
    match err:
        case errors.FarletError():
            return str(err)
        case TimeoutError():
            return "timed out"
        case socket.gaierror():
            return "the name does not resolve"
        case ssl.SSLCertVerificationError():
            return _certificate(err)
        case ssl.SSLError():
            return (err.reason or _with_type(err)).replace("_", " ").lower()
        case aiohttp.ClientHttpProxyError():
            proxy = err.request_info.real_url
            return f"the proxy {proxy.host}:{proxy.port} answered {err.status}"
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            return "the answer is not valid HTTP, or was cut off"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientConnectionResetError():
            return "the server closed the connection"
        case asyncio.IncompleteReadError():
            return "the connection was closed in the middle of an answer"
        case OSError():
            return _os_error(err)
    # A Status that Kopf raises, or the reason that the other end of an SSH connection sent.
    for attribute in ("message", "reason"):
        text = getattr(err, attribute, None)
        if isinstance(text, str) and text:
            return text
    return _with_type(err)


def _certificate(err: ssl.SSLCertVerificationError) -> str:
    code: int | None = getattr(err, "verify_code", None)
    if code in _UNSIGNED:
        return "its certificate is not signed by the CA of the kubeconfig"
    if code == _EXPIRED:
        return "its certificate has expired"
    if code == _NOT_YET_VALID:
        return "its certificate is not valid yet; check the clocks"
    detail = str(getattr(err, "verify_message", "") or "no details").rstrip(".")
    if code in _OTHER_NAME:
        return f"its certificate is for other names ({detail})"
    return f"its certificate cannot be verified ({detail})"


def _os_error(err: OSError) -> str:
    if err.errno:
        return _strerror(err.errno)  # asyncio says "Connect call failed"
    if numbers := _ERRNO.findall(str(err)):
        # A name with several addresses: asyncio joins the errors into one text.
        return ", ".join(dict.fromkeys(_strerror(int(number)) for number in numbers))
    return str(err) or type(err).__name__  # raised by farlet


def _with_type(err: BaseException) -> str:
    text = str(err)
    return f"{type(err).__name__}: {text}" if text else type(err).__name__


def _strerror(number: int) -> str:
    text = os.strerror(number)
    return text[:1].lower() + text[1:]
