"""How the Node comes into being at home, and why it may not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farlet.forge import node_restriction as noderestriction
from unit.node import scene
from unit.node.scene import Scene


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Scene]:
    with scene.playing(tmp_path) as made:
        yield made


def node_restriction(play: Scene) -> None:
    """Home refuses what NodeRestriction refuses to a node (`admitNode`)."""

    def forbids(method: str, _path: str, body: Any) -> str | None:
        before = play.seen
        labels = body.get("metadata", {}).get("labels", {})
        has = {} if before is None else before["metadata"]["labels"]
        changed = [key for key, value in labels.items() if has.get(key) != value]
        if noderestriction.restricted_labels(changed):
            return "is not allowed to modify labels"
        if method == "PATCH" and "taints" in body.get("spec", {}):
            return f'node "{scene.NODE}" is not allowed to modify taints'
        return None

    play.home.forbids = forbids


def test_a_node_that_is_not_there_is_made_and_ready(play: Scene) -> None:
    play.start(node_labels="zone=abroad", provider_id="farlet://far")
    assert play.there["metadata"]["labels"]["zone"] == "abroad"
    assert play.there["spec"]["providerID"] == "farlet://far"
    assert play.there["status"]["nodeInfo"]["kubeletVersion"] == "v1.36.3"
    assert play.condition("Ready") == "True"
    assert play.node.problem is None


def test_one_write_makes_it_and_one_is_its_first_status(play: Scene) -> None:
    play.start()
    play.wait(200)
    assert play.home.writes() == ["POST /api/v1/nodes", "PATCH /api/v1/nodes/far/status"]


def test_a_node_that_is_there_is_taken_over(play: Scene) -> None:
    made = play.create(labels={"type": "virtual-kubelet", "theirs": "kept"})
    play.start(node_labels="zone=abroad")
    assert play.there["metadata"]["uid"] == made["metadata"]["uid"]
    labels = play.there["metadata"]["labels"]
    assert (labels["theirs"], labels["zone"]) == ("kept", "abroad")
    assert play.there["status"]["allocatable"] == {"cpu": "8", "memory": "32Gi", "pods": "110"}
    assert play.condition("Ready") == "True"


@pytest.mark.parametrize(
    "labels",
    [pytest.param({}, id="no labels"), pytest.param({"type": "gpu"}, id="another type")],
)
def test_a_node_that_is_no_virtual_one_is_never_touched(
    play: Scene, labels: dict[str, str]
) -> None:
    made = play.create(labels=labels)
    told = play.refusal()
    assert "kubectl label node far type=virtual-kubelet" in told
    assert play.there == made
    assert play.lease.renewals == []


def test_home_that_does_not_answer_is_waited_for(play: Scene) -> None:
    play.home.down = True
    play.start()
    play.wait(100)
    assert play.node.problem == "the Node is not registered yet"
    play.home.down = False
    play.wait(10)
    assert play.condition("Ready") == "True"


def test_taints_that_an_account_may_set_are_set(play: Scene) -> None:
    play.create(taints=[{"key": "theirs", "effect": "NoExecute"}])
    play.start()
    assert [t["key"] for t in play.there["spec"]["taints"]] == ["theirs", "farlet.io/virtual-node"]


def test_taints_that_a_node_may_not_set_end_the_start_with_the_command(play: Scene) -> None:
    node_restriction(play)
    play.create(taints=[])
    told = play.refusal(node_taints="a=b:NoExecute,farlet.io/virtual-node:NoSchedule")
    command = "kubectl taint node far a=b:NoExecute farlet.io/virtual-node:NoSchedule --overwrite"
    assert command in told
    assert "--node-taints" in told


def test_a_node_that_is_as_it_should_be_is_adopted_by_a_node_identity(play: Scene) -> None:
    node_restriction(play)
    play.create(labels={"type": "virtual-kubelet", "node-role.kubernetes.io/far": ""})
    play.start(node_labels="node-role.kubernetes.io/far=")
    assert play.condition("Ready") == "True"


@pytest.mark.parametrize("there", [True, False], ids=["adopted", "new"])
def test_labels_that_a_node_may_not_set_end_the_start_with_the_command(
    play: Scene, there: bool
) -> None:
    node_restriction(play)
    if there:
        play.create()
    told = play.refusal(node_labels="node-role.kubernetes.io/far=x,fine=y")
    assert "kubectl label node far node-role.kubernetes.io/far=x --overwrite" in told
    assert "fine" not in told
    assert there or "Start farlet once without them" in told


@pytest.mark.parametrize(
    ("method", "verb"),
    [pytest.param("GET", "read", id="read"), pytest.param("POST", "create", id="create")],
)
def test_a_right_that_is_missing_is_told_with_its_cure(play: Scene, method: str, verb: str) -> None:
    play.home.forbids = lambda asked, *_: "no RBAC policy matched" if asked == method else None
    told = play.refusal()
    assert f"may not {verb} the Node far" in told
    assert "system:node:<nodename>" in told
    assert "ClusterRole" in told


def test_a_home_that_has_only_just_started_may_refuse_for_a_moment(play: Scene) -> None:
    play.home.forbids = lambda *_: "not read all Roles" if play.clock() < scene.EPOCH + 2 else None
    play.start()
    play.wait(10)
    assert play.condition("Ready") == "True"


def test_another_provider_id_cannot_be_given(play: Scene) -> None:
    play.create(providerID="aws:///a/i-1")
    told = play.refusal(provider_id="farlet://far")
    assert "kubectl delete node far" in told
    assert "'aws:///a/i-1'" in told


# --- capacity ---------------------------------------------------------------------------------


def test_without_capacity_and_without_the_right_to_see_nodes_farlet_does_not_start(
    play: Scene,
) -> None:
    play.foreign.forbids = lambda _, path, __: "no" if path.startswith("/api/v1/nodes") else None
    told = play.refusal(capacity=None)
    assert "--capacity cpu=8,memory=32Gi,pods=110" in told
    assert "list and watch the nodes" in told
    assert play.seen is None


def test_a_foreign_side_that_has_only_just_started_may_refuse_for_a_moment(play: Scene) -> None:
    play.machine("a")
    play.foreign.down = True
    play.start(capacity=None)
    play.wait(30)
    play.foreign.down, up = False, play.clock()
    play.foreign.forbids = lambda *_: "not read all Roles" if play.clock() < up + 3 else None
    play.wait(60)
    assert play.there["status"]["allocatable"]["pods"] == "110"


def test_a_right_that_proves_to_be_missing_later_ends_farlet_then(play: Scene) -> None:
    play.foreign.down = True
    play.start(capacity=None)
    play.wait(30)
    play.foreign.down = False
    play.foreign.forbids = lambda *_: "no"
    with pytest.raises(BaseExceptionGroup):
        play.wait(60)


def test_with_capacity_the_foreign_nodes_are_not_asked_for(play: Scene) -> None:
    play.start()
    play.wait(100)
    assert not [path for _, path, _ in play.foreign.asked if path.startswith("/api/v1/nodes")]
    assert "kubernetes.io/arch" not in play.there["metadata"]["labels"]
    assert play.there["metadata"]["labels"]["kubernetes.io/os"] == "linux"


def test_capacity_is_the_sum_of_foreign_nodes_and_follows_them(play: Scene) -> None:
    play.machine("a")
    play.machine("b", amounts={"cpu": "2", "memory": "1Gi", "pods": "10", "nvidia.com/gpu": "1"})
    play.start(capacity=None)
    assert play.there["status"]["allocatable"] == {
        "cpu": "6",
        "memory": "9Gi",
        "pods": "120",
        "nvidia.com/gpu": "1",
    }
    assert play.there["metadata"]["labels"]["kubernetes.io/arch"] == "amd64"
    play.unplug("b")
    play.wait()
    assert play.there["status"]["allocatable"] == {"cpu": "4", "memory": "8Gi", "pods": "110"}
    play.machine("c", arch="arm64", ready="False")
    play.wait()
    assert play.there["status"]["allocatable"]["cpu"] == "4"
    assert "kubernetes.io/arch" not in play.there["metadata"]["labels"]
    assert play.there["status"]["nodeInfo"]["architecture"] == ""


def test_a_foreign_node_with_senseless_amounts_is_left_out(play: Scene) -> None:
    play.machine("a")
    play.machine("b", amounts={"cpu": "many"})
    play.start(capacity=None)
    assert play.there["status"]["allocatable"]["cpu"] == "4"
    assert [entry["foreign_node"] for entry in play.logs if "foreign_node" in entry] == ["b"]
