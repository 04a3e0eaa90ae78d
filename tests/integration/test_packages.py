"""The manager by kustomize, by one file and by the real Helm: the same objects, and what stays.

farlet does not run: its pods run on fake nodes.
"""

import dataclasses
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import release
from clusters import binaries, errors, pair, processes
from clusters.cluster import Cluster
from clusters.farlet import ROOT
from clusters.progress import Progress
from reference import chart

pytestmark = [pytest.mark.clusters, pytest.mark.takes(110)]

CHART = ROOT / chart.DIRECTORY
PAGE = ROOT / "docs" / "how-to" / "manager.md"
SAMPLE = ROOT / "manifests" / "samples" / "virtual-node.yaml"
NAMESPACE = "farlet"
RELEASE = ("farlet", f"--namespace={NAMESPACE}")
CRD = "customresourcedefinition/virtualnodes.farlet.io"
COLUMN = "    - name: Age\n"


@dataclasses.dataclass(frozen=True)
class Home:
    """A home cluster without farlet, and Helm."""

    cluster: Cluster
    program: Path
    folder: Path

    def helm(self, *arguments: str | Path) -> str:
        """The output of Helm."""
        state = [f"--kubeconfig={self.cluster.kubeconfig}"]
        state += [f"--repository-cache={self.folder}", f"--registry-config={self.folder}/none"]
        return processes.run([self.program, *state, *arguments], what=f"run helm {arguments[0]}")

    def kubectl(self, *arguments: str | Path) -> str:
        return self.cluster.kubectl(*map(str, arguments))

    def exists(self, what: str) -> bool:
        return bool(self.kubectl("get", what, "-n", NAMESPACE, "--ignore-not-found", "-o", "name"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    helm = binaries.find(["helm"], progress=Progress())["helm"]
    with pair.plain() as clusters:
        yield Home(clusters.home, helm, tmp_path_factory.mktemp("helm"))


def by_name(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    objects = [one for one in yaml.safe_load_all(text) if one is not None]
    found = {(one["kind"], one["metadata"]["name"]): one for one in objects}
    assert len(found) == len(objects)
    return found


def test_all_packages_contain_the_same_objects(home: Home) -> None:
    kustomized = by_name(home.kubectl("kustomize", ROOT / "manifests" / "default"))
    helm = by_name(home.helm("template", *RELEASE, CHART, "--set=crds.keep=false"))
    one_file = by_name(release.installer(release.PLACEHOLDER, home.folder).read_text())
    definition = ("CustomResourceDefinition", "virtualnodes.farlet.io")
    shipped = by_name((ROOT / "crds" / "farlet.io_virtualnodes.yaml").read_text())
    assert helm.pop(definition) == one_file.pop(definition) == shipped[definition]
    namespace = by_name((ROOT / "manifests" / "home" / "namespace.yaml").read_text())
    assert one_file.pop(("Namespace", NAMESPACE)) == namespace["Namespace", NAMESPACE]
    assert helm == kustomized == one_file
    assert ("Deployment", "farlet-manager") in helm


@pytest.mark.parametrize(
    ("value", "path", "expected"),
    [
        pytest.param("image.repository=reg/f", ("template", "image"), "reg/f:0.2.0", id="image"),
        pytest.param("image.tag=7", ("template", "image"), "farlet:7", id="tag"),
        pytest.param("replicas=0", ("replicas",), 0, id="replicas"),
        pytest.param(
            "resources.limits.memory=1Gi",
            ("template", "resources", "limits"),
            {"memory": "1Gi"},
            id="resources",
        ),
    ],
)
def test_a_value_of_the_chart_has_its_effect(
    home: Home, value: str, path: tuple[str, ...], expected: object
) -> None:
    option = "--set-string" if "tag" in value else "--set"
    found = by_name(home.helm("template", *RELEASE, CHART, option, value))
    at: Any = found["Deployment", "farlet-manager"]["spec"]
    for step in path:
        at = at["template"]["spec"]["containers"][0] if step == "template" else at[step]
    assert at == expected


@pytest.mark.parametrize("value", ["replicas=2", "replica=1", "image=farlet", "crds.keep=1"])
def test_helm_refuses_a_wrong_value(home: Home, value: str) -> None:
    with pytest.raises(errors.HarnessError, match="values don't meet the specifications"):
        home.helm("template", *RELEASE, CHART, "--set", value)


def test_helm_refuses_another_namespace(home: Home) -> None:
    with pytest.raises(errors.HarnessError, match="install the chart with --namespace farlet"):
        home.helm("template", "farlet", "--namespace=other", CHART)


def test_helm_upgrades_the_definition_and_its_uninstallation_keeps_what_is_not_its_own(
    home: Home, tmp_path: Path
) -> None:
    labels = ("--create-namespace", "--take-ownership", "--set=namespace.manage=true")
    home.helm("install", *RELEASE, release.packed_chart(tmp_path), *labels)
    level = "{.metadata.labels['pod-security\\.kubernetes\\.io/enforce']}"
    assert home.kubectl("get", "ns", NAMESPACE, "-o", f"jsonpath={level}") == "restricted"
    home.kubectl("apply", "-f", SAMPLE)
    newer = shutil.copytree(CHART, tmp_path / "newer")
    template = newer / "templates" / "crd.yaml"
    text = template.read_text()
    assert text.count(COLUMN) == 1
    column = "    - name: Newer\n      type: string\n      jsonPath: .kind\n"
    template.write_text(text.replace(COLUMN, column + COLUMN))
    home.helm("upgrade", *RELEASE, newer, "--set=namespace.manage=true")
    assert "Newer" in home.kubectl("get", CRD, "-o", "json")
    home.helm("uninstall", *RELEASE)
    assert not home.exists("deployment/farlet-manager")
    assert not home.exists("clusterrole/farlet-manager")
    assert all(map(home.exists, (CRD, "virtualnode/far", f"namespace/{NAMESPACE}")))


def test_helm_installs_over_what_an_uninstallation_left(home: Home) -> None:
    home.helm("install", *RELEASE, CHART)
    assert home.exists("deployment/farlet-manager")
    assert "Newer" not in home.kubectl("get", CRD, "-o", "json")
    home.helm("uninstall", *RELEASE)


def test_deleting_the_kustomization_leaves_virtual_nodes_and_their_farlets(home: Home) -> None:
    manifests = ROOT / "manifests"
    for command in (
        ("-f", manifests / "home" / "namespace.yaml"),
        ("--server-side", "--force-conflicts", "-f", ROOT / "crds"),
        ("-k", manifests / "default"),
        ("-f", SAMPLE),
    ):
        home.kubectl("apply", *command)
    # Instead of the manager, which does not run here: the farlet of the node.
    node = json.loads(home.kubectl("get", "virtualnode/far", "-n", NAMESPACE, "-o", "json"))
    owner = {"apiVersion": node["apiVersion"], "kind": node["kind"], "name": "far"}
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": "farlet-far",
            "namespace": NAMESPACE,
            "ownerReferences": [{**owner, "uid": node["metadata"]["uid"], "controller": True}],
        },
    }
    home.cluster.apply(account)
    home.kubectl("delete", "-k", manifests / "default", "--timeout=60s")
    assert not home.exists("deployment/farlet-manager")
    kept = (CRD, "virtualnode/far", f"namespace/{NAMESPACE}", "serviceaccount/farlet-far")
    assert all(map(home.exists, kept))


def test_each_machine_of_the_home_cluster_can_be_drained(home: Home) -> None:
    manifests = ROOT / "manifests"
    applied = (manifests / "default", manifests / "home" / "nodes" / "far")
    home.kubectl("apply", "-f", manifests / "home" / "namespace.yaml")
    home.kubectl("apply", "--server-side", "--force-conflicts", "-f", ROOT / "crds")
    for folder in applied:
        home.kubectl("apply", "-k", folder)
    machines = home.kubectl("get", "nodes", "-o", "name").split()
    assert len(machines) > 1
    for machine in machines:
        for deployment in ("farlet-manager", "farlet-far"):
            status = ("rollout", "status", f"deployment/{deployment}", "-n", NAMESPACE)
            home.kubectl(*status, "--timeout=60s")
        home.kubectl("drain", machine, "--delete-emptydir-data", "--timeout=60s")
        place = f"--field-selector=spec.nodeName={machine.removeprefix('node/')}"
        assert home.kubectl("get", "pods", "-n", NAMESPACE, place, "-o", "name") == ""
        home.kubectl("uncordon", machine)
    for folder in applied:
        home.kubectl("delete", "-k", folder, "--timeout=60s")


def test_the_commands_of_the_page_work_one_after_the_other(home: Home) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    script = "".join(blocks).replace("--kube-context home ", "").replace("--context home ", "")
    script = script.replace("REGISTRY/", "registry.example/")
    script = re.sub(r"^make .*$", "", script, flags=re.MULTILINE)  # done below
    command = ["bash", "-euxo", "pipefail", "-c", script]
    found = f"{home.program.parent}:{home.cluster.kubectl_program.parent}:{os.environ['PATH']}"
    variables = {"PATH": found, "KUBECONFIG": str(home.cluster.kubeconfig)}
    for name in ("manifests", "crds", "charts"):
        shutil.copytree(ROOT / name, home.folder / name)
    release.installer("registry.example/farlet:0.2.0", home.folder / "dist")
    answer = subprocess.run(
        command,
        cwd=home.folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert answer.returncode == 0, f"{answer.stdout}\n{answer.stderr}"
    assert not home.exists(CRD)


def test_one_file_installs_everything_and_updates_it(home: Home) -> None:
    path = release.installer("registry.example/farlet:9", home.folder)
    home.kubectl("apply", "--server-side", "--force-conflicts", "-f", path)
    home.kubectl("apply", "--server-side", "-f", path)
    image = "jsonpath={.spec.template.spec.containers[0].image}"
    found = home.kubectl("-n", NAMESPACE, "get", "deployment", "farlet-manager", "-o", image)
    assert found == "registry.example/farlet:9"
