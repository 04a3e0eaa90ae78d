"""A reflector against a scripted API server, in a loop whose clock jumps."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from farlet import errors
from farlet.client import api_client, reflector, resources
from farlet.client.decode import WatchEvent
from farlet.constants import JSON, ObjectKey
from unit import faketime
from unit.fakeclient import FakeClient

PODS = resources.Resource[JSON]("", "v1", "pods")
PATH = PODS.path("default-h")


def _api(kind: type[errors.ApiError], code: int) -> errors.ApiError:
    return kind(cluster="foreign", request="GET", code=code, status_reason="", message="no")


def _silent() -> errors.Unreachable:
    return errors.Unreachable(cluster="foreign", request="GET", cause="reset")


def _throttled(seconds: float) -> errors.Throttled:
    err = _api(errors.Throttled, 429)
    assert isinstance(err, errors.Throttled)
    err.retry_after = seconds
    return err


def _pod(name: str, version: int) -> JSON:
    metadata = {"name": name, "namespace": "shop", "uid": name, "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": {}}


def _list(version: int, *names: str, more: str = "") -> JSON:
    metadata = {"resourceVersion": str(version), "continue": more}
    return {"metadata": metadata, "items": [_pod(name, version) for name in names]}


class Watch:
    """One watch request: its events, how it ends, and after how many seconds."""

    def __init__(
        self,
        *events: tuple[str, str, int],
        ends: errors.FarletError | None = None,
        lasts: float = 100.0,
        opens: bool = True,
        moved: bool = False,
    ) -> None:
        """`moved`: another server has it than the one before."""
        self.events = events
        self.moved = moved
        self.ends = ends
        self.lasts = lasts
        self.opens = opens


class Server(FakeClient):
    """Answers in the order of its script, then hangs; records requests and their times."""

    def __init__(self, *script: JSON | errors.FarletError | Watch) -> None:
        self._script = list(script)
        self.requests: list[str] = []
        self.at: list[float] = []
        self.accepted: list[str | None] = []
        self.servers = 1

    @property
    def connection(self) -> object:
        return self.servers

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = "",
        accept: str | None = None,
    ) -> JSON:
        answer = await self._next(f"{method} {path}", accept)
        assert not isinstance(answer, Watch), "a list was requested, not a watch"
        return answer

    async def watch_path(
        self,
        path: str,
        *,
        accept: str | None = None,
        bookmarks: bool = True,
        opened: Callable[[], None],
    ) -> AsyncIterator[WatchEvent[JSON]]:
        answer = await self._next(f"WATCH {path}", accept)
        assert isinstance(answer, Watch), "a watch was requested, not a list"
        self.servers += answer.moved
        if answer.opens:
            opened()
        for kind, name, version in answer.events:
            yield WatchEvent(kind, _pod(name, version))
        await asyncio.sleep(answer.lasts)
        if answer.ends is not None:
            raise answer.ends

    async def _next(self, request: str, accept: str | None) -> JSON | Watch:
        self.requests.append(request.replace(PATH, ""))
        self.at.append(round(asyncio.get_running_loop().time(), 3))
        self.accepted.append(accept)
        if not self._script:
            await asyncio.sleep(10**9)
        answer = self._script.pop(0)
        if isinstance(answer, errors.FarletError):
            raise answer
        return answer


class Calls:
    """A handler that records its calls."""

    def __init__(self) -> None:
        self.lists: list[tuple[list[str], int]] = []
        self.objects: list[Any] = []
        """Of the last list."""
        self.events: list[tuple[str, str]] = []

    def replaced(self, objects: Sequence[Any], version: int) -> None:
        self.objects = list(objects)
        self.lists.append(([obj["metadata"]["name"] for obj in objects], version))

    def changed(self, kind: str, obj: Any) -> None:
        self.events.append((kind, obj["metadata"]["name"]))


async def _nothing() -> None:
    pass


class Harness:
    """A reflector that has run for some time."""

    def __init__(
        self,
        server: Server,
        *,
        selector: str = "",
        metadata_only: bool = False,
        in_pages: bool = False,
        trims: bool = False,
        denied_seconds: float = 0.0,
    ) -> None:
        """`trims`: only the metadata of listed objects is kept."""
        self.server = server
        self.calls = Calls()
        self.states: list[tuple[bool, bool]] = []
        self.rewound = 0
        self.untrimmable = ""
        """The name of an object whose trimming fails."""
        self.invalid: list[ObjectKey] = []
        pods: resources.Resource[Any] = PODS.metadata_only if metadata_only else PODS
        self.reflector = reflector.Reflector(
            server,
            pods,
            self.calls,
            on_rewound=self._note_rewound,
            on_state=lambda: self.states.append((self.reflector.in_sync, self.healthy)),
            label_selector=selector,
            namespace="default-h",
            on_listed=self._note_listed if in_pages else None,
            trimmed=self._note_trimmed if trims else None,
            on_invalid=self.invalid.append,
            denied_seconds=denied_seconds,
        )
        self.listed: list[tuple[str, int]] = []
        """Each object that was listed or trimmed, and after how many requests."""

    def _note_listed(self, obj: JSON) -> None:
        self.listed.append((obj["metadata"]["name"], len(self.server.requests)))

    def _note_trimmed(self, obj: JSON) -> JSON:
        if obj["metadata"]["name"] == self.untrimmable:
            raise TypeError
        self._note_listed(obj)
        return {"metadata": obj["metadata"]}

    @property
    def healthy(self) -> bool:
        return self.reflector.error is None

    def _note_rewound(self) -> None:
        self.rewound += 1

    def after(self, seconds: float, beside: Callable[[], Awaitable[None]] = _nothing) -> Harness:
        async def story() -> None:
            task = asyncio.create_task(self.reflector.run())
            await beside()
            await asyncio.sleep(seconds)
            assert not task.done(), task
            task.cancel()

        faketime.run(story())
        return self


@pytest.fixture(autouse=True)
def _no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)


def test_it_lists_then_watches_from_that_version() -> None:
    scene = Harness(Server(_list(7, "a", "b"), Watch(("ADDED", "c", 8)))).after(50)
    assert scene.server.requests == ["GET ?limit=500", "WATCH ?resourceVersion=7"]
    assert scene.calls.lists == [(["a", "b"], 7)]
    assert scene.calls.events == [("ADDED", "c")]
    assert scene.reflector.in_sync
    assert scene.states == [(True, True)]


def test_the_handler_gets_objects_without_their_nulls() -> None:
    metadata = {"name": "a", "namespace": "shop", "uid": "a", "resourceVersion": "7"}
    listed = _list(7)
    listed["items"] = [{"metadata": {**metadata, "labels": None, "annotations": None}}]
    scene = Harness(Server(listed, Watch()), metadata_only=True).after(50)
    assert scene.calls.objects == [{"metadata": metadata}]
    assert scene.invalid == []


def test_an_answer_has_no_nulls() -> None:
    metadata = {"name": "a", "namespace": "shop", "uid": "a", "resourceVersion": "7"}
    listed = _list(7)
    listed["items"] = [{"metadata": {**metadata, "labels": None, "annotations": None}}]
    found: list[Any] = []

    async def story() -> None:
        found.append(await Server(listed).list_all(PODS.metadata_only))

    faketime.run(story())
    assert found == [([{"metadata": metadata}], "7")]


def test_pages_are_one_list() -> None:
    pages = (_list(7, "a", more="next/page"), _list(7, "b", more="last"), _list(7, "c"))
    scene = Harness(Server(*pages, Watch())).after(50)
    assert scene.server.requests == [
        "GET ?limit=500",
        "GET ?limit=500&continue=next/page",
        "GET ?limit=500&continue=last",
        "WATCH ?resourceVersion=7",
    ]
    assert scene.calls.lists == [(["a", "b", "c"], 7)]


def test_objects_are_handled_page_by_page_where_none_is_kept() -> None:
    pages = (_list(7, "a", more="next"), _list(7, "b", "c"))
    scene = Harness(Server(*pages, Watch(("ADDED", "d", 8))), in_pages=True).after(50)
    assert scene.listed == [("a", 1), ("b", 2), ("c", 2)]
    assert scene.calls.lists == [([], 7)]
    assert scene.calls.events == [("ADDED", "d")]
    assert scene.reflector.in_sync


@pytest.mark.parametrize("in_pages", [True, False])
def test_other_tasks_run_between_the_objects_of_a_list(
    in_pages: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Lease is renewed in the same loop, and a page can have objects of a megabyte."""
    monkeypatch.setattr(api_client, "TURN_SECONDS", -1.0)
    scene = Harness(Server(_list(7, "a", "b", "c"), Watch()), in_pages=in_pages, trims=not in_pages)
    seen: set[int] = set()

    async def beside() -> None:
        while not scene.calls.lists:
            seen.add(len(scene.listed))
            await asyncio.sleep(0)

    scene.after(50, beside)
    assert seen >= {1, 2}


