"""The shipped HAProxy between clients and the home API server, when either of the two dies.

Tests of HAProxy alone run on loopback; tests of clients use an unmodified `kubectl get --watch` in
a mirror pod. `test_access_modes.py` shows that every client works through the proxy.
"""

import asyncio
import contextlib
import dataclasses
import re
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from clusters import apiproxy, kubeconfig, pair, ports, rest
from clusters.apiproxy import Proxy
from clusters.workspace import Workspace, allow_listing_pods
from conftest import StartFarlet
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.takes(110)]

RECOVERY_SECONDS = 10.0
SLACK_SECONDS = 20.0
"""Seconds for clients to start and for checks, on a busy machine."""
AT_ONCE_SECONDS = 8.0  # less than any timeout of a waiting connection
IDLE_SECONDS = 13.0  # longer than all timeouts of the configuration for a new connection
WATCHER = """
while :; do
  kubectl get pods --watch --output=name
  echo ended
  sleep 0.5
done
"""


# --- HAProxy alone --------------------------------------------------------------------------


@contextlib.contextmanager
def on_loopback(clusters: pair.Clusters, *backends: str) -> Iterator[tuple[Proxy, Path]]:
    """A proxy, and an administrator's kubeconfig that leads through it."""
    (port,) = ports.free(1)
    name = f"loopback-{port}"
    listen = f"127.0.0.1:{port}"
    proxy = apiproxy.create(
        clusters.instance, name=name, listen=listen, backends=backends, network=None
    )
    known = clusters.home.kubeconfig.read_text()
    login = proxy.status.with_suffix(".kubeconfig")
    login.write_text(known.replace(clusters.home.server, f"https://{listen}"))
    assert kubeconfig.read(login).server == f"https://{listen}"
    proxy.start()
    try:
        yield proxy, login
    finally:
        proxy.process.kill()


def home_of(clusters: pair.Clusters) -> str:
    host, port = clusters.home.address
    return f"{host}:{port}"


async def eventually(holds: Callable[[], bool]) -> None:
    """Return once the condition holds; raise AssertionError after the timeout."""
    seconds = RECOVERY_SECONDS + SLACK_SECONDS
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        await asyncio.sleep(0.1)


def is_up(proxy: Proxy, backend: str) -> bool:
    _, text = proxy.ask("/metrics")
    (value,) = re.findall(
        rf'^haproxy_server_status{{proxy="home-api",server="{backend}",state="UP"}} (\d)',
        text,
        re.MULTILINE,
    )
    return bool(value == "1")


async def test_a_dead_backend_is_detected_and_no_request_fails(
    clusters: pair.Clusters,
) -> None:
    (dead,) = ports.free(1)
    with on_loopback(clusters, f"127.0.0.1:{dead}", home_of(clusters)) as (proxy, login):
        for _ in range(10):
            async with clusters.home.api(login=login) as api:  # a new connection
                await api.request("GET", "/readyz")
        await eventually(lambda: not is_up(proxy, "home-api-1"))
        assert is_up(proxy, "home-api-2")
        assert proxy.ask("/readyz")[0] == 200


async def test_without_backends_connections_end_at_once_and_the_pod_is_not_ready(
    clusters: pair.Clusters,
) -> None:
    (dead,) = ports.free(1)
    with on_loopback(clusters, f"127.0.0.1:{dead}") as (proxy, login):
        await eventually(lambda: proxy.ask("/readyz")[0] == 503)
        assert proxy.ask("/livez")[0] == 200
        async with clusters.home.api(login=login) as api:
            with pytest.raises(aiohttp.ClientError):
                async with asyncio.timeout(AT_ONCE_SECONDS):
                    await api.request("GET", "/readyz")


async def test_a_server_that_accepts_connections_but_is_not_an_api_server_is_down(
    clusters: pair.Clusters,
) -> None:
    """A load balancer without servers behaves like this."""
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as liar:
        host, port = liar.sockets[0].getsockname()
        with on_loopback(clusters, f"{host}:{port}", home_of(clusters)) as (proxy, _):
            await eventually(lambda: not is_up(proxy, "home-api-1"))
            assert is_up(proxy, "home-api-2")


