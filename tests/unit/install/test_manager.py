"""The manager is installed with the permissions of its table and no others."""

from __future__ import annotations

from farlet.constants import JSON
from farlet.install import manager

IMAGE = "registry.example/farlet:0.2.0"
OBJECTS = manager.objects(image=IMAGE)


def of(kind: str, name: str = "farlet-manager") -> JSON:
    (one,) = (x for x in OBJECTS if x["kind"] == kind and x["metadata"]["name"] == name)
    return one


def test_all_objects_have_the_label_of_the_manager() -> None:
    for one in OBJECTS:
        assert one["metadata"]["labels"] == {"app.kubernetes.io/name": "farlet-manager"}


def test_cluster_wide_it_has_permissions_for_certificate_requests_only() -> None:
    rules = of("ClusterRole")["rules"]
    assert {rule["apiGroups"][0] for rule in rules} == {"certificates.k8s.io"}
    approving = [rule for rule in rules if "approve" in rule["verbs"]]
    assert [rule["resourceNames"] for rule in approving] == [["kubernetes.io/kubelet-serving"]]


def test_it_writes_neither_roles_nor_bindings_and_deletes_nothing() -> None:
    for kind in ("Role", "ClusterRole"):
        for rule in of(kind)["rules"]:
            assert rule["apiGroups"] != ["rbac.authorization.k8s.io"]
            assert not {"delete", "deletecollection", "*", "bind", "escalate"} & set(rule["verbs"])


def test_the_role_of_node_administrators_is_not_aggregated() -> None:
    role = of("ClusterRole", manager.NODE_ADMINISTRATOR)
    assert not [key for key in role["metadata"]["labels"] if "aggregate" in key]


def test_its_pod_is_admitted_in_a_namespace_that_enforces_restricted() -> None:
    labels = manager.namespace()["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    pod = of("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_another_namespace_is_used_everywhere() -> None:
    for one in manager.objects(image=IMAGE, namespace="nodes"):
        assert one["metadata"].get("namespace", "nodes") == "nodes"
        for subject in one.get("subjects", ()):
            assert subject["namespace"] == "nodes"
