"""How a connection reads answers of an API server, and of a proxy or load balancer before it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from farlet import errors
from farlet.client import cluster as clusters
from farlet.client import resources
from unit.reconcile import apiserver
from unit.reconcile.apiserver import HTML, Answer, other, status

PATH = "/api/v1/namespaces/default/pods/web"
WATCH = "/api/v1/pods?resourceVersion=7"


def _json(code: int, text: str) -> Answer:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text=text, content_type="application/json")

    return answer


NOT_KUBERNETES: dict[str, Answer] = {
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


@pytest.mark.parametrize("answer", NOT_KUBERNETES.values(), ids=NOT_KUBERNETES)
async def test_nothing_is_known_after(answer: Answer, tmp_path: Path) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = answer
        with pytest.raises(errors.Unreachable):
            await cluster.call("GET", PATH)
        assert cluster.problem is not None


@pytest.mark.parametrize("answer", NOT_KUBERNETES.values(), ids=NOT_KUBERNETES)
async def test_answers_of_an_extension_do_not_change_the_state_of_the_api_server(
    answer: Answer, tmp_path: Path
) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = answer
        code, _ = await cluster.call_aggregated("/apis/metrics.k8s.io/v1beta1/pods?limit=1")
        assert code >= 200
        assert cluster.problem is None


async def test_an_extension_of_an_api_server_that_is_gone_is_unreachable(tmp_path: Path) -> None:
    async with apiserver.listening() as front:
        apiserver.kubeconfig(tmp_path / "kubeconfig", front.url)
    async with apiserver.connection(tmp_path / "kubeconfig") as cluster:
        with pytest.raises(errors.Unreachable):
            await cluster.call_aggregated("/apis/metrics.k8s.io/v1beta1/pods")
        assert cluster.problem is not None


KINDS: dict[str, tuple[int, type[errors.ApiError]]] = {
    "404 is an absence": (404, errors.NotFound),
    "403 is a lack of rights": (403, errors.Forbidden),
    "409 is a lost race": (409, errors.Conflict),
    "410 is an old version": (410, errors.Gone),
    "422 is our mistake": (422, errors.Invalid),
    "429 is a full server": (429, errors.Throttled),
    "401 is a lack of credentials": (401, errors.Unauthorized),
}


@pytest.mark.parametrize(("code", "kind"), KINDS.values(), ids=KINDS)
async def test_an_answer_of_an_api_server_raises_its_error(
    code: int, kind: type[errors.ApiError], tmp_path: Path
) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = status(code, "the reason")
        with pytest.raises(kind, match="the reason") as raised:
            await cluster.call("GET", PATH)
        assert type(raised.value) is kind
        rejected = kind is errors.Unauthorized
        assert (cluster.problem is not None) is rejected, "it answers"
        assert cluster.credentials_rejected is rejected


@pytest.mark.parametrize(
    ("code", "message"),
    [
        pytest.param(500, "etcdserver: request is too large", id="larger than etcd allows"),
        pytest.param(
            500,
            "rpc error: code = ResourceExhausted desc = grpc: trying to send message larger than "
            "max (2200000 vs. 2097152)",
            id="larger than the API server sends to etcd",
        ),
        pytest.param(413, "limit is 3145728", id="larger than the API server reads"),
    ],
)
async def test_an_object_that_is_too_large_is_refused_by_a_server_that_answers(
    code: int, message: str, tmp_path: Path
) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = status(code, message)
        with pytest.raises(errors.Invalid, match=r"too large|larger|limit"):
            await cluster.call("PATCH", PATH, body={})
        assert cluster.problem is None


async def test_a_problem_is_over_with_the_next_answer(tmp_path: Path) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        assert cluster.problem is None
        front.answer = status(401, "Unauthorized")
        with pytest.raises(errors.Unauthorized):
            await cluster.call("GET", PATH)
        assert cluster.credentials_rejected
        front.answer = other(502, HTML)
        with pytest.raises(errors.Unreachable):
            await cluster.call("GET", PATH)
        assert (cluster.problem is None, cluster.credentials_rejected) == (False, False)
        front.answer = status(404)
        with pytest.raises(errors.NotFound):
            await cluster.call("GET", PATH)
        assert cluster.problem is None


async def _follow(cluster: clusters.Cluster, opened: Callable[[], None]) -> list[str]:
    return [event.kind async for event in cluster.watch_path(WATCH, opened=opened)]


@pytest.mark.parametrize("answer", NOT_KUBERNETES.values(), ids=NOT_KUBERNETES)
async def test_no_watch_is_open_after(answer: Answer, tmp_path: Path) -> None:
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
    "JSON that is not an event": ('{"kind": "Pod"}\n', errors.Unreachable),
    "an event of nothing": ('{"type": "ADDED", "object": null}\n', errors.Unreachable),
    "an event of a word": ('{"type": "ADDED", "object": "web"}\n', errors.Unreachable),
    "a number": ("7\n", errors.Unreachable),
    "half an event": ('{"type": "ADDED", "obj', errors.Unreachable),
    "an error without a code": ('{"type": "ERROR", "object": {}}\n', errors.Unreachable),
    "an error with the code of a success": (
        '{"type": "ERROR", "object": {"kind": "Status", "code": 200}}\n',
        errors.Unreachable,
    ),
    "an event of an unknown kind": ('{"type": "X", "object": {"kind": "A"}}\n', errors.Unreachable),
    "an event whose kind is a list": (
        '{"type": [], "object": {"kind": "A"}}\n',
        errors.Unreachable,
    ),
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


async def test_an_event_of_any_length_is_read_once_and_one_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "MAX_EVENT_BYTES", 1 << 20)
    event = '{"type":"ADDED","object":{"kind":"Pod","text":"%s"}}\n'
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = _json(200, event % ("x" * 1_000_000) + event % "x")
        assert await _follow(cluster, lambda: None) == ["ADDED", "ADDED"]
        front.answer = _json(200, event % ("x" * 1_200_000))
        with pytest.raises(errors.Unreachable, match="a watch event of more than 1 MiB"):
            await _follow(cluster, lambda: None)


async def test_an_answer_is_read_up_to_a_limit_after_decompression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "MAX_BODY_BYTES", 1 << 20)

    async def answer(_request: web.Request) -> web.StreamResponse:
        text = '{"kind": "Pod", "text": "' + "x" * (8 << 20) + '"}'
        response = web.Response(text=text, content_type="application/json")
        response.enable_compression(web.ContentCoding.gzip)
        return response

    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = answer
        with pytest.raises(errors.Unreachable, match="an answer of more than 1 MiB"):
            await cluster.call("GET", PATH)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("kilobytes", "limits"),
    [
        pytest.param(1, ["500"], id="of small objects"),
        pytest.param(30, ["500", "62", "62"], id="of large objects"),
        pytest.param(600, ["500", "62", "7"] + ["1"] * 100, id="of the largest objects"),
    ],
)
async def test_pages_have_as_many_objects_as_fit_into_an_answer(
    kilobytes: int, limits: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users who can create objects in one foreign namespace choose how large these are."""
    monkeypatch.setattr(clusters, "MAX_BODY_BYTES", 2 << 20)
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        limit, first = request.query["limit"], int(request.query.get("continue", "0"))
        asked.append(limit)
        end = min(first + int(limit), 100)
        text = "x" * (kilobytes << 10)
        return web.json_response(
            {
                "kind": "PodList",
                "metadata": {"resourceVersion": "7", "continue": str(end) if end < 100 else ""},
                "items": [{"metadata": {"name": f"{n}", "uid": text}} for n in range(first, end)],
            }
        )

    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = answer
        found = await cluster.list_all(resources.PODS, checked=False)
        assert [obj["metadata"]["name"] for obj in found.items] == [str(n) for n in range(100)]
        assert asked == limits
        assert cluster.problem is None


