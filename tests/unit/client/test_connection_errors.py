"""The cause of a failed connection, in the same words for every library."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncssh
import pytest
import yarl
from kopf._cogs.clients import errors as kopf_errors
from multidict import CIMultiDict, CIMultiDictProxy

from farlet import errors
from farlet.client import connection_errors
from unit import certificates
from unit.reconcile import apiserver

FORBIDDEN: kopf_errors.RawStatus = {
    "apiVersion": "v1",
    "kind": "Status",
    "code": 403,
    "status": "Failure",
    "reason": "Forbidden",
    "message": "pods is forbidden: User http://farlet:hunter2@x",
    "details": {
        "name": "",
        "uid": "",
        "retryAfterSeconds": 0,
        "kind": "",
        "group": "",
        "causes": (),
    },
}

_PROXY = yarl.URL("http://farlet:hunter2@127.0.0.1:3128")
_THROUGH_PROXY = aiohttp.RequestInfo(_PROXY, "CONNECT", CIMultiDictProxy(CIMultiDict()), _PROXY)

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
        pytest.param(
            asyncio.IncompleteReadError(b"", 1),
            "the connection was closed in the middle of an answer",
            id="half an answer",
        ),
        pytest.param(
            aiohttp.ServerDisconnectedError(), "the server closed the connection", id="closed"
        ),
        pytest.param(
            aiohttp.ClientConnectionResetError("Cannot write to closing transport"),
            "the server closed the connection",
            id="closed while farlet writes",
        ),
        pytest.param(
            aiohttp.ClientPayloadError("400, message: b'GET /x'"),
            "the answer is not valid HTTP, or was cut off",
            id="half a body",
        ),
        pytest.param(
            aiohttp.ClientHttpProxyError(_THROUGH_PROXY, (), status=502, message="Bad Gateway"),
            "the proxy 127.0.0.1:3128 answered 502",
            id="a proxy that refuses, with its password",
        ),
        pytest.param(
            asyncssh.DisconnectError(2, "bad packet"), "bad packet", id="the words of an SSH peer"
        ),
        pytest.param(ValueError(), "ValueError", id="without text"),
        pytest.param(
            LookupError("no http://farlet:hunter2@proxy"),
            "LookupError: no http://<redacted>@proxy",
            id="unknown, with a password",
        ),
        pytest.param(
            kopf_errors.APIForbiddenError(FORBIDDEN, status=403, headers={}),
            "pods is forbidden: User http://<redacted>@x",
            id="the Status in an error of Kopf",
        ),
        pytest.param(
            kopf_errors.APIServerError("<html>", status=502, headers={}),
            "APIServerError: <html>",
            id="another answer in an error of Kopf",
        ),
        pytest.param(LookupError("x" * 900_000), f"LookupError: {'x' * 787}... (", id="long"),
    ],
)
def test_the_cause_is_one_short_text(err: BaseException, text: str) -> None:
    assert connection_errors.cause(err).startswith(text)
    assert len(connection_errors.cause(err)) < 1024
    assert "hunter2" not in connection_errors.cause(err)


async def test_an_error_of_aiohttp_names_host_and_port() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await session.get("https://127.0.0.1:1/")
    assert connection_errors.cause(caught.value) == "127.0.0.1:1: connection refused"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        pytest.param(18, "is not signed by the CA of the kubeconfig", id="self-signed"),
        pytest.param(20, "is not signed by the CA of the kubeconfig", id="issuer unknown"),
        pytest.param(10, "has expired", id="expired"),
        pytest.param(9, "is not valid yet; check the clocks", id="not yet valid"),
        pytest.param(62, "is for other names (the words of OpenSSL)", id="other name"),
        pytest.param(94, "cannot be verified (the words of OpenSSL)", id="something else"),
        pytest.param(None, "cannot be verified (no details)", id="nothing known"),
    ],
)
def test_a_certificate_that_cannot_be_verified(code: int | None, text: str) -> None:
    err = ssl.SSLCertVerificationError(1, "certificate verify failed")
    if code is not None:
        err.verify_code, err.verify_message = code, "the words of OpenSSL."
    assert connection_errors.cause(err) == f"its certificate {text}"


async def test_a_certificate_of_another_ca_is_named_with_the_server(tmp_path: Path) -> None:
    ca, _ = certificates.authority().write(tmp_path, "ca")
    serving = certificates.issue(
        certificates.authority(), uses=(certificates.SERVER,), hosts=["127.0.0.1"]
    )
    context = certificates.server_context(serving, tmp_path)
    trusting: dict[str, Any] = {"certificate-authority": str(ca)}
    async with apiserver.listening(tls=context) as front:
        path = apiserver.kubeconfig(tmp_path / "kubeconfig", front.url, **trusting)
        async with apiserver.connection(path) as cluster:
            with pytest.raises(errors.Unreachable) as raised:
                await cluster.call("GET", "/version")
    where = front.url.removeprefix("https://")
    expected = f"{where}: its certificate is not signed by the CA of the kubeconfig"
    assert raised.value.cause == expected


@pytest.fixture
def refusing_proxy() -> Iterator[int]:
    """The port of a proxy that answers 502 to every request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    peer.recv(4096)
                    peer.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                    peer.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


async def test_the_password_of_a_proxy_is_in_no_text(refusing_proxy: int, tmp_path: Path) -> None:
    for port, cause in (
        (refusing_proxy, f"the proxy 127.0.0.1:{refusing_proxy} answered 502"),
        (1, "the proxy 127.0.0.1:1: connection refused"),
    ):
        through: dict[str, Any] = {"proxy-url": f"http://farlet:hunter2@127.0.0.1:{port}"}
        path = apiserver.kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:6443", **through)
        async with apiserver.connection(path) as cluster:
            with pytest.raises(errors.Unreachable) as raised:
                await cluster.call("GET", "/version")
            assert raised.value.cause == cluster.problem == cause
        assert "hunter2" not in str(raised.value)
