"""The listener among clients that are slow, malformed, too many, or gone."""

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
from farlet.settings.values import Address
from unit.kubelet import stage
from unit.kubelet.stage import EXEC, SPDY, Peer


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
        pytest.param(b"GET /healthz HTTP/1.1\r\n b: c\r\nHost: a\r\n\r\n", 400, id="a fold"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: a\r\nb : c\r\n\r\n", 400, id="a space"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: a\r\nb: \x00\r\n\r\n", 400, id="a NUL"),
        pytest.param(
            b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            400,
            id="two lengths",
        ),
        pytest.param(
            b"GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
            501,
            id="an encoding",
        ),
        pytest.param(
            b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 413, id="a body"
        ),
        pytest.param(b"GET /" + b"a" * 90_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431, id="a path"),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: a\r\n" + b"b: c\r\n" * 20_000 + b"\r\n", 431, id="headers"
        ),
        pytest.param(b"GET https://node/healthz HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="a URL"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="a star"),
        pytest.param(b"GET /pods/../healthz HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="dots"),
    ],
)
async def test_what_is_no_request_is_refused_before_anybody_looks_at_it(
    tmp_path: Path, sent: bytes, status: int
) -> None:
    async with stage.playing(tmp_path) as all_:
        caller = await all_.call()
        with contextlib.suppress(ConnectionError):
            await caller.send(sent)
        assert (await caller.answer())[0] == status
        assert not all_.authorizer.asked


async def test_plain_requests_may_share_a_connection_also_when_they_come_at_once(
    tmp_path: Path,
) -> None:
    async with stage.playing(tmp_path, table=TABLE) as all_:
        caller = await all_.call()
        await caller.ask("GET /healthz", early=b"GET /stats/summary HTTP/1.1\r\nHost: n\r\n\r\n")
        assert (await caller.answer())[2] == b"ok"
        assert (await caller.answer())[2] == b"used"
        await caller.ask("GET /nothing")
        assert (await caller.answer())[0] == 404
        await caller.ask("GET /healthz", "Connection: close")
        assert (await caller.answer())[2] == b"ok"
        assert await caller.rest() == b""
        assert [path for _, path, _ in all_.authorizer.asked] == [
            "/healthz",
            "/stats/summary",
            "/nothing",
            "/healthz",
        ]


async def test_who_is_not_known_is_sent_away_and_who_may_not_is_told_what_he_lacks(
    tmp_path: Path,
) -> None:
    async with stage.playing(tmp_path) as all_:
        stranger = ssl.create_default_context()
        stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection("127.0.0.1", all_.port, ssl=stranger)
        nobody = Peer(reader, writer)
        await nobody.ask(EXEC, *SPDY)
        status, headers, body = await nobody.answer()
        assert (status, body, headers["connection"]) == (401, b"Unauthorized", "close")
        assert await nobody.rest() == b""
        writer.close()
        assert not all_.authorizer.asked

        all_.authorizer.allows = False
        caller = await all_.call()
        await caller.ask("GET /pods")
        status, _, body = await caller.answer()
        assert status == 403
        assert body == (
            b"Forbidden (user=someone, verb=get, resource=nodes, subresource(s)=[pods proxy])\n"
        )
        await caller.ask("GET /nothing")
        assert (await caller.answer())[0] == 403  # not 404: what is there is nobody's business
        assert not all_.upstream.peers


async def test_a_token_will_do_instead_of_a_certificate(tmp_path: Path) -> None:
    async with stage.playing(tmp_path) as all_:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection("127.0.0.1", all_.port, ssl=context)
        caller = Peer(reader, writer)
        await caller.ask("GET /healthz", "Authorization: Bearer known")
        assert (await caller.answer())[0] == 200
        writer.close()


# --- clients that take their time -------------------------------------------------------------


async def closed(sock: socket.socket) -> None:
    """Returns when the other side has ended or cut the connection."""
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


async def test_who_says_nothing_loses_his_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.2)
    async with stage.playing(tmp_path) as all_:
        with await dial(all_.port) as sock:
            await closed(sock)
        with await dial(all_.port) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, b"\x16\x03\x01")
            await closed(sock)


async def test_a_head_that_trickles_in_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)
    async with stage.playing(tmp_path) as all_:
        caller = await all_.call()

        async def trickle() -> None:
            with contextlib.suppress(ConnectionError):
                for letter in b"GET /healthz HTTP/1.1\r\nHost: n\r\n":
                    await caller.send(bytes([letter]))
                    await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        async with asyncio.timeout(5):
            assert await caller.rest() == b""
        await trickling
        # Nor a later one on a connection that has been of use.
        caller = await all_.call()
        await caller.ask("GET /healthz")
        assert (await caller.answer())[0] == 200
        await caller.send(b"GET /hea")
        async with asyncio.timeout(5):
            assert await caller.rest() == b""


async def test_a_connection_that_is_not_used_any_more_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.1)
    async with stage.playing(tmp_path) as all_:
        caller = await all_.call()
        await caller.ask("GET /healthz")
        assert (await caller.answer())[0] == 200
        async with asyncio.timeout(5):
            assert await caller.reader.read() == b""  # in order: no reset


