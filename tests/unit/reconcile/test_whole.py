"""The whole engine over HTTP: what it reports while API servers fail and recover."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog.testing
from aiohttp import web

from farlet import engine as engines
from farlet import errors, health, store
from farlet.client import resources
from farlet.context import NotConfigured
from farlet.foreign import inventory
from farlet.settings import Settings, loading
from unit.node.harness import CAPACITY, NOWHERE, RecordedClient
from unit.planning import model, objects
from unit.planning.fake_cluster import FakeCluster
from unit.planning.model import JSON, Server
from unit.reconcile import apiserver, harness
from unit.reconcile.apiserver import HTML, Answer, Front, other


def _now() -> float:
    return time.time()


LEASE: JSON = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": "far", "uid": "lease", "resourceVersion": "1"},
}


def modelled(server: Server, name: str, holders: list[str]) -> Answer:
    """Answers of a model of a cluster. Any client can take its Leases, which `holders` records."""
    wire = RecordedClient(name, server, _now)

    async def answer(request: web.Request) -> web.StreamResponse:
        if "/leases" in request.path:
            if request.method != "GET":
                written = await request.json()
                holders.append(written["spec"]["holderIdentity"])
                return web.json_response({**written, **LEASE})
            return web.json_response(LEASE)
        if request.path.endswith("/selfsubjectaccessreviews"):
            allowed = {"kind": "SelfSubjectAccessReview", "status": {"allowed": True}}
            return web.json_response(allowed)
        if "watch" in request.query:
            return await _watched(wire, request)
        raw = await request.read()
        try:
            found = await wire.call(
                request.method,
                request.raw_path,
                body=orjson.loads(raw) if raw else None,
                content_type=request.content_type,
            )
        except errors.ApiError as err:
            return await apiserver.status(err.code, err.message)(request)
        return web.json_response({"kind": "Thing", **found})

    return answer


async def _watched(wire: FakeCluster, request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    async for event in wire.watch_path(request.raw_path, opened=lambda: None):
        line: JSON = {"type": event.kind, "object": {"kind": "Thing", **event.object}}
        await response.write(orjson.dumps(line) + b"\n")
    return response


_IDENTITY: dict[str, Any] = {
    "node": "far",
    "home_id": "there",
    "home_api": NotConfigured(),
    "home_ca": "",
}


class _Whole:
    shutdown: engines.Shutdown
    running: asyncio.Task[None]

    def __init__(self, engine: engines.Engine, home: Front, foreign: Front) -> None:
        self.engine = engine
        self.home = home
        self.foreign = foreign
        self.home_server = Server(_now, (*NOWHERE, harness.HOME))
        self.foreign_server = Server(_now, (harness.OWN, harness.FOREIGN))
        self.holders: list[str] = []
        """Who was written into the Lease, in order."""
        self.works = {
            "home": modelled(self.home_server, "home", self.holders),
            "foreign": modelled(self.foreign_server, "foreign", []),
        }
        home.answer, foreign.answer = self.works["home"], self.works["foreign"]

    def create(self, name: str, *, mode: str = "disabled") -> None:
        """A user creates a pod, and Kopf delivers its event."""
        pod: JSON = model.clone(objects.home(annotations=_mode(mode)))
        pod["metadata"]["name"] = name
        made = self.home_server.create("pods", harness.HOME, pod, by=harness.USER)
        self.engine.bridge.feed("ADDED", model.clone(made))

    def create_inventory(self, entries: dict[str, str]) -> None:
        """What an earlier farlet with other settings has left."""
        name = inventory.name_for(self.engine.settings.context(**_IDENTITY))
        body: JSON = {"metadata": {"name": name}, "data": entries}
        self.foreign_server.create("configmaps", harness.OWN, body, by=harness.USER)

    def metric(self, name: str) -> float | None:
        """Its value; the name of a series includes its labels, if it has any."""
        for line in self.engine.metrics.exposition().decode().splitlines():
            series, _, value = line.rpartition(" ")
            if series == name:
                return float(value)
        return None

    async def until(self, true: Callable[[], bool]) -> None:
        """It becomes true within some seconds, or the test fails."""
        async with asyncio.timeout(20):
            while not true():  # noqa: ASYNC110 - no event shows it
                await asyncio.sleep(0.01)


def _mode(mode: str) -> dict[str, str]:
    return {"liqo.io/api-server-support": mode}


@asynccontextmanager
async def built(folder: Path, **settings: object) -> AsyncIterator[_Whole]:
    """An engine between two servers that work. The test runs it."""
    async with apiserver.listening() as home, apiserver.listening() as foreign:
        flags: dict[str, object] = {
            "nodename": "far",
            "home_id": "there",
            "home_name": "h",
            "home_kubeconfig": str(apiserver.kubeconfig(folder / "home", home.url)),
            "foreign_kubeconfig": str(apiserver.kubeconfig(folder / "foreign", foreign.url)),
            "metrics_bind_address": "0",
            "health_probe_bind_address": "0",
            "kubelet_bind_address": "0",
            "capacity": CAPACITY,
            **settings,
        }
        yield _Whole(
            engines.Engine(loading.load(Settings, flags), watch=health.HostedWatch()), home, foreign
        )


@asynccontextmanager
async def whole(folder: Path, **settings: object) -> AsyncIterator[_Whole]:
    """An engine that has started, between two servers that work."""
    async with built(folder, **settings) as made:
        shutdown, started = engines.Shutdown(), asyncio.Event()
        running = asyncio.create_task(made.engine.run(shutdown, started=started.set))
        try:
            async with asyncio.timeout(20):
                await started.wait()
            await made.until(lambda: made.metric("farlet_home_up") == 1)
            made.shutdown, made.running = shutdown, running
            yield made
        finally:
            shutdown.requested.set()
            await running


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


BREAKS: dict[str, tuple[str, str, str]] = {
    "home": ("home", "farlet_home_up", "nonsense"),
    "foreign": ("foreign", "farlet_foreign_up", "disabled"),
}
"""Which side fails, where that shows, and a pod that makes farlet write there."""


@pytest.mark.parametrize(("side", "metric", "mode"), BREAKS.values(), ids=BREAKS)
async def test_a_side_that_answers_nothing_is_not_up_until_it_answers(
    side: str, metric: str, mode: str, tmp_path: Path
) -> None:
    async with whole(tmp_path) as w:
        assert w.metric(metric) == 1
        front: Front = getattr(w, side)
        front.answer = other(502, HTML)
        w.create("web", mode=mode)
        await w.until(lambda: w.metric(metric) == 0)
        front.answer = w.works[side]
        await w.until(lambda: w.metric(metric) == 1)


@pytest.mark.parametrize(("side", "metric", "mode"), BREAKS.values(), ids=BREAKS)
async def test_a_side_that_rejects_the_credentials_is_not_up(
    side: str, metric: str, mode: str, tmp_path: Path
) -> None:
    async with whole(tmp_path) as w:
        front: Front = getattr(w, side)
        front.answer = apiserver.status(401, "Unauthorized")
        w.create("web", mode=mode)
        await w.until(lambda: w.metric(metric) == 0)
        front.answer = w.works[side]
        await w.until(lambda: w.metric(metric) == 1)


async def test_a_side_that_refuses_is_up(tmp_path: Path) -> None:
    async with whole(tmp_path) as w:
        before = len(w.home.asked)
        w.home.answer = apiserver.status(403)
        w.create("web", mode="nonsense")
        await w.until(lambda: len(w.home.asked) > before + 2)
        assert w.metric("farlet_home_up") == 1


async def test_a_misspelt_variable_is_logged_with_the_setting_that_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARLET_WORKER", "3")
    with structlog.testing.capture_logs() as logs:
        async with whole(tmp_path):
            pass
    (found,) = (one for one in logs if one["event"] == "unknown setting ignored")
    assert (found["variable"], found["did_you_mean"]) == ("FARLET_WORKER", "FARLET_WORKERS")


class _OpenStream:
    """Replaces the kubelet API: one stream stays open after the listener is closed."""

    def __init__(self) -> None:
        self.stopping, self.ended = asyncio.Event(), asyncio.Event()

    async def __aenter__(self) -> _OpenStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stopping.set()
        async with asyncio.timeout(20):
            await self.ended.wait()

    async def run(self) -> None:
        await asyncio.Event().wait()


async def test_the_lease_is_released_while_a_stream_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = _OpenStream()
    monkeypatch.setattr(engines.Engine, "_make_kubelet", lambda *_: stream)
    async with whole(tmp_path, leader_elect="true", kubelet_bind_address="127.0.0.1:0") as w:
        assert w.metric(LEADER) == 1
        w.shutdown.requested.set()
        await stream.stopping.wait()
        await w.until(lambda: w.metric(LEADER) == 0)
        await w.until(lambda: w.holders[-1] == "")
        assert not w.running.done()
        stream.ended.set()
        await w.running


LEADER = 'leader_election_master_status{name="far"}'


async def test_a_foreign_kubeconfig_of_the_home_cluster_refuses_the_start(tmp_path: Path) -> None:
    async with built(tmp_path) as w:
        (tmp_path / "foreign").write_text((tmp_path / "home").read_text())
        with pytest.raises(errors.StartError, match="the foreign cluster is the home cluster"):
            async with asyncio.timeout(20):
                await w.engine.run(engines.Shutdown(), started=lambda: None)
        assert w.home_server.all("nodes") == []


async def test_a_standby_with_rejected_credentials_does_not_lead_until_they_are_accepted(
    tmp_path: Path,
) -> None:
    async with built(tmp_path, leader_elect="true") as w:
        w.foreign.answer = apiserver.status(401, "Unauthorized")
        shutdown, started = engines.Shutdown(), asyncio.Event()
        running = asyncio.create_task(w.engine.run(shutdown, started=started.set))
        await w.until(lambda: len(w.foreign.asked) > 3)
        assert w.metric(LEADER) == 0
        assert w.metric("farlet_foreign_up") == 0
        assert w.holders == []
        w.foreign.answer = w.works["foreign"]
        async with asyncio.timeout(20):
            await started.wait()
        shutdown.requested.set()
        await running


async def test_a_standby_requests_its_serving_certificate_at_its_start(tmp_path: Path) -> None:
    address = {"kubelet_bind_address": "127.0.0.1:0", "node_ip": "10.0.0.1"}
    async with built(tmp_path, leader_elect="true", **address) as w:
        w.foreign.answer = apiserver.status(401, "Unauthorized")  # so that it does not lead
        shutdown = engines.Shutdown()
        running = asyncio.create_task(w.engine.run(shutdown, started=lambda: None))
        await w.until(lambda: f"POST {resources.SIGNING_REQUESTS.path()}" in w.home.asked)
        assert w.holders == []
        shutdown.requested.set()
        await running


async def test_a_leader_that_cannot_start_reports_it_on_the_node_and_releases_the_lease(
    tmp_path: Path,
) -> None:
    async with built(tmp_path, leader_elect="true") as w:
        w.create_inventory({"elsewhere": harness.HOME})
        # A standby that gets no answer cannot know that.
        w.foreign.answer = apiserver.status(503, "ServiceUnavailable")
        running = asyncio.create_task(w.engine.run(engines.Shutdown(), started=lambda: None))
        await w.until(lambda: w.metric(LEADER) == 1)
        w.foreign.answer = w.works["foreign"]
        with pytest.raises(errors.StartError, match="would now run in"):
            async with asyncio.timeout(20):
                await running
        (node,) = w.home_server.all("nodes")
        ready = next(c for c in node["status"]["conditions"] if c["type"] == "Ready")
        assert ready["status"] == "False"
        assert "would now run in" in ready["message"]
        assert w.metric(LEADER) == 0
        assert w.holders[-1] == ""


async def test_pods_are_counted_by_phase_and_mode_without_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unreadable:
        """Replaces `orjson` in the store."""

        dumps = staticmethod(orjson.dumps)

        @staticmethod
        def loads(_: bytes) -> Any:
            raise AssertionError("a pod was read to be counted")

    async with whole(tmp_path) as w:
        for name, mode in (("a", "disabled"), ("b", "disabled"), ("c", "nonsense")):
            w.create(name, mode=mode)
        await w.until(lambda: len(w.foreign_server.all("pods")) == 2)
        await asyncio.sleep(0.2)
        with monkeypatch.context() as patch:
            patch.setattr(store, "orjson", Unreadable)
            counts = {
                mode: w.metric(f'farlet_pods{{access="{mode}",phase="Pending"}}')
                for mode in ("disabled", "invalid", "home")
            }
        assert counts == {"disabled": 2.0, "invalid": 1.0, "home": None}
