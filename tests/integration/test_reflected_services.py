"""`--reflect=services`: home Services in the foreign cluster, with exactly the shipped permissions.

A mirror pod on the real foreign node reaches another one through the Service of the home cluster,
whose endpoints home's own controllers have published.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusters import rest
from clusters import workspace as workspaces
from conftest import StartFarlet
from faults.environment import Environment
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


def in_foreign(env: Environment) -> list[Any]:
    """The shipped Role for the foreign namespace, and its binding."""
    return shipped("foreign/reflected-services.yaml", workspaces.USER, env.workspace.foreign)


@pytest.fixture
async def permissions(env: Environment) -> AsyncIterator[None]:
    """What the two shipped manifests grant."""
    at_home = shipped("home/reflected-services.yaml", env.user)
    for found in at_home:
        found["metadata"]["name"] += f"-{secrets.token_hex(3)}"
    at_home[1]["roleRef"]["name"] = at_home[0]["metadata"]["name"]
    env.clusters.home.apply(*at_home)
    env.clusters.foreign.apply(*in_foreign(env))
    rule = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["watch"]}
    await workspaces.until_allowed(env.home, user=env.user, namespace="", rule=rule)
    await workspaces.until_allowed(
        env.foreign, user=workspaces.USER, namespace=env.workspace.foreign, rule=rule
    )
    yield
    env.clusters.home.remove(*at_home)


async def test_a_mirror_reaches_another_one_through_a_service_of_the_home_cluster(
    permissions: None, env: Environment, start_farlet: StartFarlet
) -> None:
    await start_farlet(env.node, settings=SETTINGS)
    created = await _service(env, "web", selector={"app": "web"})
    await _service(env, "peers", selector={"app": "web"}, clusterIP="None")
    await _pod(env, "server", SERVER, app="web")
    where = {"namespace": env.workspace.home}
    server = await env.seen("server", rest.ready)
    expected = [server["status"]["podIP"]]
    await _until(lambda: _equal(_addresses(env, "web"), expected))
    await _until(lambda: _equal(_addresses(env, "peers"), expected))
    foreign = {"namespace": env.workspace.foreign}
    reflected = await env.foreign.get("services", name="web", **foreign)
    headless = await env.foreign.get("services", name="peers", **foreign)
    assert reflected["spec"]["clusterIP"] != created["spec"]["clusterIP"]
    assert headless["spec"]["clusterIP"] == "None"
    assert "selector" not in reflected["spec"]

    await _pod(env, "client", CLIENT)
    await env.seen("client", realpods.ENDED)
    answer = json.loads(await env.foreign.logs("client", **foreign))
    assert answer == {"status": 200, "host": reflected["spec"]["clusterIP"], "port": "80"}

    # What changes at home changes there, also what API servers do not allow to be changed.
    await env.home.patch("services", {"spec": {"ports": PORT_81}}, name="web", **where)
    await _until(lambda: _has_port(env, 81))
    await env.home.delete("services", name="web", **where)
    await _service(env, "web", selector={"app": "web"}, clusterIP="None")

    async def is_headless() -> bool:
        found = await env.foreign.find("services", name="web", **foreign)
        return found is not None and found["spec"]["clusterIP"] == "None"

    await _until(is_headless)
    await env.home.delete("pods", name="server", gracePeriodSeconds="0", **where)
    await _until(lambda: _equal(_addresses(env, "web"), []))
    await env.home.delete("services", name="web", **where)
    await env.foreign.until("services", rest.gone, name="web", seconds=60, **foreign)
    names = {one["metadata"]["name"] for one in await env.foreign.list("services", **foreign)}
    assert names == {"peers"}


@pytest.mark.refused("foreign")
async def test_pods_wait_with_a_reason_without_the_role_in_the_foreign_namespace(
    permissions: None, env: Environment, start_farlet: StartFarlet
) -> None:
    await start_farlet(env.node, settings=SETTINGS)
    namespace = env.workspace.foreign
    env.clusters.foreign.remove(*in_foreign(env))
    rule = {"apiGroups": [""], "resources": ["services"], "verbs": ["list"]}
    await workspaces.until_allowed(
        env.foreign, user=workspaces.USER, namespace=namespace, rule=rule, allowed=False
    )
    await _pod(env, "server", SERVER)
    waiting = await env.seen("server", rest.reason("ForeignForbidden"), seconds=rest.PATIENCE)
    command = f"kubectl apply -n {namespace} -f manifests/foreign/reflected-services.yaml"
    assert command in waiting["status"]["message"]
    env.clusters.foreign.apply(*in_foreign(env))
    await env.seen("server", rest.phase("Running"))


async def test_farlet_does_not_start_without_the_permissions_at_home(
    node: str, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(node, settings=SETTINGS, ready=False)
    assert await farlet.ended() == 1
    assert "kubectl apply -f manifests/home/reflected-services.yaml" in farlet.log


PORT_81 = [{"port": 81, "targetPort": 8080}]


async def _service(env: Environment, name: str, **spec: Any) -> rest.Object:
    ports = [{"port": 80, "targetPort": 8080}]
    body = {"metadata": {"name": name}, "spec": {"ports": ports, **spec}}
    return await env.home.create("services", body, namespace=env.workspace.home)


async def _pod(env: Environment, name: str, program: str, **labels: str) -> None:
    made = realpods.pod(name, "python3", "-c", program, annotations={realpods.ACCESS: "home"})
    made["metadata"]["labels"] = labels
    await env.create(realpods.bound(made, env.node))


async def _addresses(env: Environment, service: str) -> list[str]:
    """Those of the endpoints of a foreign Service."""
    slices = await env.foreign.list(
        SLICES, namespace=env.workspace.foreign, labelSelector=f"{LABEL}={service}"
    )
    return sorted(
        ip for one in slices for endpoint in one["endpoints"] or () for ip in endpoint["addresses"]
    )


async def _has_port(env: Environment, port: int) -> bool:
    found = await env.foreign.get("services", name="web", namespace=env.workspace.foreign)
    return [one["port"] for one in found["spec"]["ports"]] == [port]


async def _equal(found: Awaitable[object], expected: object) -> bool:
    return await found == expected


async def _until(check: Callable[[], Awaitable[bool]], *, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await check():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