def test_only_what_is_needed_of_each_page_is_kept() -> None:
    pages = (_list(7, "a", more="next"), _list(7, "b"))
    scene = Harness(Server(*pages, Watch()), trims=True).after(50)
    assert scene.listed == [("a", 1), ("b", 2)]
    assert scene.calls.lists == [(["a", "b"], 7)]
    assert [list(obj) for obj in scene.calls.objects] == [["metadata"], ["metadata"]]


def test_an_object_of_a_list_that_cannot_be_trimmed_concerns_no_other() -> None:
    server = Server(_list(7, "a", "b"), Watch())
    scene = Harness(server, trims=True)
    scene.untrimmable = "a"
    scene.after(50)
    assert scene.calls.lists == [(["b"], 7)]
    assert scene.invalid == [ObjectKey("default-h", "a")]
    assert scene.reflector.in_sync


@pytest.mark.parametrize(
    ("err", "seconds"),
    [
        pytest.param(_api(errors.Forbidden, 403), 300.0, id="a denial"),
        pytest.param(_silent(), 1.0, id="no answer"),
    ],
)
def test_a_permission_that_is_not_required_is_asked_for_rarely(
    err: errors.FarletError, seconds: float
) -> None:
    server = Server(err, _list(7), Watch())
    Harness(server, denied_seconds=300.0).after(400)
    assert server.at[1] == seconds


