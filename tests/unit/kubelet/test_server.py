"""The listener with clients that are slow, malformed, too many or disconnected."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path

import pytest

from farlet import errors
from farlet.kubelet import responder, server
from farlet.kubelet.responses import Response, text_response
from farlet.listeners.listener import Limits
from farlet.settings.values import Address
from unit.kubelet import harness
from unit.kubelet.harness import EXEC, SPDY, Peer


async def ok() -> Response:
    return text_response(200, "used")


TABLE = {"/stats/summary": ok}


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"GET /healthz HTTP/1.1\r\n\r\n", 400, id="no host"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, id="two hosts"),
        pytest.param(b"\x16\x03\x01\x00\xa5 nonsense\r\n\r\n", 400, id="garbage"),
        pytest.param(b"GET /healthz\r\n\r\n", 400, id="HTTP/0.9"),
        pytest.param(
            b"GET /healthz HTTP/1.1\r\n b: c\r\nHost: a\r\n\r\n", 400, id="a folded header"
        ),
        pytest.param(
            b"GET /healthz HTTP/1.1\r\nHost: a\r\nb : c\r\n\r\n", 400, id="a space before the colon"
        ),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: a\r\nb: \x00\r\n\r\n", 400, id="a NUL"),
        pytest.param(
            b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            400,
            id="two lengths",
        ),
        pytest.param(
            b"GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
            501,
            id="an unknown encoding",
        ),
        pytest.param(
            b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 413, id="a body"
        ),
        pytest.param(
            b"GET /" + b"a" * 90_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431, id="a long path"
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: a\r\n" + b"b: c\r\n" * 20_000 + b"\r\n",
            431,
            id="too many headers",
        ),
        pytest.param(b"GET https://node/healthz HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="a URL"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="an asterisk"),
        pytest.param(b"GET /pods/../healthz HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="a dot segment"),
    ],
)
async def test_a_malformed_request_is_refused_before_authorization(
    tmp_path: Path, sent: bytes, status: int
) -> None:
    async with harness.running(tmp_path) as api:
        caller = await api.call()
        with contextlib.suppress(ConnectionError):
            await caller.send(sent)
        assert (await caller.answer())[0] == status
        assert not api.authorizer.reviews


async def test_requests_share_a_connection_even_if_pipelined(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, table=TABLE) as api:
        caller = await api.call()
        await caller.request(
            "GET /healthz", early=b"GET /stats/summary HTTP/1.1\r\nHost: n\r\n\r\n"
        )
        assert (await caller.answer())[2] == b"ok"
        assert (await caller.answer())[2] == b"used"
        await caller.request("GET /nothing")
        assert (await caller.answer())[0] == 404
        await caller.request("GET /healthz", "Connection: close")
        assert (await caller.answer())[2] == b"ok"
        assert await caller.rest() == b""
        assert [path for _, path, _ in api.authorizer.reviews] == [
            "/healthz",
            "/stats/summary",
            "/nothing",
            "/healthz",
        ]


async def test_unauthenticated_callers_get_401_and_unauthorized_ones_403(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path) as api:
        anonymous = ssl.create_default_context()
        anonymous.check_hostname, anonymous.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port, ssl=anonymous)
        unknown = Peer(reader, writer)
        await unknown.request(EXEC, *SPDY)
        status, headers, body = await unknown.answer()
        assert (status, body, headers["connection"]) == (401, b"Unauthorized", "close")
        assert await unknown.rest() == b""
        writer.close()
        assert not api.authorizer.reviews

        api.authorizer.allows = False
        caller = await api.call()
        await caller.request("GET /pods")
        status, _, body = await caller.answer()
        assert status == 403
        assert body == (
            b"Forbidden (user=someone, verb=get, resource=nodes, subresource(s)=[pods proxy])\n"
        )
        await caller.request("GET /nothing")
        assert (await caller.answer())[0] == 403  # not 404, which would disclose the paths
        assert not api.upstream.peers


async def test_a_token_is_accepted_instead_of_a_certificate(tmp_path: Path) -> None:
    async with harness.running(tmp_path) as api:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port, ssl=context)
        caller = Peer(reader, writer)
        await caller.request("GET /healthz", "Authorization: Bearer known")
        assert (await caller.answer())[0] == 200
        writer.close()


# --- slow clients -----------------------------------------------------------------------------


async def closed(sock: socket.socket) -> None:
    """Returns when the other side has closed or cut the connection."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            while await loop.sock_recv(sock, 4096):
                pass


