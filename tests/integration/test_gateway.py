"""The shipped gateway: mirror pods reach the home cluster only over farlet's own connection.

Two gateway pods behind the Service, one farlet, and one mirror pod in which the tests run commands;
the direct path from mirror pods to the home cluster is blocked.
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
from clusters.kubectl import Kubectl, Result
from clusters.workspace import Workspace
from integration import realpods
from integration.streaming import STAYS

pytestmark = [
    pytest.mark.clusters,
    pytest.mark.core,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.takes(90),
]

POD = "mirror"
NAME = "kubernetes.default.svc"
REACHABLE = "farlet.io/HomeAPIReachable"
NOT_CONFIGURED = "HomeAPINotConfigured"
LARGE, PIECES = 900_000, 20
"""Size and number of the objects of a list: 18 MB in total."""

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
class GatewayEnvironment:
    """Both ends, and a mirror pod; `waited` is the home pod while it waited."""

    clusters: pair.Clusters
    home: rest.Api
    foreign: rest.Api
    space: Workspace
    node: str
    gateway: Gateway
    farlet: farlets.Farlet
    waited: rest.Object

    @property
    def foreign_kubectl(self) -> Kubectl:
        """kubectl of the foreign cluster's administrator in the namespace of mirrors."""
        return Kubectl.of(self.clusters.foreign, self.space.foreign)

    async def inside(self, *command: str) -> Result:
        """Run a command in the pod."""
        return await self.foreign_kubectl.run("exec", POD, "--", *command)

    async def until_dialled(self, name: str) -> None:
        """Return once a pod can connect: kube-proxy may learn of a Service after farlet."""
        curl = ("curl", "--silent", "--retry", "60", "--retry-delay", "1", "--retry-all-errors")
        asked = await self.foreign_kubectl.run(
            "exec", name, "--", *curl, "--insecure", f"https://{NAME}/livez"
        )
        assert asked.code == 0, asked

    async def condition(self, status: str) -> dict[str, Any]:
        """The Node condition HomeAPIReachable, once it has this status."""
        seen = await self.home.until("nodes", lambda one: _says(one, status), name=self.node)
        return _conditions(seen)[REACHABLE]

    async def check(self, *arguments: str, **settings: str) -> Result:
        """`farlet check` with the settings of the running farlet."""
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
async def env(
    clusters: pair.Clusters, usual_identity: Identity
) -> AsyncIterator[GatewayEnvironment]:
    """The Service is created last, when farlet is running and a pod waits for it."""
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
        env = GatewayEnvironment(clusters, home, foreign, space, node, made, farlet, waited)
        await env.condition("False")
        await made.apply()
        await made.linked()
        await home.until("pods", rest.ready, name=POD, namespace=space.home, seconds=180)
        await env.until_dialled(POD)
        yield env


async def test_a_pod_waits_for_the_service_and_then_starts_automatically(
    env: GatewayEnvironment,
) -> None:
    assert "manifests/foreign/gateway" in env.waited["status"]["message"]
    pod = await env.home.get("pods", name=POD, namespace=env.space.home)
    assert pod["metadata"]["uid"] == env.waited["metadata"]["uid"]
    (status,) = pod["status"]["containerStatuses"]
    assert (status["ready"], status["restartCount"]) == (True, 0)


async def test_kubectl_in_a_mirror_pod_sees_the_home_cluster(env: GatewayEnvironment) -> None:
    answer = await env.inside("kubectl", "get", "pods", "--output=name")
    assert (answer.out, answer.err) == (f"pod/{POD}\n".encode(), "")


async def test_node_and_metrics_show_that_the_home_api_is_reachable(
    env: GatewayEnvironment,
) -> None:
    condition = await env.condition("True")
    address = await env.gateway.address()
    assert condition["reason"] == "HomeAPIVerified"
    assert condition["message"] == f"foreign pods reach it at {NAME}:443 at {address}"
    async with asyncio.timeout(rest.PATIENCE):  # a gateway has the link before farlet counts it
        while await _metrics(env) != {"home_api_reachable": 1, "gateway_links": 2}:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_connections_are_shared_by_all_gateway_pods(env: GatewayEnvironment) -> None:
    async with asyncio.timeout(180):  # kube-proxy may know only the first of the two yet
        while not all(await _held(env)):
            pass


async def _held(env: GatewayEnvironment) -> list[int]:
    """The number of connections, of 16, through each of the two gateways."""
    command = ("exec", "-i", POD, "--", "python3", "-c", HOLD)
    async with env.foreign_kubectl.running(*command, stdin=True) as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"held\n"
        pods = await env.gateway.pods()
        assert len(pods) == 2
        async with asyncio.timeout(90):  # farlet's own check of the address may be running
            while True:
                carried = [_connections(pod, port=6443) for pod in pods]
                expected = "farlet_gateway_connections 16.0\n" in await env.farlet.metrics()
                if expected and sum(carried) == 16:
                    return carried
                await asyncio.sleep(0.1)


async def test_half_a_connection_closes_before_the_other(env: GatewayEnvironment) -> None:
    """An API server closes an idle half-closed connection: both directions are passed on."""
    async with asyncio.timeout(180):
        answer = await env.inside("python3", "-c", HALF_CLOSE)
    assert (answer.out, answer.err) == (b"b''\n", "")