def test_list_and_watch_have_the_selector_and_the_form() -> None:
    server = Server(_list(7), Watch())
    Harness(server, selector="farlet.io/virtual-node-id=me", metadata_only=True).after(50)
    assert all(
        "labelSelector=farlet.io/virtual-node-id%3Dme" in request for request in server.requests
    )
    assert server.accepted == [resources.METADATA_LIST, resources.METADATA]


def test_a_watch_that_ends_continues_at_its_version() -> None:
    first = Watch(("MODIFIED", "a", 8), ("BOOKMARK", "", 20))
    scene = Harness(Server(_list(7, "a"), first, Watch())).after(150)
    assert scene.server.requests[-1] == "WATCH ?resourceVersion=20"
    assert scene.calls.events == [("MODIFIED", "a")], "a bookmark is not an event"
    assert scene.states == [(True, True)], "the end of a watch is not a loss"


def test_watches_that_end_at_once_are_retried_with_pauses() -> None:
    server = Server(_list(7), *[Watch(lasts=0.0)] * 50)
    Harness(server).after(20)
    assert len(server.requests) < 25


def test_too_old_a_version_is_listed_again() -> None:
    gone = Watch(ends=_api(errors.Gone, 410), lasts=10.0)
    scene = Harness(Server(_list(7, "a"), gone, _list(30), Watch())).after(60)
    assert scene.server.requests[2:] == ["GET ?limit=500", "WATCH ?resourceVersion=30"]
    assert scene.calls.lists == [(["a"], 7), ([], 30)]
    assert scene.reflector.in_sync


def test_a_list_that_grows_too_old_between_pages_starts_over() -> None:
    script = (_list(7, "a", more="x"), _api(errors.Gone, 410), _list(9, "b"), Watch())
    scene = Harness(Server(*script)).after(50)
    assert scene.calls.lists == [(["b"], 9)]


@pytest.mark.parametrize(
    ("ends", "then"),
    [
        (_silent(), "GET ?limit=1"),
        (_api(errors.Forbidden, 403), "GET ?limit=500"),
        (_api(errors.Unauthorized, 401), "GET ?limit=500"),
    ],
    ids=[
        "after a broken connection it reads the version and watches on",
        "after a lost right it lists again",
        "after lost credentials it lists again",
    ],
)
def test_a_lost_watch(ends: errors.FarletError, then: str) -> None:
    again: list[JSON | Watch] = [_list(8), Watch()]
    server = Server(_list(7), Watch(("BOOKMARK", "", 8)), Watch(ends=ends), *again)
    scene = Harness(server).after(290)
    assert then == scene.server.requests[3]
    assert scene.states == [(True, True), (False, False), (True, True)]


def test_a_watch_of_another_server_than_that_of_the_list_ends() -> None:
    script = (_list(7, "a"), Watch(moved=True), _list(3, "b"), Watch(lasts=1e6))
    scene = Harness(Server(*script)).after(10)
    assert scene.server.requests == [
        "GET ?limit=500",
        "WATCH ?resourceVersion=7",
        "GET ?limit=500",
        "WATCH ?resourceVersion=3",
    ]
    assert scene.calls.lists == [(["a"], 7), (["b"], 3)]
    assert scene.states == [(True, True)]


