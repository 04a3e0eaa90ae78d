"""Clients in mirror pods recover within ten seconds after any part of the gateway path was down.

A mirror pod runs two unmodified clients without timeouts of their own: `kubectl get --watch` in a
loop, and a client that sends five requests per second. Within ten seconds after the part is back,
both must see the home cluster again, and no connection from before the fault must remain, since it
would hang.
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

pytestmark = [pytest.mark.clusters, pytest.mark.asyncio(loop_scope="module"), pytest.mark.takes(60)]

BACK_SECONDS = 10.0
SLACK_SECONDS = 15.0
"""Allowance for a busy machine; a connection that hangs does so for minutes."""
CLIENTS = "clients"
WATCHING, POLLING = "watching", "polling"
WATCH = """
while true; do
  kubectl get pods --watch --output=name
  echo "kubectl ended with $?"
  sleep 0.2
done
"""


@dataclasses.dataclass(frozen=True)
class GatewayEnvironment:
    """A gateway with one pod, its farlet, and a mirror pod with two clients of the home API."""

    clusters: pair.Clusters
    home: rest.Api
    foreign: rest.Api
    space: Workspace
    gateway: Gateway
    farlet: farlets.Farlet
    address: str
    mirror: str
    """The uid of the mirror pod."""

    def connected(self) -> set[int]:
        """Local ports of the clients' connections to the home API."""
        return connections.established(self.mirror, to=(self.address, 443))

    async def printed(self, container: str) -> str:
        """The output of a container, in complete lines."""
        output = await self.foreign.logs(CLIENTS, namespace=self.space.foreign, container=container)
        return output[: output.rfind("\n") + 1]

    async def seen_by_watch(self, name: str, *, until: float) -> float:
        """When the watching client had printed a home pod."""
        while f"pod/{name}\n" not in await self.printed(WATCHING):
            assert time.time() < until, await self.diagnostics()
            await asyncio.sleep(0.1)
        return time.time()

    async def answered(self, since: float, *, until: float) -> float:
        """When the polling client got its first response to a request sent after `since`."""
        while True:
            for line in realpods.lines(await self.printed(POLLING)):
                if line["error"] is None and _sent_at(line) > since:
                    return _sent_at(line)
            assert time.time() < until, await self.diagnostics()
            await asyncio.sleep(0.1)

    async def diagnostics(self) -> str:
        """Outputs and logs, for the message of a failed test."""
        parts = [(await self.printed(name))[-1500:] for name in (WATCHING, POLLING)]
        others = [
            await self.gateway.diagnostics(),
            self.farlet.log[-3000:],
            connections.table(self.mirror),
        ]
        return "\n--\n".join(["the clients did not recover in time", *parts, *others])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def env(
    clusters: pair.Clusters, usual_identity: Identity
) -> AsyncIterator[GatewayEnvironment]:
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
            realpods.container(POLLING, "client-watch", "0.2"),
        ]
        pod = realpods.bound(realpods.pod(CLIENTS, containers=both), node)
        await home.create("pods", pod, namespace=space.home)
        await home.until("pods", rest.ready, name=CLIENTS, namespace=space.home, seconds=180)
        mirror = await foreign.get("pods", name=CLIENTS, namespace=space.foreign)
        address = await made.address()
        yield GatewayEnvironment(
            clusters, home, foreign, space, made, farlet, address, manifests.uid(mirror)
        )


async def kill_process_of_gateway(env: GatewayEnvironment) -> float:
    """The kubelet restarts the container."""
    (pod,) = await env.gateway.pods()
    before = await env.foreign.get("pods", name=pod.name, namespace=FARLET_NAMESPACE)

    def restarts(seen: rest.Object) -> int:
        (status,) = seen["status"]["containerStatuses"]
        return int(status["restartCount"])

    def again(seen: rest.Object | None) -> bool:
        return seen is not None and restarts(seen) > restarts(before) and rest.ready(seen)

    pod.kill()
    await env.foreign.until("pods", again, name=pod.name, namespace=FARLET_NAMESPACE, seconds=180)
    return time.time()


