"""containerLogs: options and streaming."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from farlet.kubelet import logs, routes
from farlet.kubelet.responses import Refusal
from unit.kubelet import harness
from unit.kubelet.harness import POD, Peer

LOGS = "GET /containerLogs/shop/web/main"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"


def options(query: str) -> dict[str, str]:
    return logs.options(routes.parse("GET", f"/containerLogs/shop/web/main?{query}", ()))


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        pytest.param("", {}, id="none"),
        pytest.param(
            "follow=true&previous=true&timestamps=true",
            {"follow": "true", "previous": "true", "timestamps": "true"},
            id="flags",
        ),
        pytest.param("follow=false&previous=0&timestamps=FALSE", {}, id="flags that are false"),
        pytest.param("follow=", {"follow": "true"}, id="a flag without a value"),
        pytest.param(
            "tailLines=0&limitBytes=1", {"tailLines": "0", "limitBytes": "1"}, id="minimum"
        ),
        pytest.param("sinceSeconds=1", {"sinceSeconds": "1"}, id="seconds"),
        pytest.param(
            "sinceTime=2026-01-02T03:04:05Z", {"sinceTime": "2026-01-02T03:04:05Z"}, id="a time"
        ),
        pytest.param(
            "sinceTime=2026-01-02T03:04:05.123456789%2B02:00",
            {"sinceTime": "2026-01-02T03:04:05.123456789+02:00"},
            id="a time with fraction and zone",
        ),
        pytest.param("tail=5", {"tailLines": "5"}, id="the deprecated name"),
        pytest.param("tail=all&tailLines=5", {}, id="the deprecated value"),
        pytest.param("stream=All&tailLines=5", {"tailLines": "5"}, id="both streams"),
        pytest.param("stream=Stderr", {"stream": "Stderr"}, id="one stream"),
        pytest.param(
            "insecureSkipTLSVerifyBackend=true&container=other&x=y", {}, id="unknown parameters"
        ),
    ],
)
def test_options_are_those_of_a_kubelet(query: str, sent: dict[str, str]) -> None:
    assert options(query) == sent


@pytest.mark.parametrize(
    ("query", "status"),
    [
        pytest.param("tailLines=many", 400, id="not a number"),
        pytest.param("tailLines=", 400, id="an empty number"),
        pytest.param("tailLines=9223372036854775808", 400, id="a number that is too large"),
        pytest.param("tailLines=%D9%A1", 400, id="a digit of another script"),
        pytest.param("tail=few", 400, id="not a number, by the deprecated name"),
        pytest.param("sinceTime=yesterday", 400, id="not a time"),
        pytest.param("sinceTime=2026-02-30T00:00:00Z", 400, id="a day that does not exist"),
        pytest.param("sinceTime=2026-01-02", 400, id="a date without a time"),
        pytest.param("tailLines=-1", 422, id="a negative number of lines"),
        pytest.param("limitBytes=0", 422, id="a limit of 0 bytes"),
        pytest.param("sinceSeconds=0", 422, id="since 0 seconds"),
        pytest.param("sinceSeconds=5&sinceTime=2026-01-02T03:04:05Z", 422, id="two start times"),
        pytest.param("stream=stdout", 422, id="an unknown stream"),
        pytest.param("stream=Stdout&tailLines=5", 422, id="the tail of one stream"),
    ],
)
def test_invalid_options_are_refused_as_by_a_kubelet(query: str, status: int) -> None:
    with pytest.raises(Refusal) as raised:
        options(query)
    assert raised.value.response.status == status


async def test_logs_are_streamed_until_they_end(tmp_path: Path) -> None:
    heads: list[str] = []
    more = asyncio.Event()

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        await peer.send(OK + b"6\r\nfirst\n\r\n")
        await more.wait()
        await peer.send(b"7\r\nsecond\n\r\n0\r\n\r\n")

    async with harness.running(tmp_path, script=script) as api:
        caller = await api.call()
        await caller.request(f"{LOGS}?follow=true&tailLines=7")
        assert "200" in await caller.head()
        assert await caller.reader.readexactly(11) == b"6\r\nfirst\n\r\n"
        more.set()
        assert await caller.reader.readexactly(17) == b"7\r\nsecond\n\r\n0\r\n\r\n"
        await caller.request("GET /healthz")  # the connection can be used again
        assert (await caller.answer())[0] == 200
    first = heads[0].split("\r\n")[0]
    assert first == f"GET {POD}/log?container=main&follow=true&tailLines=7 HTTP/1.1"
    assert harness.TOKEN in heads[0]


async def test_logs_that_are_cut_off_end_without_the_last_chunk(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(OK + b"6\r\nfirst\n\r\n")
        await asyncio.sleep(0.1)
        peer.cut()

    async with harness.running(tmp_path, script=script) as api:
        caller = await api.call()
        await caller.request(LOGS)
        assert "200" in await caller.head()
        assert await caller.rest() == b"6\r\nfirst\n\r\n"  # without the last chunk


async def test_following_ends_when_the_caller_disconnects(
    tmp_path: Path,
) -> None:
    ended = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(OK)
        await peer.rest()
        ended.set()

    async with harness.running(tmp_path, script=script) as api:
        caller = await api.call()
        await caller.request(f"{LOGS}?follow=true")
        assert "200" in await caller.head()
        caller.writer.close()
        async with asyncio.timeout(5):
            await ended.wait()


async def test_a_request_for_logs_ends_when_the_caller_disconnects(tmp_path: Path) -> None:
    received, ended = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        received.set()
        await peer.rest()
        ended.set()

    async with harness.running(tmp_path, script=script) as api:
        caller = await api.call()
        await caller.request(f"{LOGS}?follow=true")
        await received.wait()
        caller.writer.close()
        async with asyncio.timeout(5):
            await ended.wait()


async def test_a_slow_caller_slows_the_foreign_server(tmp_path: Path) -> None:
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.head()
        await peer.send(OK)
        while True:
            await peer.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")
            sent += 0x10000

    async with harness.running(tmp_path, script=script) as api:
        caller = await api.call()
        await caller.request(LOGS)
        assert "200" in await caller.head()
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.3)
        assert 0 < sent < 64 << 20


async def test_an_error_of_the_foreign_server_is_unwrapped(tmp_path: Path) -> None:
    message = 'container \\"main\\" in pod \\"web\\" is waiting to start: ContainerCreating'
    body = f'{{"kind":"Status","code":400,"message":"{message}"}}'.encode()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 400 X\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async with harness.running(tmp_path, script=script) as api:
        caller = await api.call()
        await caller.request(LOGS)
        status, _, text = await caller.answer()
        assert (status, text.decode()) == (400, message.replace("\\", ""))
        await caller.request("GET /healthz")
        assert (await caller.answer())[0] == 200


async def test_right_after_a_start_an_unknown_pod_is_answered_with_retry_after(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, may_appear=lambda key: key.name == "other") as api:
        caller = await api.call()
        await caller.request("GET /containerLogs/shop/other/main")
        status, headers, body = await caller.answer()
        assert (status, headers["retry-after"]) == (503, "1")
        assert b"does not know this pod yet" in body
        await caller.request("GET /containerLogs/shop/another/main")
        assert (await caller.answer())[0] == 404


async def test_a_pod_without_mirror_has_the_error_of_a_kubelet(tmp_path: Path) -> None:
    async with harness.running(tmp_path) as api:
        home, _ = harness.pods("new", recorded=False)
        api.store.home.put(home)
        caller = await api.call()
        await caller.request("GET /containerLogs/shop/new/main")
        status, _, body = await caller.answer()
        assert (status, body) == (
            400,
            b'container "main" in pod "new" is waiting to start: ContainerCreating',
        )
        await caller.request("GET /containerLogs/shop/other/main")
        assert (await caller.answer())[::2] == (404, b'pod "other" does not exist')
