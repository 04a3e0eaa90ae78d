"""A running connection takes up what replaced its credentials, and survives what broke them."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kubernetes_asyncio.config import incluster_config

from farlet import clusters, credentials, errors
from farlet.endpoint import ClusterSource
from farlet.telemetry.metrics import Metrics
from unit import certificates
from unit.certificates import HOUR
from unit.engine import apiserver
from unit.engine.apiserver import Answer, Front, status

PATH = "/api/v1/namespaces/default/pods/web"
WATCH = "/api/v1/pods?resourceVersion=7"


class _Clock:
    """Stands where the room has `time`."""

    def __init__(self) -> None:
        self.late = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.late

    def time(self) -> float:
        return time.time() + self.late


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    made = _Clock()
    monkeypatch.setattr(credentials, "time", made)
    return made


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[ClusterSource]:
    """What was loaded so far."""
    seen: list[ClusterSource] = []
    load = credentials.load

    async def counted(name: credentials.Name, source: ClusterSource) -> credentials.Login:
        seen.append(source)
        return await load(name, source)

    monkeypatch.setattr(credentials, "load", counted)
    return seen


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


# --- after a 401, before files were looked at -------------------------------------------------


async def test_requests_that_met_a_401_at_the_same_time_are_all_asked_again(
    tmp_path: Path, clock: _Clock
) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        apiserver.kubeconfig(tmp_path / "kubeconfig", front.url, token="second")
        clock.late += credentials.RELOAD_SECONDS
        front.answer = _only("second", together=10)
        answers = await asyncio.gather(*(cluster.call("GET", PATH) for _ in range(10)))
        assert [answer["kind"] for answer in answers] == ["Pod"] * 10
        assert len(front.asked) == 20


async def test_credentials_that_stay_wrong_are_not_loaded_at_each_request(
    tmp_path: Path, clock: _Clock, loads: list[ClusterSource]
) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = status(401, "Unauthorized")
        loads.clear()
        clock.late += 60.0
        for _ in range(10):
            with pytest.raises(errors.ApiError, match="401"):
                await cluster.call("GET", PATH)
        assert len(loads) == 1


async def test_credentials_that_are_refused_and_gone_leave_the_401(
    tmp_path: Path, clock: _Clock
) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        front.answer = status(401, "Unauthorized")
        (tmp_path / "kubeconfig").unlink()
        clock.late += 60.0
        with pytest.raises(errors.ApiError, match="401"):
            await cluster.call("GET", PATH)


async def test_a_new_token_alone_keeps_connections(tmp_path: Path, clock: _Clock) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        await cluster.call("GET", PATH)
        apiserver.kubeconfig(tmp_path / "kubeconfig", front.url, token="second")
        clock.late += credentials.RELOAD_SECONDS
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

        async def follow() -> list[str]:
            return [event.kind async for event in cluster.watch(WATCH, opened=opened.set)]

        watching = asyncio.create_task(follow())
        await opened.wait()
        apiserver.kubeconfig(tmp_path / "kubeconfig", front.url, token="second")
        clock.late += credentials.RELOAD_SECONDS
        await cluster.call("GET", PATH)
        ends.set()
        async with asyncio.timeout(10):
            assert await watching == ["ADDED"]


# --- before a 401 -----------------------------------------------------------------------------


Write = Callable[[Path, str, str], None]


def _in_the_kubeconfig(folder: Path, server: str, token: str) -> None:
    apiserver.kubeconfig(folder / "kubeconfig", server, token=token)


def _in_a_file(folder: Path, server: str, token: str) -> None:
    (folder / "token").write_text(f"{token}\n")
    if not (folder / "kubeconfig").exists():
        user = {"tokenFile": "token"}
        apiserver.kubeconfig(folder / "kubeconfig", server, user=user)


def _as_a_kubelet_does(folder: Path, server: str, token: str) -> None:
    """The token is seen through two links, of which one is exchanged."""
    version = folder / token
    version.mkdir()
    (version / "token").write_text(token)
    (folder / "..new").symlink_to(version)
    (folder / "..new").rename(folder / "..data")
    if not (folder / "kubeconfig").exists():
        (folder / "token").symlink_to("..data/token")
        apiserver.kubeconfig(folder / "kubeconfig", server, user={"tokenFile": "token"})


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(_in_the_kubeconfig, id="in the kubeconfig"),
        pytest.param(_in_a_file, id="in a file beside it"),
        pytest.param(_as_a_kubelet_does, id="in a mounted volume"),
    ],
)
async def test_a_token_is_exchanged_without_a_401(
    write: Write, tmp_path: Path, clock: _Clock
) -> None:
    async with apiserver.listening() as front:
        write(tmp_path, front.url, "first")
        async with apiserver.connection(tmp_path / "kubeconfig") as cluster:
            front.answer = _only("first")
            await cluster.call("GET", PATH)
            write(tmp_path, front.url, "second")
            front.answer = _only("second")
            clock.late += credentials.LOOK_SECONDS
            await cluster.call("GET", PATH)
            assert len(front.asked) == 2


async def test_a_pod_s_own_token_is_exchanged_without_a_401(
    tmp_path: Path, clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = certificates.authority()
    certificate = certificates.issue(ca, hosts=["127.0.0.1"], uses=[certificates.SERVER])
    (tmp_path / "ca.crt").write_text(ca.pem)
    (tmp_path / "token").write_text("first")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    tls = certificates.server_context(certificate, tmp_path)
    async with apiserver.listening(tls) as front:
        host, _, port = front.url.removeprefix("https://").partition(":")
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
        own = clusters.Cluster("home", ClusterSource(None, None), metrics=Metrics().client("home"))
        async with own as cluster:
            front.answer = _only("first")
            await cluster.call("GET", PATH)
            (tmp_path / "token").write_text("second")
            front.answer = _only("second")
            clock.late += credentials.LOOK_SECONDS
            await cluster.call("GET", PATH)
            assert len(front.asked) == 2


async def test_files_that_stay_are_not_read_again(
    tmp_path: Path, clock: _Clock, loads: list[ClusterSource]
) -> None:
    async with apiserver.connected(tmp_path) as (_, cluster):
        for _ in range(5):
            await cluster.call("GET", PATH)
            clock.late += credentials.LOOK_SECONDS
        assert len(loads) == 1


async def test_a_kubeconfig_that_broke_leaves_the_login_as_it_was(
    tmp_path: Path, clock: _Clock
) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        (tmp_path / "kubeconfig").write_text("{half of")
        clock.late += credentials.LOOK_SECONDS
        await cluster.call("GET", PATH)
        apiserver.kubeconfig(tmp_path / "kubeconfig", front.url, token="second")
        front.answer = _only("second")
        clock.late += credentials.LOOK_SECONDS
        await cluster.call("GET", PATH)
        assert len(front.asked) == 2


# --- client certificates ----------------------------------------------------------------------


class _Scene:
    """An API server that wants certificates of one CA, and a kubeconfig that names files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = certificates.authority()
        server = certificates.issue(self.ca, hosts=["127.0.0.1"], uses=[certificates.SERVER])
        (folder / "ca.crt").write_text(self.ca.pem)
        self.tls = certificates.server_context(server, folder, clients=self.ca)
        self.rotated = folder / "rotated.pem"

    def client(
        self, user: str, *, begins: timedelta = -HOUR, ends: timedelta = HOUR
    ) -> certificates.Pair:
        now = datetime.now(UTC)
        return certificates.issue(self.ca, user=user, begins=now + begins, ends=now + ends)

    def use(self, pair: certificates.Pair) -> None:
        pair.write(self.folder, "client")

    def rotate(self, pair: certificates.Pair) -> None:
        self.rotated.write_text(pair.pem + pair.key_pem)

    def connection(self, front: Front) -> clusters.Cluster:
        user = {"client-certificate": "client.crt", "client-key": "client.key"}
        path = apiserver.kubeconfig(
            self.folder / "kubeconfig",
            front.url,
            user=user,
            **{"certificate-authority": "ca.crt"},
        )
        source = ClusterSource(str(path), None, rotated=self.rotated)
        return clusters.Cluster("home", source, metrics=Metrics().client("home"))


