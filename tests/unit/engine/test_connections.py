"""What a connection makes of answers: an API server's, and those of what stands before it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from farlet import clusters, errors
from farlet.endpoint import ClusterSource
from unit.engine import apiserver
from unit.engine.apiserver import HTML, Answer, other, status

PATH = "/api/v1/namespaces/default/pods/web"
WATCH = "/api/v1/pods?resourceVersion=7"


def _json(code: int, text: str) -> Answer:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text=text, content_type="application/json")

    return answer


STRANGERS: dict[str, Answer] = {
    "404 of a proxy": other(404, HTML),
    "404 without a body": other(404, ""),
    "404 in JSON of another kind": _json(404, '{"error": "no route"}'),
    "404 of a list": _json(404, "[]"),
    "403 of a proxy": other(403, HTML),
    "409 of a proxy": other(409, "conflict"),
    "410 of a proxy": other(410, HTML),
    "422 of a proxy": other(422, "{}"),
    "429 of a proxy": other(429, "too many"),
    "401 of a proxy": other(401, HTML),
    "200 of a login page": other(200, HTML),
    "200 without a body": other(200, ""),
    "200 without a kind": _json(200, '{"metadata": {}}'),
    "200 of a number": _json(200, "7"),
    "200 of a null": _json(200, "null"),
    "an object that is a word": _json(200, '{"object": "error"}'),
    "an object that is null": _json(404, '{"object": null}'),
    "204": other(204, ""),
    "302 to somewhere else": other(302, HTML, Location="about:blank"),
    "502 of a proxy": other(502, HTML),
    "a server on its way up": status(503),
    "a server that fails": status(500),
}


@pytest.mark.parametrize("answer", STRANGERS.values(), ids=STRANGERS)
async def test_nothing_is_known_after(answer: Answer, tmp_path: Path) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = answer
        with pytest.raises(errors.Unreachable):
            await cluster.call("GET", PATH)
        assert cluster.problem is not None


KINDS: dict[str, tuple[int, type[errors.ApiError]]] = {
    "404 is an absence": (404, errors.NotFound),
    "403 is a lack of rights": (403, errors.Forbidden),
    "409 is a lost race": (409, errors.Conflict),
    "410 is an old version": (410, errors.Gone),
    "422 is our mistake": (422, errors.Invalid),
    "429 is a full server": (429, errors.Throttled),
    "401 is a lack of credentials": (401, errors.ApiError),
}


@pytest.mark.parametrize(("code", "kind"), KINDS.values(), ids=KINDS)
async def test_of_an_api_server(code: int, kind: type[errors.ApiError], tmp_path: Path) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = status(code, "the reason")
        with pytest.raises(kind, match="the reason") as raised:
            await cluster.call("GET", PATH)
        assert type(raised.value) is kind
        assert cluster.problem is None, "it answers"


async def test_a_problem_is_over_with_the_next_answer(tmp_path: Path) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        assert cluster.problem is None
        front.answer = other(502, HTML)
        with pytest.raises(errors.Unreachable):
            await cluster.call("GET", PATH)
        front.answer = status(404)
        with pytest.raises(errors.NotFound):
            await cluster.call("GET", PATH)
        assert cluster.problem is None


async def _follow(cluster: clusters.Cluster, opened: Callable[[], None]) -> list[str]:
    return [event.kind async for event in cluster.watch(WATCH, opened=opened)]


@pytest.mark.parametrize("answer", STRANGERS.values(), ids=STRANGERS)
async def test_no_watch_stands_after(answer: Answer, tmp_path: Path) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = answer
        with pytest.raises(errors.Unreachable):
            await _follow(cluster, lambda: None)
        assert cluster.problem is not None


@pytest.mark.parametrize("answer", [other(200, HTML), other(200, "")], ids=["a page", "nothing"])
async def test_no_watch_was_ever_live_after(answer: Answer, tmp_path: Path) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = answer
        opened: list[bool] = []
        with pytest.raises(errors.Unreachable):
            await _follow(cluster, lambda: opened.append(True))
        assert opened == []


LINES: dict[str, tuple[str, type[errors.FarletError]]] = {
    "no JSON": ("<html>\n", errors.Unreachable),
    "JSON that is no event": ('{"kind": "Pod"}\n', errors.Unreachable),
    "an event of nothing": ('{"type": "ADDED", "object": null}\n', errors.Unreachable),
    "an event of a word": ('{"type": "ADDED", "object": "web"}\n', errors.Unreachable),
    "a number": ("7\n", errors.Unreachable),
    "half an event": ('{"type": "ADDED", "obj', errors.Unreachable),
    "an error without a code": ('{"type": "ERROR", "object": {}}\n', errors.Unreachable),
    "an error of the server": (
        '{"type": "ERROR", "object": {"kind": "Status", "code": 500}}\n',
        errors.Unreachable,
    ),
    "an error that the version is too old": (
        '{"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}\n',
        errors.Gone,
    ),
}


@pytest.mark.parametrize(("line", "kind"), LINES.values(), ids=LINES)
async def test_a_watch_ends_at(line: str, kind: type[errors.FarletError], tmp_path: Path) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = _json(200, line)
        with pytest.raises(kind):
            await _follow(cluster, lambda: None)


async def test_a_watch_shows_its_events_and_clears_the_problem(tmp_path: Path) -> None:
    async def answer(_request: web.Request) -> web.StreamResponse:
        lines = '{"type":"ADDED","object":{"kind":"Pod"}}\n{"type":"BOOKMARK","object":{}}\n'
        return web.Response(text=lines, content_type="application/json")

    async with apiserver.connected(tmp_path) as (front, cluster):
        cluster.problem = "an earlier one"
        front.answer = answer
        assert await _follow(cluster, lambda: None) == ["ADDED", "BOOKMARK"]
        assert cluster.problem is None


@pytest.mark.parametrize(
    ("said", "waited"),
    [
        pytest.param("3", 3.0, id="a few seconds are waited"),
        pytest.param("3600", 30.0, id="an hour is thirty seconds"),
        pytest.param("99999999999999999999", 30.0, id="for ever is thirty seconds"),
        pytest.param("Fri, 02 Jan 2026 03:04:05 GMT", 1.0, id="a date is one second"),
        pytest.param("-5", 1.0, id="a negative number is one second"),
    ],
)
@pytest.mark.parametrize("code", [429, 503])
async def test_retry_after(code: int, said: str, waited: float, tmp_path: Path) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = status(code, **{"Retry-After": said})
        with pytest.raises(errors.Throttled) as raised:
            await cluster.call("GET", PATH)
        assert raised.value.retry_after == waited


# --- credentials ------------------------------------------------------------------------------


class _Clock:
    """Stands where the room has `time`."""

    def __init__(self) -> None:
        self.late = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.late


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    made = _Clock()
    monkeypatch.setattr(clusters, "time", made)
    return made


def _only(token: str, *, together: int = 1) -> Answer:
    """Takes that token only; answers others once so many have come."""
    waiting: list[int] = []
    all_here = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.headers["Authorization"] == f"Bearer {token}":
            return await apiserver.ok(request)
        waiting.append(1)
        if len(waiting) >= together:
            all_here.set()
        await all_here.wait()
        return await status(401, "Unauthorized")(request)

    return answer


async def test_requests_that_met_a_401_at_the_same_time_are_all_asked_again(
    tmp_path: Path, clock: _Clock
) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        apiserver.kubeconfig(tmp_path / "kubeconfig", front.url, token="second")
        clock.late += 60.0
        front.answer = _only("second", together=10)
        answers = await asyncio.gather(*(cluster.call("GET", PATH) for _ in range(10)))
        assert [answer["kind"] for answer in answers] == ["Pod"] * 10
        assert len(front.asked) == 20


async def test_credentials_that_stay_wrong_are_not_loaded_at_each_request(
    tmp_path: Path, clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = status(401, "Unauthorized")
        loads: list[float] = []
        load = clusters.load

        async def counted(name: clusters.Name, source: ClusterSource) -> object:
            loads.append(clock.monotonic())
            return await load(name, source)

        monkeypatch.setattr(clusters, "load", counted)
        clock.late += 60.0
        for _ in range(10):
            with pytest.raises(errors.ApiError, match="401"):
                await cluster.call("GET", PATH)
        assert len(loads) == 1


async def test_a_new_token_alone_keeps_connections(tmp_path: Path, clock: _Clock) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        await cluster.call("GET", PATH)
        apiserver.kubeconfig(tmp_path / "kubeconfig", front.url, token="second")
        clock.late += 60.0
        front.answer = _only("second")
        await cluster.call("GET", PATH)
        assert len(front.asked) == 3
        assert len(front.peers) == 1


async def test_a_watch_lives_on_when_others_load_a_new_token(tmp_path: Path, clock: _Clock) -> None:
    opened, ends = asyncio.Event(), asyncio.Event()
    only = _only("second")

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

        watching = asyncio.create_task(_follow(cluster, opened.set))
        await opened.wait()
        apiserver.kubeconfig(tmp_path / "kubeconfig", front.url, token="second")
        clock.late += 60.0
        await cluster.call("GET", PATH)
        ends.set()
        async with asyncio.timeout(10):
            assert await watching == ["ADDED"]


BROKEN = {
    "no base64": {"certificate-authority-data": "%%%"},
    "no certificate": {"certificate-authority-data": "bm9uZQ=="},
    "an empty certificate": {
        "certificate-authority-data": (
            "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCi0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K"
        )
    },
    "a file that is not there": {"certificate-authority": "/nowhere/ca.crt"},
}


@pytest.mark.parametrize("cluster", BROKEN.values(), ids=BROKEN)
async def test_a_broken_ca_refuses_the_start(cluster: dict[str, str], tmp_path: Path) -> None:
    path = apiserver.kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1", **cluster)
    with pytest.raises(errors.StartError, match=r"foreign.*kubeconfig"):
        await apiserver.connection(path).load()