async def dial(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except ConnectionError:
        sock.close()
        raise
    return sock


async def test_a_silent_connection_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.2)
    async with harness.running(tmp_path) as api:
        with await dial(api.port) as sock:
            await closed(sock)
        with await dial(api.port) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, b"\x16\x03\x01")
            await closed(sock)


async def test_a_request_head_that_arrives_slowly_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)
    async with harness.running(tmp_path) as api:
        caller = await api.call()

        async def trickle() -> None:
            with contextlib.suppress(ConnectionError):
                for letter in b"GET /healthz HTTP/1.1\r\nHost: n\r\n":
                    await caller.send(bytes([letter]))
                    await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        async with asyncio.timeout(5):
            assert await caller.rest() == b""
        await trickling
        # Nor a later one on a connection that already served a request.
        caller = await api.call()
        await caller.request("GET /healthz")
        assert (await caller.answer())[0] == 200
        await caller.send(b"GET /hea")
        async with asyncio.timeout(5):
            assert await caller.rest() == b""


async def test_an_idle_connection_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.1)
    async with harness.running(tmp_path) as api:
        caller = await api.call()
        await caller.request("GET /healthz")
        assert (await caller.answer())[0] == 200
        async with asyncio.timeout(5):
            assert await caller.reader.read() == b""  # without a reset


async def test_a_new_connection_replaces_the_oldest_silent_one(tmp_path: Path) -> None:
    async with harness.running(tmp_path, connections=3) as api:
        users = [await api.call() for _ in range(2)]
        for user in users:
            await user.request("GET /healthz")
            assert (await user.answer())[0] == 200
        with await dial(api.port) as silent:
            late = await api.call()
            await closed(silent)
            await late.request("GET /healthz")
            assert (await late.answer())[0] == 200
        # All three are in use now and stay open.
        with await dial(api.port) as one_too_many:
            await closed(one_too_many)
        for user in (*users, late):
            await user.request("GET /healthz")
            assert (await user.answer())[0] == 200


async def test_a_caller_without_permission_does_not_hold_a_place(tmp_path: Path) -> None:
    async with harness.running(tmp_path, connections=1) as api:
        api.authorizer.allows = False
        refused = await api.call()
        await refused.request("GET /healthz")
        assert (await refused.answer())[0] == 403
        api.authorizer.allows = True
        allowed = await api.call()
        await allowed.request("GET /healthz")
        assert (await allowed.answer())[0] == 200
        assert await refused.rest() == b""


async def test_streams_have_a_separate_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farlet.kubelet.request_handler.MAX_STREAMS", 1)
    held = asyncio.Event()

    async def script(peer: Peer) -> None:
        await harness.accept(peer)
        await held.wait()

    async with harness.running(tmp_path, script=script) as api:
        first, second = await api.call(), await api.call()
        await first.request(EXEC, *SPDY)
        assert (await first.answer())[0] == 101
        await second.request(EXEC, *SPDY)
        status, headers, _ = await second.answer()
        assert (status, headers["retry-after"]) == (429, "1")
        held.set()
        await first.rest()
        first.cut()  # it has read everything
        async with asyncio.timeout(5):
            await api.until_streams(0)
        third = await api.call()
        await third.request(EXEC, *SPDY)
        assert (await third.answer())[0] == 101


# --- shutdown ---------------------------------------------------------------------------------


