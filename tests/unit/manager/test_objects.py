"""The objects of one VirtualNode equal their golden files.

`pytest tests/unit/manager --update-golden` rewrites the files; read the difference.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from farlet.constants import JSON
from farlet.gateway import keys
from farlet.manager import objects, run_settings
from farlet.manager.objects import PodParameters
from farlet.manager.virtual_node import VirtualNode
from farlet.settings import Settings, loading
from unit.manager.nodes import EVERYTHING, node

GOLDENS = Path(__file__).parent / "goldens"
ROOT = Path(__file__).parents[3]

NODES = {
    "defaults": node(),
    "everything": node(**EVERYTHING),
    "address": node("near", homeAPIServer={"host": "203.0.113.7", "port": 6443}, taints=[]),
}


def made(one: VirtualNode) -> tuple[JSON, ...]:
    checked = run_settings.check(one)
    return objects.desired(one, run_settings.parameters(one, checked, image="farlet:0.2.0"))


@pytest.mark.parametrize("name", NODES)
def test_objects_are_the_golden_ones(name: str, request: pytest.FixtureRequest) -> None:
    computed = [copy.deepcopy(one) for one in made(NODES[name])]
    path = GOLDENS / f"{name}.yaml"
    if request.config.getoption("--update-golden"):
        path.write_text(yaml.safe_dump_all(computed, sort_keys=False))
    assert list(yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader)) == computed


def deployment(one: VirtualNode) -> JSON:
    (found,) = (obj for obj in made(one) if obj["kind"] == "Deployment")
    return found


def test_the_pod_is_as_the_shipped_one() -> None:
    """In everything that protects it: the manager sets what the manifest contains."""
    path = ROOT / "manifests" / "home" / "base" / "deployment.yaml"
    shipped = yaml.safe_load(path.read_text())["spec"]["template"]["spec"]
    pod = deployment(node())["spec"]["template"]["spec"]
    for key in ("securityContext", "automountServiceAccountToken", "enableServiceLinks"):
        assert pod[key] == shipped[key]
    assert pod["affinity"]["nodeAffinity"] == shipped["affinity"]["nodeAffinity"]
    assert pod["terminationGracePeriodSeconds"] == shipped["terminationGracePeriodSeconds"]
    (container,), (theirs,) = pod["containers"], shipped["containers"]
    for key in ("securityContext", "livenessProbe", "readinessProbe", "resources"):
        assert container[key] == theirs[key], key
    assert {one["name"]: one["containerPort"] for one in container["ports"]} == {
        one["name"]: one["containerPort"] for one in theirs["ports"]
    }


@pytest.mark.parametrize("name", NODES)
def test_every_variable_is_a_setting(name: str) -> None:
    (container,) = deployment(NODES[name])["spec"]["template"]["spec"]["containers"]
    known = {loading.env_name(field) for field in Settings.model_fields}
    assert {one["name"] for one in container["env"]} <= known


def test_every_secret_is_mounted_by_keys() -> None:
    """Other keys of the same Secret are not for the pod: the manager keeps private keys there."""
    one = node(**{**EVERYTHING, "identity": "Node"})
    volumes = deployment(one)["spec"]["template"]["spec"]["volumes"]
    assert {
        volume["name"]: [item["key"] for item in volume["secret"]["items"]]
        for volume in volumes
        if "secret" in volume
    } == {
        "foreign": ["kubeconfig"],
        "home": ["kubeconfig"],
        "gateway": [keys.PRIVATE, keys.TRUSTED],
    }


@pytest.mark.parametrize(
    ("foreign", "gateway", "refused"),
    [
        pytest.param("mine", "keys", None, id="names of one's own"),
        pytest.param("farlet-far-foreign", "farlet-far-gateway", None, id="the default names"),
        pytest.param("farlet-keys", "farlet-other", None, id="names that are not reserved"),
        pytest.param("farlet-other-foreign", "keys", "foreign", id="the foreign one of another"),
        pytest.param("farlet-far-home", "keys", "foreign", id="the home one of this node"),
        pytest.param("mine", "farlet-other-home", "gateway", id="the home one of another"),
        pytest.param("mine", "farlet-other-gateway", "gateway", id="the gateway of another"),
        pytest.param("mine", "farlet-far-2-gateway", "gateway", id="of a node with this prefix"),
    ],
)
def test_secrets_of_other_nodes_are_refused(
    foreign: str, gateway: str, refused: str | None
) -> None:
    one = node(
        foreign={"kubeconfigSecret": {"name": foreign}}, gateway={"keysSecret": {"name": gateway}}
    )
    found = objects.secret_refusal(one)
    assert (found and found.split(".")[1]) == refused


def test_objects_of_two_nodes_share_neither_name_nor_selector() -> None:
    one, other = made(node("a")), made(node("b"))
    assert not {x["metadata"]["name"] for x in one} & {x["metadata"]["name"] for x in other}
    selectors = [deployment(node(name))["spec"]["selector"] for name in "ab"]
    assert selectors[0] != selectors[1]


def test_a_drain_extends_the_time_that_a_pod_may_take_to_stop() -> None:
    one = node(extraArgs=["--drain-on-exit=true", "--drain-timeout=5m"])
    assert deployment(one)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 345


def test_a_setting_that_refers_to_the_account_of_the_pod_mounts_its_token() -> None:
    arguments = ["--storage-class-map=fast=ssd", "--home-storage-kubeconfig=in-cluster"]
    assert deployment(node(extraArgs=arguments))["spec"]["template"]["spec"][
        "automountServiceAccountToken"
    ]


@pytest.mark.parametrize(
    ("found", "wanted", "contained"),
    [
        pytest.param({"a": 1, "b": 2}, {"a": 1}, True, id="a default beside it"),
        pytest.param({"a": 1}, {"a": 2}, False, id="another value"),
        pytest.param({}, {"a": 1}, False, id="a missing key"),
        pytest.param({"l": [{"n": 1, "d": 0}]}, {"l": [{"n": 1}]}, True, id="within a list"),
        pytest.param({"l": [1, 2]}, {"l": [1]}, False, id="a longer list"),
        pytest.param({"l": {}}, {"l": []}, False, id="another type"),
    ],
)
def test_drift_is_a_field_that_is_not_as_desired(found: Any, wanted: Any, contained: bool) -> None:
    assert objects.contains(found, wanted) is contained


@pytest.mark.parametrize(
    ("metadata", "ours"),
    [
        pytest.param({"labels": node().labels}, True, id="made by the manager"),
        pytest.param({"labels": {**node().labels, "more": "x"}}, True, id="with a further label"),
        pytest.param({"ownerReferences": [node().owner]}, True, id="whose labels were removed"),
        pytest.param({"labels": node("other").labels}, False, id="of another node"),
        pytest.param({"ownerReferences": [node("other").owner]}, False, id="with another owner"),
        pytest.param({"labels": {"app.kubernetes.io/name": "farlet"}}, False, id="made by hand"),
        pytest.param({}, False, id="without labels"),
    ],
)
def test_objects_of_others_are_recognized(metadata: JSON, ours: bool) -> None:
    assert objects.is_ours({"metadata": metadata}, node()) is ours


def test_the_kubelet_replaces_no_variables_in_arguments() -> None:
    one = node(extraArgs=["--home-id=$(SECRET)"])
    (container,) = deployment(one)["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["run", "--home-id=$$(SECRET)"]


def test_parameters_follow_from_the_settings() -> None:
    one = node(image="mine:1")
    assert run_settings.parameters(one, run_settings.check(one), image="theirs:1") == PodParameters(
        image="mine:1", stop_seconds=20.0, own_account=False
    )