async def test_a_client_certificate_is_exchanged(tmp_path: Path, clock: _Clock) -> None:
    scene = _Scene(tmp_path)
    scene.use(scene.client("first"))
    async with apiserver.listening(scene.tls) as front, scene.connection(front) as cluster:
        await cluster.call("GET", PATH)
        scene.use(scene.client("second"))
        clock.late += credentials.LOOK_SECONDS
        await cluster.call("GET", PATH)
        assert front.logins == ["first", "second"]


async def test_a_certificate_whose_key_is_still_the_old_one_waits_for_it(
    tmp_path: Path, clock: _Clock
) -> None:
    scene = _Scene(tmp_path)
    scene.use(scene.client("first"))
    async with apiserver.listening(scene.tls) as front, scene.connection(front) as cluster:
        second = scene.client("second")
        (tmp_path / "client.crt").write_text(second.pem)
        for _ in range(2):
            clock.late += credentials.LOOK_SECONDS
            await cluster.call("GET", PATH)
        (tmp_path / "client.key").write_text(second.key_pem)
        clock.late += credentials.LOOK_SECONDS
        await cluster.call("GET", PATH)
        assert front.logins == ["first", "first", "second"]


async def test_a_changed_ca_of_the_server_is_taken_up(tmp_path: Path, clock: _Clock) -> None:
    scene = _Scene(tmp_path)
    scene.use(scene.client("me"))
    (tmp_path / "ca.crt").write_text(certificates.authority("another").pem)
    async with apiserver.listening(scene.tls) as front, scene.connection(front) as cluster:
        with pytest.raises(errors.Unreachable, match="certificate verify failed"):
            await cluster.call("GET", PATH)
        (tmp_path / "ca.crt").write_text(scene.ca.pem)
        clock.late += credentials.LOOK_SECONDS
        await cluster.call("GET", PATH)
        assert front.logins == ["me"]


