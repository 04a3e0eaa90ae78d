"""Upgrades of streams: accepted or refused by the foreign server, and closed by either side."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from unit.kubelet import harness
from unit.kubelet.harness import EXEC, POD, SPDY, SWITCHED, Peer

# --- accepted ---------------------------------------------------------------------------------


async def test_an_exec_is_relayed_with_farlets_credentials(
    tmp_path: Path,
) -> None:
    heads: list[str] = []

    async def script(peer: Peer) -> None:
        heads.append(await harness.accept(peer))
        await peer.send(b"welcome")
        assert await peer.reader.readexactly(5) == b"hello"
        await peer.send(b"bye")

    async with harness.running(tmp_path, script=script) as api:
        caller = await api.call()
        await caller.request(EXEC, *SPDY, "Authorization: Bearer callers", "Cookie: a=b")
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
        assert api.authorizer.reviews == [("create", "/exec/shop/web/main", ("proxy",))]
    first, *lines = heads[0].strip().split("\r\n")
    method, target, _ = first.split(" ")
    assert (method, urlsplit(target).path) == ("POST", f"{POD}/exec")
    assert dict(parse_qsl(urlsplit(target).query))["container"] == "main"
    names = {line.split(":")[0].lower() for line in lines}
    assert "cookie" not in names
    assert f"Authorization: Bearer {harness.TOKEN}".lower() in heads[0].lower()
    assert "callers" not in heads[0]


async def test_bytes_that_arrive_with_either_head_are_relayed(tmp_path: Path) -> None:
    got: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(SWITCHED + b"early from the server")
        got.append(await peer.reader.readexactly(17))

    async with harness.running(tmp_path, script=script) as api:
        caller = await api.call()
        await caller.request(EXEC, *SPDY, early=b"early from caller")
        assert (await caller.answer())[0] == 101
        assert await caller.rest() == b"early from the server"
    assert got == [b"early from caller"]


async def test_a_websocket_is_requested_with_get(tmp_path: Path) -> None:
    heads: list[str] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        await peer.send(
            b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: a\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
        )

    async with harness.running(tmp_path, script=script) as api:
        caller = await api.call()
        await caller.request(
            EXEC.replace("POST", "GET"),
            *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
            *("Sec-WebSocket-Key: k", "Sec-WebSocket-Protocol: v4.channel.k8s.io"),
        )
        code, headers, _ = await caller.answer()
        assert code == 101
        assert headers["sec-websocket-accept"] == "a"
        assert headers["sec-websocket-protocol"] == "v4.channel.k8s.io"
        assert api.authorizer.reviews == [("get", "/exec/shop/web/main", ("proxy",))]
    assert heads[0].startswith(f"GET {POD}/exec?")


async def test_refused_credentials_are_reloaded_and_the_stream_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farlet.client.credentials.RELOAD_SECONDS", 0.0)
    heads: list[str] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        if len(heads) == 1:
            path = tmp_path / "kubeconfig"
            path.write_text(path.read_text().replace(harness.TOKEN, "the-next-one"))
            await peer.send(b"HTTP/1.1 401 X\r\nContent-Length: 0\r\n\r\n")
        else:
            await peer.send(SWITCHED + b"in")

    async with harness.running(tmp_path, script=script) as api:
        caller = await api.call()
        await caller.request(EXEC, *SPDY)
        assert (await caller.answer())[0] == 101
        assert await caller.rest() == b"in"
    assert [harness.TOKEN in head for head in heads] == [True, False]
    assert "the-next-one" in heads[1]


# --- refused ----------------------------------------------------------------------------------


DENIED = (
    'pods "web" is forbidden: User "system:serviceaccount:farlet-far:farlet" cannot create '
    'resource "pods/exec" in API group "" in the namespace "shop-home"'
)


def status(code: int, message: str) -> bytes:
    body = json.dumps({"kind": "Status", "message": message})
    return f"HTTP/1.1 {code} X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


REFUSED = status(404, "pods not found 1")


async def test_a_request_behind_a_refused_upgrade_is_never_executed(tmp_path: Path) -> None:
    behind: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.head()
        await asyncio.sleep(0.1)  # time for bytes that must not arrive
        await peer.send(REFUSED)
        behind.append(await peer.rest())

    async with harness.running(tmp_path, script=script) as api:
        caller = await api.call()
        second = b"DELETE /api/v1/namespaces/shop-h HTTP/1.1\r\nHost: x\r\n\r\n"
        await caller.request(EXEC, *SPDY, early=second)
        await caller.send(second)
        code, headers, body = await caller.answer()
        assert (code, body, headers["connection"]) == (404, b"pods not found 1", "close")
        assert await caller.rest() == b""
        assert len(api.upstream.peers) == 1
        assert len(api.authorizer.reviews) == 1
        await asyncio.wait_for(api.upstream.peers[0].writer.wait_closed(), 5)
    assert behind == [b""]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(("Content-Length: 5",), id="with a length"),
        pytest.param(("Transfer-Encoding: chunked",), id="in chunks"),
        pytest.param(("Transfer-Encoding: chunked", "Content-Length: 5"), id="with both"),
    ],
)
async def test_an_upgrade_with_a_body_is_refused(tmp_path: Path, headers: tuple[str, ...]) -> None:
    async with harness.running(tmp_path, script=harness.accept) as api:
        caller = await api.call()
        await caller.request(EXEC, *SPDY, *headers, early=b"5\r\nhello\r\n0\r\n\r\n")
        code, answered, _ = await caller.answer()
        assert (code, answered["connection"]) == (413, "close")
        assert await caller.rest() == b""
        assert not api.upstream.peers


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        pytest.param(REFUSED, 404, "pods not found 1", id="a Status is unwrapped"),
        pytest.param(
            b'HTTP/1.1 500 X\r\nContent-Length: 28\r\n\r\ncontainer not found ("main")',
            500,
            'container not found ("main")',
            id="text is returned unchanged",
        ),
        pytest.param(
            status(500, "error dialing backend: dial tcp 10.99.2.1:10250: connection refused"),
            500,
            "the foreign API server could not reach its kubelet: dial tcp 10.99.2.1:10250: "
            "connection refused",
            id="a kubelet that the foreign API server does not reach",
        ),
        pytest.param(
            status(500, "x" * 40_000), 500, "x" * 800 + "... (40,000 char", id="a long text is cut"
        ),
        pytest.param(
            status(403, "forbidden"),
            500,
            "does not allow farlet to do this: forbidden",
            id="missing permissions of farlet are not a 403 for the caller",
        ),
        pytest.param(
            status(403, DENIED),
            500,
            "--node far --namespace shop (",
            id="the command that grants a permission to a node of connect",
        ),
        pytest.param(
            status(401, "Unauthorized"),
            500,
            "does not accept farlet's credentials (401 Unauthorized)",
            id="rejected credentials of farlet are not a 401 for the caller",
        ),
        pytest.param(
            status(401, "Unauthorized"),
            500,
            "--node far (a node without farlet connect: put a kubeconfig with new credentials into "
            "the Secret farlet-far-foreign,",
            id="the command that renews the credentials of this node",
        ),
        pytest.param(
            b"HTTP/1.1 302 Found\r\nLocation: https://evil/\r\nContent-Length: 0\r\n\r\n",
            502,
            "HTTP 302",
            id="a redirect is not followed",
        ),
        pytest.param(
            SWITCHED.replace(b"SPDY/3.1", b"h2c"),
            502,
            "which was not requested",
            id="another protocol",
        ),
        pytest.param(b"220 mail.example.org ESMTP\r\n\r\n", 500, "invalid HTTP", id="not HTTP"),
        pytest.param(b"", 500, "did not answer", id="no answer"),
    ],
)
async def test_any_other_answer_is_returned_and_closes_the_connection(
    tmp_path: Path, answer: bytes, code: int, text: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer)

    async with harness.running(tmp_path, script=script) as api:
        caller = await api.call()
        await caller.request(EXEC, *SPDY)
        got, headers, body = await caller.answer()
        assert (got, headers["connection"]) == (code, "close")
        assert text in body.decode()
        assert await caller.rest() == b""


async def test_an_unreachable_foreign_server_is_reported(tmp_path: Path) -> None:
    async with harness.running(tmp_path) as api:
        api.foreign.close()
        caller = await api.call()
        await caller.request(EXEC, *SPDY)
        code, _, body = await caller.answer()
        assert code == 500
        assert b"foreign API server did not answer POST" in body


# --- closed by one side -----------------------------------------------------------------------


async def test_when_the_caller_disconnects_the_foreign_connection_is_closed(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def script(peer: Peer) -> None:
        await harness.accept(peer)
        await peer.rest()
        ended.set()

    async with harness.running(tmp_path, script=script) as api:
        caller = await api.call()
        await caller.request(EXEC, *SPDY)
        assert (await caller.answer())[0] == 101
        caller.cut()
        async with asyncio.timeout(5):
            await ended.wait()


async def test_when_the_caller_disconnects_before_the_answer_the_foreign_request_ends(
    tmp_path: Path,
) -> None:
    received, ended = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        received.set()
        await peer.rest()
        ended.set()

    async with harness.running(tmp_path, script=script) as api:
        caller = await api.call()
        await caller.request(EXEC, *SPDY)
        await received.wait()
        caller.cut()
        async with asyncio.timeout(5):
            await ended.wait()


async def test_when_the_foreign_connection_breaks_the_caller_is_disconnected(
    tmp_path: Path,
) -> None:
    async def script(peer: Peer) -> None:
        await harness.accept(peer)
        peer.cut()

    async with harness.running(tmp_path, script=script) as api:
        caller = await api.call()
        await caller.request(EXEC, *SPDY)
        assert (await caller.answer())[0] == 101
        async with asyncio.timeout(5):
            assert await caller.rest() == b""
