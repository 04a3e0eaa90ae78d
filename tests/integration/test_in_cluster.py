"""farlet as a pod of the home cluster, with the shipped manifests, with each of its two identities.

The Deployment works like a process on a machine: mirror pods run and reach the home cluster, the
home API server connects to the kubelet API at the pod's address, a rollout disturbs nothing, and
farlet sends no request that the table of permissions lacks.
"""

import asyncio
import contextlib
import dataclasses
import json
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path

import pytest
import pytest_asyncio

import permissions_audit
from clusters import auditlog, errors, farletimage, pair, progress, rest
from clusters import workspace as workspaces
from clusters.identity import Identity
from clusters.workspace import Workspace
from integration import incluster, realpods
from integration.incluster import Installation

pytestmark = [
    pytest.mark.clusters,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.takes(150),
]

SERVER = "server"


@dataclasses.dataclass(frozen=True)
class InClusterEnvironment:
    """A farlet in the home cluster, and a long-running pod on its node."""

    installed: Installation
    home: rest.Api
    foreign: rest.Api
    space: Workspace
    home_mark: auditlog.Mark
    foreign_mark: auditlog.Mark

    async def kubectl(self, *arguments: str) -> str:
        """kubectl of the home administrator in the namespace of the pods."""
        home = self.installed.clusters.home
        return await asyncio.to_thread(home.kubectl, f"--namespace={self.space.home}", *arguments)


@pytest.fixture(scope="module")
def image(clusters: pair.Clusters) -> None:
    farletimage.load(clusters.instance, clusters.home, progress=progress.Progress())


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=Identity, ids=lambda i: i.value)
async def env(
    request: pytest.FixtureRequest,
    clusters: pair.Clusters,
    image: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[InClusterEnvironment]:
    identity: Identity = request.param
    marks = clusters.home.audit_mark(), clusters.foreign.audit_mark()
    node = f"virtual-{secrets.token_hex(3)}"
    async with (
        clusters.home.api() as home,
        clusters.foreign.api() as foreign,
        contextlib.AsyncExitStack() as stack,
    ):
        space = await workspaces.create(home, foreign)
        stack.push_async_callback(workspaces.delete, home, foreign, space)
        await workspaces.allow_listing_pods(home, namespace=space.home)
        # Otherwise it would lack what the farlets of other tests require there.
        await workspaces.create_farlet_namespace(foreign)
        await stack.enter_async_context(_beside(incluster.approve_serving(clusters, home)))
        installed = await asyncio.to_thread(
            incluster.install,
            clusters,
            tmp_path_factory.mktemp("manifests"),
            node=node,
            identity=identity,
            workspace=space,
        )
        stack.push_async_callback(asyncio.to_thread, installed.remove)
        stack.callback(lambda: print(installed.diagnostics()))
        await asyncio.to_thread(installed.rolled_out)
        pod = realpods.pod(SERVER, "client-watch", "3600")
        await home.create("pods", realpods.bound(pod, node), namespace=space.home)
        await home.until("pods", rest.phase("Running"), name=SERVER, namespace=space.home)
        yield InClusterEnvironment(installed, home, foreign, space, *marks)


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run it until the block ends."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_two_replicas_are_ready_in_a_namespace_that_enforces_restricted(
    env: InClusterEnvironment,
) -> None:
    namespace = await env.home.get("namespaces", name=incluster.NAME)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pods = await env.home.list(
        "pods",
        namespace=incluster.NAME,
        labelSelector=f"app.kubernetes.io/instance={env.installed.node}",
    )
    assert [pod["status"]["containerStatuses"][0]["ready"] for pod in pods] == [True, True]
    assert {pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods} == {0}
    assert {pod["spec"]["nodeName"] for pod in pods} == {env.installed.clusters.home.real_node}


async def test_the_status_command_shows_what_each_process_reports(
    env: InClusterEnvironment,
) -> None:
    home = env.installed.clusters.home.kubeconfig
    command = [str(Path(sys.executable).parent / "farlet"), "status", "-o", "json"]
    command += ["--home-kubeconfig", str(home), "--nodename", env.installed.node]
    command += ["--farlet-namespace", incluster.NAME]
    answer = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (node,) = json.loads(answer.stdout)["nodes"]
    phases = sorted(state.partition(",")[0] for state in node["processes"].values())
    assert phases == ["serving", "standing by"]
    assert node["leader"] in node["processes"]
    assert node["pods"] == {"home": {"Running": 1}}
    assert node["namespaces"] == [f"{env.space.home} -> {env.space.foreign}"]
    assert node["not_read"] == []


async def test_a_less_strict_pod_is_not_admitted_in_the_same_namespace(
    env: InClusterEnvironment,
) -> None:
    with pytest.raises(rest.ApiError, match='violates PodSecurity "restricted'):
        await env.home.create(
            "pods", realpods.pod("lax", "true"), namespace=incluster.NAME, dryRun="All"
        )