async def test_an_object_that_does_not_fit_into_an_answer_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "MAX_BODY_BYTES", 1 << 20)
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = _json(200, '{"kind": "PodList", "items": ["%s"]}' % ("x" * (2 << 20)))
        with pytest.raises(errors.Unreachable, match="an answer of more than 1 MiB"):
            await cluster.list_all(resources.PODS)
        assert len(front.asked) == 4


SINGLE: dict[str, tuple[resources.Resource[Any], str]] = {
    "a namespace without metadata": (resources.NAMESPACES.metadata_only, '{"kind": "X"}'),
    "a namespace with a null for metadata": (
        resources.NAMESPACES.metadata_only,
        '{"kind": "X", "metadata": null}',
    ),
    "a namespace without a uid": (
        resources.NAMESPACES.metadata_only,
        '{"kind": "X", "metadata": {"name": "a"}}',
    ),
    "a ConfigMap whose data is a list": (
        resources.CONFIG_MAPS,
        '{"kind": "X", "metadata": {"name": "a", "uid": "b"}, "data": ["x"]}',
    ),
    "a ConfigMap with a number": (
        resources.CONFIG_MAPS,
        '{"kind": "X", "metadata": {"name": "a", "uid": "b"}, "data": {"x": 1}}',
    ),
}


