"""Watches of single objects share connections as HTTP/2 streams."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from h2 import config, connection, events, settings

from farlet import errors
from farlet.client import credentials, http2
from farlet.client.watch_streams import WatchStreams
from farlet.telemetry.metrics import Metrics
from unit import certificates
from unit.reconcile import apiserver

PATH = "/api/v1/namespaces/shop/configmaps?fieldSelector=metadata.name%3Dapp&resourceVersion=1"


class Server(asyncio.Protocol):
    """One connection of an API server with HTTP/2. `answer` handles each request."""

    made: list[Server]
    answer: Callable[[Server, int, dict[str, str]], None]
    most = 100

    def __init__(self) -> None:
        self.http = connection.H2Connection(
            config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self.open: dict[str, int] = {}
        self.closed: list[int] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        type(self).made.append(self)
        self.http.local_settings = settings.Settings(
            client=False, initial_values={settings.SettingCodes.MAX_CONCURRENT_STREAMS: self.most}
        )
        self.http.initiate_connection()
        self.flush()

    def data_received(self, data: bytes) -> None:
        for event in self.http.receive_data(data):
            if isinstance(event, events.RequestReceived):
                headers: Any = dict(event.headers or ())
                assert event.stream_id is not None
                self.open[headers[":path"]] = event.stream_id
                type(self).answer(self, event.stream_id, headers)
            elif isinstance(event, events.StreamReset):
                self.closed.append(event.stream_id)
        self.flush()

    def send(self, stream: int, *lines: object, status: int = 200, end: bool = False) -> None:
        if status:
            headers = [(":status", str(status)), ("content-type", "application/json")]
            self.http.send_headers(stream, headers)
        for line in lines:
            self.http.send_data(stream, json.dumps(line).encode() + b"\n")
        if end:
            self.http.end_stream(stream)
        self.flush()

    def flush(self) -> None:
        self.transport.write(self.http.data_to_send())


def event(name: str, version: int) -> dict[str, Any]:
    metadata = {"name": name, "resourceVersion": str(version)}
    return {"type": "MODIFIED", "object": {"kind": "ConfigMap", "metadata": metadata}}


@contextlib.asynccontextmanager
async def serving(
    folder: Path,
    answer: Callable[[Server, int, dict[str, str]], None],
    *,
    protocols: tuple[str, ...] = ("h2",),
    most: int = 100,
) -> AsyncIterator[tuple[list[Server], WatchStreams]]:
    """A server, and what farlet opens on it."""
    ca = certificates.authority()
    server = certificates.issue(ca, uses=(certificates.SERVER,), hosts=["127.0.0.1"])
    tls = certificates.server_context(server, folder)
    tls.set_alpn_protocols(list(protocols))
    kind = type("One", (Server,), {"made": [], "answer": staticmethod(answer), "most": most})
    listening = await asyncio.get_running_loop().create_server(kind, "127.0.0.1", 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    trusted: dict[str, Any] = {"certificate-authority": str(ca.write(folder, "ca")[0])}
    path = apiserver.kubeconfig(
        folder / "kubeconfig",
        f"https://127.0.0.1:{port}",
        **trusted,
    )
    metrics = Metrics().client("home")
    made: list[Server] = kind.made  # type: ignore[attr-defined]
    async with (
        apiserver.connection(path, "home") as cluster,
        WatchStreams(cluster, metrics=metrics) as streams,
    ):
        yield made, streams
    for one in made:
        one.transport.abort()
    listening.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def first(streams: WatchStreams, path: str = PATH) -> Any:
    """The object of the first event."""
    watch = streams.watch_path(path, opened=lambda: None)
    async with contextlib.aclosing(watch):  # type: ignore[type-var]
        async for found in watch:
            return found.object
    return None


async def test_an_event_of_one_stream_arrives_while_all_others_are_silent(tmp_path: Path) -> None:
    """If the streams read the connection in turns, it would not arrive."""
    opened: list[None] = []

    def answer(server: Server, stream: int, _headers: dict[str, str]) -> None:
        server.send(stream)

    async with serving(tmp_path, answer) as (made, streams):
        paths = [f"{PATH}&n={number}" for number in range(50)]

        async def watch(path: str) -> Any:
            async for found in streams.watch_path(path, opened=lambda: opened.append(None)):
                return found.object
            return None

        tasks = [asyncio.create_task(watch(path)) for path in paths]
        await until(lambda: len(opened) == 50)
        assert len(made) == 1
        for number in (49, 0, 20):
            (target,) = (p for p in made[0].open if p.startswith(f"{paths[number]}&"))
            made[0].send(made[0].open[target], event("app", number), status=0)
            found = await asyncio.wait_for(tasks[number], 1)
            assert found["metadata"]["resourceVersion"] == str(number)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_request_is_that_of_any_watch(tmp_path: Path) -> None:
    seen: dict[str, str] = {}

    def answer(server: Server, stream: int, headers: dict[str, str]) -> None:
        seen.update(headers)
        server.send(stream, event("app", 5), end=True)

    async with serving(tmp_path, answer) as (_, streams):
        assert (await first(streams))["metadata"]["name"] == "app"
    assert seen[":path"].startswith(PATH)
    assert "watch=1&allowWatchBookmarks=true" in seen[":path"]
    assert (seen[":method"], seen["authorization"]) == ("GET", "Bearer first")
    assert seen["user-agent"].startswith("farlet/")


@pytest.mark.parametrize("most", [3, 1000])
async def test_a_connection_has_no_more_streams_than_allowed(tmp_path: Path, most: int) -> None:
    def answer(server: Server, stream: int, _headers: dict[str, str]) -> None:
        server.send(stream)

    async with serving(tmp_path, answer, most=most) as (made, streams):
        opened: list[None] = []

        async def watch() -> None:
            async for _ in streams.watch_path(PATH, opened=lambda: opened.append(None)):
                pass

        tasks = [asyncio.create_task(watch()) for _ in range(1)]
        await until(lambda: bool(opened))  # the server's limit is known now
        count = 2 * min(most, http2.STREAMS)
        tasks += [asyncio.create_task(watch()) for _ in range(count - 1)]
        await until(lambda: len(opened) == count)
        assert [one.http.open_inbound_streams for one in made] == [count // 2] * 2
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_connection_remembers_few_of_the_streams_that_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http2._Http, "MAX_CLOSED_STREAMS", 10)

    def answer(server: Server, stream: int, headers: dict[str, str]) -> None:
        server.send(stream, event("app", 5), end="lasting" not in headers[":path"])

    async with serving(tmp_path, answer) as (made, streams):
        opened = asyncio.Event()

        async def last() -> None:
            async for _ in streams.watch_path(f"{PATH}&lasting", opened=opened.set):
                pass

        lasting = asyncio.create_task(last())
        await opened.wait()
        for _ in range(30):
            await first(streams)
        assert len(made) == 1
        (connection,) = streams._connections
        assert len(connection._http._closed_streams) <= 10
        lasting.cancel()
        await asyncio.gather(lasting, return_exceptions=True)


async def test_a_watch_that_is_left_ends_its_stream_and_the_last_one_the_connection(
    tmp_path: Path,
) -> None:
    def answer(server: Server, stream: int, _headers: dict[str, str]) -> None:
        server.send(stream, event("app", 5))

    async with serving(tmp_path, answer) as (made, streams):
        await first(streams)
        await asyncio.sleep(0.05)
        assert made[0].transport.is_closing() or made[0].closed
        await first(streams)
        assert len(made) == 2


REFUSED = {"kind": "Status", "message": "no relationship found", "reason": "Forbidden"}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        pytest.param(403, errors.Forbidden, id="403"),
        pytest.param(410, errors.Gone, id="410"),
        pytest.param(401, errors.Unauthorized, id="401"),
        pytest.param(500, errors.Unreachable, id="500"),
    ],
)
async def test_a_refusal_is_the_error_of_its_status(
    tmp_path: Path, status: int, error: type[Exception]
) -> None:
    def answer(server: Server, stream: int, _headers: dict[str, str]) -> None:
        server.send(stream, {**REFUSED, "code": status}, status=status, end=True)

    async with serving(tmp_path, answer) as (_, streams):
        with pytest.raises(error):
            await first(streams)


def _goaway(server: Server, stream: int) -> None:
    server.send(stream)
    server.http.close_connection()
    server.flush()


def _goaway_with_error(server: Server, stream: int) -> None:
    server.send(stream)
    server.http.close_connection(error_code=11)
    server.flush()


def _reset(server: Server, stream: int) -> None:
    server.send(stream)
    server.http.reset_stream(stream, 2)
    server.flush()


def _cut(server: Server, stream: int) -> None:
    server.send(stream)
    server.transport.abort()


def _garbage(server: Server, stream: int) -> None:
    server.transport.write(b"\x00" * 200)


def _half(server: Server, stream: int) -> None:
    server.send(stream)
    server.http.send_data(stream, b'{"type":', end_stream=True)
    server.flush()


@pytest.mark.parametrize(
    ("act", "fails"),
    [
        pytest.param(_goaway, False, id="a server that stops ends its watches"),
        pytest.param(_goaway_with_error, True, id="a server that reports an error"),
        pytest.param(_reset, True, id="a stream that is reset"),
        pytest.param(_cut, True, id="a connection that is cut"),
        pytest.param(_garbage, True, id="bytes that are not HTTP/2"),
        pytest.param(_half, True, id="half an event"),
    ],
)
async def test_how_watches_end(
    tmp_path: Path, act: Callable[[Server, int], None], fails: bool
) -> None:
    def answer(server: Server, stream: int, _headers: dict[str, str]) -> None:
        act(server, stream)

    async with serving(tmp_path, answer) as (_, streams):
        if fails:
            with pytest.raises(errors.Unreachable):
                await asyncio.wait_for(first(streams), 5)
        else:
            assert await asyncio.wait_for(first(streams), 5) is None


@pytest.mark.parametrize("status", ["abc", "99", "2" * 5000, "²00"])
async def test_an_answer_with_an_invalid_status_is_a_lost_connection(
    tmp_path: Path, status: str
) -> None:
    def answer(server: Server, stream: int, _headers: dict[str, str]) -> None:
        server.http.send_headers(stream, [(":status", status)])

    async with serving(tmp_path, answer) as (_, streams):
        with pytest.raises(errors.Unreachable):
            await first(streams)


@pytest.mark.parametrize("value", [b"\xff\xfe", b"\xc3"], ids=["no UTF-8", "half a character"])
async def test_a_header_that_is_not_text_ends_the_connection_with_its_watches(
    tmp_path: Path, value: bytes
) -> None:
    def answer(server: Server, stream: int, _headers: dict[str, str]) -> None:
        if len(server.open) == 1:
            server.send(stream)
            return
        server.http.send_headers(stream, [(b":status", b"200"), (b"x-text", value)])

    ended: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: ended.append(context))
    async with serving(tmp_path, answer) as (made, streams):
        other = asyncio.create_task(first(streams, f"{PATH}&n=1"))
        await until(lambda: bool(made and made[0].open))
        with pytest.raises(errors.Unreachable, match="invalid HTTP/2"):
            await asyncio.wait_for(first(streams, f"{PATH}&n=2"), 5)
        with pytest.raises(errors.Unreachable, match="invalid HTTP/2"):
            await asyncio.wait_for(other, 5)
    gc.collect()
    assert ended == []


async def test_a_server_without_http2_gets_a_connection_for_each_watch(tmp_path: Path) -> None:
    async with apiserver.listening() as front:

        async def answer(_request: web.Request) -> web.StreamResponse:
            line = json.dumps(event("app", 5)) + "\n"
            return web.Response(text=line, content_type="application/json")

        front.answer = answer
        path = apiserver.kubeconfig(tmp_path / "kubeconfig", front.url)
        async with (
            apiserver.connection(path, "home") as cluster,
            WatchStreams(cluster, metrics=Metrics().client("home")) as streams,
        ):
            for _ in range(2):
                assert (await first(streams))["metadata"]["name"] == "app"
    assert len(front.asked) == 2


async def test_a_watch_ends_when_the_kubeconfig_leads_to_another_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "CHECK_SECONDS", 0.0)
    opened = asyncio.Event()

    def answer(server: Server, stream: int, _headers: dict[str, str]) -> None:
        server.send(stream)

    async with serving(tmp_path, answer) as (made, streams), apiserver.listening() as other:

        async def follow() -> None:
            async for _ in streams.watch_path(PATH, opened=opened.set):
                pass

        watching = asyncio.create_task(follow())
        await opened.wait()
        before = streams.connection
        apiserver.kubeconfig(tmp_path / "kubeconfig", other.url)
        await until_moved(streams, before)
        with pytest.raises(errors.Unreachable):
            async with asyncio.timeout(10):
                await watching
        assert len(made) == 1


async def until_moved(streams: WatchStreams, before: object) -> None:
    """Send requests until they use the changed kubeconfig."""
    async with asyncio.timeout(10):
        while streams.connection == before:
            with contextlib.suppress(errors.FarletError):
                await streams.call("GET", "/api/v1/namespaces/shop")
            await asyncio.sleep(0.05)


async def test_a_server_of_another_ca_gets_no_request(tmp_path: Path) -> None:
    asked: list[int] = []

    def answer(_server: Server, stream: int, _headers: dict[str, str]) -> None:
        asked.append(stream)

    async with serving(tmp_path, answer) as (_, streams):
        login = await streams._cluster.login()
        other = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        other.set_alpn_protocols(["h2"])
        object.__setattr__(login, "http2_context", other)
        with pytest.raises(errors.Unreachable, match="certificate"):
            await first(streams)
    assert not asked
