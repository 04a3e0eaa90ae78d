"""The objects of one virtual node in both clusters: names, owners, and equality with manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from farlet.install import dry_run, foreign, gateway, home
from farlet.install.connection import CONNECT, Connection
from farlet.manager import foreign_token
from farlet.manager.virtual_node import INSTANCE_LABEL, MANAGED_BY_LABEL, Identity

ROOT = Path(__file__).parents[3]
FAR = Connection("far", "farlet:1", ("shop", "blog"))
BY_HOST = Connection("far", "farlet:1", home_api_host="192.0.2.1", home_api_port=6443)
AS_ACCOUNT = Connection("far", "farlet:1", ("shop",), identity=Identity.SERVICE_ACCOUNT)


def documents(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / "manifests" / path).read_text()))


def keys(objects: tuple[dict[str, Any], ...]) -> list[str]:
    """`Kind namespace/name` of each."""
    return [
        f"{one['kind']} {one['metadata'].get('namespace', '')}/{one['metadata']['name']}"
        for one in objects
    ]


def test_the_gateway_is_that_of_the_manifests() -> None:
    shipped = documents("foreign/gateway/gateway.yaml")
    shipped += documents("foreign/gateway/networkpolicy.yaml")
    assert list(gateway.objects("farlet", image="farlet")) == shipped


def test_foreign_objects_are_named_after_the_virtual_node() -> None:
    assert keys((*foreign.namespaces(FAR), *foreign.objects(FAR))) == [
        "Namespace /farlet-far",
        "Namespace /shop-home",
        "Namespace /blog-home",
        "ServiceAccount farlet-far/farlet",
        "Secret farlet-far/farlet-token",
        "Role farlet-far/farlet-token",
        "RoleBinding farlet-far/farlet-token",
        "Role farlet-far/farlet-inventory",
        "RoleBinding farlet-far/farlet-inventory",
        "ClusterRole /farlet-far-capacity",
        "ClusterRoleBinding /farlet-far-capacity",
        "Role shop-home/farlet-far",
        "RoleBinding shop-home/farlet-far",
        "Role blog-home/farlet-far",
        "RoleBinding blog-home/farlet-far",
        "Service farlet-far/home-api",
        "Deployment farlet-far/farlet-gateway",
        "PodDisruptionBudget farlet-far/farlet-gateway",
        "NetworkPolicy farlet-far/farlet-gateway",
    ]


@pytest.mark.parametrize(
    ("connection", "expected"),
    [
        pytest.param(
            FAR,
            [
                "RoleBinding kube-system/farlet-far-client-authority",
                "ClusterRoleBinding /farlet-far-renewal",
            ],
            id="node",
        ),
        pytest.param(
            AS_ACCOUNT,
            [
                "ClusterRole /farlet-far",
                "ClusterRoleBinding /farlet-far",
                "ClusterRole /farlet-far-node",
                "ClusterRoleBinding /farlet-far-node",
                "Role farlet/farlet-far",
                "RoleBinding farlet/farlet-far",
                "Role default/farlet-far",
                "RoleBinding default/farlet-far",
                "Role kube-node-lease/farlet-far",
                "RoleBinding kube-node-lease/farlet-far",
                "Role kube-system/farlet-far",
                "RoleBinding kube-system/farlet-far",
                "ClusterRole /farlet-far-pods",
                "RoleBinding shop/farlet-far",
            ],
            id="ServiceAccount",
        ),
    ],
)
def test_home_bindings_are_named_after_the_virtual_node(
    connection: Connection, expected: list[str]
) -> None:
    assert keys(home.bindings(connection)) == expected


@pytest.mark.parametrize("connection", [FAR, BY_HOST, AS_ACCOUNT], ids=["node", "host", "account"])
def test_every_object_carries_the_marks_of_connect(connection: Connection) -> None:
    for one in (
        *foreign.namespaces(connection),
        *foreign.objects(connection),
        *home.bindings(connection),
        home.virtual_node(connection),
        home.foreign_secret(connection, "text"),
        home.gateway_secret(connection, {}),
        foreign.gateway_secret(connection, {}),
    ):
        labels = one["metadata"]["labels"]
        assert (labels[MANAGED_BY_LABEL], labels[INSTANCE_LABEL]) == (CONNECT, "far")


def test_bindings_name_the_account_of_the_virtual_node() -> None:
    subjects = {
        (one["subjects"][0]["kind"], one["subjects"][0]["namespace"], one["subjects"][0]["name"])
        for one in foreign.objects(FAR)
        if one["kind"].endswith("Binding")
    }
    assert subjects == {("ServiceAccount", "farlet-far", "farlet")}
    subjects = {
        (one["subjects"][0]["kind"], one["subjects"][0]["namespace"], one["subjects"][0]["name"])
        for one in home.bindings(AS_ACCOUNT)
        if one["kind"].endswith("Binding")
    }
    assert subjects == {("ServiceAccount", "farlet", "farlet-far")}


def test_the_virtual_node_names_its_secrets_and_system_namespace() -> None:
    assert home.virtual_node(FAR)["spec"] == {
        "identity": "Node",
        "foreign": {
            "kubeconfigSecret": {"name": "farlet-far-foreign"},
            "systemNamespace": "farlet-far",
        },
        "namespaces": {"homeName": "home"},
        "gateway": {"keysSecret": {"name": "farlet-far-gateway"}},
    }
    assert home.virtual_node(BY_HOST)["spec"]["homeAPIServer"] == {
        "host": "192.0.2.1",
        "port": 6443,
    }
    assert "gateway" not in home.virtual_node(BY_HOST)["spec"]


def test_no_capacity_role_is_granted_where_the_capacity_is_given() -> None:
    given = Connection("far", "farlet:1", capacity=(("cpu", "8"),))
    assert not [one for one in foreign.objects(given) if one["kind"] == "ClusterRole"]
    assert home.virtual_node(given)["spec"]["capacity"] == {"cpu": "8"}


def test_a_node_can_have_the_renewal_of_its_own_certificate_approved() -> None:
    (binding,) = (one for one in home.bindings(FAR) if one["kind"] == "ClusterRoleBinding")
    assert binding["roleRef"]["name"] == (
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"
    )
    assert [one["name"] for one in binding["subjects"]] == ["system:node:far"]


def test_the_printed_command_requests_a_token_as_connect_does() -> None:
    hours = foreign_token.LIFETIME.total_seconds() / 3600
    assert f"--duration {hours:g}h" in dry_run.commands(FAR, server=None)


@pytest.mark.parametrize(
    ("server", "shown"),
    [(None, "https://FOREIGN:6443"), ("https://192.0.2.7:6443", "https://192.0.2.7:6443")],
    ids=["not given", "given"],
)
def test_the_printed_commands_create_every_file_and_secret_of_the_yaml(
    server: str | None, shown: str
) -> None:
    connection = Connection("far", "farlet:1", ("shop",), foreign_system="platform")
    printed = dry_run.commands(connection, server=server).replace("\\\n", "")
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    config = "kubectl config --kubeconfig foreign.kubeconfig"
    wanted = [
        "kubectl --context FOREIGN create token farlet -n platform",
        "kubectl --context FOREIGN get configmap kube-root-ca.crt -n platform",
        f"{config} set-cluster foreign --server {shown} --certificate-authority foreign-ca.crt",
        f"{config} set-credentials farlet --token",
        f"{config} set-context foreign --cluster foreign --user farlet",
        f"{config} use-context foreign",
        (
            "kubectl --context HOME create secret generic farlet-far-foreign -n farlet "
            "--from-file=kubeconfig=foreign.kubeconfig"
        ),
        "farlet gateway-keys keys --node far --foreign-system-namespace platform",
        "kubectl --context FOREIGN create secret generic farlet-gateway -n platform",
        "kubectl --context HOME create secret generic farlet-far-gateway -n farlet",
    ]
    places = [next(i for i, one in enumerate(lines) if part in one) for part in wanted]
    assert places == sorted(places)
    assert "NODE" not in printed