def test_the_version_of_a_broken_watch_is_not_sent_to_another_server() -> None:
    moves = Watch(ends=_silent(), lasts=5.0)
    server = Server(_list(7, "a"), moves, _list(9, "b"), Watch(lasts=1e6))

    async def move() -> None:
        await asyncio.sleep(2.0)
        server.servers += 1

    scene = Harness(server)
    scene.after(50, move)
    assert server.requests[2:] == ["GET ?limit=500", "WATCH ?resourceVersion=9"]


RESTORED: dict[str, tuple[list[JSON | errors.FarletError | Watch], list[str]]] = {
    "the version of a broken watch is ahead": (
        [
            Watch(("BOOKMARK", "", 40)),
            Watch(ends=_silent(), lasts=5.0),
            _list(9),
            _list(10, "a"),
            Watch(lasts=1e6),
        ],
        [
            "WATCH ?resourceVersion=40",
            "GET ?limit=1",
            "GET ?limit=500",
            "WATCH ?resourceVersion=10",
        ],
    ),
    "the version of an event before the break is ahead": (
        [
            Watch(("ADDED", "b", 40), ends=_silent(), lasts=5.0),
            _list(9),
            _list(10, "a"),
            Watch(lasts=1e6),
        ],
        ["GET ?limit=1", "GET ?limit=500", "WATCH ?resourceVersion=10"],
    ),
    "the next list has an earlier version": (
        [
            Watch(("ADDED", "b", 40), ends=_api(errors.Gone, 410), lasts=5.0),
            _list(10, "a"),
            Watch(lasts=1e6),
        ],
        ["GET ?limit=500", "WATCH ?resourceVersion=10"],
    ),
    "the server is not reachable at first": (
        [
            Watch(("ADDED", "b", 40), ends=_silent(), lasts=5.0),
            _silent(),
            _list(10, "a"),
            Watch(lasts=1e6),
        ],
        ["GET ?limit=1", "GET ?limit=500", "WATCH ?resourceVersion=10"],
    ),
}


@pytest.mark.parametrize(("script", "then"), RESTORED.values(), ids=RESTORED)
def test_after_a_restore_it_lists_again_where(
    script: list[JSON | errors.FarletError | Watch], then: list[str]
) -> None:
    scene = Harness(Server(_list(7), *script)).after(290)
    assert scene.server.requests[2:] == then
    assert scene.calls.lists[1:] == [(["a"], 10)]
    assert scene.rewound == 1
    assert scene.reflector.in_sync


def test_until_the_list_after_a_restore_nothing_is_complete() -> None:
    ahead = Watch(("ADDED", "b", 40), ends=_silent(), lasts=5.0)
    scene = Harness(Server(_list(7), ahead, _list(9), *[_silent()] * 99)).after(60)
    assert not scene.reflector.in_sync
    assert not scene.reflector.has_synced


def test_a_list_of_a_later_version_is_no_sign_of_a_restore() -> None:
    lost = Watch(("ADDED", "b", 40), ends=_silent(), lasts=5.0)
    scene = Harness(Server(_list(7), lost, _list(40), Watch(("ADDED", "c", 41)))).after(60)
    assert scene.server.requests[-1] == "WATCH ?resourceVersion=7"
    assert scene.rewound == 0


def test_while_it_cannot_watch_nothing_is_complete() -> None:
    failed: list[JSON | Watch] = [Watch(ends=_silent(), lasts=0.0, opens=False), _list(7)]
    scene = Harness(Server(_list(7), *failed * 50))
    scene.after(30)
    assert scene.reflector.has_synced
    assert not scene.reflector.in_sync
    assert isinstance(scene.reflector.error, errors.Unreachable)


def test_a_list_alone_is_not_complete() -> None:
    scene = Harness(Server(_list(7))).after(30)
    assert scene.reflector.has_synced
    assert not scene.reflector.in_sync


def test_failures_back_off_to_a_limit() -> None:
    server = Server(*[_silent()] * 9)
    Harness(server).after(100)
    waits = [b - a for a, b in zip(server.at, server.at[1:], strict=False)]
    assert waits == [1, 2, 4, 8, 15, 15, 15, 15, 15]


def test_a_watch_that_was_accepted_starts_the_backoff_anew() -> None:
    lost = Watch(ends=_silent(), lasts=5.0)
    server = Server(_silent(), _silent(), _list(7), lost, _list(7), Watch())
    Harness(server).after(60)
    assert server.at == [0, 1, 3, 3, 9, 9]


def test_a_throttled_request_waits_for_its_time() -> None:
    server = Server(_throttled(40.0), _list(7), Watch())
    Harness(server).after(60)
    assert server.at[:2] == [0, 40]
