"""farlet installed as in docs/installation.md: the shipped manifests on two real clusters.

The directory of the node `far` is copied and edited in the copy, as an administrator does for a
further node; an overlay sets the image, the real node and the credentials. In the foreign cluster
farlet uses the shipped ServiceAccount, so its permissions there are those of the manifests too.
"""

import asyncio
import base64
import dataclasses
import json
import shutil
from pathlib import Path

import yaml

from clusters import farletimage, kubeconfig, kwok, pair, rest
from clusters.farlet import ROOT
from clusters.identity import Identity
from clusters.workspace import Workspace

NAME = "farlet"  # of the namespace, and of the image in the manifests
SHIPPED = ROOT / "manifests" / "home"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
_PATIENCE = "300s"


@dataclasses.dataclass(frozen=True)
class Installation:
    """farlet in the home cluster, for one virtual node."""

    clusters: pair.Clusters
    overlay: Path
    node: str
    identity: Identity

    @property
    def name(self) -> str:
        """The name of its objects."""
        return f"{NAME}-{self.node}"

    @property
    def selector(self) -> str:
        """The labels of its pods."""
        return f"--selector=app.kubernetes.io/name={NAME},app.kubernetes.io/instance={self.node}"

    @property
    def user(self) -> str:
        """The user name of farlet in the home cluster."""
        account = f"system:serviceaccount:{NAME}:{self.name}"
        return account if self.identity is Identity.ACCOUNT else self.identity.user(self.node)

    def kubectl(self, *arguments: str, content: str | None = None) -> str:
        """kubectl in farlet's own namespace in the home cluster."""
        return self.clusters.home.kubectl(f"--namespace={NAME}", *arguments, content=content)

    def rolled_out(self) -> None:
        """Return once every replica of the newest generation is ready."""
        self.kubectl("rollout", "status", f"deployment/{self.name}", f"--timeout={_PATIENCE}")

    def diagnostics(self) -> str:
        """The state and the logs of its pods, for the message of a failed test."""
        pods = self.kubectl("get", "pods", "-o", "wide")
        log = ("logs", self.selector, "--prefix", "--tail=40")
        return f"{pods}\n{self.kubectl(*log)}"

    def remove(self) -> None:
        """Delete the objects of the manifests."""
        # First farlet itself: without its Roles its requests would be rejected for a moment.
        self.kubectl("delete", "deployment", self.name)
        self.kubectl("wait", "pods", self.selector, "--for=delete", f"--timeout={_PATIENCE}")
        self.clusters.home.kubectl("delete", "--ignore-not-found", "-k", str(self.overlay))
        self.clusters.home.kubectl("delete", "node", self.node, "--ignore-not-found")


def install(
    clusters: pair.Clusters,
    folder: Path,
    *,
    node: str,
    identity: Identity,
    workspace: Workspace,
) -> Installation:
    """Install both sides without waiting; `folder` is empty."""
    foreign = clusters.foreign
    manifests = ROOT / "manifests"
    foreign.kubectl("apply", "-f", str(manifests / "foreign" / "namespace.yaml"))
    foreign.kubectl("apply", "-k", str(manifests / "foreign"))
    offloaded = manifests / "foreign" / "offloaded-namespace.yaml"
    foreign.kubectl("apply", f"--namespace={workspace.foreign}", "-f", str(offloaded))
    _foreign_kubeconfig(clusters, folder / "overlay" / "foreign.kubeconfig")
    if identity is Identity.NODE:
        _home_kubeconfig(clusters, node, folder / "overlay" / "home.kubeconfig")
    _edit(clusters, folder / "home", node=node, identity=identity)
    made = Installation(clusters, _overlay(folder, node, identity), node, identity)
    clusters.home.kubectl("apply", "-f", str(SHIPPED / "namespace.yaml"))
    clusters.home.kubectl("apply", "-k", str(made.overlay))
    if identity is Identity.ACCOUNT:
        binding = ("create", "rolebinding", made.name, f"--clusterrole={made.name}-pods")
        account = f"--serviceaccount={NAME}:{made.name}"
        clusters.home.kubectl(*binding, account, f"--namespace={workspace.home}")
    return made


