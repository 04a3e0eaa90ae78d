"""Every container of a pod reaches the API and reads its files as it would in the home cluster.

Each pod runs on home's real node and then through farlet. Its containers print the same.
"""

import asyncio

import pytest

from clusters import kwok, pair, rest
from clusters import workspace as workspaces
from clusters.workspace import Workspace
from conftest import StartFarlet
from integration import realpods

pytestmark = pytest.mark.clusters

Output = dict[str, list[realpods.OutputLine]]
"""The output of each container of a pod, without what differs between runs."""

READ = """
import base64, json, os, pathlib
for path in sorted(pathlib.Path("/tokens").glob("*/token")):
    payload = path.read_text().split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    print(json.dumps({
        "path": str(path), "user": os.getuid(), "audience": claims["aud"],
        "life": claims["exp"] - claims["iat"], "account": claims["sub"],
        "pod": claims["kubernetes.io"]["pod"]["name"],
    }))
"""


def init_and_sidecar() -> rest.Object:
    return realpods.pod(
        "init-and-sidecar",
        "client-go",
        initContainers=[
            realpods.container("init", "client-go"),
            realpods.container(
                *("sidecar", "bash", "-c", "client-go; exec sleep inf"), restartPolicy="Always"
            ),
        ],
    )


def user_1000() -> rest.Object:
    """The default volume, and a token that only its owner may read."""
    wanted = tokens("user-1000", mode=0o400, strict={})
    wanted["spec"]["securityContext"] = {"runAsUser": 1000}
    wanted["spec"]["containers"].append(realpods.container("client", "client-go"))
    return wanted


def two_audiences() -> rest.Object:
    return tokens(
        "two-audiences",
        vault={"audience": "vault", "expirationSeconds": 1200},
        billing={"audience": "https://billing.example", "expirationSeconds": 700},
    )


def tokens(name: str, *, mode: int = 0o644, **sources: dict[str, object]) -> rest.Object:
    """A pod that reads one volume with a token per source."""
    mounts = [{"name": volume, "mountPath": f"/tokens/{volume}"} for volume in sources]
    return realpods.pod(
        name,
        containers=[realpods.container("main", "python3", "-c", READ, volumeMounts=mounts)],
        volumes=[
            {
                "name": volume,
                "projected": {
                    "defaultMode": mode,
                    "sources": [{"serviceAccountToken": {"path": "token", **source}}],
                },
            }
            for volume, source in sources.items()
        ],
    )


PODS = [init_and_sidecar(), user_1000(), two_audiences()]
NAMES = [pod["metadata"]["name"] for pod in PODS]


async def test_containers_print_the_same_in_both_clusters(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    await workspaces.allow_listing_pods(home, namespace=workspace.home)
    native = await _run(home, workspace.home, node=clusters.home.real_node, reads=home)
    for name in NAMES:
        await home.delete("pods", name=name, namespace=workspace.home)
        await home.until("pods", rest.gone, name=name, namespace=workspace.home)
    await start_farlet(node)
    through = await _run(home, workspace.home, node=node, reads=foreign, runs_in=workspace.foreign)
    assert through == native

    # The output is also correct, not only the same.
    account = f"system:serviceaccount:{workspace.home}:default"
    for name in ("init", "sidecar", "main"):
        (line,) = through["init-and-sidecar"][name]
        assert (line["error"], line["username"]) == (None, account)
    (client,) = through["user-1000"]["client"]
    assert (client["error"], client["username"]) == (None, account)
    (strict,) = through["user-1000"]["main"]
    assert (strict["user"], strict["account"]) == (1000, account)
    billing, vault = through["two-audiences"]["main"]
    assert (billing["audience"], billing["life"]) == (["https://billing.example"], 700)
    assert (vault["audience"], vault["life"]) == (["vault"], 1200)


async def test_a_token_that_cannot_be_refreshed_causes_a_warning(
    home: rest.Api, workspace: Workspace, node: str, start_farlet: StartFarlet
) -> None:
    await start_farlet(node)
    wanted = tokens("stale", vault={})
    (mount,) = wanted["spec"]["containers"][0]["volumeMounts"]
    mount |= {"subPath": "token", "mountPath": "/token"}
    wanted["spec"]["nodeSelector"] = {kwok.LABEL: "fake"}
    await home.create("pods", realpods.bound(wanted, node), namespace=workspace.home)
    event = await realpods.event(home, "stale", namespace=workspace.home, reason="SpecAdjusted")
    assert "mounted by subPath is never refreshed" in event["message"]
    assert "spec.containers[main].volumeMounts[/token]" in event["message"]
    await home.until("pods", rest.phase("Running"), name="stale", namespace=workspace.home)


async def _run(
    home: rest.Api,
    namespace: str,
    *,
    node: str,
    reads: rest.Api,
    runs_in: str | None = None,
) -> dict[str, Output]:
    """Run all pods on one home node; return the output of their containers by name."""
    for pod in PODS:
        await home.create("pods", realpods.bound(pod, node), namespace=namespace)
    for name in NAMES:
        ended = await home.until(
            "pods", realpods.ENDED, name=name, namespace=namespace, seconds=300
        )
        assert ended["status"]["phase"] == "Succeeded", ended["status"]
    found = {pod["metadata"]["name"]: _containers(pod) for pod in PODS}
    return {
        name: dict(
            zip(
                containers,
                await asyncio.gather(
                    *(_printed(reads, name, runs_in or namespace, each) for each in containers)
                ),
                strict=True,
            )
        )
        for name, containers in found.items()
    }


def _containers(pod: rest.Object) -> list[str]:
    spec = pod["spec"]
    return [one["name"] for one in (*spec.get("initContainers", ()), *spec["containers"])]


async def _printed(
    api: rest.Api, pod: str, namespace: str, container: str
) -> list[realpods.OutputLine]:
    output = await api.logs(pod, namespace=namespace, container=container)
    varying = ("host", "extra", "pods")
    return [
        {key: value for key, value in line.items() if key not in varying}
        for line in realpods.lines(output)
    ]
