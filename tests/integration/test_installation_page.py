"""The commands of the pages on installation and renewal have the documented effects.

They run on separate clusters, because the pages use fixed names. farlet itself does not run.
"""

import functools
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters import pair, processes
from clusters.cluster import Cluster
from clusters.farlet import ROOT

pytestmark = [pytest.mark.clusters, pytest.mark.takes(40)]

PAGES = (ROOT / "docs" / "installation.md", ROOT / "docs" / "how-to" / "renew-credentials.md")
AUTHORITY = "configmaps/extension-apiserver-authentication"
TOKENS = "serviceaccounts --subresource=token"
ACCOUNT = "system:serviceaccount:farlet:farlet"


class Reader:
    """A reader who has run the commands of the pages in this folder."""

    def __init__(self, folder: Path, clusters: pair.Clusters) -> None:
        self.folder = folder
        self.clusters = clusters

    def allowed(self, cluster: Cluster, namespace: str, verb: str, what: str, *who: str) -> str:
        """The answer of `kubectl auth can-i`, which exits with 1 for "no"."""
        command: list[str | Path] = [
            cluster.kubectl_program,
            *who,
            "auth",
            "can-i",
            verb,
            *what.split(),
        ]
        command += ["-n", namespace]
        answer = subprocess.run(
            command, capture_output=True, text=True, cwd=self.folder, check=False, timeout=180
        )
        assert answer.returncode in {0, 1}, answer.stderr
        return answer.stdout.strip()

    def can(self, cluster: Cluster, namespace: str, verb: str, what: str, *who: str) -> bool:
        """Whether the answer is yes."""
        return self.allowed(cluster, namespace, verb, what, *who) == "yes"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("reader")
    with pair.plain() as clusters:
        clusters.home.kubectl("create", "namespace", "shop")
        program = clusters.home.kubectl_program
        (folder / "manifests").symlink_to(ROOT / "manifests")
        script = _commands().replace("https://FOREIGN:6443", clusters.foreign.server)
        answer = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", script],
            cwd=folder,
            env={
                **os.environ,
                "PATH": f"{program.parent}:{os.environ['PATH']}",
                "KUBECONFIG": str(_contexts(folder / "config", clusters)),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert answer.returncode == 0, f"{answer.stdout}\n{answer.stderr}"
        made = Reader(folder, clusters)
        # The last binding on each side: API servers learn of permissions by watches, with a delay.
        foreign, home = clusters.foreign, clusters.home
        for question in (
            (foreign, "shop-home", "create", "pods", "--kubeconfig=foreign.kubeconfig"),
            (home, "shop", "create", TOKENS, f"--kubeconfig={home.kubeconfig}", f"--as={ACCOUNT}"),
        ):
            processes.wait_for("rights", functools.partial(made.can, *question), seconds=60)
        yield made


def test_farlet_can_create_foreign_pods_only_in_offloaded_namespaces(reader: Reader) -> None:
    who = "--kubeconfig=foreign.kubeconfig"
    foreign = reader.clusters.foreign
    asked = [("shop-home", "pods"), ("farlet", "configmaps"), ("farlet", "pods")]
    asked += [("default", "pods"), ("kube-system", "secrets")]
    found = [reader.allowed(foreign, namespace, "create", what, who) for namespace, what in asked]
    assert found == ["yes", "yes", "no", "no", "no"]


def test_the_first_foreign_token_is_revoked_after_the_renewal(reader: Reader) -> None:
    assert "farlet-token" not in reader.clusters.foreign.kubectl("-n", "farlet", "get", "secrets")


def test_in_the_home_cluster_farlet_is_the_node(reader: Reader) -> None:
    home = reader.clusters.home
    # The page uses the address for home pods, which this machine cannot reach.
    who = ("--kubeconfig=home.kubeconfig", f"--server={home.server}")
    command: list[str | Path] = [home.kubectl_program, *who, "auth", "whoami", "-o", "json"]
    answer = subprocess.run(
        command, capture_output=True, text=True, cwd=reader.folder, check=True, timeout=180
    )
    user = json.loads(answer.stdout)["status"]["userInfo"]
    assert user["username"] == "system:node:far"
    assert "system:nodes" in user["groups"]
    assert reader.allowed(home, "kube-system", "get", AUTHORITY, *who) == "yes"
    assert reader.allowed(home, "shop", "create", TOKENS, *who).startswith("no")


@pytest.mark.parametrize(
    ("namespace", "verb", "what", "says"),
    [
        pytest.param("shop", "create", TOKENS, "yes", id="tokens where bound"),
        pytest.param("kube-system", "create", TOKENS, "no", id="tokens elsewhere"),
        pytest.param("shop", "delete", "pods", "yes", id="pods where bound"),
        pytest.param("default", "delete", "pods", "no", id="pods elsewhere"),
        pytest.param("default", "list", "pods", "yes", id="all pods are read"),
        pytest.param("kube-node-lease", "update", "leases/far", "yes", id="own heartbeat"),
        pytest.param("kube-node-lease", "update", "leases/near", "no", id="another's heartbeat"),
        pytest.param("default", "patch", "nodes/far", "yes", id="own node"),
        pytest.param("default", "patch", "nodes/near", "no", id="another node"),
        pytest.param("kube-system", "get", AUTHORITY, "yes", id="authority of clients"),
        pytest.param("farlet", "get", "secrets", "no", id="secrets in its namespace"),
    ],
)
def test_the_home_service_account_has_the_documented_permissions(
    reader: Reader, namespace: str, verb: str, what: str, says: str
) -> None:
    home = reader.clusters.home
    who = (f"--kubeconfig={home.kubeconfig}", f"--as={ACCOUNT}")
    assert reader.allowed(home, namespace, verb, what, *who) == says


def _commands() -> str:
    """All shell blocks, except those that build an image or require a running farlet."""
    text = "\n".join(page.read_text() for page in PAGES)
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 4
    return "\n".join(
        block for block in blocks if not (block.startswith("docker ") or "exec deploy/" in block)
    )


def _contexts(path: Path, clusters: pair.Clusters) -> Path:
    """A kubeconfig with the contexts `home` and `foreign` that the page uses."""
    merged: dict[str, list[object]] = {"clusters": [], "users": [], "contexts": []}
    for cluster in (clusters.home, clusters.foreign):
        content = json.loads(cluster.kubeconfig.read_text())
        (user,) = content["users"]
        merged["clusters"] += content["clusters"]
        merged["users"].append({**user, "name": cluster.name})
        context = {"cluster": content["clusters"][0]["name"], "user": cluster.name}
        merged["contexts"].append({"name": cluster.name, "context": context})
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **merged}))
    path.chmod(0o600)
    return path
