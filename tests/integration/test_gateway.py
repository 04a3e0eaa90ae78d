"""The gateway as shipped: real pods abroad reach home by nothing but farlet's own connection.

Two gateway pods behind the Service, one farlet, and one pod abroad in which the tests run what they
need; the direct way from foreign pods to home is closed.
"""

import asyncio
import collections
import contextlib
import dataclasses
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from clusters import farlet as farlets
from clusters import gateway, pair, processes, rest
from clusters import workspace as workspaces
from clusters.gateway import Gateway
from clusters.identity import Identity
from clusters.workspace import Workspace
from integration import realpods
from integration.kubectl import Kubectl, Result
from integration.streaming import STAYS

pytestmark = [
    pytest.mark.clusters,
    pytest.mark.core,
    pytest.mark.asyncio(loop_scope="module"),
]

POD = "abroad"
NAME = "kubernetes.default.svc"
REACHABLE = "farlet.io/HomeAPIReachable"
NOT_CONFIGURED = "HomeAPINotConfigured"
LARGE, PIECES = 900_000, 20
"""Bytes of one object, and how many of them are listed: 18 MB."""

HALF_CLOSE = f"""
import socket
with socket.create_connection(("{NAME}", 443), timeout=60) as peer:
    peer.shutdown(socket.SHUT_WR)
    print(peer.recv(100))
"""
HOLD = f"""
import socket, ssl, sys
context = ssl.create_default_context(cafile="/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")
held = [
    context.wrap_socket(socket.create_connection(("{NAME}", 443)), server_hostname="{NAME}")
    for _ in range(16)
]
print("held", flush=True)
sys.stdin.read()
"""