async def test_a_stop_lets_streams_end_and_accepts_no_new_ones(tmp_path: Path) -> None:
    held = asyncio.Event()

    async def script(peer: Peer) -> None:
        await harness.accept(peer)
        await held.wait()
        await peer.send(b"done")

    async with harness.running(tmp_path, script=script, grace=5.0) as api:
        idle, streaming = await api.call(), await api.call()
        await idle.request("GET /healthz")
        assert (await idle.answer())[0] == 200
        await streaming.request(EXEC, *SPDY)
        assert (await streaming.answer())[0] == 101
        stopping = asyncio.create_task(api.stop())
        assert await idle.rest() == b""
        with pytest.raises(ConnectionError):
            await dial(api.port)
        held.set()
        assert await streaming.rest() == b"done"
        async with asyncio.timeout(4):  # less than the grace period
            await stopping


async def test_a_stop_cuts_off_streams_after_the_grace_period(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await harness.accept(peer)
        await peer.rest()

    async with harness.running(tmp_path, script=script, grace=0.1) as api:
        streaming = await api.call()
        await streaming.request(EXEC, *SPDY)
        assert (await streaming.answer())[0] == 101
        async with asyncio.timeout(5):
            await api.stop()
            assert await streaming.rest() == b""


async def test_an_immediate_stop_waits_for_no_stream(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await harness.accept(peer)
        await peer.rest()

    async with harness.running(tmp_path, script=script, grace=60) as api:
        streaming = await api.call()
        await streaming.request(EXEC, *SPDY)
        assert (await streaming.answer())[0] == 101
        stopping = asyncio.create_task(api.stop())
        done, _ = await asyncio.wait({stopping}, timeout=0.2)
        assert not done
        api.immediate.set()
        async with asyncio.timeout(5):
            await stopping
            assert await streaming.rest() == b""


async def test_an_address_that_cannot_be_used_fails_the_start(tmp_path: Path) -> None:
    async with harness.running(tmp_path) as api:
        second = server.KubeletServer(
            lambda _: asyncio.sleep(0),
            at=Address("127.0.0.1", api.port),
            contexts=lambda: api.context,
            grace=0,
            immediate=asyncio.Event(),
            limits=Limits(8, per_source=8),
        )
        with pytest.raises(errors.StartError, match="--kubelet-bind-address"):
            await second.__aenter__()


async def test_a_new_certificate_is_used_from_the_next_connection(tmp_path: Path) -> None:
    first, trusting, _ = harness.contexts(tmp_path / "first")
    second, distrusting, _ = harness.contexts(tmp_path / "second")
    serving = [first]

    async def answer(request: responder.Responder) -> None:
        await request.answer(text_response(200, "ok"))

    listener = server.KubeletServer(
        answer,
        at=Address("127.0.0.1", 0),
        contexts=lambda: serving[0],
        grace=0,
        immediate=asyncio.Event(),
        limits=Limits(8, per_source=8),
    )

    async def connect(context: ssl.SSLContext) -> Peer:
        return Peer(
            *await asyncio.open_connection(
                "127.0.0.1", listener.port, ssl=context, server_hostname="node"
            )
        )

    async with listener:
        old = await connect(trusting)
        serving[0] = second
        new = await connect(distrusting)
        with pytest.raises(ssl.SSLError):
            await connect(trusting)
        for caller in (old, new):
            await caller.request("GET /healthz", "Connection: close")
            assert (await caller.answer())[0] == 200
            caller.writer.close()


async def test_a_bug_in_an_endpoint_closes_one_connection(tmp_path: Path) -> None:
    async def broken() -> Response:
        raise KeyError("a bug")

    async with harness.running(tmp_path, table={"/stats/summary": broken}) as api:
        caller, other = await api.call(), await api.call()
        await caller.request("GET /stats/summary")
        assert await caller.rest() == b""
        await other.request("GET /healthz")
        assert (await other.answer())[0] == 200
