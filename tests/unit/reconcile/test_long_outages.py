"""A watch that cannot be opened for hours, and one that is always too old."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

import structlog.testing

from farlet import errors
from farlet.client import reflector, resources
from farlet.client.decode import WatchEvent
from farlet.constants import JSON
from unit import faketime
from unit.fakeclient import FakeClient

HOUR = 3600.0


def _silent(cause: str = "connection refused") -> errors.FarletError:
    return errors.Unreachable(cluster="foreign", request="GET", cause=cause)


def _gone() -> errors.FarletError:
    return errors.Gone(
        cluster="foreign", request="WATCH", code=410, status_reason="Expired", message="too old"
    )


class _Server(FakeClient):
    """Fails as the test decides; otherwise its lists are empty and its watches show nothing."""

    def __init__(self) -> None:
        self.failing: errors.FarletError | None = None
        self.watch_failing: errors.FarletError | None = None
        self.opens = False
        """Watches are accepted before they fail."""
        self.lists: list[float] = []
        self.watches: list[float] = []

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = "",
        accept: str | None = None,
    ) -> JSON:
        self.lists.append(asyncio.get_running_loop().time())
        if self.failing is not None:
            raise self.failing
        return {"metadata": {"resourceVersion": "7"}, "items": [], "kind": accept or "List"}

    async def watch_path(
        self,
        path: str,
        *,
        accept: str | None = None,
        bookmarks: bool = True,
        opened: Callable[[], None],
    ) -> AsyncIterator[WatchEvent[JSON]]:
        self.watches.append(asyncio.get_running_loop().time())
        if self.opens:
            opened()
        if self.watch_failing is not None:
            raise self.watch_failing
        opened()
        await asyncio.sleep(HOUR)
        yield WatchEvent("BOOKMARK", {"kind": accept, "metadata": {"resourceVersion": "8"}})


class _Sink:
    def replaced(self, objects: Sequence[JSON], version: int) -> None:
        """Nothing is ever there."""

    def changed(self, kind: str, obj: JSON) -> None:
        """Nothing ever happens."""


class _Scene:
    def __init__(self) -> None:
        self.server = _Server()
        self.reflector = reflector.Reflector(
            self.server, resources.SERVICES, _Sink(), on_state=lambda: None
        )

    async def follow(self, *acts: tuple[float, Callable[[], None]]) -> None:
        """Run it; after each number of seconds, do the next step."""
        task = asyncio.create_task(self.reflector.run())
        for seconds, act in acts:
            await asyncio.sleep(seconds)
            assert not task.done(), task
            act()
        task.cancel()


def _nothing() -> None:
    """Only time passes."""


def test_a_watch_comes_back_after_more_than_a_thousand_failures() -> None:
    scene = _Scene()
    scene.server.failing = _silent()

    def cure() -> None:
        assert len(scene.server.lists) > 1100, "the story is too short"
        scene.server.failing = None

    faketime.run(scene.follow((6 * HOUR, cure), (20.0, _nothing)))
    assert scene.reflector.in_sync
    assert scene.reflector.error is None


def test_the_backoff_is_new_once_a_watch_was_opened_and_not_before() -> None:
    scene = _Scene()
    scene.server.watch_failing = _silent()

    def opens() -> None:
        assert scene.server.watches[-1] - scene.server.watches[-2] > 10.0, (
            "a list that is answered does not make the pause short"
        )
        scene.server.opens = True
        scene.server.watches.clear()

    faketime.run(scene.follow((100.0, opens), (30.0, _nothing)))
    pauses = [b - a for a, b in zip(scene.server.watches, scene.server.watches[1:], strict=False)]
    assert pauses
    assert max(pauses) <= 1.0


def test_a_cause_is_logged_once_and_another_one_once_more() -> None:
    scene = _Scene()
    scene.server.failing = _silent("connection refused")

    def change() -> None:
        scene.server.failing = _silent("timed out")

    with structlog.testing.capture_logs() as logs:
        faketime.run(scene.follow((HOUR, change), (HOUR, _nothing)))
    levels = Counter(
        (entry["log_level"], entry["err"].rpartition(": ")[2])
        for entry in logs
        if entry["event"] == "watch lost"
    )
    assert levels["warning", "connection refused"] == 1
    assert levels["warning", "timed out"] == 1
    assert levels["debug", "connection refused"] > 100


def test_a_watch_that_answers_410_each_time_is_retried_with_pauses() -> None:
    scene = _Scene()
    scene.server.watch_failing = _gone()
    faketime.run(scene.follow((60.0, _nothing)))
    assert 10 < len(scene.server.lists) <= 61


def test_a_list_that_answers_410_each_time_is_retried_with_pauses() -> None:
    scene = _Scene()
    scene.server.failing = _gone()
    faketime.run(scene.follow((60.0, _nothing)))
    assert 10 < len(scene.server.lists) <= 61
