"""The supervisor of Kopf: what ends Kopf does not end the watch, and a stop always ends it."""

import asyncio
import getpass
import threading
from collections.abc import AsyncIterator
from typing import Any

import kopf
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from clusters import processes
from farlet.home import kopf_thread


@pytest.fixture
async def server() -> AsyncIterator[str]:
    """An API server without any resource. Kopf would retry for seconds if it reached none."""

    async def list_nothing(request: web.Request) -> web.Response:
        return web.json_response({"versions": []} if request.path == "/api" else {"groups": []})

    app = web.Application()
    app.router.add_get("/{path:.*}", list_nothing)
    async with TestServer(app) as server:
        yield f"http://127.0.0.1:{server.port}"


def registry(server: str, *, started: threading.Event, failing: bool) -> kopf.OperatorRegistry:
    """Handlers that watch nothing."""
    made = kopf.OperatorRegistry()

    @kopf.on.startup(registry=made)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.scanning.disabled = True
        settings.posting.enabled = False
        settings.networking.error_backoffs = []  # a stop would wait for retries of a scan
        started.set()
        if failing:
            raise kopf.PermanentError("made up by a test")

    @kopf.on.login(registry=made)
    async def log_in(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(server=server)

    return made


# Kopf makes coroutines for all its tasks before it starts them, and a start that fails drops them.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_kopf_is_restarted_after_it_has_failed(server: str) -> None:
    restarted, started = threading.Event(), threading.Event()
    thread = kopf_thread.KopfThread(registry(server, started=started, failing=True))
    thread.start(on_restart=restarted.set)
    try:
        assert await asyncio.to_thread(restarted.wait, 10)
        assert thread.alive
        assert thread.problem is not None
        assert "handlers failed" in thread.problem
    finally:
        await thread.stop()
    assert not thread.alive


async def test_kopf_starts_anew_on_request(server: str) -> None:
    restarted, started = threading.Event(), threading.Event()
    thread = kopf_thread.KopfThread(registry(server, started=started, failing=False))
    thread.restart()
    thread.start(on_restart=restarted.set)
    try:
        assert await asyncio.to_thread(started.wait, 10)
        started.clear()
        thread.restart()
        assert await asyncio.to_thread(restarted.wait, 10)
        assert await asyncio.to_thread(started.wait, 10)
        assert thread.alive
    finally:
        await thread.stop()
    assert not thread.alive


async def test_the_problem_ends_when_kopf_has_run_for_some_seconds(
    server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kopf_thread, "SETTLED_SECONDS", 0.0)
    thread = kopf_thread.KopfThread(registry(server, started=threading.Event(), failing=False))
    thread.problem = "of the life before"
    thread.start(on_restart=lambda: None)
    try:
        await asyncio.to_thread(
            processes.wait_for, "Kopf to settle", lambda: thread.problem is None, seconds=10
        )
    finally:
        await thread.stop()


async def test_a_watch_that_kopf_leaves_open_at_its_end_is_not_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened = threading.Event()

    async def watch() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise RuntimeError("generator didn't stop after athrow()")

    async def operator(*, stop_flag: asyncio.Event, **_: Any) -> None:
        watches.append(watch())
        await anext(watches[0])
        opened.set()
        await stop_flag.wait()

    watches: list[AsyncIterator[int]] = []
    monkeypatch.setattr(kopf, "operator", operator)
    thread = kopf_thread.KopfThread(kopf.OperatorRegistry())
    thread.start(on_restart=lambda: None)
    assert await asyncio.to_thread(opened.wait, 10)
    await thread.stop()
    assert not thread.alive
    assert caplog.records == []


async def test_kopf_starts_for_a_user_without_a_name(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container may run as any number; `getpass.getuser` finds no name for it."""

    def nameless() -> str:
        raise OSError("No username set in the environment")

    monkeypatch.setattr(getpass, "getuser", nameless)
    started = threading.Event()
    thread = kopf_thread.KopfThread(registry(server, started=started, failing=False))
    thread.start(on_restart=lambda: None)
    try:
        assert await asyncio.to_thread(started.wait, 10)
        assert thread.problem is None
    finally:
        await thread.stop()


@pytest.mark.parametrize("wait", [pytest.param(True, id="runs"), pytest.param(False, id="starts")])
async def test_a_stop_ends_kopf_while_it(server: str, wait: bool) -> None:
    restarted, started = threading.Event(), threading.Event()
    thread = kopf_thread.KopfThread(registry(server, started=started, failing=False))
    thread.start(on_restart=restarted.set)
    if wait:
        assert await asyncio.to_thread(started.wait, 10)
    await thread.stop()
    assert not thread.alive
    assert not restarted.is_set()
