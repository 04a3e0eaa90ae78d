"""Upgrades become tunnels: what goes abroad, what comes back, and what never passes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import os
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from farlet import channels
from farlet.kubelet import routes, streams
from farlet.kubelet.responses import Refusal
from farlet.kubelet.routes import Endpoint
from farlet.kubelet.targets import Target
from unit.kubelet import stage
from unit.kubelet.stage import EXEC, POD, SPDY, SWITCHED, Peer

MIB = 1 << 20
TARGET = Target("shop-h", "web", "main")


def request(line: str, *headers: tuple[str, str]) -> routes.Request:
    method, _, target = line.partition(" ")
    return routes.parse(method, target, headers)


# --- the request abroad -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "endpoint", "asked"),
    [
        pytest.param(
            "POST /exec/shop/web/main?command=sh&command=-c&command=echo+1%262%3B%20x&output=1",
            Endpoint.EXEC,
            "container=main&stdin=false&stdout=true&stderr=false&tty=false"
            "&command=sh&command=-c&command=echo%201%262%3B%20x",
            id="words of a command keep their order and their bytes",
        ),
        pytest.param(
            "POST /exec/shop/web/main?command=%ff%00&input=1",
            Endpoint.EXEC,
            "container=main&stdin=true&stdout=false&stderr=false&tty=false&command=%FF%00",
            id="a command may hold bytes that are no text",
        ),
        pytest.param(
            "POST /exec/shop/web/main?command=sh&tty=1&input=1&output=1&error=1",
            Endpoint.EXEC,
            "container=main&stdin=true&stdout=true&stderr=false&tty=true&command=sh",
            id="a terminal has no separate errors",
        ),
        pytest.param(
            "POST /attach/shop/web/main?output=1&error=1&command=no&container=other&stdin=true",
            Endpoint.ATTACH,
            "container=main&stdin=false&stdout=true&stderr=true&tty=false",
            id="attach has no command, and parameters of an API server count for nothing",
        ),
        pytest.param("POST /portForward/shop/web", Endpoint.PORT_FORWARD, "", id="ports by SPDY"),
        pytest.param(
            "GET /portForward/shop/web?port=80,443&port=22",
            Endpoint.PORT_FORWARD,
            "ports=80&ports=443&ports=22",
            id="ports by WebSocket",
        ),
    ],
)
def test_the_query_is_translated(line: str, endpoint: Endpoint, asked: str) -> None:
    assert streams.query(endpoint, request(line), TARGET) == asked


@pytest.mark.parametrize(
    ("line", "headers", "says"),
    [
        pytest.param(
            "POST /exec/shop/web/main?command=sh",
            (),
            "you must specify at least 1 of stdin, stdout, stderr",
            id="no stream",
        ),
        pytest.param(
            "GET /portForward/shop/web",
            (("upgrade", "websocket"),),
            'query parameter "port" is required',
            id="a WebSocket without a port",
        ),
        *(
            pytest.param(
                f"GET /portForward/shop/web?port={port}",
                (),
                "as a port",
                id=f"port {port!r}",
            )
            for port in ("0", "65536", "-1", "80,", "http", "%D9%A1")
        ),
    ],
)
def test_what_a_kubelet_refuses_is_refused(
    line: str, headers: tuple[tuple[str, str], ...], says: str
) -> None:
    asked = request(line, *headers)
    endpoint = Endpoint(asked.path.split("/")[1])
    with pytest.raises(Refusal) as raised:
        streams.query(endpoint, asked, TARGET)
    assert raised.value.response.status == 400
    assert says in str(raised.value)


def test_a_port_forward_within_a_websocket_names_its_ports_later() -> None:
    asked = request(
        "GET /portForward/shop/web",
        ("upgrade", "websocket"),
        ("sec-websocket-protocol", "SPDY/3.1+portforward.k8s.io"),
    )
    assert streams.query(Endpoint.PORT_FORWARD, asked, TARGET) == ""


UPGRADE = (("connection", "Upgrade"), ("upgrade", "SPDY/3.1"))
ASKED = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")]


@pytest.mark.parametrize(
    ("sent", "carried"),
    [
        pytest.param(UPGRADE, ASKED, id="an upgrade"),
        pytest.param(
            (("connection", "keep-alive, upgrade"), ("upgrade", "SPDY/3.1")), ASKED, id="one of two"
        ),
        pytest.param(
            (
                *UPGRADE,
                ("x-stream-protocol-version", "v4.channel.k8s.io"),
                ("x-stream-protocol-version", "v3.channel.k8s.io"),
            ),
            [
                *ASKED,
                ("x-stream-protocol-version", "v4.channel.k8s.io"),
                ("x-stream-protocol-version", "v3.channel.k8s.io"),
            ],
            id="versions in their order",
        ),
        pytest.param(
            (
                *UPGRADE,
                ("authorization", "Bearer caller"),
                ("cookie", "a=b"),
                ("impersonate-user", "admin"),
                ("x-remote-user", "admin"),
                ("x-forwarded-for", "1.2.3.4"),
                ("te", "trailers"),
                ("proxy-authorization", "Basic x"),
                ("keep-alive", "1"),
                ("transfer-encoding", "chunked"),
                ("content-length", "0"),
                ("host", "node"),
            ),
            ASKED,
            id="nothing else",
        ),
        pytest.param(
            (
                *UPGRADE,
                ("sec-websocket-key", "k"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-extensions", "x"),
                (
                    "sec-websocket-protocol",
                    "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.dG9rZW4",
                ),
            ),
            [
                *ASKED,
                ("sec-websocket-key", "k"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-extensions", "x"),
                ("sec-websocket-protocol", "v5.channel.k8s.io"),
            ],
            id="a token among the subprotocols stays here",
        ),
    ],
)
def test_only_the_upgrade_is_carried(
    sent: tuple[tuple[str, str], ...], carried: list[tuple[str, str]]
) -> None:
    assert streams.upgrade(request("POST /exec/a/b/c", *sent)) == carried


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param((), id="none"),
        pytest.param((("upgrade", "SPDY/3.1"),), id="not a header of the connection"),
        pytest.param((("connection", "Upgrade"),), id="to nothing"),
        *(
            pytest.param((("connection", "Upgrade"), ("upgrade", to)), id=f"to {to}")
            for to in ("h2c", "HTTP/2.0", "TLS/1.2", "websocket, h2c")
        ),
    ],
)
def test_an_upgrade_is_needed_and_not_one_to_more_requests(
    sent: tuple[tuple[str, str], ...],
) -> None:
    with pytest.raises(Refusal) as raised:
        streams.upgrade(request("POST /exec/a/b/c", *sent))
    assert raised.value.response.status == 400


# --- the tunnel -------------------------------------------------------------------------------


async def test_an_exec_is_asked_for_abroad_as_farlet_and_bytes_go_both_ways(
    tmp_path: Path,
) -> None:
    heads: list[str] = []

    async def script(peer: Peer) -> None:
        heads.append(await stage.accept(peer))
        await peer.send(b"welcome")
        assert await peer.reader.readexactly(5) == b"hello"
        await peer.send(b"bye")

    async with stage.playing(tmp_path, script=script) as all_:
        caller = await all_.call()
        await caller.ask(EXEC, *SPDY, "Authorization: Bearer callers", "Cookie: a=b")
        code, headers, _ = await caller.answer()
        assert (code, headers) == (
            101,
            {
                "connection": "Upgrade",
                "upgrade": "SPDY/3.1",
                "x-stream-protocol-version": "v4.channel.k8s.io",
            },
        )
        assert await caller.reader.readexactly(7) == b"welcome"
        await caller.send(b"hello")
        assert await caller.rest() == b"bye"
        assert all_.authorizer.asked == [("create", "/exec/shop/web/main", ("proxy",))]
    first, *lines = heads[0].strip().split("\r\n")
    method, target, _ = first.split(" ")
    assert (method, urlsplit(target).path) == ("POST", f"{POD}/exec")
    assert dict(parse_qsl(urlsplit(target).query))["container"] == "main"
    names = {line.split(":")[0].lower() for line in lines}
    assert "cookie" not in names
    assert f"Authorization: Bearer {stage.TOKEN}".lower() in heads[0].lower()
    assert "callers" not in heads[0]


async def test_bytes_that_come_with_either_head_are_carried(tmp_path: Path) -> None:
    got: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(SWITCHED + b"early from abroad")
        got.append(await peer.reader.readexactly(15))

    async with stage.playing(tmp_path, script=script) as all_:
        caller = await all_.call()
        await caller.ask(EXEC, *SPDY, early=b"early from home")
        assert (await caller.answer())[0] == 101
        assert await caller.rest() == b"early from abroad"
    assert got == [b"early from home"]


def status(code: int, message: str) -> bytes:
    body = f'{{"kind":"Status","message":"{message}"}}'
    return f"HTTP/1.1 {code} X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


REFUSED = status(404, "pods not found 1")


async def test_a_request_behind_an_upgrade_that_was_refused_runs_nowhere(tmp_path: Path) -> None:
    behind: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.head()
        await asyncio.sleep(0.1)  # time for bytes that must not come
        await peer.send(REFUSED)
        behind.append(await peer.rest())

    async with stage.playing(tmp_path, script=script) as all_:
        caller = await all_.call()
        second = b"DELETE /api/v1/namespaces/shop-h HTTP/1.1\r\nHost: x\r\n\r\n"
        await caller.ask(EXEC, *SPDY, early=second)
        await caller.send(second)
        code, headers, body = await caller.answer()
        assert (code, body, headers["connection"]) == (404, b"pods not found 1", "close")
        assert await caller.rest() == b""
        assert len(all_.upstream.peers) == 1
        assert len(all_.authorizer.asked) == 1
        await asyncio.wait_for(all_.upstream.peers[0].writer.wait_closed(), 5)
    assert behind == [b""]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(("Content-Length: 5",), id="with a length"),
        pytest.param(("Transfer-Encoding: chunked",), id="in chunks"),
        pytest.param(("Transfer-Encoding: chunked", "Content-Length: 5"), id="with both"),
    ],
)
async def test_an_upgrade_with_a_body_never_goes_abroad(
    tmp_path: Path, headers: tuple[str, ...]
) -> None:
    async with stage.playing(tmp_path, script=stage.accept) as all_:
        caller = await all_.call()
        await caller.ask(EXEC, *SPDY, *headers, early=b"5\r\nhello\r\n0\r\n\r\n")
        code, answered, _ = await caller.answer()
        assert (code, answered["connection"]) == (413, "close")
        assert await caller.rest() == b""
        assert not all_.upstream.peers


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        pytest.param(REFUSED, 404, "pods not found 1", id="a Status is unwrapped"),
        pytest.param(
            b'HTTP/1.1 500 X\r\nContent-Length: 28\r\n\r\ncontainer not found ("main")',
            500,
            'container not found ("main")',
            id="text is passed on",
        ),
        pytest.param(
            status(403, "farlet may not"),
            500,
            "does not let farlet do this: farlet may not",
            id="our rights that lack are not the caller's",
        ),
        pytest.param(
            b"HTTP/1.1 302 Found\r\nLocation: https://evil/\r\nContent-Length: 0\r\n\r\n",
            502,
            "answered 302",
            id="a redirect leads nowhere",
        ),
        pytest.param(
            SWITCHED.replace(b"SPDY/3.1", b"h2c"), 502, "unasked", id="another protocol than asked"
        ),
        pytest.param(b"220 mail.example.org ESMTP\r\n\r\n", 500, "no proper HTTP", id="no HTTP"),
        pytest.param(b"", 500, "did not answer", id="nothing"),
    ],
)
async def test_any_other_answer_is_told_and_ends_the_connection(
    tmp_path: Path, answer: bytes, code: int, says: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer)

    async with stage.playing(tmp_path, script=script) as all_:
        caller = await all_.call()
        await caller.ask(EXEC, *SPDY)
        got, headers, body = await caller.answer()
        assert (got, headers["connection"]) == (code, "close")
        assert says in body.decode()
        assert await caller.rest() == b""


async def test_an_end_of_one_direction_is_an_end_of_that_direction_only(tmp_path: Path) -> None:
    blob = os.urandom(MIB)
    async with stage.channel_pairs(tmp_path, 2) as ((caller, left), (right, server)):

        async def call() -> bytes:
            await caller.write(blob)
            caller.end()
            return await everything(caller)

        async def serve() -> None:
            digest = hashlib.sha256(await everything(server)).digest()
            await server.write(digest)
            server.end()

        spliced = streams.splice(left, right, to_left=b"first", to_right=b"")
        got, *_ = await asyncio.gather(call(), serve(), spliced)
    assert got == b"first" + hashlib.sha256(blob).digest()


async def test_a_side_that_never_ends_is_not_waited_for_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SILENCE_SECONDS", 0.05)
    monkeypatch.setattr(streams, "TAKING_SECONDS", 0.05)
    async with stage.channel_pairs(tmp_path, 2) as ((caller, left), (right, server)):
        spliced = asyncio.create_task(streams.splice(left, right, to_left=b"", to_right=b""))
        caller.end()
        for _ in range(5):  # longer than silence may last, but not silent
            await asyncio.sleep(0.02)
            await server.write(b"more")
            assert await caller.read() == b"more"
        async with asyncio.timeout(5):
            await spliced


@pytest.mark.parametrize("how", ["in order", "cut", "as Go does"])
async def test_what_was_sent_before_a_side_closed_arrives_although_the_other_still_talks(
    tmp_path: Path, how: str
) -> None:
    """As when a program ends whose output is still on its way, and pings come meanwhile."""
    blob = os.urandom(16 * MIB)
    async with stage.channel_pairs(tmp_path, 2) as ((caller, left), (right, server)):
        spliced = asyncio.create_task(streams.splice(left, right, to_left=b"", to_right=b""))

        async def talk() -> None:
            with contextlib.suppress(OSError):
                while True:
                    await caller.write(b"ping")
                    await asyncio.sleep(0.01)

        async def serve() -> None:
            await server.write(blob)
            if how != "cut":
                server.end()
            if how == "as Go does":  # nothing reads any more what comes in
                server._transport.close()
            else:
                await server.finish(seconds=10)

        talking, serving = asyncio.create_task(talk()), asyncio.create_task(serve())
        got = bytearray()
        with contextlib.suppress(OSError):
            while data := await caller.read():
                got += data
                await asyncio.sleep(0.0005)
        caller.abort()
        await asyncio.gather(talking, serving, spliced)
    assert bytes(got) == blob


async def test_a_caller_who_writes_everything_before_he_reads_is_not_waited_for_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "TURN_SECONDS", 0.05)
    flood, blob = bytes(32 * MIB), os.urandom(4 * MIB)
    async with stage.channel_pairs(tmp_path, 2) as ((caller, left), (right, server)):
        spliced = asyncio.create_task(streams.splice(left, right, to_left=b"", to_right=b""))
        flooding = asyncio.create_task(server.write(flood))
        await asyncio.sleep(0.3)  # everything between is full now
        writing = asyncio.create_task(caller.write(blob))
        got = b""
        async with asyncio.timeout(5):
            while len(got) < len(blob):
                got += await server.read()
        assert got == blob
        await writing
        caller.end()
        assert len(await everything(caller, len(flood))) == len(flood)
        await flooding
        server.end()
        await spliced


async def everything(channel: channels.Channel, size: float = math.inf) -> bytes:
    """All until the end, or until so much has come."""
    read = bytearray()
    while len(read) < size and (data := await channel.read()):
        read += data
    return bytes(read)


async def test_a_lot_goes_both_ways_at_once_and_arrives_whole(tmp_path: Path) -> None:
    blob = os.urandom(16 * MIB)

    async def script(peer: Peer) -> None:
        await stage.accept(peer)
        while data := await peer.reader.read(100_000):
            await peer.send(data)

    async with stage.playing(tmp_path, script=script) as all_:
        caller = await all_.call()
        await caller.ask(EXEC, *SPDY)
        assert (await caller.answer())[0] == 101
        sending = asyncio.create_task(caller.send(blob))
        assert await caller.reader.readexactly(len(blob)) == blob
        await sending


@pytest.mark.parametrize("reading", ["caller", "upstream"])
async def test_a_reader_that_stops_stops_the_writer_and_not_our_memory(
    tmp_path: Path, reading: str
) -> None:
    sent = 0

    async def flood(peer: Peer) -> None:
        nonlocal sent
        while True:
            await peer.send(bytes(64 * 1024))
            sent += 64 * 1024

    held = asyncio.Event()

    async def script(peer: Peer) -> None:
        await stage.accept(peer)
        if reading == "caller":
            await flood(peer)
        await held.wait()

    async with stage.playing(tmp_path, script=script) as all_:
        caller = await all_.call()
        await caller.ask(EXEC, *SPDY)
        assert (await caller.answer())[0] == 101
        flooding = asyncio.create_task(flood(caller)) if reading == "upstream" else None
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.3)
        # So much fits into the sockets of three connections; an endless flood would not.
        assert 0 < sent < 64 * MIB
        if flooding is not None:
            flooding.cancel()
        held.set()


async def test_when_the_caller_goes_the_foreign_side_is_told(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def script(peer: Peer) -> None:
        await stage.accept(peer)
        await peer.rest()
        ended.set()

    async with stage.playing(tmp_path, script=script) as all_:
        caller = await all_.call()
        await caller.ask(EXEC, *SPDY)
        assert (await caller.answer())[0] == 101
        caller.cut()
        async with asyncio.timeout(5):
            await ended.wait()


async def test_when_the_caller_goes_before_the_answer_the_request_abroad_is_dropped(
    tmp_path: Path,
) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        asked.set()
        await peer.rest()
        ended.set()

    async with stage.playing(tmp_path, script=script) as all_:
        caller = await all_.call()
        await caller.ask(EXEC, *SPDY)
        await asked.wait()
        caller.cut()
        async with asyncio.timeout(5):
            await ended.wait()


async def test_when_the_foreign_side_breaks_off_so_do_we(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await stage.accept(peer)
        peer.cut()

    async with stage.playing(tmp_path, script=script) as all_:
        caller = await all_.call()
        await caller.ask(EXEC, *SPDY)
        assert (await caller.answer())[0] == 101
        async with asyncio.timeout(5):
            assert await caller.rest() == b""


async def test_a_foreign_server_that_is_away_is_told_in_words(tmp_path: Path) -> None:
    async with stage.playing(tmp_path) as all_:
        all_.foreign.close()
        caller = await all_.call()
        await caller.ask(EXEC, *SPDY)
        code, _, body = await caller.answer()
        assert code == 500
        assert b"foreign API server did not answer POST" in body


async def test_a_websocket_is_asked_for_by_get(tmp_path: Path) -> None:
    heads: list[str] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        await peer.send(
            b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: a\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
        )

    async with stage.playing(tmp_path, script=script) as all_:
        caller = await all_.call()
        await caller.ask(
            EXEC.replace("POST", "GET"),
            *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
            *("Sec-WebSocket-Key: k", "Sec-WebSocket-Protocol: v4.channel.k8s.io"),
        )
        code, headers, _ = await caller.answer()
        assert code == 101
        assert headers["sec-websocket-accept"] == "a"
        assert headers["sec-websocket-protocol"] == "v4.channel.k8s.io"
        assert all_.authorizer.asked == [("get", "/exec/shop/web/main", ("proxy",))]
    assert heads[0].startswith(f"GET {POD}/exec?")


async def test_a_login_that_is_refused_abroad_is_read_again_and_the_stream_comes_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farlet.credentials.RELOAD_SECONDS", 0.0)
    heads: list[str] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        if len(heads) == 1:
            path = tmp_path / "kubeconfig"
            path.write_text(path.read_text().replace(stage.TOKEN, "the-next-one"))
            await peer.send(b"HTTP/1.1 401 X\r\nContent-Length: 0\r\n\r\n")
        else:
            await peer.send(SWITCHED + b"in")

    async with stage.playing(tmp_path, script=script) as all_:
        caller = await all_.call()
        await caller.ask(EXEC, *SPDY)
        assert (await caller.answer())[0] == 101
        assert await caller.rest() == b"in"
    assert [stage.TOKEN in head for head in heads] == [True, False]
    assert "the-next-one" in heads[1]
