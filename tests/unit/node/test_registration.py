"""The Node is created or adopted, or the start fails with a fix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farlet.forge import node_restriction as noderestriction
from unit.node import harness
from unit.node.harness import Harness


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Harness]:
    with harness.running(tmp_path) as node:
        yield node


def node_restriction(node: Harness) -> None:
    """The home API server refuses what NodeRestriction refuses to a node (`admitNode`)."""

    def forbids(method: str, _path: str, body: Any) -> str | None:
        before = node.stored_or_none
        labels = body.get("metadata", {}).get("labels", {})
        present = {} if before is None else before["metadata"]["labels"]
        changed = [key for key, value in labels.items() if present.get(key) != value]
        if noderestriction.restricted_labels(changed):
            return "is not allowed to modify labels"
        if method == "PATCH" and "taints" in body.get("spec", {}):
            return f'node "{harness.NODE}" is not allowed to modify taints'
        return None

    node.home.forbids = forbids


def test_a_missing_node_is_created_and_ready(node: Harness) -> None:
    node.start(node_labels="zone=remote", provider_id="farlet://far")
    assert node.stored["metadata"]["labels"]["zone"] == "remote"
    assert node.stored["spec"]["providerID"] == "farlet://far"
    assert node.stored["status"]["nodeInfo"]["kubeletVersion"] == "v1.36.3"
    assert node.condition("Ready") == "True"
    assert node.virtual_node.problem is None


def test_a_node_is_created_with_one_write_and_a_first_status(node: Harness) -> None:
    node.start()
    node.wait(200)
    assert node.home.writes() == [
        "POST /api/v1/nodes",
        "PATCH /api/v1/nodes/far/status",
        "PATCH /api/v1/nodes/far",  # the record of the foreign cluster
    ]


def test_an_existing_node_is_adopted(node: Harness) -> None:
    created = node.create(labels={"type": "virtual-kubelet", "theirs": "kept"})
    node.start(node_labels="zone=remote")
    assert node.stored["metadata"]["uid"] == created["metadata"]["uid"]
    labels = node.stored["metadata"]["labels"]
    assert (labels["theirs"], labels["zone"]) == ("kept", "remote")
    assert node.stored["status"]["allocatable"] == {"cpu": "8", "memory": "32Gi", "pods": "110"}
    assert node.condition("Ready") == "True"


@pytest.mark.parametrize(
    "labels",
    [pytest.param({}, id="no labels"), pytest.param({"type": "gpu"}, id="another type")],
)
def test_a_node_that_is_not_virtual_is_never_changed(node: Harness, labels: dict[str, str]) -> None:
    created = node.create(labels=labels)
    error = node.start_error()
    assert "kubectl label node far type=virtual-kubelet" in error
    assert node.stored == created
    assert node.lease.renewals == []


def test_registration_waits_until_home_answers(node: Harness) -> None:
    node.home.down = True
    node.start()
    node.wait(100)
    assert node.virtual_node.problem == "the Node is not registered yet"
    node.home.down = False
    node.wait(10)
    assert node.condition("Ready") == "True"


def test_missing_taints_are_added_if_that_is_allowed(node: Harness) -> None:
    node.create(taints=[{"key": "theirs", "effect": "NoExecute"}])
    node.start()
    assert [t["key"] for t in node.stored["spec"]["taints"]] == ["theirs", "farlet.io/virtual-node"]


def test_taints_that_a_node_cannot_set_fail_the_start_with_the_command(node: Harness) -> None:
    node_restriction(node)
    node.create(taints=[])
    error = node.start_error(node_taints="a=b:NoExecute,farlet.io/virtual-node:NoSchedule")
    command = "kubectl taint node far a=b:NoExecute farlet.io/virtual-node:NoSchedule --overwrite"
    assert command in error
    assert "--node-taints" in error


def test_a_node_identity_adopts_a_node_that_needs_no_change(node: Harness) -> None:
    node_restriction(node)
    node.create(labels={"type": "virtual-kubelet", "node-role.kubernetes.io/far": ""})
    node.start(node_labels="node-role.kubernetes.io/far=")
    assert node.condition("Ready") == "True"


@pytest.mark.parametrize("there", [True, False], ids=["adopted", "new"])
def test_labels_that_a_node_cannot_set_fail_the_start_with_the_command(
    node: Harness, there: bool
) -> None:
    node_restriction(node)
    if there:
        node.create()
    error = node.start_error(node_labels="node-role.kubernetes.io/far=x,fine=y")
    assert "kubectl label node far node-role.kubernetes.io/far=x --overwrite" in error
    assert "fine" not in error
    assert there or "Start farlet once without them" in error


@pytest.mark.parametrize(
    ("method", "verb"),
    [pytest.param("GET", "read", id="read"), pytest.param("POST", "create", id="create")],
)
def test_a_missing_permission_is_reported_with_its_fix(
    node: Harness, method: str, verb: str
) -> None:
    node.home.forbids = lambda sent, *_: "no RBAC policy matched" if sent == method else None
    error = node.start_error()
    assert f"not allowed to {verb} the Node far" in error
    assert "A ServiceAccount needs the ClusterRole in manifests/home" in error


def test_a_home_api_server_that_just_started_may_deny_requests_briefly(node: Harness) -> None:
    node.home.forbids = lambda *_: (
        "not read all Roles" if node.clock() < harness.EPOCH + 2 else None
    )
    node.start()
    node.wait(10)
    assert node.condition("Ready") == "True"


def test_a_different_provider_id_fails_the_start(node: Harness) -> None:
    node.create(providerID="aws:///a/i-1")
    error = node.start_error(provider_id="farlet://far")
    assert "kubectl delete node far" in error
    assert "'aws:///a/i-1'" in error


# --- capacity ---------------------------------------------------------------------------------


def test_without_capacity_and_permission_to_list_foreign_nodes_the_start_fails(
    node: Harness,
) -> None:
    node.foreign.forbids = lambda _, path, __: "no" if path.startswith("/api/v1/nodes") else None
    error = node.start_error(capacity=None)
    assert "--capacity cpu=8,memory=32Gi,pods=110" in error
    assert "list and watch the nodes" in error
    assert node.stored_or_none is None


def test_a_foreign_api_server_that_just_started_may_deny_requests_briefly(node: Harness) -> None:
    node.foreign_node("a")
    node.foreign.down = True
    node.start(capacity=None)
    node.wait(30)
    node.foreign.down, up = False, node.clock()
    node.foreign.forbids = lambda *_: "not read all Roles" if node.clock() < up + 3 else None
    node.wait(60)
    assert node.stored["status"]["allocatable"]["pods"] == "110"


def test_a_permission_found_missing_later_ends_farlet(node: Harness) -> None:
    node.foreign.down = True
    node.start(capacity=None)
    node.wait(30)
    node.foreign.down = False
    node.foreign.forbids = lambda *_: "no"
    with pytest.raises(BaseExceptionGroup):
        node.wait(60)


def test_with_capacity_foreign_nodes_are_not_requested(node: Harness) -> None:
    node.start()
    node.wait(100)
    assert not [path for _, path, _ in node.foreign.requests if path.startswith("/api/v1/nodes")]
    assert "kubernetes.io/arch" not in node.stored["metadata"]["labels"]
    assert node.stored["metadata"]["labels"]["kubernetes.io/os"] == "linux"


def test_capacity_is_the_sum_of_foreign_nodes_and_is_updated(node: Harness) -> None:
    node.foreign_node("a")
    node.foreign_node(
        "b", amounts={"cpu": "2", "memory": "1Gi", "pods": "10", "nvidia.com/gpu": "1"}
    )
    node.start(capacity=None)
    assert node.stored["status"]["allocatable"] == {
        "cpu": "6",
        "memory": "9Gi",
        "pods": "120",
        "nvidia.com/gpu": "1",
    }
    assert node.stored["metadata"]["labels"]["kubernetes.io/arch"] == "amd64"
    node.delete_foreign_node("b")
    node.wait()
    assert node.stored["status"]["allocatable"] == {"cpu": "4", "memory": "8Gi", "pods": "110"}
    node.foreign_node("c", arch="arm64", ready="False")
    node.wait()
    assert node.stored["status"]["allocatable"]["cpu"] == "4"
    assert "kubernetes.io/arch" not in node.stored["metadata"]["labels"]
    assert node.stored["status"]["nodeInfo"]["architecture"] == ""


def test_a_foreign_node_with_invalid_amounts_is_left_out(node: Harness) -> None:
    node.foreign_node("a")
    node.foreign_node("b", amounts={"cpu": "many"})
    node.start(capacity=None)
    assert node.stored["status"]["allocatable"]["cpu"] == "4"
    assert [entry["foreign_node"] for entry in node.logs if "foreign_node" in entry] == ["b"]