async def delete_pod_of_gateway(env: GatewayEnvironment) -> float:
    """Its Deployment creates another pod.

    The grace period lets kube-proxy learn of the deletion first. Otherwise a client that connects
    at that moment sends to an address that no longer exists, and no kernel reports that to the
    client, as with any Service.
    """
    (pod,) = await env.gateway.pods()
    await env.foreign.delete(
        "pods", name=pod.name, namespace=FARLET_NAMESPACE, gracePeriodSeconds="3"
    )
    await env.foreign.until("pods", rest.gone, name=pod.name, namespace=FARLET_NAMESPACE)
    await env.gateway.linked()
    return time.time()


async def kill_farlet(env: GatewayEnvironment) -> float:
    """It is restarted at once; the time of the start counts."""
    env.farlet.kill()
    env.farlet.start()
    return time.time()


async def kill_foreign_api_server(env: GatewayEnvironment) -> float:
    """This also ends the port-forward."""
    server = env.clusters.foreign.apiserver
    server.kill()
    server.start()
    await asyncio.to_thread(server.wait_ready)
    return time.time()


async def pause_foreign_api_server(env: GatewayEnvironment) -> float:
    """Connections stay open without traffic, so no kernel reports an error."""
    old = env.connected()
    server = env.clusters.foreign.apiserver
    server.pause()
    try:
        until = time.time() + 15 + SLACK_SECONDS
        while old & env.connected():
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
async def test_clients_recover_within_ten_seconds_and_no_connection_hangs(
    env: GatewayEnvironment, fault: Callable[[GatewayEnvironment], Awaitable[float]]
) -> None:
    await _flowing(env)
    old = await _both_connected(env)
    began = time.time()

    back = await fault(env)
    name = await _create(env)
    watched, answered = await asyncio.gather(
        env.seen_by_watch(name, until=back + BACK_SECONDS + SLACK_SECONDS),
        env.answered(back, until=back + BACK_SECONDS + SLACK_SECONDS),
    )
    print(
        f"{fault.__name__}: back {back - began:.1f} s after the fault; first response "
        f"{answered - back:.1f} s later, the watch {watched - back:.1f} s later"
    )
    assert old & env.connected() == set()
    # Without a response the polling client would wait forever.
    sent = [_sent_at(line) for line in realpods.lines(await env.printed(POLLING))]
    longest = max(after - before for before, after in itertools.pairwise(sent))
    assert longest < back - began + BACK_SECONDS + SLACK_SECONDS
    await _counted(env)


async def _flowing(env: GatewayEnvironment) -> None:
    """Wait until both clients get responses."""
    until = time.time() + 9 * BACK_SECONDS
    name = await _create(env)
    await asyncio.gather(
        env.seen_by_watch(name, until=until), env.answered(time.time(), until=until)
    )


async def _both_connected(env: GatewayEnvironment) -> set[int]:
    """The clients' connections, once each has one: a watch may be reconnecting."""
    until = time.time() + BACK_SECONDS + SLACK_SECONDS
    while len(found := env.connected()) != 2:
        assert time.time() < until, await env.diagnostics()
        await asyncio.sleep(0.1)
    return found


async def _counted(env: GatewayEnvironment) -> None:
    """farlet has no more open connections than there are clients: none was leaked."""
    until = time.time() + BACK_SECONDS + SLACK_SECONDS
    while "farlet_gateway_connections 2.0\n" not in await env.farlet.metrics():
        assert time.time() < until, await env.farlet.metrics()
        await asyncio.sleep(0.1)


async def _create(env: GatewayEnvironment) -> str:
    """Create a home pod that no scheduler handles; return its name."""
    name = f"new-{secrets.token_hex(3)}"
    spec = {"schedulerName": "none", "containers": [{"name": "main", "image": "none"}]}
    pod = {"metadata": {"name": name}, "spec": spec}
    await env.home.create("pods", pod, namespace=env.space.home)
    return name


def _sent_at(line: realpods.OutputLine) -> float:
    """The time of a request, in seconds since the epoch."""
    return datetime.datetime.fromisoformat(line["time"]).timestamp()
