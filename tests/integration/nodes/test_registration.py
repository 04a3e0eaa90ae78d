"""What farlet registers, and what it refuses to start with because a node may not change it."""

import asyncio

import pytest

from clusters import farlet as farlets
from clusters import rest
from clusters.identity import Identity
from conftest import StartFarlet
from faults import manifests
from faults.stage import Stage
from integration.nodes import nodelog

pytestmark = [pytest.mark.clusters, pytest.mark.core]

ENDS_SECONDS = 120.0


@pytest.mark.both_identities
async def test_home_sees_a_node_with_all_that_kubectl_and_the_scheduler_need(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(
        stage.node,
        settings={
            "capacity": "cpu=8,memory=32Gi,pods=110,example.com/gpu=2",
            "node-labels": "example.com/team=far,topology.kubernetes.io/zone=abroad",
            "node-annotations": "example.com/note=hello",
            "provider-id": "farlet://far",
        },
    )
    node = await stage.home.until("nodes", nodelog.well, name=stage.node)
    labels = node["metadata"]["labels"]
    assert {
        "kubernetes.io/hostname": stage.node,
        "type": "virtual-kubelet",
        "example.com/team": "far",
        "topology.kubernetes.io/zone": "abroad",
    }.items() <= labels.items()
    assert "node.kubernetes.io/exclude-from-external-load-balancers" in labels
    assert node["metadata"]["annotations"]["example.com/note"] == "hello"
    assert node["spec"]["providerID"] == "farlet://far"
    assert [(one["key"], one["effect"]) for one in node["spec"]["taints"]] == [
        ("farlet.io/virtual-node", "NoSchedule")
    ]
    status = node["status"]
    room = {"cpu": "8", "memory": "32Gi", "pods": "110", "example.com/gpu": "2"}
    assert room.items() <= status["capacity"].items()
    assert room.items() <= status["allocatable"].items()
    addresses = {one["type"]: one["address"] for one in status["addresses"]}
    assert addresses["InternalIP"] == stage.clusters.home.machine
    assert status["daemonEndpoints"]["kubeletEndpoint"]["Port"] == farlet.kubelet_port
    foreign = await stage.foreign.request("GET", "/version")
    assert status["nodeInfo"]["kubeletVersion"] == foreign["gitVersion"]


REFUSED = {
    "another taint": (
        {"node-taints": "example.com/other=yes:NoExecute"},
        ("kubectl taint", "example.com/other=yes:NoExecute"),
    ),
    "a label that nodes may not give themselves": (
        {"node-labels": "node-role.kubernetes.io/far=yes"},
        ("kubectl label", "node-role.kubernetes.io/far=yes"),
    ),
}


@pytest.mark.refused("home")
@pytest.mark.parametrize(("settings", "told"), REFUSED.values(), ids=REFUSED)
async def test_what_a_node_may_not_change_is_an_error_that_names_the_admins_command(
    stage: Stage,
    start_farlet: StartFarlet,
    settings: dict[str, str | None],
    told: tuple[str, str],
) -> None:
    first = await start_farlet(stage.node)
    before = await stage.home.until("nodes", nodelog.well, name=stage.node)
    await first.stop()
    second = farlets.create(
        stage.clusters, node=stage.node, identity=Identity.NODE, settings=settings
    )
    second.start()
    try:
        code = await asyncio.to_thread(second.process.wait, seconds=ENDS_SECONDS)
    finally:
        await second.stop()
    assert code == 1
    last = second.log.strip().splitlines()[-1]
    for words in (stage.node, *told):
        assert words in last
    assert "Traceback" not in second.log
    after = await stage.home.get("nodes", name=stage.node)
    assert after["spec"]["taints"] == before["spec"]["taints"]
    assert "node-role.kubernetes.io/far" not in after["metadata"]["labels"]


async def test_an_account_adds_the_taint_that_the_settings_want(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    login = Identity.ACCOUNT.login(stage.clusters.home, stage.node)
    first = await start_farlet(stage.node, home_login=login)
    before = await stage.home.until("nodes", nodelog.well, name=stage.node)
    await first.stop()
    await start_farlet(
        stage.node,
        home_login=login,
        settings={"node-taints": "example.com/other=yes:NoSchedule"},
    )
    after = await stage.home.until("nodes", nodelog.well, name=stage.node)
    assert manifests.uid(after) == manifests.uid(before)
    assert {one["key"] for one in after["spec"]["taints"]} >= {"example.com/other"}


@pytest.mark.refused("foreign")
async def test_without_capacity_and_without_the_right_to_see_foreign_nodes_both_cures_are_named(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(stage.node, settings={"capacity": None}, ready=False)
    assert await asyncio.to_thread(farlet.process.wait, seconds=ENDS_SECONDS) == 1
    last = farlet.log.strip().splitlines()[-1]
    assert "--capacity" in last
    assert "nodes" in last
    assert await stage.home.find("nodes", name=stage.node) is None


async def test_capacity_is_the_sum_over_foreign_nodes_and_follows_them(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    await start_farlet(
        stage.node,
        settings={"capacity": None},
        foreign_login=stage.clusters.foreign.kubeconfig,
    )
    first, second = await stage.foreign.list("nodes")
    both = amounts(first, "pods") + amounts(second, "pods")
    await stage.home.until("nodes", holding(both), name=stage.node)
    name = first["metadata"]["name"]
    stage.clusters.foreign.kubectl("cordon", name)
    try:
        await stage.home.until("nodes", holding(amounts(second, "pods")), name=stage.node)
    finally:
        stage.clusters.foreign.kubectl("uncordon", name)
    await stage.home.until("nodes", holding(both), name=stage.node)


def amounts(node: rest.Object, resource: str) -> int:
    """How much is allocatable, of something that is counted in ones or thousands."""
    text = str(node["status"]["allocatable"][resource])
    return int(text.removesuffix("k")) * (1000 if text.endswith("k") else 1)


def holding(pods: int) -> rest.Condition:
    """So many pods fit on the Node."""
    return lambda seen: seen is not None and amounts(seen, "pods") == pods
