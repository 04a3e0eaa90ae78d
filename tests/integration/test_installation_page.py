"""The commands of the pages on installation, renewal and removal have the documented effects.

They create two virtual nodes and remove them, on separate clusters, because the pages use fixed
names. farlet itself does not run: its pods run on fake nodes.
"""

import functools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusters import pair, processes
from clusters.cluster import Cluster
from clusters.farlet import ROOT
from integration import pages

pytestmark = [pytest.mark.clusters, pytest.mark.takes(90)]

INSTALLATION, RENEWAL, REMOVAL = (
    ROOT / "docs" / f"{name}.md"
    for name in ("installation", "how-to/renew-credentials", "uninstall")
)
AUTHORITY = "configmaps/extension-apiserver-authentication"
TOKENS = "serviceaccounts --subresource=token"
ACCOUNT = "system:serviceaccount:farlet:farlet-far"


class Reader:
    """A reader who has run the commands of the pages in this folder."""

    def __init__(self, folder: Path, clusters: pair.Clusters) -> None:
        self.folder = folder
        self.clusters = clusters

    def run(self, script: str) -> None:
        """Run commands of a page, until one fails."""
        pages.run(script, self.clusters, folder=self.folder)

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
        shutil.copytree(ROOT / "manifests", folder / "manifests")  # the page edits it
        made = Reader(folder, clusters)
        made.run(_commands(INSTALLATION).replace("https://FOREIGN:6443", clusters.foreign.server))
        made.run(_commands(RENEWAL))
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


def test_no_object_of_two_virtual_nodes_has_the_same_name(reader: Reader) -> None:
    shared = _names(_objects(reader, "far")) & _names(_objects(reader, "near"))
    assert shared == set()


@pytest.mark.parametrize("node", ["far", "near"])
def test_everything_of_a_virtual_node_names_that_node_and_no_other(
    reader: Reader, node: str
) -> None:
    (deployment,) = (one for one in _objects(reader, node) if one["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    secrets = {one["secret"]["secretName"] for one in pod["volumes"] if "secret" in one}
    assert secrets == {f"farlet-{node}-foreign"}
    assert pod["serviceAccountName"] == f"farlet-{node}"
    other = {"far": "near", "near": "far"}[node]
    assert not re.search(rf"\b{other}\b", json.dumps(_objects(reader, node)))
    found = reader.clusters.home.kubectl(
        *("-n", "farlet", "get", "pods", "-o", "json"),
        "-l"
        + ",".join(f"{k}={v}" for k, v in deployment["spec"]["selector"]["matchLabels"].items()),
    )
    owners = {
        pod["metadata"]["labels"]["app.kubernetes.io/instance"]
        for pod in json.loads(found)["items"]
    }
    assert owners == {node}


def test_each_pod_of_farlet_can_be_evicted(reader: Reader) -> None:
    """The API server refuses to evict a pod that two PodDisruptionBudgets select."""
    home = reader.clusters.home
    names = home.kubectl("-n", "farlet", "get", "pods", "-o", "name").split()
    assert len(names) == 4
    for name in names:
        pod = name.removeprefix("pod/")
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": "farlet"},
            "deleteOptions": {"dryRun": ["All"]},
        }
        path = f"/api/v1/namespaces/farlet/pods/{pod}/eviction"
        home.kubectl("create", "--raw", path, "-f", "-", content=json.dumps(eviction))


def test_a_change_of_settings_leaves_one_config_map_for_each_virtual_node(reader: Reader) -> None:
    home = reader.clusters.home
    settings = reader.folder / "manifests" / "home" / "nodes" / "near" / "settings.env"
    ours = (
        "-n",
        "farlet",
        "get",
        "configmaps",
        "-l",
        "app.kubernetes.io/name=farlet",
        "-o",
        "name",
    )
    before = set(home.kubectl(*ours).split())
    settings.write_text(settings.read_text().replace("cpu=8", "cpu=9"))
    prune = ("-l", "app.kubernetes.io/instance=near", "--prune-allowlist", "core/v1/ConfigMap")
    home.kubectl("apply", "-k", str(settings.parent), "--prune", *prune)
    after = set(home.kubectl(*ours).split())
    assert len(before) == len(after) == 2
    assert len(before & after) == 1, "that of the other node"


def test_deleting_one_virtual_node_leaves_all_of_the_other_and_the_namespace(
    reader: Reader,
) -> None:
    home = reader.clusters.home
    kept = ("-n", "farlet", "get", "secrets,serviceaccounts", "-o", "name")
    before = set(home.kubectl(*kept).split())
    home.kubectl("delete", "-k", str(reader.folder / "manifests" / "home" / "nodes" / "near"))
    after = set(home.kubectl(*kept).split())
    assert before - after == {"serviceaccount/farlet-near"}
    assert "secret/farlet-far-foreign" in after
    for one in _objects(reader, "far"):
        where = ["-n", one["metadata"].get("namespace", "default")]
        home.kubectl("get", one["kind"], one["metadata"]["name"], *where)


def test_uninstalling_leaves_certificate_requests_only(reader: Reader) -> None:
    """Must be the last test: it removes what the others look at."""
    kinds = (
        "clusterroles,clusterrolebindings,storageclasses,csidrivers,namespaces,roles,rolebindings"
    )
    policies = "mutatingadmissionpolicies,validatingadmissionpolicies"
    policies += ",mutatingadmissionpolicybindings,validatingadmissionpolicybindings"
    every = ("get", f"{kinds},{policies}", "-A", "-o", "name")
    both = (reader.clusters.home, reader.clusters.foreign)
    assert all("farlet" in cluster.kubectl(*every) for cluster in both)
    # Of the first identity: the page replaces it by the second one.
    reader.clusters.home.kubectl(
        "-n", "kube-system", "delete", "rolebinding", "farlet-far-client-authority"
    )
    reader.run(_commands(REMOVAL))
    left = [line for cluster in both for line in cluster.kubectl(*every).split() if "far" in line]
    assert left == []
    assert "farlet-far" in reader.clusters.home.kubectl("get", "csr", "-o", "name")


def _objects(reader: Reader, node: str) -> list[dict[str, Any]]:
    """What the directory of a node contains, by kubectl's own kustomize."""
    folder = reader.folder / "manifests" / "home" / "nodes" / node
    text = reader.clusters.home.kubectl("kustomize", str(folder))
    return list(yaml.safe_load_all(text))


def _names(objects: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {
        (one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"])
        for one in objects
    }


def _commands(page: Path) -> str:
    """All shell blocks of a page, without commands that build an image or require a running farlet.

    Files with credentials stay: tests use them.
    """
    blocks = pages.blocks(page.read_text())
    assert len(blocks) > 3
    lines = "".join(blocks).splitlines()
    of_processes = (
        r"(exec|rollout status) deploy/|(drain|delete node|get node) |run hello |get pod "
    )
    other = re.compile(rf"docker |rm |.* ({of_processes})")
    return "\n".join(line for line in lines if not other.match(line))
