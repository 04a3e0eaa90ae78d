"""What is shipped beside the code fits the code: manifests, image, locked libraries."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusters import farletimage
from farlet.foreign import inventory
from farlet.settings import Settings, loading
from reference import role_manifests

ROOT = Path(__file__).parents[3]
HOME = ROOT / "manifests" / "home"
SETTINGS = HOME / "nodes" / "far" / "settings.env"
_PINNED = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)


def documents(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / "manifests" / path).read_text()))


def deployment() -> dict[str, Any]:
    (found,) = documents("home/base/deployment.yaml")
    return found


def container() -> dict[str, Any]:
    (found,) = deployment()["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def test_every_variable_in_the_manifests_is_a_setting() -> None:
    lines = SETTINGS.read_text().splitlines()
    named = {line.lstrip("#").partition("=")[0] for line in lines if "=" in line}
    named |= {one["name"] for one in container()["env"]}
    for folder in ("node-identity", "gateway"):
        text = (HOME / folder / "kustomization.yaml").read_text()
        named |= set(re.findall(r"name: (FARLET_\w+)", text))
    known = {loading.env_name(field) for field in Settings.model_fields}
    assert {name for name in named if name.startswith("FARLET_")} <= known
    assert len(named) > 5


def test_settings_of_the_manifests_are_accepted(tmp_path: Path) -> None:
    """With values that an administrator must add, and files in place of those of the pod."""
    lines = SETTINGS.read_text().splitlines()
    pairs = [
        line.lstrip("#").partition("=") for line in lines if line.lstrip("#").startswith("FAR")
    ]
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("")
    flags = {name.removeprefix("FARLET_").lower(): value for name, _, value in pairs}
    flags |= {"foreign_kubeconfig": str(kubeconfig), "home_kubeconfig": str(kubeconfig)}
    loaded = loading.load(Settings, flags)
    assert loaded.nodename == role_manifests.NODENAME
    assert loaded.leader_elect


def test_ports_of_the_pod_are_those_of_the_settings() -> None:
    fields = Settings.model_fields
    ports = {one["name"]: one["containerPort"] for one in container()["ports"]}
    assert ports == {
        "kubelet": fields["kubelet_port"].default,
        "metrics": fields["metrics_bind_address"].default.port,
        "probes": fields["health_probe_bind_address"].default.port,
    }


def test_a_stop_may_take_as_long_as_farlet_itself_allows() -> None:
    grace = deployment()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace >= Settings.model_fields["shutdown_grace_period"].default + 20


@pytest.mark.parametrize(
    "path", ["home/base/pdb.yaml", "foreign/gateway/gateway.yaml", "api-proxy/base/pdb.yaml"]
)
def test_a_pod_that_is_not_ready_does_not_block_the_drain_of_a_machine(path: str) -> None:
    (budget,) = (one for one in documents(path) if one["kind"] == "PodDisruptionBudget")
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_settings_and_binding_contain_the_name_of_the_node_that_is_replaced() -> None:
    (binding,) = documents("home/node-identity/client-authority.yaml")
    assert binding["subjects"][0]["name"] == f"system:node:{role_manifests.NODENAME}"
    settings = SETTINGS.read_text()
    assert f"FARLET_NODENAME={role_manifests.NODENAME}\n" in settings


def test_messages_name_manifests_that_exist() -> None:
    source = Path(inventory.__file__).parent.rglob("*.py")
    named = {
        path
        for file in source
        for path in re.findall(r"manifests/[\w/.-]+\.yaml", file.read_text())
    }
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_label_of_created_namespaces_is_protected_in_every_request_that_can_change_it() -> None:
    policies = documents("foreign/created-namespaces/policy.yaml")
    (rule,) = policies[0]["spec"]["matchConstraints"]["resourceRules"]
    assert rule["resources"] == ["namespaces", "namespaces/status", "namespaces/finalize"]
    assert "UPDATE" in rule["operations"]


def test_the_image_gets_what_is_locked_and_no_more_than_farlet_needs() -> None:
    everything = dict(_PINNED.findall((ROOT / "requirements.lock").read_text()))
    image = dict(_PINNED.findall((ROOT / "requirements-image.lock").read_text()))
    assert image.items() <= everything.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[^a-z0-9-]", one)[0] for one in project["dependencies"]}
    tools = {
        re.split(r"[^a-z0-9-]", one.lower())[0] for one in project["optional-dependencies"]["dev"]
    }
    assert needed <= image.keys()
    assert not (tools - needed) & image.keys()


def test_the_dockerfile_contains_all_that_the_daemonless_build_reads() -> None:
    made = farletimage.recipe()
    assert set(made.packages) == {"ca-certificates", "python3"}
    assert made.config["Entrypoint"][-2:] == ["-m", "farlet"]
    assert made.config["Cmd"] == ["run"]
    assert made.interpreter == "#!/usr/bin/python3 -P"
    user = str(deployment()["spec"]["template"]["spec"]["securityContext"]["runAsUser"])
    assert made.config["User"].split(":")[0] == user != "0"


@pytest.mark.parametrize(
    ("workload", "policy", "ports"),
    [
        pytest.param(
            "home/base/deployment.yaml",
            "home/base/networkpolicy.yaml",
            {"kubelet": "anyone", "metrics": "some"},
            id="farlet",
        ),
        pytest.param(
            "foreign/gateway/gateway.yaml",
            "foreign/gateway/networkpolicy.yaml",
            {"pods": "some"},
            id="gateway",
        ),
        pytest.param(
            "api-proxy/base/deployment.yaml",
            "api-proxy/base/networkpolicy.yaml",
            {"api": "anyone", "status": "some"},
            id="api-proxy",
        ),
    ],
)
def test_a_network_policy_opens_only_the_ports_that_others_need(
    workload: str, policy: str, ports: dict[str, str]
) -> None:
    (pod,) = (one["spec"]["template"] for one in documents(workload) if one["kind"] == "Deployment")
    (found,) = documents(policy)
    assert found["spec"]["podSelector"]["matchLabels"] == pod["metadata"]["labels"]
    assert "Ingress" in found["spec"]["policyTypes"]
    opened = {
        port["port"]: "some" if rule.get("from") else "anyone"
        for rule in found["spec"]["ingress"]
        for port in rule["ports"]
    }
    assert opened == ports
    named = {port["name"] for one in pod["spec"]["containers"] for port in one["ports"]}
    assert opened.keys() <= named


@pytest.mark.parametrize("path", ["home/namespace.yaml", "foreign/namespace.yaml"])
def test_namespaces_of_farlet_enforce_the_strictest_pod_security(path: str) -> None:
    (namespace,) = (one for one in documents(path) if one["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize(
    "path",
    ["home/base/deployment.yaml", "foreign/gateway/gateway.yaml", "api-proxy/base/deployment.yaml"],
)
def test_pods_meet_the_pod_security_level_restricted(path: str) -> None:
    """The rules of Kubernetes' level that a manifest can break, see its documentation."""
    (pod,) = (
        one["spec"]["template"]["spec"] for one in documents(path) if one["kind"] == "Deployment"
    )
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] != 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"configMap", "secret", "emptyDir", "projected"}
    for one in pod["containers"]:
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert one["securityContext"]["allowPrivilegeEscalation"] is False
        assert not any("hostPort" in port for port in one["ports"])


