"""Logs: their options, and the stream of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from farlet.kubelet import logs, routes
from farlet.kubelet.responses import Refusal
from unit.kubelet import stage
from unit.kubelet.stage import POD, Peer

LOGS = "GET /containerLogs/shop/web/main"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"


def options(query: str) -> dict[str, str]:
    return logs.options(routes.parse("GET", f"/containerLogs/shop/web/main?{query}", ()))


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        pytest.param("", {}, id="none"),
        pytest.param(
            "follow=true&previous=true&timestamps=true",
            {"follow": "true", "previous": "true", "timestamps": "true"},
            id="flags",
        ),
        pytest.param("follow=false&previous=0&timestamps=FALSE", {}, id="flags that say no"),
        pytest.param("follow=", {"follow": "true"}, id="a flag alone"),
        pytest.param("tailLines=0&limitBytes=1", {"tailLines": "0", "limitBytes": "1"}, id="least"),
        pytest.param("sinceSeconds=1", {"sinceSeconds": "1"}, id="seconds"),
        pytest.param(
            "sinceTime=2026-01-02T03:04:05Z", {"sinceTime": "2026-01-02T03:04:05Z"}, id="a time"
        ),
        pytest.param(
            "sinceTime=2026-01-02T03:04:05.123456789%2B02:00",
            {"sinceTime": "2026-01-02T03:04:05.123456789+02:00"},
            id="a time with everything",
        ),
        pytest.param("tail=5", {"tailLines": "5"}, id="the old name"),
        pytest.param("tail=all&tailLines=5", {}, id="the old word"),
        pytest.param("stream=All&tailLines=5", {"tailLines": "5"}, id="both streams"),
        pytest.param("stream=Stderr", {"stream": "Stderr"}, id="one stream"),
        pytest.param("insecureSkipTLSVerifyBackend=true&container=other&x=y", {}, id="not ours"),
    ],
)
def test_options_are_those_of_a_kubelet(query: str, asked: dict[str, str]) -> None:
    assert options(query) == asked


@pytest.mark.parametrize(
    ("query", "status"),
    [
        pytest.param("tailLines=many", 400, id="no number"),
        pytest.param("tailLines=", 400, id="an empty number"),
        pytest.param("tailLines=9223372036854775808", 400, id="too large a number"),
        pytest.param("tailLines=%D9%A1", 400, id="a digit of another script"),
        pytest.param("tail=few", 400, id="no number by the old name"),
        pytest.param("sinceTime=yesterday", 400, id="no time"),
        pytest.param("sinceTime=2026-02-30T00:00:00Z", 400, id="a day that never was"),
        pytest.param("sinceTime=2026-01-02", 400, id="a day"),
        pytest.param("tailLines=-1", 422, id="fewer than no lines"),
        pytest.param("limitBytes=0", 422, id="no bytes"),
        pytest.param("sinceSeconds=0", 422, id="no seconds"),
        pytest.param("sinceSeconds=5&sinceTime=2026-01-02T03:04:05Z", 422, id="two beginnings"),
        pytest.param("stream=stdout", 422, id="no such stream"),
        pytest.param("stream=Stdout&tailLines=5", 422, id="the tail of one stream"),
    ],
)
def test_bad_options_are_refused_as_by_a_kubelet(query: str, status: int) -> None:
    with pytest.raises(Refusal) as raised:
        options(query)
    assert raised.value.response.status == status


async def test_logs_come_as_they_are_written_and_end_when_they_end(tmp_path: Path) -> None:
    heads: list[str] = []
    more = asyncio.Event()

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        await peer.send(OK + b"6\r\nfirst\n\r\n")
        await more.wait()
        await peer.send(b"7\r\nsecond\n\r\n0\r\n\r\n")

    async with stage.playing(tmp_path, script=script) as all_:
        caller = await all_.call()
        await caller.ask(f"{LOGS}?follow=true&tailLines=7")
        assert "200" in await caller.head()
        assert await caller.reader.readexactly(11) == b"6\r\nfirst\n\r\n"
        more.set()
        assert await caller.reader.readexactly(17) == b"7\r\nsecond\n\r\n0\r\n\r\n"
        await caller.ask("GET /healthz")  # the connection can be used again
        assert (await caller.answer())[0] == 200
    first = heads[0].split("\r\n")[0]
    assert first == f"GET {POD}/log?container=main&follow=true&tailLines=7 HTTP/1.1"
    assert stage.TOKEN in heads[0]


async def test_logs_that_break_off_are_seen_to_break_off(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(OK + b"6\r\nfirst\n\r\n")
        await asyncio.sleep(0.1)
        peer.cut()

    async with stage.playing(tmp_path, script=script) as all_:
        caller = await all_.call()
        await caller.ask(LOGS)
        assert "200" in await caller.head()
        assert await caller.rest() == b"6\r\nfirst\n\r\n"  # without the chunk that ends it


async def test_when_the_caller_leaves_silent_logs_are_not_followed_any_more(
    tmp_path: Path,
) -> None:
    ended = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(OK)
        await peer.rest()
        ended.set()

    async with stage.playing(tmp_path, script=script) as all_:
        caller = await all_.call()
        await caller.ask(f"{LOGS}?follow=true")
        assert "200" in await caller.head()
        caller.writer.close()
        async with asyncio.timeout(5):
            await ended.wait()


async def test_logs_before_a_first_answer_are_left_as_well(tmp_path: Path) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        asked.set()
        await peer.rest()
        ended.set()

    async with stage.playing(tmp_path, script=script) as all_:
        caller = await all_.call()
        await caller.ask(f"{LOGS}?follow=true")
        await asked.wait()
        caller.writer.close()
        async with asyncio.timeout(5):
            await ended.wait()


async def test_a_caller_who_reads_slowly_slows_the_server_abroad(tmp_path: Path) -> None:
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.head()
        await peer.send(OK)
        while True:
            await peer.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")
            sent += 0x10000

    async with stage.playing(tmp_path, script=script) as all_:
        caller = await all_.call()
        await caller.ask(LOGS)
        assert "200" in await caller.head()
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.3)
        assert 0 < sent < 64 << 20


async def test_the_foreign_server_s_reason_is_told_in_a_kubelet_s_words(tmp_path: Path) -> None:
    says = 'container \\"main\\" in pod \\"web\\" is waiting to start: ContainerCreating'
    body = f'{{"kind":"Status","code":400,"message":"{says}"}}'.encode()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 400 X\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async with stage.playing(tmp_path, script=script) as all_:
        caller = await all_.call()
        await caller.ask(LOGS)
        status, _, told = await caller.answer()
        assert (status, told.decode()) == (400, says.replace("\\", ""))
        await caller.ask("GET /healthz")
        assert (await caller.answer())[0] == 200


async def test_right_after_a_start_what_is_not_known_is_to_be_asked_for_again(
    tmp_path: Path,
) -> None:
    async with stage.playing(tmp_path, unsettled=lambda key: key.name == "other") as all_:
        caller = await all_.call()
        await caller.ask("GET /containerLogs/shop/other/main")
        status, headers, body = await caller.answer()
        assert (status, headers["retry-after"]) == (503, "1")
        assert b"does not know this pod yet" in body
        await caller.ask("GET /containerLogs/shop/another/main")
        assert (await caller.answer())[0] == 404


async def test_a_pod_without_mirror_is_answered_here(tmp_path: Path) -> None:
    async with stage.playing(tmp_path) as all_:
        home, _ = stage.pods("new", recorded=False)
        all_.store.home.put(home)
        caller = await all_.call()
        await caller.ask("GET /containerLogs/shop/new/main")
        status, _, body = await caller.answer()
        assert (status, body) == (
            400,
            b'container "main" in pod "new" is waiting to start: ContainerCreating',
        )
        await caller.ask("GET /containerLogs/shop/other/main")
        assert (await caller.answer())[::2] == (404, b'pod "other" does not exist')
