"""The harness of the other tests: real clusters, real clients, faults, and a complete cleanup."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clusters import errors, images, instance, kwok, pair, rest
from clusters import workspace as workspaces
from clusters.workspace import Workspace
from conftest import StartFarlet
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.takes(110)]

SIDES = ["home", "foreign"]


def pod(name: str, *command: str, on: str = "real", **annotations: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "annotations": {f"farlet.test/{key}": value for key, value in annotations.items()},
        },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "nodeSelector": {kwok.LABEL: on},
            "containers": [
                {
                    "name": "main",
                    "image": images.CLIENTS,
                    "command": list(command or ["sleep", "inf"]),
                    "resources": {"limits": {"memory": "512Mi"}},
                }
            ],
        },
    }


def namespace_of(workspace: Workspace, side: str) -> str:
    return workspace.home if side == "home" else workspace.foreign


@pytest.mark.parametrize("side", SIDES)
async def test_each_cluster_has_a_real_node_and_fake_ones(
    clusters: pair.Clusters, side: str
) -> None:
    cluster = getattr(clusters, side)
    async with cluster.api() as api:
        nodes = await api.list("nodes")
        kinds = sorted(
            node["metadata"]["labels"][kwok.LABEL]
            for node in nodes
            if kwok.LABEL in node["metadata"]["labels"]
        )
        assert kinds == ["fake", "fake", "real"]
        await api.until("nodes", rest.ready, name=cluster.real_node)


@pytest.mark.parametrize("side", SIDES)
async def test_every_client_in_a_real_container_sees_its_own_cluster(
    clusters: pair.Clusters, workspace: Workspace, side: str
) -> None:
    namespace = namespace_of(workspace, side)
    cluster = getattr(clusters, side)
    async with cluster.api() as api:
        await workspaces.allow_listing_pods(api, namespace=namespace)
        made = await api.create("pods", pod("who", "client-all"), namespace=namespace)
        ended = await api.until(
            "pods",
            rest.phase("Succeeded", "Failed"),
            name="who",
            namespace=namespace,
            seconds=300,
        )
        print(await api.logs("who", namespace=namespace))
        lines = [
            json.loads(line)
            for line in (await api.logs("who", namespace=namespace)).split("\n")
            if line
        ]
        assert [line["client"] for line in lines] == list(realpods.CLIENTS)
        for line in lines:
            assert line["error"] is None, line
            host = (
                "kubernetes.default.svc" if line["client"] in images.DIAL_BY_NAME else "10.96.0.1"
            )
            assert line["host"].removesuffix("/").removesuffix(":443") == f"https://{host}", line
            assert line["namespace"] == namespace
            assert line["username"] == f"system:serviceaccount:{namespace}:default"
            extra = line["extra"]
            assert extra["authentication.kubernetes.io/pod-name"] == ["who"], line
            assert extra["authentication.kubernetes.io/pod-uid"] == [made["metadata"]["uid"]]
            assert line["pods"] == ["who"]
        assert ended["status"]["phase"] == "Succeeded"
        assert ended["spec"]["nodeName"] == cluster.real_node
    asked = {
        entry.user_agent
        for entry in cluster.audit(
            user=f"system:serviceaccount:{namespace}:default", verb="list", resource="pods"
        )
    }
    assert len(asked) == realpods.USER_AGENTS, asked


async def test_a_long_running_client_prints_which_token_it_uses(
    home: rest.Api, workspace: Workspace
) -> None:
    namespace = workspace.home
    await home.create("pods", pod("watch", "client-watch", "0.2"), namespace=namespace)
    await home.until("pods", rest.ready, name="watch", namespace=namespace)
    lines: list[str] = []
    async with asyncio.timeout(120):
        while len(lines) < 3:
            await asyncio.sleep(0.2)
            lines = (await home.logs("watch", namespace=namespace)).splitlines()
    for line in map(json.loads, lines):
        assert line["error"] is None, line
        assert line["token_used"] == line["token_file"], line


async def test_a_pod_without_a_node_selector_runs_on_a_fake_node_ends_and_is_deleted(
    foreign: rest.Api, workspace: Workspace
) -> None:
    wanted = pod("quick", finish="Failed", **{"finish-after": "300ms"})
    del wanted["spec"]["nodeSelector"]
    namespace = workspace.foreign
    await foreign.create("pods", wanted, namespace=namespace)
    await foreign.until("pods", rest.phase("Running"), name="quick", namespace=namespace)
    ended = await foreign.until("pods", rest.phase("Failed"), name="quick", namespace=namespace)
    assert "fake" in ended["spec"]["nodeName"]
    (container,) = ended["status"]["containerStatuses"]
    assert container["state"]["terminated"]["exitCode"] == 1
    await foreign.delete("pods", name="quick", namespace=namespace)
    await foreign.until("pods", rest.gone, name="quick", namespace=namespace)


async def test_commands_in_a_real_container_end_with_their_exit_code(
    clusters: pair.Clusters, foreign: rest.Api, workspace: Workspace
) -> None:
    namespace = workspace.foreign
    await foreign.create("pods", pod("shell"), namespace=namespace)
    await foreign.until("pods", rest.ready, name="shell", namespace=namespace)
    base = [str(clusters.foreign.kubectl_program), f"--kubeconfig={clusters.foreign.kubeconfig}",
            "-n", namespace, "exec", "shell", "--"]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *base, "bash", "-c", "echo hi; exit 7", stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert (process.returncode, output) == (7, b"hi\n")


async def test_a_foreign_container_reaches_home_at_an_address_in_its_certificate(
    clusters: pair.Clusters, foreign: rest.Api, workspace: Workspace
) -> None:
    host, port = clusters.home_api_in_foreign
    namespace = workspace.foreign
    await foreign.create(
        "configmaps",
        {"metadata": {"name": "ca"}, "data": {"ca.crt": clusters.home.ca_file.read_text()}},
        namespace=namespace,
    )
    wanted = pod("far", "curl", "-sS", "--cacert", "/ca/ca.crt", f"https://{host}:{port}/version")
    wanted["spec"]["containers"][0]["volumeMounts"] = [{"name": "ca", "mountPath": "/ca"}]
    wanted["spec"]["volumes"] = [{"name": "ca", "configMap": {"name": "ca"}}]
    await foreign.create("pods", wanted, namespace=namespace)
    await foreign.until("pods", rest.phase("Succeeded", "Failed"), name="far", namespace=namespace)
    assert '"gitVersion"' in await foreign.logs("far", namespace=namespace)


@pytest.mark.parametrize("way", ["scheduler", "node name"])
async def test_a_home_pod_is_bound_to_the_virtual_node(
    home: rest.Api, workspace: Workspace, node: str, start_farlet: StartFarlet, way: str
) -> None:
    await start_farlet(node)
    wanted = pod("bound")
    if way == "scheduler":
        wanted["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
        wanted["spec"]["tolerations"] = [{"key": "farlet.io/virtual-node", "operator": "Exists"}]
    else:
        del wanted["spec"]["nodeSelector"]
        wanted["spec"]["nodeName"] = node
    await home.create("pods", wanted, namespace=workspace.home)
    await home.until(
        "pods",
        lambda seen: seen is not None and seen["spec"].get("nodeName") == node,
        name="bound",
        namespace=workspace.home,
    )


async def test_farlets_foreign_user_has_access_to_its_namespaces_only(
    clusters: pair.Clusters, workspace: Workspace
) -> None:
    login = clusters.foreign.login(workspaces.USER)
    async with clusters.foreign.api(login=login) as api:
        await api.create("pods", pod("mine", on="fake"), namespace=workspace.foreign)
        with pytest.raises(rest.ApiError) as refused:
            await api.create("pods", pod("stray"), namespace="default")
        assert refused.value.code == 403


async def test_the_audit_log_shows_requests_by_user_agent(
    clusters: pair.Clusters, workspace: Workspace
) -> None:
    mark = clusters.home.audit_mark()
    async with clusters.home.api(user_agent="counted/1") as api:
        for _ in range(3):
            await api.list("secrets", namespace=workspace.home)
    async with clusters.home.api(user_agent="other/1") as api:
        await api.list("secrets", namespace=workspace.home)
    seen = list(clusters.home.audit(since=mark, user_agent="counted/"))
    assert [(entry.verb, entry.resource, entry.code) for entry in seen] == [
        ("list", "secrets", 200)
    ] * 3


@pytest.mark.parametrize("side", SIDES)
async def test_a_killed_api_server_comes_back_on_the_same_address_with_its_objects(
    clusters: pair.Clusters, workspace: Workspace, side: str
) -> None:
    namespace = namespace_of(workspace, side)
    cluster = getattr(clusters, side)
    async with cluster.api() as api:
        await api.create("configmaps", {"metadata": {"name": "kept"}}, namespace=namespace)
        cluster.apiserver.kill()
        with pytest.raises(OSError, match=r".*"):
            await api.get("configmaps", name="kept", namespace=namespace)
        waiting = asyncio.create_task(
            api.until("configmaps", rest.exists, name="kept", namespace=namespace, seconds=240)
        )
        cluster.apiserver.start()
        await asyncio.to_thread(cluster.apiserver.wait_ready)
        await waiting


async def test_a_paused_api_server_answers_once_it_is_resumed(clusters: pair.Clusters) -> None:
    async with clusters.foreign.api() as api:
        clusters.foreign.apiserver.pause()
        try:
            asking = asyncio.create_task(api.list("namespaces"))
            done, _ = await asyncio.wait([asking], timeout=1)
            assert not done
        finally:
            clusters.foreign.apiserver.resume()
        assert await asyncio.wait_for(asking, 60)


async def test_existing_clusters_are_used_unchanged(
    clusters: pair.Clusters, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(pair.HOME_VARIABLE, str(clusters.home.kubeconfig))
    monkeypatch.setenv(pair.FOREIGN_VARIABLE, str(clusters.foreign.kubeconfig))
    with pair.real() as given:
        assert given.foreign.server == clusters.foreign.server
        assert given.foreign.real_node == clusters.foreign.real_node
        login = given.foreign.login(workspaces.USER)  # signed by the cluster itself
        async with given.foreign.api(login=login) as api:
            await api.list("pods", namespace=workspace.foreign)
        with pytest.raises(errors.HarnessError, match=pair.HOME_VARIABLE):
            list(given.home.audit())
        with pytest.raises(errors.HarnessError, match=pair.HOME_VARIABLE):
            given.home.apiserver.kill()
    clusters.foreign.kubectl("get", "--raw", "/readyz")


def test_a_single_existing_cluster_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(pair.HOME_VARIABLE, "/nowhere")
    monkeypatch.delenv(pair.FOREIGN_VARIABLE, raising=False)
    with pytest.raises(errors.HarnessError, match="set both"):
        pair.real()


def test_without_root_the_error_names_the_alternative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(errors.HarnessError, match=pair.FOREIGN_VARIABLE):
        pair.real()


def test_nothing_is_left_behind_after_a_stop() -> None:
    before = network_names()
    with pair.real() as both:
        name = both.instance.name
        assert instance.remains(name)
    assert instance.remains(name) == []
    assert network_names() == before


CRASH = """
import os, signal, sys
from clusters import pair
both = pair.real()
print(both.instance.name, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_start_removes_only_what_a_killed_process_left(
    clusters: pair.Clusters,
) -> None:
    crashed = subprocess.run(
        [sys.executable, "-c", CRASH],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(pair.__file__).parents[1])},
    )
    name = crashed.stdout.strip()
    assert name
    instance.clean_leftovers()  # or another harness on this machine was faster
    assert instance.remains(name) == []
    clusters.home.kubectl("get", "--raw", "/readyz")


def network_names() -> str:
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True)
    spaces = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True)
    return links.stdout + spaces.stdout