@pytest.mark.parametrize(("resource", "text"), SINGLE.values(), ids=SINGLE)
async def test_no_answer_is(resource: resources.Resource[Any], text: str, tmp_path: Path) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = _json(200, text)
        for request in (
            cluster.get(resource, "a", namespace="b"),
            cluster.create(resource, {}, namespace="b"),
            cluster.patch(resource, "a", {}, namespace="b"),
        ):
            with pytest.raises(errors.Unreachable, match="an object that is not valid"):
                await request


@pytest.mark.parametrize("version", ["", "new", "-1"])
async def test_a_list_without_a_version_is_no_list(version: str, tmp_path: Path) -> None:
    metadata = f'{{"resourceVersion": "{version}"}}'
    text = f'{{"kind": "PodList", "metadata": {metadata}, "items": []}}'
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = _json(200, text)
        for request in (cluster.list(resources.PODS, limit=1), cluster.list_all(resources.PODS)):
            with pytest.raises(errors.Unreachable, match="a list that is not valid"):
                await request


async def test_a_watch_shows_its_events_and_clears_the_problem(tmp_path: Path) -> None:
    async def answer(_request: web.Request) -> web.StreamResponse:
        lines = '{"type":"ADDED","object":{"kind":"Pod"}}\n{"type":"BOOKMARK","object":{}}\n'
        return web.Response(text=lines, content_type="application/json")

    async with apiserver.connected(tmp_path) as (front, cluster):
        cluster.problem = "an earlier one"
        front.answer = answer
        assert await _follow(cluster, lambda: None) == ["ADDED", "BOOKMARK"]
        assert cluster.problem is None


@pytest.mark.parametrize("bookmarks", [True, False], ids=["with bookmarks", "without"])
async def test_a_silent_watch_is_dead_only_where_bookmarks_are_sent(
    bookmarks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = aiohttp.ClientTimeout(sock_read=0.05)
    monkeypatch.setattr(clusters, "_WATCH_TIMEOUT", short)

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await asyncio.sleep(0.3)
        await response.write(b'{"type":"ADDED","object":{"kind":"Event"}}\n')
        return response

    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = answer
        events = cluster.watch_path(WATCH, bookmarks=bookmarks, opened=lambda: None)
        if bookmarks:
            with pytest.raises(errors.Unreachable):
                await anext(events)
        else:
            assert (await anext(events)).kind == "ADDED"


async def test_a_lane_has_slots_of_its_own_on_the_same_connections(tmp_path: Path) -> None:
    free = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path != PATH:
            await free.wait()
        return await apiserver.ok(request)

    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = answer
        lane = cluster.lane(2)
        held = [asyncio.create_task(lane.call("GET", f"{PATH}-{n}")) for n in range(40)]
        await cluster.call("GET", PATH)
        await asyncio.sleep(0.05)
        assert len([one for one in front.asked if one != f"GET {PATH}"]) == 2
        front.answer = status(500)
        free.set()
        await asyncio.wait(held)
        assert cluster.problem is None, "its failures say nothing about the API server"


@pytest.mark.parametrize(
    ("header", "waited"),
    [
        pytest.param("3", 3.0, id="a few seconds are waited"),
        pytest.param("3600", 30.0, id="an hour is thirty seconds"),
        pytest.param("99999999999999999999", 30.0, id="for ever is thirty seconds"),
        pytest.param("Fri, 02 Jan 2026 03:04:05 GMT", 1.0, id="a date is one second"),
        pytest.param("-5", 1.0, id="a negative number is one second"),
        pytest.param("²", 1.0, id="a digit that is not a number is one second"),
        pytest.param("٣", 1.0, id="a digit of another script is one second"),
        pytest.param("1e9", 1.0, id="an exponent is one second"),
        pytest.param("nan", 1.0, id="no number is one second"),
        pytest.param("0", 0.0, id="zero means at once"),
        pytest.param("003", 3.0, id="leading zeros do not count"),
        pytest.param("9" * 5000, 30.0, id="five thousand digits are thirty seconds"),
    ],
)
@pytest.mark.parametrize("code", [429, 503])
async def test_retry_after(code: int, header: str, waited: float, tmp_path: Path) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = status(code, **{"Retry-After": header})
        with pytest.raises(errors.Throttled) as raised:
            await cluster.call("GET", PATH)
        assert raised.value.retry_after == waited
