"""Whatever dies on the way through the gateway, clients abroad go on soon after it is back.

In a pod abroad run two unchanged clients without any timeout of their own: `kubectl get --watch` in
a loop, and one that asks five times a second. Within ten seconds of the return both have to see
home again, and no connection that is older than the fault may be left, as one that hangs would be.
"""

import asyncio
import contextlib
import dataclasses
import datetime
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from clusters import connections, gateway, pair, rest
from clusters import farlet as farlets
from clusters import workspace as workspaces
from clusters.gateway import Gateway
from clusters.identity import Identity
from clusters.workspace import FARLET_NAMESPACE, Workspace
from faults import manifests
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.asyncio(loop_scope="module")]

BACK_SECONDS = 10.0
SLACK_SECONDS = 15.0
"""What a busy machine may add; a connection that hangs does so for minutes."""
CLIENTS = "clients"
WATCHING, ASKING = "watching", "asking"
WATCH = """
while true; do
  kubectl get pods --watch --output=name
  echo "kubectl ended with $?"
  sleep 0.2
done
"""


@dataclasses.dataclass(frozen=True)
class Site:
    """A gateway with one pod, its farlet, and a pod abroad with clients of home."""

    clusters: pair.Clusters
    home: rest.Api
    foreign: rest.Api
    space: Workspace
    gateway: Gateway
    farlet: farlets.Farlet
    address: str
    mirror: str
    """The uid of the pod abroad."""

    def connected(self) -> set[int]:
        """Own ports of the clients' connections to home."""
        return connections.established(self.mirror, to=(self.address, 443))

    async def printed(self, container: str) -> str:
        """All of it, in whole lines."""
        output = await self.foreign.logs(CLIENTS, namespace=self.space.foreign, container=container)
        return output[: output.rfind("\n") + 1]

    async def seen_by_watch(self, name: str, *, until: float) -> float:
        """When the watching client had told of a pod at home."""
        while f"pod/{name}\n" not in await self.printed(WATCHING):
            assert time.time() < until, await self.told()
            await asyncio.sleep(0.1)
        return time.time()

    async def answered(self, since: float, *, until: float) -> float:
        """When the asking client first had an answer to what it asked after `since`."""
        while True:
            for line in realpods.lines(await self.printed(ASKING)):
                if line["error"] is None and _asked(line) > since:
                    return _asked(line)
            assert time.time() < until, await self.told()
            await asyncio.sleep(0.1)

    async def told(self) -> str:
        """For whoever reads of a failure."""
        parts = [(await self.printed(name))[-1500:] for name in (WATCHING, ASKING)]
        others = [
            await self.gateway.told(),
            self.farlet.log[-3000:],
            connections.table(self.mirror),
        ]
        return "\n--\n".join(["not within the time", *parts, *others])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(clusters: pair.Clusters, usual_identity: Identity) -> AsyncIterator[Site]:
    node = f"virtual-{secrets.token_hex(3)}"
    async with (
        clusters.home.api() as home,
        clusters.foreign.api() as foreign,
        contextlib.AsyncExitStack() as stack,
    ):
        space = await workspaces.create(home, foreign)
        stack.push_async_callback(workspaces.delete, home, foreign, space)
        await workspaces.allow_listing_pods(home, namespace=space.home)
        made = await stack.enter_async_context(gateway.installed(clusters))
        farlet = farlets.create(
            clusters, node=node, identity=usual_identity, settings=made.settings
        )
        farlet.start()
        stack.push_async_callback(home.delete, "nodes", name=node)
        stack.push_async_callback(farlet.stop)
        await farlet.ready()
        await made.linked()
        both = [
            realpods.container(WATCHING, "bash", "-c", WATCH),
            realpods.container(ASKING, "client-watch", "0.2"),
        ]
        pod = realpods.bound(realpods.pod(CLIENTS, containers=both), node)
        await home.create("pods", pod, namespace=space.home)
        await home.until("pods", rest.ready, name=CLIENTS, namespace=space.home, seconds=180)
        mirror = await foreign.get("pods", name=CLIENTS, namespace=space.foreign)
        address = await made.address()
        yield Site(clusters, home, foreign, space, made, farlet, address, manifests.uid(mirror))


async def kill_process_of_gateway(site: Site) -> float:
    """The kubelet starts the container again."""
    (pod,) = await site.gateway.pods()
    before = await site.foreign.get("pods", name=pod.name, namespace=FARLET_NAMESPACE)

    def restarts(seen: rest.Object) -> int:
        (status,) = seen["status"]["containerStatuses"]
        return int(status["restartCount"])

    def again(seen: rest.Object | None) -> bool:
        return seen is not None and restarts(seen) > restarts(before) and rest.ready(seen)

    pod.kill()
    await site.foreign.until("pods", again, name=pod.name, namespace=FARLET_NAMESPACE, seconds=180)
    return time.time()


