"""The cause of a failed connection, in the same words for every library."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl

import aiohttp
import pytest

from farlet.client import connection_errors

SEVERAL = OSError(
    "Multiple exceptions: [Errno 111] Connect call failed ('::1', 1, 0, 0), "
    "[Errno 113] Connect call failed ('127.0.0.1', 1), [Errno 111] Connect call failed"
)


@pytest.mark.parametrize(
    ("err", "text"),
    [
        pytest.param(TimeoutError(), "timed out", id="timeout"),
        pytest.param(
            ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)"),
            "connection refused",
            id="refused",
        ),
        pytest.param(
            SEVERAL, "connection refused, no route to host", id="a name with several addresses"
        ),
        pytest.param(
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "the name does not resolve",
            id="unknown name",
        ),
        pytest.param(ConnectionResetError("closed by us"), "closed by us", id="own text"),
        pytest.param(asyncio.IncompleteReadError(b"", 1), "0 bytes read", id="another error"),
        pytest.param(ValueError(), "ValueError", id="without text"),
    ],
)
def test_the_cause_is_one_short_text(err: BaseException, text: str) -> None:
    assert connection_errors.cause(err).startswith(text)


async def test_an_error_of_aiohttp_names_host_and_port() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await session.get("https://127.0.0.1:1/")
    assert connection_errors.cause(caught.value) == "127.0.0.1:1: connection refused"


def test_a_certificate_error_contains_the_reason_of_openssl() -> None:
    err = ssl.SSLCertVerificationError(1, "certificate verify failed")
    err.verify_message = "self-signed certificate"
    expected = "its certificate cannot be verified (self-signed certificate)"
    assert connection_errors.cause(err) == expected
