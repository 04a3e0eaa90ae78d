"""`--reflect=services`: home Services in the foreign cluster, with exactly the shipped permissions.

A mirror pod on the real foreign node reaches another one through the Service of the home cluster,
whose endpoints home's own controllers have published.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusters import identity as identities
from clusters import pair, rest
from clusters import workspace as workspaces
from clusters.workspace import Workspace
from conftest import StartFarlet
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.takes(60)]

ROOT = Path(__file__).parents[2] / "manifests"
RBAC = "rbac.authorization.k8s.io"
SLICES = "discovery.k8s.io/v1/endpointslices"
SETTINGS = {"reflect": "services", "pod-network": "connected"}
LABEL = "kubernetes.io/service-name"
SERVER = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8080)"
CLIENT = """
import json, os, time, urllib.request
host, port = os.environ["WEB_SERVICE_HOST"], os.environ["WEB_SERVICE_PORT"]
for _ in range(100):
    try:
        answer = urllib.request.urlopen(f"http://{host}:{port}/", timeout=5)
        print(json.dumps({"status": answer.status, "host": host, "port": port}))
        break
    except OSError:
        time.sleep(0.2)
"""


def shipped(path: str, user: str, namespace: str | None = None) -> list[Any]:
    """The objects of a manifest, for this user."""
    objects = list(yaml.safe_load_all((ROOT / path).read_text()))
    for found in objects:
        if "subjects" in found:
            found["subjects"] = [{"kind": "User", "name": user, "apiGroup": RBAC}]
        if namespace is not None:
            found["metadata"]["namespace"] = namespace
    return objects


@dataclass(frozen=True)
class Shop:
    """A namespace whose Services farlet reflects."""

    home: rest.Api
    foreign: rest.Api
    workspace: Workspace
    node: str

    async def service(self, name: str, **spec: Any) -> rest.Object:
        ports = [{"port": 80, "targetPort": 8080}]
        body = {"metadata": {"name": name}, "spec": {"ports": ports, **spec}}
        return await self.home.create("services", body, namespace=self.workspace.home)

    async def pod(self, name: str, program: str, **labels: str) -> None:
        made = realpods.pod(name, "python3", "-c", program, annotations={realpods.ACCESS: "home"})
        made["metadata"]["labels"] = labels
        bound = realpods.bound(made, self.node)
        await self.home.create("pods", bound, namespace=self.workspace.home)

    async def addresses(self, service: str) -> list[str]:
        """Those of the endpoints of a foreign Service."""
        slices = await self.foreign.list(
            SLICES, namespace=self.workspace.foreign, labelSelector=f"{LABEL}={service}"
        )
        return sorted(
            ip
            for one in slices
            for endpoint in one["endpoints"] or ()
            for ip in endpoint["addresses"]
        )


@pytest.fixture
async def permissions(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    identity: identities.Identity,
) -> AsyncIterator[None]:
    """What the two shipped manifests grant."""
    user = identity.user(node)
    at_home = shipped("home/reflected-services.yaml", user)
    for found in at_home:
        found["metadata"]["name"] += f"-{secrets.token_hex(3)}"
    at_home[1]["roleRef"]["name"] = at_home[0]["metadata"]["name"]
    namespaced = shipped("foreign/reflected-services.yaml", workspaces.USER, workspace.foreign)
    clusters.home.apply(*at_home)
    clusters.foreign.apply(*namespaced)
    rule = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["watch"]}
    await workspaces.until_allowed(home, user=user, namespace="", rule=rule)
    await workspaces.until_allowed(
        foreign, user=workspaces.USER, namespace=workspace.foreign, rule=rule
    )
    yield
    clusters.home.remove(*at_home)


@pytest.fixture
async def shop(
    permissions: None,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> Shop:
    await start_farlet(node, settings=SETTINGS)
    return Shop(home, foreign, workspace, node)


async def test_a_mirror_reaches_another_one_through_a_service_of_the_home_cluster(
    shop: Shop, clusters: pair.Clusters
) -> None:
    created = await shop.service("web", selector={"app": "web"})
    await shop.service("peers", selector={"app": "web"}, clusterIP="None")
    await shop.pod("server", SERVER, app="web")
    where = {"namespace": shop.workspace.home}
    server = await shop.home.until("pods", rest.ready, name="server", seconds=120, **where)
    expected = [server["status"]["podIP"]]
    await _until(lambda: _equal(shop.addresses("web"), expected))
    await _until(lambda: _equal(shop.addresses("peers"), expected))
    foreign = {"namespace": shop.workspace.foreign}
    reflected = await shop.foreign.get("services", name="web", **foreign)
    headless = await shop.foreign.get("services", name="peers", **foreign)
    assert reflected["spec"]["clusterIP"] != created["spec"]["clusterIP"]
    assert headless["spec"]["clusterIP"] == "None"
    assert "selector" not in reflected["spec"]

    await shop.pod("client", CLIENT)
    await shop.home.until("pods", realpods.ENDED, name="client", seconds=120, **where)
    answer = json.loads(await shop.foreign.logs("client", **foreign))
    assert answer == {"status": 200, "host": reflected["spec"]["clusterIP"], "port": "80"}

    # What changes at home changes there, also what API servers do not allow to be changed.
    await shop.home.patch("services", {"spec": {"ports": PORT_81}}, name="web", **where)
    await _until(lambda: _has_port(shop, 81))
    await shop.home.delete("services", name="web", **where)
    await shop.service("web", selector={"app": "web"}, clusterIP="None")

    async def is_headless() -> bool:
        found = await shop.foreign.find("services", name="web", **foreign)
        return found is not None and found["spec"]["clusterIP"] == "None"

    await _until(is_headless)
    await shop.home.delete("pods", name="server", gracePeriodSeconds="0", **where)
    await _until(lambda: _equal(shop.addresses("web"), []))
    await shop.home.delete("services", name="web", **where)
    await shop.foreign.until("services", rest.gone, name="web", seconds=60, **foreign)
    names = {one["metadata"]["name"] for one in await shop.foreign.list("services", **foreign)}
    assert names == {"peers"}


@pytest.mark.refused("foreign")
async def test_pods_wait_with_a_reason_without_the_role_in_the_foreign_namespace(
    shop: Shop, clusters: pair.Clusters
) -> None:
    namespace = shop.workspace.foreign
    clusters.foreign.remove(*shipped("foreign/reflected-services.yaml", workspaces.USER, namespace))
    rule = {"apiGroups": [""], "resources": ["services"], "verbs": ["list"]}
    await workspaces.until_allowed(
        shop.foreign, user=workspaces.USER, namespace=namespace, rule=rule, allowed=False
    )
    await shop.pod("server", SERVER)
    waiting = await shop.home.until(
        "pods", rest.reason("ForeignForbidden"), name="server", namespace=shop.workspace.home
    )
    command = f"kubectl apply -n {namespace} -f manifests/foreign/reflected-services.yaml"
    assert command in waiting["status"]["message"]
    clusters.foreign.apply(*shipped("foreign/reflected-services.yaml", workspaces.USER, namespace))
    await shop.home.until(
        "pods", rest.phase("Running"), name="server", namespace=shop.workspace.home, seconds=120
    )


async def test_farlet_does_not_start_without_the_permissions_at_home(
    node: str, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(node, settings=SETTINGS, ready=False)
    async with asyncio.timeout(60):
        while farlet.process.alive:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert farlet.process.exit_code == 1
    assert "kubectl apply -f manifests/home/reflected-services.yaml" in farlet.log


PORT_81 = [{"port": 81, "targetPort": 8080}]


async def _has_port(shop: Shop, port: int) -> bool:
    found = await shop.foreign.get("services", name="web", namespace=shop.workspace.foreign)
    return [one["port"] for one in found["spec"]["ports"]] == [port]


async def _equal(found: Awaitable[object], expected: object) -> bool:
    return await found == expected


async def _until(check: Callable[[], Awaitable[bool]], *, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await check():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