async def test_a_silent_watch_survives_and_continues_during_a_stop_that_rejects_new_clients(
    clusters: pair.Clusters, workspace: Workspace
) -> None:
    with on_loopback(clusters, home_of(clusters)) as (proxy, login):
        async with clusters.home.api(login=login) as api, clusters.home.api() as direct:
            seen: asyncio.Queue[str] = asyncio.Queue()

            async def follow() -> None:
                found = await api.request("GET", f"/api/v1/namespaces/{workspace.home}/configmaps")
                version = found["metadata"]["resourceVersion"]
                await seen.put("listening")
                async for _, one in api.watch(
                    "configmaps", namespace=workspace.home, resourceVersion=version
                ):
                    await seen.put(one["metadata"]["name"])

            async def delivers(name: str) -> None:
                await direct.create(
                    "configmaps", {"metadata": {"name": name}}, namespace=workspace.home
                )
                async with asyncio.timeout(60):
                    assert await seen.get() == name

            async with asyncio.TaskGroup() as group:
                watching = group.create_task(_until_cut(follow()))
                assert await seen.get() == "listening"
                await asyncio.sleep(IDLE_SECONDS)
                await delivers("after-silence")

                proxy.process.signal(signal.SIGUSR1)
                while await _takes_connections(clusters, login):  # until it handles the signal
                    assert not watching.done()
                await delivers("while-it-stops")
                assert not watching.done()
                assert await asyncio.to_thread(proxy.process.wait, seconds=90) == 0
    assert "Connect from" not in proxy.process.output()  # no line per connection


async def _takes_connections(clusters: pair.Clusters, login: Path) -> bool:
    try:
        async with clusters.home.api(login=login) as late:
            await late.request("GET", "/readyz")
    except aiohttp.ClientConnectorError:
        return False
    return True


async def _until_cut(following: Awaitable[None]) -> None:
    with contextlib.suppress(aiohttp.ClientError):
        await following


# --- a client in a pod ----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Watcher:
    """A mirror pod that watches its home namespace and reconnects whenever a watch ends."""

    foreign: rest.Api
    namespace: str

    async def lines(self) -> list[str]:
        """All lines that it has printed."""
        return (await self.foreign.logs("watcher", namespace=self.namespace)).splitlines()

    async def printed(self, line: str) -> int:
        """How often it has printed this line."""
        return (await self.lines()).count(line)

    async def prints(self, line: str, *, beyond: int = 0) -> None:
        """Return once it prints the line again; raise AssertionError after the timeout."""
        seconds = RECOVERY_SECONDS + SLACK_SECONDS
        deadline = time.monotonic() + seconds
        while await self.printed(line) <= beyond:
            if time.monotonic() > deadline:
                pytest.fail(f"no {line!r} in {seconds:.0f} s: {(await self.lines())[-20:]}")
            await asyncio.sleep(0.2)


@pytest.fixture
async def watcher(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
    proxy: Proxy,
) -> Watcher:
    await allow_listing_pods(home, namespace=workspace.home)
    await start_farlet(node)
    wanted = realpods.pod("watcher", "bash", "-c", WATCHER)
    await home.create("pods", realpods.bound(wanted, node), namespace=workspace.home)
    await foreign.until(
        "pods", rest.phase("Running"), name="watcher", namespace=workspace.foreign, seconds=180
    )
    made = Watcher(foreign, workspace.foreign)
    await made.prints("pod/watcher")
    return made


@pytest.fixture
def proxy(clusters: pair.Clusters) -> Iterator[Proxy]:
    """HAProxy as the only path from mirror pods to the home API server."""
    with apiproxy.before_home(clusters) as running:
        yield running


@pytest.mark.parametrize("victim", ["proxy", "API server"])
async def test_a_watch_ends_when_the_path_is_cut_and_the_client_reconnects_when_it_is_back(
    clusters: pair.Clusters,
    home: rest.Api,
    workspace: Workspace,
    proxy: Proxy,
    watcher: Watcher,
    victim: str,
) -> None:
    ended = await watcher.printed("ended")
    if victim == "proxy":
        proxy.process.kill()
        await watcher.prints("ended", beyond=ended)
        proxy.start()
    else:
        clusters.home.apiserver.kill()
        try:
            await watcher.prints("ended", beyond=ended)
        finally:  # the tests after this one need it
            clusters.home.apiserver.start()
            await asyncio.to_thread(clusters.home.apiserver.wait_ready)
    await home.create("pods", realpods.pod("after"), namespace=workspace.home)
    await watcher.prints("pod/after")