async def test_who_has_said_nothing_yet_makes_room_for_who_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 3)
    async with stage.playing(tmp_path) as all_:
        users = [await all_.call() for _ in range(2)]
        for user in users:
            await user.ask("GET /healthz")
            assert (await user.answer())[0] == 200
        with await dial(all_.port) as silent:
            late = await all_.call()
            await closed(silent)
            await late.ask("GET /healthz")
            assert (await late.answer())[0] == 200
        # All three are in use now, and stay so.
        with await dial(all_.port) as one_too_many:
            await closed(one_too_many)
        for user in (*users, late):
            await user.ask("GET /healthz")
            assert (await user.answer())[0] == 200


async def test_streams_have_a_limit_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farlet.kubelet.request_handler.MOST_STREAMS", 1)
    held = asyncio.Event()

    async def script(peer: Peer) -> None:
        await stage.accept(peer)
        await held.wait()

    async with stage.playing(tmp_path, script=script) as all_:
        first, second = await all_.call(), await all_.call()
        await first.ask(EXEC, *SPDY)
        assert (await first.answer())[0] == 101
        await second.ask(EXEC, *SPDY)
        status, headers, _ = await second.answer()
        assert (status, headers["retry-after"]) == (429, "1")
        held.set()
        await first.rest()
        first.cut()  # it has had all, and leaves
        async with asyncio.timeout(5):
            await all_.until_streams(0)
        third = await all_.call()
        await third.ask(EXEC, *SPDY)
        assert (await third.answer())[0] == 101


# --- the end ----------------------------------------------------------------------------------


async def test_a_stop_lets_streams_end_and_takes_no_more(tmp_path: Path) -> None:
    held = asyncio.Event()

    async def script(peer: Peer) -> None:
        await stage.accept(peer)
        await held.wait()
        await peer.send(b"done")

    async with stage.playing(tmp_path, script=script, grace=5.0) as all_:
        idle, streaming = await all_.call(), await all_.call()
        await idle.ask("GET /healthz")
        assert (await idle.answer())[0] == 200
        await streaming.ask(EXEC, *SPDY)
        assert (await streaming.answer())[0] == 101
        leaving = asyncio.create_task(all_.leave())
        assert await idle.rest() == b""
        with pytest.raises(ConnectionError):
            await dial(all_.port)
        held.set()
        assert await streaming.rest() == b"done"
        async with asyncio.timeout(4):  # not the whole grace
            await leaving


async def test_a_stop_cuts_off_what_does_not_end_in_time(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await stage.accept(peer)
        await peer.rest()

    async with stage.playing(tmp_path, script=script, grace=0.1) as all_:
        streaming = await all_.call()
        await streaming.ask(EXEC, *SPDY)
        assert (await streaming.answer())[0] == 101
        async with asyncio.timeout(5):
            await all_.leave()
            assert await streaming.rest() == b""


async def test_a_stop_in_a_hurry_waits_for_no_stream(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await stage.accept(peer)
        await peer.rest()

    async with stage.playing(tmp_path, script=script, grace=60) as all_:
        streaming = await all_.call()
        await streaming.ask(EXEC, *SPDY)
        assert (await streaming.answer())[0] == 101
        leaving = asyncio.create_task(all_.leave())
        done, _ = await asyncio.wait({leaving}, timeout=0.2)
        assert not done
        all_.hurry.set()
        async with asyncio.timeout(5):
            await leaving
            assert await streaming.rest() == b""


async def test_an_address_that_cannot_be_had_stops_the_start(tmp_path: Path) -> None:
    async with stage.playing(tmp_path) as all_:
        second = server.KubeletServer(
            lambda _: asyncio.sleep(0),
            at=Address("127.0.0.1", all_.port),
            contexts=lambda: all_.context,
            grace=0,
            hurry=asyncio.Event(),
        )
        with pytest.raises(errors.StartError, match="--kubelet-bind-address"):
            await second.__aenter__()


async def test_a_new_certificate_is_shown_from_the_next_connection_on(tmp_path: Path) -> None:
    first, trusting, _ = stage.contexts(tmp_path / "first")
    second, distrusting, _ = stage.contexts(tmp_path / "second")
    serving = [first]

    async def answer(caller: responder.Responder) -> None:
        await caller.answer(text_response(200, "ok"))

    listener = server.KubeletServer(
        answer,
        at=Address("127.0.0.1", 0),
        contexts=lambda: serving[0],
        grace=0,
        hurry=asyncio.Event(),
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
            await caller.ask("GET /healthz", "Connection: close")
            assert (await caller.answer())[0] == 200
            caller.writer.close()


async def test_a_bug_in_an_endpoint_costs_one_connection(tmp_path: Path) -> None:
    async def broken() -> Response:
        raise KeyError("a bug")

    async with stage.playing(tmp_path, table={"/stats/summary": broken}) as all_:
        caller, other = await all_.call(), await all_.call()
        await caller.ask("GET /stats/summary")
        assert await caller.rest() == b""
        await other.ask("GET /healthz")
        assert (await other.answer())[0] == 200
