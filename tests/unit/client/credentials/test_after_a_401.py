"""After a 401 the credentials are loaded once for all requests that got it, not for each."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from farlet import errors
from farlet.client import credentials
from farlet.client.credential_sources import ClusterSource
from unit.client.credentials.scene import PATH, Clock, takes_only
from unit.reconcile import apiserver
from unit.reconcile.apiserver import status

WATCH = "/api/v1/pods?resourceVersion=7"


async def test_all_requests_that_met_a_401_at_the_same_time_are_retried(
    tmp_path: Path, clock: Clock
) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        apiserver.kubeconfig(tmp_path / "kubeconfig", front.url, token="second")
        clock.late += credentials.RELOAD_SECONDS
        front.answer = takes_only("second", together=10)
        answers = await asyncio.gather(*(cluster.call("GET", PATH) for _ in range(10)))
        assert [answer["kind"] for answer in answers] == ["Pod"] * 10
        assert len(front.asked) == 20


async def test_credentials_that_stay_invalid_are_not_loaded_for_each_request(
    tmp_path: Path, clock: Clock, loads: list[ClusterSource]
) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = status(401, "Unauthorized")
        loads.clear()
        clock.late += 60.0
        for _ in range(10):
            with pytest.raises(errors.ApiError, match="401"):
                await cluster.call("GET", PATH)
        assert len(loads) == 1


async def test_credentials_that_are_refused_and_deleted_leave_the_401(
    tmp_path: Path, clock: Clock
) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = status(401, "Unauthorized")
        (tmp_path / "kubeconfig").unlink()
        clock.late += 60.0
        with pytest.raises(errors.ApiError, match="401"):
            await cluster.call("GET", PATH)


async def test_a_new_token_alone_keeps_connections(tmp_path: Path, clock: Clock) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        await cluster.call("GET", PATH)
        apiserver.kubeconfig(tmp_path / "kubeconfig", front.url, token="second")
        clock.late += credentials.RELOAD_SECONDS
        front.answer = takes_only("second")
        await cluster.call("GET", PATH)
        assert len(front.asked) == 3
        assert len(front.peers) == 1


async def test_a_watch_continues_when_other_requests_load_a_new_token(
    tmp_path: Path, clock: Clock
) -> None:
    opened, ends = asyncio.Event(), asyncio.Event()
    only = takes_only("second")

    async def answer(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return await only(request)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await ends.wait()
        await response.write(b'{"type":"ADDED","object":{"kind":"Pod"}}\n')
        return response

    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = answer

        async def follow() -> list[str]:
            return [event.kind async for event in cluster.watch_path(WATCH, opened=opened.set)]

        watching = asyncio.create_task(follow())
        await opened.wait()
        apiserver.kubeconfig(tmp_path / "kubeconfig", front.url, token="second")
        clock.late += credentials.RELOAD_SECONDS
        await cluster.call("GET", PATH)
        ends.set()
        async with asyncio.timeout(10):
            assert await watching == ["ADDED"]


async def test_a_watch_ends_when_the_kubeconfig_leads_to_another_server(
    tmp_path: Path, clock: Clock
) -> None:
    opened = asyncio.Event()

    async def hangs(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await asyncio.sleep(60)
        return response

    async with apiserver.connected(tmp_path) as (front, cluster), apiserver.listening() as other:
        front.answer = hangs

        async def follow() -> None:
            async for _ in cluster.watch_path(WATCH, opened=opened.set):
                pass

        watching = asyncio.create_task(follow())
        await opened.wait()
        apiserver.kubeconfig(tmp_path / "kubeconfig", other.url)
        clock.late += credentials.CHECK_SECONDS
        await cluster.call("GET", PATH)
        assert len(other.asked) == 1
        with pytest.raises(errors.Unreachable):
            async with asyncio.timeout(10):
                await watching
