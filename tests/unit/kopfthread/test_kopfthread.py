"""The supervisor of Kopf: what ends Kopf does not end the watch, and a stop always ends it."""

import asyncio
import threading
from typing import Any

import kopf
import pytest

from farlet import kopfthread


def registry(*, started: threading.Event, failing: bool) -> kopf.OperatorRegistry:
    """Handlers that need no API server: none watches anything."""
    made = kopf.OperatorRegistry()

    @kopf.on.startup(registry=made)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.scanning.disabled = True
        settings.posting.enabled = False
        started.set()
        if failing:
            raise kopf.PermanentError("made up by a test")

    @kopf.on.login(registry=made)
    async def log_in(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(server="https://127.0.0.1:1")

    return made


async def test_kopf_is_started_again_after_it_has_failed() -> None:
    restarted, started = threading.Event(), threading.Event()
    thread = kopfthread.KopfThread(
        registry(started=started, failing=True), on_restart=restarted.set
    )
    thread.start()
    try:
        assert await asyncio.to_thread(restarted.wait, 10)
        assert thread.alive
    finally:
        await thread.stop()
    assert not thread.alive


@pytest.mark.parametrize("wait", [pytest.param(True, id="runs"), pytest.param(False, id="starts")])
async def test_a_stop_ends_kopf_while_it(wait: bool) -> None:
    restarted, started = threading.Event(), threading.Event()
    thread = kopfthread.KopfThread(
        registry(started=started, failing=False), on_restart=restarted.set
    )
    thread.start()
    if wait:
        assert await asyncio.to_thread(started.wait, 10)
    await thread.stop()
    assert not thread.alive
    assert not restarted.is_set()
