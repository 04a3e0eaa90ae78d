"""Why a connection failed, in the same words for every library."""

from __future__ import annotations

import os
import re
import socket
import ssl

_ERRNO = re.compile(r"\[Errno (\d{1,9})\]")


def cause(err: BaseException) -> str:
    """For example "127.0.0.1:1: connection refused", where aiohttp says "Cannot connect to host
    127.0.0.1:1 ssl:default [Connect call failed ('127.0.0.1', 1)]".
    """
    host, port = getattr(err, "host", None), getattr(err, "port", None)  # aiohttp's
    where = f"{host}:{port}: " if host and port else ""
    # aiohttp wraps what the operating system or OpenSSL raised.
    return where + _plain(getattr(err, "os_error", err))


def _plain(err: BaseException) -> str:
    if isinstance(err, TimeoutError):
        return "timed out"
    if isinstance(err, socket.gaierror):
        return "the name does not resolve"
    if isinstance(err, ssl.SSLCertVerificationError):
        return f"its certificate cannot be verified ({err.verify_message})"
    if isinstance(err, ssl.SSLError):
        return (err.reason or str(err)).replace("_", " ").lower()
    if isinstance(err, OSError) and err.errno:
        return _strerror(err.errno)  # asyncio says "Connect call failed"
    if isinstance(err, OSError) and (numbers := _ERRNO.findall(str(err))):
        # A name with several addresses: asyncio joins the errors into one text.
        return ", ".join(dict.fromkeys(_strerror(int(number)) for number in numbers))
    return str(err) or type(err).__name__


def _strerror(number: int) -> str:
    text = os.strerror(number)
    return text[:1].lower() + text[1:]
