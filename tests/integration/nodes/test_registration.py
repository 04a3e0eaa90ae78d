"""What farlet registers, and with which settings it refuses to start."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from clusters import farlet as farlets
from clusters import rest
from clusters import workspace as workspaces
from clusters.identity import Identity
from conftest import StartFarlet
from faults import manifests
from faults.environment import Environment
from integration.nodes import nodelog

pytestmark = [pytest.mark.clusters, pytest.mark.core, pytest.mark.takes(60)]

ENDS_SECONDS = 120.0
RBAC = "rbac.authorization.k8s.io"


@pytest.mark.both_identities
async def test_the_node_has_all_that_kubectl_and_the_scheduler_require(
    env: Environment, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(
        env.node,
        settings={
            "capacity": "cpu=8,memory=32Gi,pods=110,example.com/gpu=2",
            "node-labels": "example.com/team=far,topology.kubernetes.io/zone=far-away",
            "node-annotations": "example.com/note=hello",
            "provider-id": "farlet://far",
        },
    )
    node = await env.home.until("nodes", nodelog.well, name=env.node)
    labels = node["metadata"]["labels"]
    assert {
        "kubernetes.io/hostname": env.node,
        "type": "virtual-kubelet",
        "example.com/team": "far",
        "topology.kubernetes.io/zone": "far-away",
    }.items() <= labels.items()
    assert "node.kubernetes.io/exclude-from-external-load-balancers" in labels
    assert node["metadata"]["annotations"]["example.com/note"] == "hello"
    assert node["spec"]["providerID"] == "farlet://far"
    assert [(one["key"], one["effect"]) for one in node["spec"]["taints"]] == [
        ("farlet.io/virtual-node", "NoSchedule")
    ]
    status = node["status"]
    capacity = {"cpu": "8", "memory": "32Gi", "pods": "110", "example.com/gpu": "2"}
    assert capacity.items() <= status["capacity"].items()
    assert capacity.items() <= status["allocatable"].items()
    addresses = {one["type"]: one["address"] for one in status["addresses"]}
    assert addresses["InternalIP"] == env.clusters.home.machine
    assert status["daemonEndpoints"]["kubeletEndpoint"]["Port"] == farlet.kubelet_port
    foreign = await env.foreign.request("GET", "/version")
    assert status["nodeInfo"]["kubeletVersion"] == foreign["gitVersion"]


REFUSED = {
    "another taint": (
        {"node-taints": "example.com/other=yes:NoExecute"},
        ("kubectl taint", "example.com/other=yes:NoExecute"),
    ),
    "a label that nodes are not allowed to set": (
        {"node-labels": "node-role.kubernetes.io/far=yes"},
        ("kubectl label", "node-role.kubernetes.io/far=yes"),
    ),
}


@pytest.mark.refused("home")
@pytest.mark.parametrize(("settings", "expected"), REFUSED.values(), ids=REFUSED)
async def test_what_a_node_is_not_allowed_to_change_is_an_error_with_the_kubectl_command(
    env: Environment,
    start_farlet: StartFarlet,
    settings: dict[str, str | None],
    expected: tuple[str, str],
) -> None:
    first = await start_farlet(env.node)
    before = await env.home.until("nodes", nodelog.well, name=env.node)
    await first.stop()
    second = farlets.create(env.clusters, node=env.node, identity=Identity.NODE, settings=settings)
    second.start()
    try:
        code = await asyncio.to_thread(second.process.wait, seconds=ENDS_SECONDS)
    finally:
        await second.stop()
    assert code == 1
    last = second.log.strip().splitlines()[-1]
    for words in (env.node, *expected):
        assert words in last
    assert "Traceback" not in second.log
    after = await env.home.get("nodes", name=env.node)
    assert after["spec"]["taints"] == before["spec"]["taints"]
    assert "node-role.kubernetes.io/far" not in after["metadata"]["labels"]


async def test_a_service_account_adds_the_taint_of_the_settings(
    env: Environment, start_farlet: StartFarlet
) -> None:
    login = Identity.ACCOUNT.login(env.clusters.home, env.node)
    first = await start_farlet(env.node, home_login=login)
    before = await env.home.until("nodes", nodelog.well, name=env.node)
    await first.stop()
    await start_farlet(
        env.node,
        home_login=login,
        settings={"node-taints": "example.com/other=yes:NoSchedule"},
    )
    after = await env.home.until("nodes", nodelog.well, name=env.node)
    assert manifests.uid(after) == manifests.uid(before)
    assert {one["key"] for one in after["spec"]["taints"]} >= {"example.com/other"}


@pytest.mark.refused("foreign")
async def test_without_capacity_and_without_access_to_foreign_nodes_both_fixes_are_named(
    env: Environment, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(env.node, settings={"capacity": None}, ready=False)
    assert await asyncio.to_thread(farlet.process.wait, seconds=ENDS_SECONDS) == 1
    last = farlet.log.strip().splitlines()[-1]
    assert "--capacity" in last
    assert "nodes" in last
    assert await env.home.find("nodes", name=env.node) is None


@pytest.fixture
async def reads_nodes(env: Environment) -> AsyncIterator[Path]:
    """A foreign user with the shipped ClusterRole for the capacity."""
    name = f"{workspaces.USER}-{secrets.token_hex(3)}"
    user = {"kind": "User", "name": name, "apiGroup": RBAC}
    await workspaces.create_farlet_namespace(env.foreign)
    role, binding = yaml.safe_load_all((workspaces.MANIFESTS / "capacity.yaml").read_text())
    for made in (role, binding):
        made["metadata"]["name"] = name
    binding["roleRef"]["name"] = name
    own = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": workspaces.FARLET_NAMESPACE},
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": workspaces.ROLE},
    }
    objects = [role, {**binding, "subjects": [user]}, {**own, "subjects": [user]}]
    env.clusters.foreign.apply(*objects)
    for rule, namespace in (
        ({"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}, ""),
        (
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]},
            workspaces.FARLET_NAMESPACE,
        ),
    ):
        await workspaces.until_allowed(env.foreign, user=name, namespace=namespace, rule=rule)
    yield env.clusters.foreign.login(name)
    env.clusters.foreign.remove(*objects)


async def test_capacity_is_the_sum_over_foreign_nodes_and_follows_them(
    env: Environment, start_farlet: StartFarlet, reads_nodes: Path
) -> None:
    await start_farlet(env.node, settings={"capacity": None}, foreign_login=reads_nodes)
    first, *others = await env.foreign.list("nodes")
    without_first = sum(amounts(one, "pods") for one in others)
    await env.home.until("nodes", holding(amounts(first, "pods") + without_first), name=env.node)
    name = first["metadata"]["name"]
    env.clusters.foreign.kubectl("cordon", name)
    try:
        await env.home.until("nodes", holding(without_first), name=env.node)
    finally:
        env.clusters.foreign.kubectl("uncordon", name)
    await env.home.until("nodes", holding(amounts(first, "pods") + without_first), name=env.node)


def amounts(node: rest.Object, resource: str) -> int:
    """The allocatable amount of a resource with a plain or `k` quantity."""
    text = str(node["status"]["allocatable"][resource])
    return int(text.removesuffix("k")) * (1000 if text.endswith("k") else 1)


def holding(pods: int) -> rest.Condition:
    """A condition: the Node has this number of pods allocatable."""
    return lambda seen: seen is not None and amounts(seen, "pods") == pods
