"""An upgrade becomes a tunnel: asked for abroad, granted or not, and ended when a side goes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from unit.kubelet import stage
from unit.kubelet.stage import EXEC, POD, SPDY, SWITCHED, Peer

# --- granted ----------------------------------------------------------------------------------


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
    monkeypatch.setattr("farlet.client.credentials.RELOAD_SECONDS", 0.0)
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


# --- not granted ------------------------------------------------------------------------------


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
        pytest.param(b"220 mail.example.org ESMTP\r\n\r\n", 500, "invalid HTTP", id="no HTTP"),
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


async def test_a_foreign_server_that_is_away_is_told_in_words(tmp_path: Path) -> None:
    async with stage.playing(tmp_path) as all_:
        all_.foreign.close()
        caller = await all_.call()
        await caller.ask(EXEC, *SPDY)
        code, _, body = await caller.answer()
        assert code == 500
        assert b"foreign API server did not answer POST" in body


# --- a side that goes -------------------------------------------------------------------------


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