async def test_a_large_list_arrives_whole(env: GatewayEnvironment) -> None:
    pieces = ({"metadata": {"name": f"piece-{number}"}} for number in range(PIECES))
    for piece in pieces:
        data = {"text": secrets.token_hex(LARGE // 2)}
        await env.home.create("configmaps", {**piece, "data": data}, namespace=env.space.home)
    get = ("get", "configmaps", "--output=json", "--field-selector=metadata.name!=kube-root-ca.crt")
    at_home = await Kubectl.of(env.clusters.home, env.space.home).run(*get)
    through = await env.inside("kubectl", *get)
    assert len(at_home.out) > LARGE * PIECES
    assert (through.code, through.err) == (0, "")
    # Not one `==` of both lists: pytest would print an unreadable difference.
    same = through.out == at_home.out
    assert same, (len(through.out), len(at_home.out))


async def test_farlet_check_finds_nothing_wrong(env: GatewayEnvironment) -> None:
    answer = await env.check("--output=json")
    assert (answer.code, answer.err) == (0, "")
    expected = json.loads(answer.out)
    pods = [pod.name for pod in await env.gateway.pods()]
    assert expected["ok"] is True
    outcomes = {one["what"]: one["outcome"] for one in expected["checks"]}
    assert set(outcomes.values()) == {"ok"}
    assert {"home API for foreign pods", "certificate at that address"} <= set(outcomes)
    assert {one for one in outcomes if one.startswith("gateway ")} == {
        f"gateway {name}" for name in pods
    }
    table = (await env.check()).out.decode()
    assert f"{NAME}:443 at {await env.gateway.address()}" in table
    assert all(f"gateway {name}" in table for name in pods)


async def test_farlet_check_reports_keys_that_do_not_match(
    env: GatewayEnvironment, tmp_path: Path
) -> None:
    program = Path(env.farlet.process.command[0])
    processes.run([program, "gateway-keys", tmp_path / "keys"], what="create other keys")
    answer = await env.check(gateway_keys=str(tmp_path / "keys" / "home"))
    assert (answer.code, answer.err) == (1, "")
    table = answer.out.decode()
    assert table.count("create both Secrets from one run of farlet gateway-keys") == 1
    assert table.count("> see gateway ") == 1
    # The running farlet is not affected.
    assert (await _metrics(env))["gateway_links"] == 2


async def test_new_pods_use_a_new_service_address_and_an_event_reports_the_change(
    env: GatewayEnvironment,
) -> None:
    first = await env.foreign.get(
        "services", name=gateway.SERVICE, namespace=workspaces.FARLET_NAMESPACE
    )
    before = await env.gateway.address()
    await env.gateway.kubectl("delete", "service", gateway.SERVICE)
    await env.condition("False")
    await env.gateway.apply()
    await env.condition("True")
    after = await env.gateway.address()
    assert before != after
    await _create(env.home, "later", space=env.space, node=env.node)
    event = await realpods.event(
        env.home, POD, namespace=env.space.home, reason="HomeAPIEndpointChanged", seconds=180
    )
    assert f"{NAME}:443 at {after}" in event["message"]
    await env.home.until("pods", rest.ready, name="later", namespace=env.space.home, seconds=180)
    await env.until_dialled("later")
    answer = await env.foreign_kubectl.run(
        "exec", "later", "--", "kubectl", "get", "pods", "--output=name"
    )
    assert answer.out.decode().split() == sorted([f"pod/{POD}", "pod/later"])
    await _put_back(env, first)


async def _put_back(env: GatewayEnvironment, service: rest.Object) -> None:
    """The mirror pod reaches the home cluster again, and is the only pod."""
    await env.home.delete("pods", name="later", namespace=env.space.home)
    await env.home.until("pods", rest.gone, name="later", namespace=env.space.home)
    await env.gateway.kubectl("delete", "service", gateway.SERVICE)
    await env.condition("False")
    kept = {key: service["metadata"].get(key, {}) for key in ("name", "labels", "annotations")}
    await env.foreign.create(
        "services", {**service, "metadata": kept}, namespace=workspaces.FARLET_NAMESPACE
    )
    await env.condition("True")
    await env.until_dialled(POD)


async def _create(home: rest.Api, name: str, *, space: Workspace, node: str) -> None:
    pod = realpods.bound(realpods.pod(name, *STAYS), node)
    await home.create("pods", pod, namespace=space.home)


def _conditions(node: rest.Object | None) -> dict[str, dict[str, Any]]:
    found = (node or {}).get("status", {}).get("conditions", [])
    return {one["type"]: one for one in found}


def _says(node: rest.Object | None, status: str) -> bool:
    found = _conditions(node).get(REACHABLE)
    return found is not None and found["status"] == status


async def _metrics(env: GatewayEnvironment) -> dict[str, float]:
    """The Node conditions about the home API."""
    lines = (await env.farlet.metrics()).splitlines()
    wanted = ("farlet_home_api_reachable ", "farlet_gateway_links ")
    found = [line.split() for line in lines if line.startswith(wanted)]
    return {name.removeprefix("farlet_"): float(value) for name, value in found}


def _connections(pod: gateway.Pod, *, port: int) -> int:
    """The number of established connections to a port of this pod, from the kernel."""
    lines = [
        line.split()
        for family in ("tcp", "tcp6")
        for line in Path(f"/proc/{pod.pid}/net/{family}").read_text().splitlines()[1:]
    ]
    established = collections.Counter(int(one[1][-4:], 16) for one in lines if one[3] == "01")
    return established[port]