async def test_a_client_in_a_pod_of_the_node_reaches_the_home_api(
    env: InClusterEnvironment,
) -> None:
    wanted = realpods.bound(realpods.pod("client", "client-go"), env.installed.node)
    await env.home.create("pods", wanted, namespace=env.space.home)
    ((ended, output),) = await realpods.outputs(env.foreign, [(env.space.foreign, "client")])
    (line,) = realpods.lines(output)
    assert ended["spec"]["nodeName"] == env.installed.clusters.foreign.real_node
    assert line["username"] == f"system:serviceaccount:{env.space.home}:default"
    assert line["error"] is None
    shown = await env.home.until("pods", realpods.ENDED, name="client", namespace=env.space.home)
    assert shown["status"]["phase"] == "Succeeded"


async def test_the_node_has_the_address_of_one_of_the_pods(env: InClusterEnvironment) -> None:
    node = await env.home.get("nodes", name=env.installed.node)
    assert (await _at_a_living_pod(env))(node)
    assert node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] == 10250


async def test_kubectl_logs_and_exec_use_the_port_at_the_pod_s_address(
    env: InClusterEnvironment,
) -> None:
    printed = await _logs(env)
    foreign_output = await env.foreign.logs(SERVER, namespace=env.space.foreign)
    assert foreign_output.startswith(printed)
    said = await env.kubectl("exec", SERVER, "--", "printenv", "KUBERNETES_SERVICE_HOST")
    assert said.strip() == env.installed.clusters.home_api_in_foreign[0]


async def test_farlet_check_runs_in_a_pod_of_farlet(env: InClusterEnvironment) -> None:
    check = ("farlet", "check", "-o", "json", f"--namespace={env.space.home}")
    try:
        printed = await asyncio.to_thread(
            env.installed.kubectl, "exec", f"deploy/{env.installed.name}", "--", *check
        )
    except errors.HarnessError as error:  # a check failed
        pytest.fail(str(error))
    assert json.loads(printed)


async def test_a_rollout_disturbs_neither_the_node_nor_its_pods(env: InClusterEnvironment) -> None:
    before = await env.foreign.get("pods", name=SERVER, namespace=env.space.foreign)
    node = await env.home.get("nodes", name=env.installed.node)
    seen: list[rest.Object] = []

    async def follow() -> None:
        async for _, found in env.home.watch(
            "nodes",
            fieldSelector=f"metadata.name={env.installed.node}",
            resourceVersion=node["metadata"]["resourceVersion"],
        ):
            seen.append(found)

    async with _beside(follow()):
        await asyncio.to_thread(
            env.installed.kubectl, "rollout", "restart", f"deployment/{env.installed.name}"
        )
        await asyncio.to_thread(env.installed.rolled_out)
        moved = await _at_a_living_pod(env)
        await env.home.until("nodes", moved, name=env.installed.node)
    assert [_ready(one) for one in seen] == ["True"] * len(seen)
    assert [one["spec"].get("taints") for one in seen] == [node["spec"].get("taints")] * len(seen)
    assert {one["metadata"]["uid"] for one in seen} <= {node["metadata"]["uid"]}
    after = await env.foreign.get("pods", name=SERVER, namespace=env.space.foreign)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["metadata"].get("deletionTimestamp") is None
    assert await _logs(env)


async def test_farlet_sent_no_request_that_the_table_of_permissions_lacks(
    env: InClusterEnvironment,
) -> None:
    clusters = env.installed.clusters
    permissions_audit.read(clusters, home=env.home_mark, foreign=env.foreign_mark).check()
    refused = [
        (one.verb, one.resource, one.subresource, one.message)
        for one in clusters.home.audit_log.by_agents(*permissions_audit.AGENTS, since=env.home_mark)
        if one.code == 403 and one.user == env.installed.user
    ]
    assert [one for one in refused if "no relationship found" not in one[3]] == []


NOT_YET = ("(ServiceUnavailable)", "certificate signed by unknown authority")
"""Errors while it does not know its pods yet, or its serving certificate is not approved yet."""


async def _logs(env: InClusterEnvironment) -> str:
    """The output of `kubectl logs`, once the pod has printed; a new leader may not serve it yet."""
    async with asyncio.timeout(rest.PATIENCE):
        while True:
            try:
                if printed := await env.kubectl("logs", SERVER):
                    return printed
            except errors.HarnessError as error:
                if not any(text in str(error) for text in NOT_YET):
                    raise
            await asyncio.sleep(0.5)


async def _at_a_living_pod(env: InClusterEnvironment) -> rest.Condition:
    """Wait until the node has the address of a farlet pod that is not being deleted."""
    pods = await env.home.list("pods", namespace=incluster.NAME)
    living = {pod["status"]["podIP"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}

    def holds(node: rest.Object | None) -> bool:
        addresses = node["status"].get("addresses", ()) if node is not None else ()
        return any(one["type"] == "InternalIP" and one["address"] in living for one in addresses)

    return holds


def _ready(node: rest.Object) -> str:
    (found,) = (one for one in node["status"]["conditions"] if one["type"] == "Ready")
    status: str = found["status"]
    return status
