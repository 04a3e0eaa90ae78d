"""The shipped HAProxy manifests in both clusters, as in docs/api-proxy.md, with real pods.

Namespaces enforce the restricted Pod Security standard. A client in a pod connects to the Service
by the API server's own name and verifies home's certificate, so the home API server answers.
"""

import asyncio
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from clusters import apiproxy, images, kwok, pair, rest
from clusters import workspace as workspaces
from clusters.cluster import Cluster
from clusters.workspace import Workspace
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.takes(80)]

NAME, NAMESPACE = "api-proxy", workspaces.FARLET_NAMESPACE
SERVICES = {"home": "api-proxy", "foreign": "home-api"}
RESTRICTED = "pod-security.kubernetes.io/enforce"
SELECTED = "app.kubernetes.io/name=farlet-api-proxy"
SHIPPED = "HOME_API_1=203.0.113.7:6443\n"


@dataclasses.dataclass(frozen=True)
class Installation:
    """The manifests for one cluster, copied, edited and applied as a user does."""

    way: str
    cluster: Cluster
    folder: Path

    def kubectl(self, *arguments: str) -> str:
        return self.cluster.kubectl(f"--namespace={NAMESPACE}", *arguments)

    def apply(self) -> None:
        self.cluster.kubectl("apply", "-k", str(self.folder / "overlay"))

    def rolled_out(self) -> None:
        """Return once every replica is ready."""
        self.kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=300s")

    def leads_to(self, address: str) -> None:
        """Edit the address in the settings."""
        settings = self.folder / "manifests" / "foreign" / "settings.env"
        lines = settings.read_text().splitlines()
        kept = [line for line in lines if not line.startswith("HOME_API_1=")]
        settings.write_text("\n".join([*kept, f"HOME_API_1={address}", ""]))


@pytest.fixture(params=["home", "foreign"])
def installed(
    request: pytest.FixtureRequest, clusters: pair.Clusters, tmp_path: Path
) -> Iterator[Installation]:
    cluster: Cluster = getattr(clusters, request.param)
    if not cluster.kubectl("get", "namespace", NAMESPACE, "--ignore-not-found"):
        cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("label", "namespace", NAMESPACE, f"{RESTRICTED}=restricted", "--overwrite")
    shutil.copytree(apiproxy.MANIFESTS, tmp_path / "manifests")
    _overlay(tmp_path / "overlay", way=request.param)
    made = Installation(request.param, cluster, tmp_path)
    assert SHIPPED in (tmp_path / "manifests" / "foreign" / "settings.env").read_text()
    host, port = clusters.home_api_on_other_port
    made.leads_to(f"{host}:{port}")
    made.apply()
    yield made
    cluster.kubectl("delete", "-k", str(tmp_path / "overlay"))
    # Otherwise pods that are still terminating would be taken for those of the next test.
    made.kubectl("wait", "pods", f"--selector={SELECTED}", "--for=delete", "--timeout=180s")
    cluster.kubectl("label", "namespace", NAMESPACE, f"{RESTRICTED}-")


def _overlay(folder: Path, *, way: str) -> None:
    """Settings of the tests: a local image, and the real node."""
    image, _, tag = images.CLIENTS.rpartition(":")
    where = {"metadata": {"name": NAME, "namespace": NAMESPACE}}
    selector = {"spec": {"template": {"spec": {"nodeSelector": {kwok.LABEL: "real"}}}}}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", **where, **selector}
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"../manifests/{way}"],
        "images": [{"name": "docker.io/library/haproxy", "newName": image, "newTag": tag}],
        "patches": [{"patch": yaml.safe_dump(deployment)}],
    }
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))


async def test_a_client_reaches_the_home_api_server_through_the_service(
    clusters: pair.Clusters, installed: Installation, workspace: Workspace
) -> None:
    await asyncio.to_thread(installed.rolled_out)
    namespace = getattr(workspace, installed.way)
    async with installed.cluster.api() as api:
        service = await api.get("services", name=SERVICES[installed.way], namespace=NAMESPACE)
        address = service["spec"]["clusterIP"]
        ca = {
            "metadata": {"name": "home-ca"},
            "data": {"ca.crt": clusters.home.ca_file.read_text()},
        }
        await api.create("configmaps", ca, namespace=namespace)
        mounts = [{"name": "ca", "mountPath": "/ca"}]
        name = "kubernetes.default.svc"
        main = realpods.container(
            *("main", "curl", "--silent", "--show-error", "--fail", "--cacert", "/ca/ca.crt"),
            volumeMounts=mounts,
        )
        main["command"] += ["--resolve", f"{name}:443:{address}", f"https://{name}/version"]
        volumes = [{"name": "ca", "configMap": {"name": "home-ca"}}]
        wanted = realpods.pod("client", containers=[main], volumes=volumes)
        await api.create("pods", wanted, namespace=namespace)
        ((ended, output),) = await realpods.outputs(api, [(namespace, "client")])
    assert ended["status"]["phase"] == "Succeeded", output
    assert '"gitVersion"' in output


@pytest.mark.parametrize("installed", ["foreign"], indirect=True)
async def test_a_wrong_address_never_replaces_a_working_one(
    foreign: rest.Api, installed: Installation
) -> None:
    await asyncio.to_thread(installed.rolled_out)
    before = await _ready(foreign)
    installed.leads_to("127.0.0.1:1")
    await asyncio.to_thread(installed.apply)
    async for _, pod in foreign.watch("pods", namespace=NAMESPACE, labelSelector=SELECTED):
        if pod["metadata"]["name"] not in before:
            break
    name = pod["metadata"]["name"]
    event = await realpods.event(foreign, name, namespace=NAMESPACE, reason="Unhealthy")
    assert "Readiness probe failed" in event["message"]
    assert await _ready(foreign) == before
    assert "has no server available" in await foreign.logs(name, namespace=NAMESPACE)


async def _ready(api: rest.Api) -> set[str]:
    """The names of the pods behind the Service."""
    found = await api.list("pods", namespace=NAMESPACE, labelSelector=SELECTED)
    return {pod["metadata"]["name"] for pod in found if rest.ready(pod)}