@pytest.mark.parametrize(
    "folder",
    [
        *("home/base", "home/node-identity", "home/service-account", "foreign", "foreign/gateway"),
        *("api-proxy/base", "api-proxy/home", "api-proxy/foreign"),
    ],
)
def test_a_kustomization_names_files_that_exist(folder: str) -> None:
    (content,) = documents(f"{folder}/kustomization.yaml")
    for name in content["resources"]:
        assert (ROOT / "manifests" / folder / name).exists()


def test_the_overview_names_every_kustomization_and_every_file_that_is_in_none() -> None:
    manifests = ROOT / "manifests"
    text = (manifests / "README.md").read_text()
    named = {manifests / path for path in re.findall(r"`([\w./-]+)`", text)}
    kustomizations = {path.parent for path in manifests.rglob("kustomization.yaml")}
    single = {
        file
        for file in manifests.rglob("*.yaml")
        if file.parent not in kustomizations and file.parent not in named
    } | {file for file in (manifests / "foreign").glob("*.yaml") if file.name not in IN_FOREIGN}
    assert kustomizations | single <= named
    assert [path for path in named if path.parent != manifests and not path.exists()] == []


IN_FOREIGN = {"kustomization.yaml", "farlet-namespace.yaml", "token-secret.yaml"}
"""Files of the kustomization `foreign`, beside others that are applied on their own."""