async def delete_pod_of_gateway(site: Site) -> float:
    """Its Deployment makes another.

    With so much grace that kube-proxy hears of it first: else who connects just then sends to an
    address without anybody, of whose end no kernel tells him, as with any Service.
    """
    (pod,) = await site.gateway.pods()
    await site.foreign.delete(
        "pods", name=pod.name, namespace=FARLET_NAMESPACE, gracePeriodSeconds="3"
    )
    await site.foreign.until("pods", rest.gone, name=pod.name, namespace=FARLET_NAMESPACE)
    await site.gateway.linked()
    return time.time()


async def kill_farlet(site: Site) -> float:
    """It is started at once, and what it needs for its start counts."""
    site.farlet.kill()
    site.farlet.start()
    return time.time()


async def kill_foreign_api_server(site: Site) -> float:
    """And with it the port-forward."""
    server = site.clusters.foreign.apiserver
    server.kill()
    server.start()
    await asyncio.to_thread(server.wait_ready)
    return time.time()


async def pause_foreign_api_server(site: Site) -> float:
    """Connections stay, and nothing goes through them: nobody is told by his kernel."""
    old = site.connected()
    server = site.clusters.foreign.apiserver
    server.pause()
    try:
        until = time.time() + 15 + SLACK_SECONDS
        while old & site.connected():
            assert time.time() < until, "a connection hangs"
            await asyncio.sleep(0.1)
    finally:
        server.resume()
    return time.time()


@pytest.mark.parametrize(
    "fault",
    [
        kill_farlet,
        kill_process_of_gateway,
        delete_pod_of_gateway,
        kill_foreign_api_server,
        pause_foreign_api_server,
    ],
    ids=lambda fault: fault.__name__.replace("_", " "),
)
async def test_clients_go_on_within_ten_seconds_and_no_connection_hangs(
    site: Site, fault: Callable[[Site], Awaitable[float]]
) -> None:
    await _flowing(site)
    old = await _both_connected(site)
    began = time.time()

    back = await fault(site)
    name = await _create(site)
    watched, answered = await asyncio.gather(
        site.seen_by_watch(name, until=back + BACK_SECONDS + SLACK_SECONDS),
        site.answered(back, until=back + BACK_SECONDS + SLACK_SECONDS),
    )
    print(
        f"{fault.__name__}: back {back - began:.1f} s after the fault; an answer "
        f"{answered - back:.1f} s later, the watch {watched - back:.1f} s later"
    )
    assert old & site.connected() == set()
    # The one that asks waits for ever where nobody answers.
    asked = [_asked(line) for line in realpods.lines(await site.printed(ASKING))]
    longest = max(after - before for before, after in itertools.pairwise(asked))
    assert longest < back - began + BACK_SECONDS + SLACK_SECONDS
    await _counted(site)


async def _flowing(site: Site) -> None:
    """Both clients are served."""
    until = time.time() + 9 * BACK_SECONDS
    name = await _create(site)
    await asyncio.gather(
        site.seen_by_watch(name, until=until), site.answered(time.time(), until=until)
    )


async def _both_connected(site: Site) -> set[int]:
    """The clients' connections, once each has its one: a watch may just have begun anew."""
    until = time.time() + BACK_SECONDS + SLACK_SECONDS
    while len(found := site.connected()) != 2:
        assert time.time() < until, await site.told()
        await asyncio.sleep(0.1)
    return found


async def _counted(site: Site) -> None:
    """Nobody carries more connections than clients have: none was left behind at home."""
    until = time.time() + BACK_SECONDS + SLACK_SECONDS
    while "farlet_gateway_connections 2.0\n" not in await site.farlet.metrics():
        assert time.time() < until, await site.farlet.metrics()
        await asyncio.sleep(0.1)


async def _create(site: Site) -> str:
    """A pod at home that nobody will ever run; its name."""
    name = f"new-{secrets.token_hex(3)}"
    spec = {"schedulerName": "nobody", "containers": [{"name": "main", "image": "none"}]}
    pod = {"metadata": {"name": name}, "spec": spec}
    await site.home.create("pods", pod, namespace=site.space.home)
    return name


def _asked(line: realpods.Line) -> float:
    """When, in seconds since the epoch."""
    return datetime.datetime.fromisoformat(line["time"]).timestamp()
