"""The capacity of the virtual node, and its platform."""

from __future__ import annotations

from typing import Any

import pytest

from farlet.forge import capacity


def node(name: str = "a", **changes: Any) -> Any:
    amounts = changes.pop("amounts", {"cpu": "4", "memory": "8Gi", "pods": "110"})
    return {
        "metadata": {"name": name, "labels": changes.pop("labels", {})},
        "spec": {
            "taints": [
                {"key": key, "effect": effect} for key, effect in changes.pop("taints", {}).items()
            ],
            "unschedulable": changes.pop("unschedulable", False),
        },
        "status": {
            "capacity": changes.pop("capacity", amounts),
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": changes.pop("ready", "True")}],
            "nodeInfo": {
                "operatingSystem": "linux",
                "architecture": "amd64",
                "kernelVersion": "6.1",
                "osImage": "Debian",
            }
            | changes,
        },
    }


def foreign_nodes(*nodes: Any) -> list[capacity.ForeignNode]:
    return [counted for one in nodes if (counted := capacity.foreign_node(one)) is not None]


@pytest.mark.parametrize(
    ("nodes", "cpu"),
    [
        pytest.param([], "0", id="no node"),
        pytest.param([node("a"), node("b")], "8", id="two"),
        pytest.param([node("a"), node("b", ready="False")], "4", id="one that is not ready"),
        pytest.param([node("a"), node("b", ready="Unknown")], "4", id="one that does not answer"),
        pytest.param([node("a"), node("b", unschedulable=True)], "4", id="one that is cordoned"),
        pytest.param(
            [node("a"), node("b", labels={"type": "virtual-kubelet"})], "4", id="a virtual one"
        ),
        pytest.param(
            [node("a"), node("b", taints={"node-role.kubernetes.io/control-plane": "NoSchedule"})],
            "4",
            id="the control plane",
        ),
        pytest.param(
            [
                node("a"),
                node("b", taints={"node-role.kubernetes.io/control-plane": "PreferNoSchedule"}),
            ],
            "8",
            id="a control plane that accepts pods",
        ),
        pytest.param(
            [node("a"), node("b", taints={"nvidia.com/gpu": "NoSchedule"})],
            "8",
            id="one whose taint pods may tolerate",
        ),
    ],
)
def test_nodes_that_a_mirror_could_run_on_count(nodes: list[Any], cpu: str) -> None:
    assert capacity.total(foreign_nodes(*nodes)).allocatable["cpu"] == cpu


def test_capacity_and_allocatable_are_summed_for_every_resource() -> None:
    resources = capacity.total(
        foreign_nodes(
            node(
                "a",
                amounts={"cpu": "3500m", "memory": "1Gi", "pods": "100", "nvidia.com/gpu": "2"},
                capacity={"cpu": "4", "memory": "2Gi", "pods": "110", "nvidia.com/gpu": "2"},
            ),
            node(
                "b", amounts={"cpu": "4", "memory": "512Mi", "pods": "10", "hugepages-2Mi": "4Mi"}
            ),
        )
    )
    assert resources.allocatable == {
        "cpu": "7500m",
        "memory": "1536Mi",
        "pods": "110",
        "nvidia.com/gpu": "2",
        "hugepages-2Mi": "4Mi",
    }
    assert resources.capacity == {
        "cpu": "8",
        "memory": "2560Mi",
        "pods": "120",
        "nvidia.com/gpu": "2",
        "hugepages-2Mi": "4Mi",
    }


def test_a_sum_does_not_depend_on_the_order_of_nodes() -> None:
    one, other = node("a", amounts={"memory": "1G"}), node("b", amounts={"memory": "1Gi"})
    assert capacity.total(foreign_nodes(one, other)) == capacity.total(foreign_nodes(other, one))


@pytest.mark.parametrize(
    ("nodes", "platform"),
    [
        pytest.param([], capacity.Platform(), id="nothing is known"),
        pytest.param(
            [node("a"), node("b", kernelVersion="6.6")],
            capacity.Platform("linux", "amd64", "", "Debian"),
            id="what differs is left out",
        ),
        pytest.param(
            [node("a"), node("b", architecture="arm64", ready="False")],
            capacity.Platform("linux", "", "6.1", "Debian"),
            id="a node that reboots still counts",
        ),
        pytest.param(
            [
                node("a"),
                node(
                    "b",
                    architecture="arm64",
                    taints={"node-role.kubernetes.io/master": "NoSchedule"},
                ),
            ],
            capacity.Platform("linux", "amd64", "6.1", "Debian"),
            id="the control plane does not count",
        ),
    ],
)
def test_what_all_nodes_have_in_common_is_reported(
    nodes: list[Any], platform: capacity.Platform
) -> None:
    assert capacity.common_platform(foreign_nodes(*nodes)) == platform


def test_an_invalid_amount_raises() -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        capacity.foreign_node(node(amounts={"cpu": "many"}))
