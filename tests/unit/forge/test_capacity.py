"""How much fits on the virtual node, and what it says of the machines behind it."""

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


def machines(*nodes: Any) -> list[capacity.ForeignNode]:
    return [machine for one in nodes if (machine := capacity.machine(one)) is not None]


@pytest.mark.parametrize(
    ("nodes", "cpu"),
    [
        pytest.param([], "0", id="no node"),
        pytest.param([node("a"), node("b")], "8", id="two"),
        pytest.param([node("a"), node("b", ready="False")], "4", id="one that is not ready"),
        pytest.param([node("a"), node("b", ready="Unknown")], "4", id="one that is not heard of"),
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
            id="a control plane that takes pods",
        ),
        pytest.param(
            [node("a"), node("b", taints={"nvidia.com/gpu": "NoSchedule"})],
            "8",
            id="one whose taint pods may tolerate",
        ),
    ],
)
def test_nodes_that_a_mirror_could_land_on_count(nodes: list[Any], cpu: str) -> None:
    assert capacity.room(machines(*nodes)).allocatable["cpu"] == cpu


def test_every_resource_is_added_and_allocatable_apart_from_capacity() -> None:
    room = capacity.room(
        machines(
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
    assert room.allocatable == {
        "cpu": "7500m",
        "memory": "1536Mi",
        "pods": "110",
        "nvidia.com/gpu": "2",
        "hugepages-2Mi": "4Mi",
    }
    assert room.capacity == {
        "cpu": "8",
        "memory": "2560Mi",
        "pods": "120",
        "nvidia.com/gpu": "2",
        "hugepages-2Mi": "4Mi",
    }


def test_a_sum_reads_the_same_in_whatever_order_nodes_come() -> None:
    one, other = node("a", amounts={"memory": "1G"}), node("b", amounts={"memory": "1Gi"})
    assert capacity.room(machines(one, other)) == capacity.room(machines(other, one))


@pytest.mark.parametrize(
    ("nodes", "kind"),
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
            id="a node that reboots counts still",
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
            id="the control plane has no say",
        ),
    ],
)
def test_what_all_nodes_agree_on_is_said(nodes: list[Any], kind: capacity.Platform) -> None:
    assert capacity.kind(machines(*nodes)) == kind


def test_an_amount_that_is_none_is_told() -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        capacity.machine(node(amounts={"cpu": "many"}))