ROTATED: dict[str, tuple[str, timedelta, timedelta, bool]] = {
    "issued later: it is used": ("system:node:far", -HOUR / 2, HOUR, True),
    "issued later, though it ends sooner: it is used": (
        "system:node:far",
        -HOUR / 2,
        HOUR / 3,
        True,
    ),
    "issued at the same time, and dated back by its signer: it is used": (
        "system:node:far",
        -HOUR - timedelta(minutes=5),
        HOUR,
        True,
    ),
    "issued before the kubeconfig's: the admin gave a newer one": (
        "system:node:far",
        -2 * HOUR,
        3 * HOUR,
        False,
    ),
    "already over: it is no use": ("system:node:far", -HOUR / 2, -HOUR / 3, False),
    "of another node: it is not ours": ("system:node:near", -HOUR / 2, HOUR, False),
}


@pytest.mark.parametrize(("user", "begins", "ends", "used"), ROTATED.values(), ids=ROTATED)
async def test_a_rotated_pair(
    user: str, begins: timedelta, ends: timedelta, used: bool, tmp_path: Path
) -> None:
    scene = _Scene(tmp_path)
    scene.use(scene.client("system:node:far"))
    scene.rotate(scene.client(user, begins=begins, ends=ends))
    async with apiserver.listening(scene.tls) as front, scene.connection(front) as cluster:
        login = await cluster.login()
        assert login.certificate_file == str(scene.rotated if used else tmp_path / "client.crt")


async def test_a_pair_that_was_granted_meanwhile_is_used(tmp_path: Path, clock: _Clock) -> None:
    scene = _Scene(tmp_path)
    scene.use(scene.client("system:node:far"))
    async with apiserver.listening(scene.tls) as front, scene.connection(front) as cluster:
        await cluster.call("GET", PATH)
        scene.rotate(scene.client("system:node:far", begins=-HOUR / 2))
        clock.late += credentials.LOOK_SECONDS
        await cluster.call("GET", PATH)
        assert (await cluster.login()).certificate_file == str(scene.rotated)
        assert len(front.peers) == 2


# --- exec plugins -----------------------------------------------------------------------------

PLUGIN = """
import datetime, json, pathlib
runs = pathlib.Path({runs!r})
runs.write_text(runs.read_text() + "x")
ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds={life})
status = {{"token": "run-%d" % len(runs.read_text()), "expirationTimestamp": ends.isoformat()}}
print(json.dumps({{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
                  "status": status}}))
"""


@pytest.mark.parametrize(
    ("late", "token"),
    [
        pytest.param(120.0, "run-1", id="in the middle of its life: not asked"),
        pytest.param(275.0, "run-2", id="shortly before its end: asked again"),
    ],
)
async def test_a_plugin_is_asked_before_its_token_ends(
    late: float, token: str, tmp_path: Path, clock: _Clock
) -> None:
    (tmp_path / "runs").write_text("")
    script = tmp_path / "plugin.py"
    script.write_text(PLUGIN.format(runs=str(tmp_path / "runs"), life=300))
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [str(script)],
    }
    async with apiserver.listening() as front:
        path = apiserver.kubeconfig(tmp_path / "kubeconfig", front.url, user={"exec": plugin})
        async with apiserver.connection(path) as cluster:
            clock.late += late
            assert (await cluster.login()).authorization == f"Bearer {token}"


async def test_a_plugin_that_hangs_refuses_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(**_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(credentials, "PLUGIN_SECONDS", 0.2)
    monkeypatch.setattr("kubernetes_asyncio.config.load_kube_config", hang)
    path = apiserver.kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1")
    with pytest.raises(errors.StartError, match=r"exec plugin did not answer within 0\.2 s"):
        await apiserver.connection(path).login()


# --- what never could be loaded ---------------------------------------------------------------

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
async def test_a_broken_ca_refuses_the_start(cluster: dict[str, Any], tmp_path: Path) -> None:
    path = apiserver.kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1", **cluster)
    with pytest.raises(errors.StartError, match=r"foreign.*kubeconfig"):
        await apiserver.connection(path).login()


async def test_a_login_does_not_show_its_token(tmp_path: Path) -> None:
    path = apiserver.kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1", token="hush")
    login = await apiserver.connection(path).login()
    assert login.authorization == "Bearer hush"
    assert "hush" not in repr(login) + json.dumps([str(part) for part in login.connecting])