def write_credentials(clusters: pair.Clusters, folder: Path, *, node: str) -> None:
    """`home.kubeconfig` of a node and `foreign.kubeconfig`, with addresses for home pods."""
    _foreign_kubeconfig(clusters, folder / "foreign.kubeconfig")
    _home_kubeconfig(clusters, node, folder / "home.kubeconfig")


async def approve_serving(clusters: pair.Clusters, home: rest.Api) -> None:
    """Approve all requests for serving certificates, as an administrator would."""
    async for kind, request in home.watch("certificatesigningrequests", resourceVersion="0"):
        wanted = request["spec"]["signerName"] == KUBELET_SERVING
        if kind == "ADDED" and wanted and not request["status"].get("conditions"):
            name = request["metadata"]["name"]
            await asyncio.to_thread(clusters.home.kubectl, "certificate", "approve", name)


def _edit(clusters: pair.Clusters, folder: Path, *, node: str, identity: Identity) -> None:
    """Copy the manifests for the home cluster, and in them the directory of a node; edit that."""
    shutil.copytree(SHIPPED, folder)
    shutil.copytree(folder / "nodes" / "far", folder / "nodes" / node)
    host, port = clusters.home_api_in_foreign
    settings = folder / "nodes" / node / "settings.env"
    kustomization = folder / "nodes" / node / "kustomization.yaml"
    if identity is Identity.ACCOUNT:
        text = kustomization.read_text().replace("- ../../node-identity", "- ../../service-account")
        kustomization.write_text(text)
    text = settings.read_text()
    for shipped, ours in (
        ("FARLET_NODENAME=far", f"FARLET_NODENAME={node}"),
        ("#FARLET_HOME_API_SERVER_HOST=203.0.113.7", f"FARLET_HOME_API_SERVER_HOST={host}"),
        ("#FARLET_HOME_API_SERVER_PORT=6443", f"FARLET_HOME_API_SERVER_PORT={port}"),
    ):
        assert text.count(f"{shipped}\n") == 1, shipped
        text = text.replace(f"{shipped}\n", f"{ours}\n")
    settings.write_text(text)


def _overlay(folder: Path, node: str, identity: Identity) -> Path:
    """An overlay with the image, the real node and the credentials of the tests."""
    sides = ["foreign", "home"] if identity is Identity.NODE else ["foreign"]
    image, _, tag = farletimage.NAME.rpartition(":")
    selector = {"spec": {"template": {"spec": {"nodeSelector": {kwok.LABEL: "real"}}}}}
    where = {"metadata": {"name": f"{NAME}-{node}", "namespace": NAME}}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", **where, **selector}
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"../home/nodes/{node}"],
        "images": [{"name": NAME, "newName": image, "newTag": tag}],
        "secretGenerator": [
            {
                "name": f"{NAME}-{node}-{side}",
                "namespace": NAME,
                "files": [f"kubeconfig={side}.kubeconfig"],
            }
            for side in sides
        ],
        "patches": [{"patch": yaml.safe_dump(deployment)}],
    }
    path = folder / "overlay"
    (path / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return path


def _foreign_kubeconfig(clusters: pair.Clusters, path: Path) -> None:
    """A kubeconfig of farlet's foreign ServiceAccount, with the address for home pods."""
    secret = (f"--namespace={NAME}", f"secret/{NAME}-token")
    clusters.foreign.kubectl(
        "wait", *secret, "--for=jsonpath={.data.token}", f"--timeout={_PATIENCE}"
    )
    token = clusters.foreign.kubectl("get", *secret, "-o", "jsonpath={.data.token}")
    host, port = clusters.foreign_api_in_home
    kubeconfig.write(
        path,
        server=f"https://{host}:{port}",
        authority=clusters.foreign.ca_file.read_bytes(),
        user=base64.b64decode(token).decode(),
        cluster="foreign",
    )


def _home_kubeconfig(clusters: pair.Clusters, node: str, path: Path) -> None:
    """A kubeconfig with the node's certificate, with the address of the home API for home pods.

    It contains an IP address, because the test clusters have no DNS.
    """
    content = json.loads(Identity.NODE.login(clusters.home, node).read_text())
    service = ("get", "service", "kubernetes", "--namespace=default")
    address = clusters.home.kubectl(*service, "-o", "jsonpath={.spec.clusterIP}")
    content["clusters"][0]["cluster"]["server"] = f"https://{address}:443"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