@dataclasses.dataclass(frozen=True)
class Site:
    """Both ends, and a pod of the home cluster that runs abroad; `waited` is how it waited."""

    clusters: pair.Clusters
    home: rest.Api
    foreign: rest.Api
    space: Workspace
    node: str
    gateway: Gateway
    farlet: farlets.Farlet
    waited: rest.Object

    @property
    def abroad(self) -> Kubectl:
        """kubectl of the foreign cluster's administrator in the namespace of mirrors."""
        return Kubectl.of(self.clusters.foreign, self.space.foreign)

    async def inside(self, *command: str) -> Result:
        """Run a command in the pod."""
        return await self.abroad.run("exec", POD, "--", *command)

    async def until_dialled(self, name: str) -> None:
        """Return once a pod can connect: kube-proxy hears of a Service later than farlet may."""
        curl = ("curl", "--silent", "--retry", "60", "--retry-delay", "1", "--retry-all-errors")
        asked = await self.abroad.run(
            "exec", name, "--", *curl, "--insecure", f"https://{NAME}/livez"
        )
        assert asked.code == 0, asked

    async def condition(self, status: str) -> dict[str, Any]:
        """What the Node says of the way home, once it has that status."""
        seen = await self.home.until("nodes", lambda one: _says(one, status), name=self.node)
        return _conditions(seen)[REACHABLE]

    async def check(self, *arguments: str, **settings: str) -> Result:
        """`farlet check` with the settings of the farlet that runs."""
        program, _, *flags = self.farlet.process.command
        for flag, value in settings.items():
            flags[flags.index(f"--{flag.replace('_', '-')}") + 1] = value
        process = await asyncio.create_subprocess_exec(
            *(program, "check", *flags, *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return Result(process.returncode or 0, out, err.decode())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(clusters: pair.Clusters, usual_identity: Identity) -> AsyncIterator[Site]:
    """The Service comes last: farlet is already running, and a pod waits for it."""
    node = f"virtual-{secrets.token_hex(3)}"
    async with (
        clusters.home.api() as home,
        clusters.foreign.api() as foreign,
        contextlib.AsyncExitStack() as stack,
    ):
        space = await workspaces.create(home, foreign)
        stack.push_async_callback(workspaces.delete, home, foreign, space)
        viewer = ("rolebinding", "viewer", "--clusterrole=view", f"--namespace={space.home}")
        account = f"--serviceaccount={space.home}:default"
        await asyncio.to_thread(clusters.home.kubectl, "create", *viewer, account)
        made = await stack.enter_async_context(gateway.installed(clusters, replicas=2))
        await made.kubectl("delete", "service", gateway.SERVICE)
        farlet = farlets.create(
            clusters, node=node, identity=usual_identity, settings=made.settings
        )
        farlet.start()
        stack.push_async_callback(home.delete, "nodes", name=node)
        stack.push_async_callback(farlet.stop)
        await farlet.ready()
        await _create(home, POD, space=space, node=node)
        waits = rest.reason(NOT_CONFIGURED)
        waited = await home.until("pods", waits, name=POD, namespace=space.home)
        site = Site(clusters, home, foreign, space, node, made, farlet, waited)
        await site.condition("False")
        await made.apply()
        await made.linked()
        await home.until("pods", rest.ready, name=POD, namespace=space.home, seconds=180)
        await site.until_dialled(POD)
        yield site


async def test_a_pod_waits_until_there_is_a_service_and_then_starts_by_itself(site: Site) -> None:
    assert "manifests/foreign/gateway" in site.waited["status"]["message"]
    pod = await site.home.get("pods", name=POD, namespace=site.space.home)
    assert pod["metadata"]["uid"] == site.waited["metadata"]["uid"]
    (status,) = pod["status"]["containerStatuses"]
    assert (status["ready"], status["restartCount"]) == (True, 0)


async def test_kubectl_in_a_pod_abroad_sees_home(site: Site) -> None:
    answer = await site.inside("kubectl", "get", "pods", "--output=name")
    assert (answer.out, answer.err) == (f"pod/{POD}\n".encode(), "")


async def test_node_and_metrics_tell_that_home_is_reachable(site: Site) -> None:
    condition = await site.condition("True")
    address = await site.gateway.address()
    assert condition["reason"] == "HomeAPIVerified"
    assert condition["message"] == f"pods abroad reach it at {NAME}:443 at {address}"
    async with asyncio.timeout(rest.PATIENCE):  # a gateway knows of a link before farlet counts it
        while await _metrics(site) != {"home_api_reachable": 1, "gateway_links": 2}:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_connections_are_shared_by_all_gateway_pods(site: Site) -> None:
    async with asyncio.timeout(180):  # kube-proxy may know only the first of both yet
        while not all(await _held(site)):
            pass


async def _held(site: Site) -> list[int]:
    """How many of 16 connections each of the two gateways carries."""
    command = ("exec", "-i", POD, "--", "python3", "-c", HOLD)
    async with site.abroad.running(*command, stdin=True) as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"held\n"
        pods = await site.gateway.pods()
        assert len(pods) == 2
        async with asyncio.timeout(90):  # farlet's own look at the address may be under way
            while True:
                carried = [_connections(pod, port=6443) for pod in pods]
                told = "farlet_gateway_connections 16.0\n" in await site.farlet.metrics()
                if told and sum(carried) == 16:
                    return carried
                await asyncio.sleep(0.1)


async def test_half_a_connection_closes_before_the_other(site: Site) -> None:
    """An API server ends what says nothing and will not: it hears of that, and is heard."""
    async with asyncio.timeout(180):
        answer = await site.inside("python3", "-c", HALF_CLOSE)
    assert (answer.out, answer.err) == (b"b''\n", "")


async def test_a_large_list_arrives_whole(site: Site) -> None:
    pieces = ({"metadata": {"name": f"piece-{number}"}} for number in range(PIECES))
    for piece in pieces:
        data = {"text": secrets.token_hex(LARGE // 2)}
        await site.home.create("configmaps", {**piece, "data": data}, namespace=site.space.home)
    get = ("get", "configmaps", "--output=json", "--field-selector=metadata.name!=kube-root-ca.crt")
    at_home = await Kubectl.of(site.clusters.home, site.space.home).run(*get)
    through = await site.inside("kubectl", *get)
    assert len(at_home.out) > LARGE * PIECES
    assert (through.code, through.err) == (0, "")
    # Not `==` of both in one assertion, whose difference nobody could read.
    same = through.out == at_home.out
    assert same, (len(through.out), len(at_home.out))


async def test_farlet_check_finds_nothing_wrong(site: Site) -> None:
    answer = await site.check("--output=json")
    assert (answer.code, answer.err) == (0, "")
    told = json.loads(answer.out)
    pods = [pod.name for pod in await site.gateway.pods()]
    assert told["ok"] is True
    assert {one["what"]: one["outcome"] for one in told["checks"]} == dict.fromkeys(
        [
            *("home API server", "foreign API server", "home API for pods abroad"),
            *("certificate at that address", *(f"gateway {name}" for name in pods)),
        ],
        "ok",
    )
    table = (await site.check()).out.decode()
    assert f"{NAME}:443 at {await site.gateway.address()}" in table
    assert all(f"gateway {name}" in table for name in pods)


async def test_farlet_check_tells_of_keys_that_do_not_fit(site: Site, tmp_path: Path) -> None:
    program = Path(site.farlet.process.command[0])
    processes.run([program, "gateway-keys", tmp_path / "keys"], what="make other keys")
    answer = await site.check(gateway_keys=str(tmp_path / "keys" / "home"))
    assert (answer.code, answer.err) == (1, "")
    table = answer.out.decode()
    assert table.count("both Secrets must come from one run of farlet gateway-keys") == 2
    # The farlet that runs has not suffered from it.
    assert (await _metrics(site))["gateway_links"] == 2


async def test_a_service_at_another_address_is_for_new_pods_and_an_event_says_so(
    site: Site,
) -> None:
    first = await site.foreign.get(
        "services", name=gateway.SERVICE, namespace=workspaces.FARLET_NAMESPACE
    )
    before = await site.gateway.address()
    await site.gateway.kubectl("delete", "service", gateway.SERVICE)
    await site.condition("False")
    await site.gateway.apply()
    await site.condition("True")
    after = await site.gateway.address()
    assert before != after
    await _create(site.home, "later", space=site.space, node=site.node)
    event = await realpods.event(
        site.home, POD, namespace=site.space.home, reason="HomeAPIEndpointChanged", seconds=180
    )
    assert f"{NAME}:443 at {after}" in event["message"]
    await site.home.until("pods", rest.ready, name="later", namespace=site.space.home, seconds=180)
    await site.until_dialled("later")
    answer = await site.abroad.run("exec", "later", "--", "kubectl", "get", "pods", "--output=name")
    assert answer.out == f"pod/{POD}\npod/later\n".encode()
    await _put_back(site, first)


async def _put_back(site: Site, service: rest.Object) -> None:
    """The pod of all these tests reaches home again, and is the only one."""
    await site.home.delete("pods", name="later", namespace=site.space.home)
    await site.home.until("pods", rest.gone, name="later", namespace=site.space.home)
    await site.gateway.kubectl("delete", "service", gateway.SERVICE)
    await site.condition("False")
    kept = {key: service["metadata"].get(key, {}) for key in ("name", "labels", "annotations")}
    await site.foreign.create(
        "services", {**service, "metadata": kept}, namespace=workspaces.FARLET_NAMESPACE
    )
    await site.condition("True")
    await site.until_dialled(POD)


async def _create(home: rest.Api, name: str, *, space: Workspace, node: str) -> None:
    pod = realpods.bound(realpods.pod(name, *STAYS), node)
    await home.create("pods", pod, namespace=space.home)


def _conditions(node: rest.Object | None) -> dict[str, dict[str, Any]]:
    found = (node or {}).get("status", {}).get("conditions", [])
    return {one["type"]: one for one in found}


def _says(node: rest.Object | None, status: str) -> bool:
    found = _conditions(node).get(REACHABLE)
    return found is not None and found["status"] == status


async def _metrics(site: Site) -> dict[str, float]:
    """Those that tell how home is reached."""
    lines = (await site.farlet.metrics()).splitlines()
    wanted = ("farlet_home_api_reachable ", "farlet_gateway_links ")
    found = [line.split() for line in lines if line.startswith(wanted)]
    return {name.removeprefix("farlet_"): float(value) for name, value in found}


def _connections(pod: gateway.Pod, *, port: int) -> int:
    """How many are established at a port of that pod, as the kernel tells."""
    lines = [
        line.split()
        for family in ("tcp", "tcp6")
        for line in Path(f"/proc/{pod.pid}/net/{family}").read_text().splitlines()[1:]
    ]
    established = collections.Counter(int(one[1][-4:], 16) for one in lines if one[3] == "01")
    return established[port]
