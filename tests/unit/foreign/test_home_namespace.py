"""A foreign namespace belongs to one home namespace."""

from __future__ import annotations

from typing import Any

import pytest

from farlet.context import NamespaceMap
from unit.planning import objects
from unit.planning.rows.row import within
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, HOME, KUBELET, USER, Harness

NAME = "farlet-home-namespace"
OURS = {"home-id": objects.CONTEXT.home_id, "home-namespace": HOME}


def _record(s: Harness, data: dict[str, str] | None) -> None:
    body: dict[str, Any] = {"metadata": {"name": NAME}}
    s.foreign_server.create(
        "configmaps", FOREIGN, body if data is None else {**body, "data": data}, by=USER
    )


def _recorded(s: Harness, namespace: str = FOREIGN) -> dict[str, str]:
    (found,) = s.configmaps(namespace)
    assert found["metadata"]["name"] == NAME
    assert found["immutable"] is True
    data: dict[str, str] = found["data"]
    return data


def test_the_home_namespace_is_recorded_before_the_first_mirror() -> None:
    with harness.running() as s:
        s.create()
        s.wait(5.0)
        assert _recorded(s) == OURS
        writes = [one.request for one in s.foreign.requests(f"POST .*/{FOREIGN}/")]
        assert [request.rpartition("/")[2] for request in writes] == ["configmaps", "pods"]


HOLDERS: dict[str, tuple[dict[str, str] | None, str]] = {
    "another home cluster": ({**OURS, "home-id": "elsewhere"}, "elsewhere"),
    "another home namespace": ({**OURS, "home-namespace": "shop"}, "the home namespace shop"),
    "an unknown holder": (None, "unknown holder"),
    "a holder without a valid name": ({**OURS, "home-id": "a\nb" * 9}, "unknown holder"),
}


@pytest.mark.parametrize(("data", "named"), HOLDERS.values(), ids=HOLDERS)
def test_a_pod_waits_where_its_foreign_namespace_belongs_to(
    data: dict[str, str] | None, named: str
) -> None:
    with harness.running() as s:
        _record(s, data)
        s.create()
        s.create("leaves")
        s.wait(5.0)
        pod = s.pod()
        assert pod is not None
        assert pod["status"]["reason"] == "ForeignNamespaceInUse"
        assert named in pod["status"]["message"]
        assert f"kubectl delete configmap {NAME} -n {FOREIGN}" in pod["status"]["message"]
        s.delete("leaves")
        s.wait(5.0)
        assert s.pod("leaves") is None
        assert s.foreign.requests(f"(POST|PATCH|DELETE) .*/{FOREIGN}/") == []
        assert s.registered() == {}


def test_a_pod_of_the_same_name_in_a_namespace_of_another_home_is_not_touched() -> None:
    with harness.running(starts=False) as s:
        _record(s, {**OURS, "home-id": "elsewhere"})
        theirs = s.foreign_server.create(
            "pods", FOREIGN, {"metadata": {"name": "web"}, "spec": {}}, by=USER
        )
        s.start()
        s.create(policy="Never")
        s.wait(30.0)
        s.delete()
        s.wait(30.0)
        assert s.pod() is None
        mirror = s.mirror()
        assert mirror is not None
        assert mirror["metadata"]["uid"] == theirs["metadata"]["uid"]


def test_a_pod_starts_when_the_holder_has_left() -> None:
    with harness.running() as s:
        _record(s, {**OURS, "home-id": "elsewhere"})
        s.create()
        s.wait(20.0)
        s.remove_configmaps(FOREIGN)
        s.wait(15.0)
        assert s.mirror() is not None
        assert _recorded(s) == OURS


def test_virtual_nodes_of_one_home_share_a_foreign_namespace() -> None:
    with harness.running() as s:
        _record(s, OURS)
        s.create()
        s.wait(5.0)
        assert s.mirror() is not None


def test_the_deletion_of_the_record_ends_no_pod() -> None:
    with harness.running() as s:
        s.create(policy="Never")
        s.wait(5.0)
        s.runs()
        s.remove_configmaps(FOREIGN)
        s.wait(61.0)
        mirror = s.mirror()
        assert mirror is not None
        assert "deletionTimestamp" not in mirror["metadata"]
        assert _recorded(s) == OURS


def test_pods_that_run_continue_when_another_home_takes_the_record() -> None:
    with harness.running() as s:
        s.create()
        s.wait(5.0)
        s.runs()
        s.wait(5.0)
        s.remove_configmaps(FOREIGN)
        _record(s, {**OURS, "home-id": "elsewhere"})
        s.wait(70.0)
        s.create("late")
        s.wait(5.0)
        assert s.reason("late") == "ForeignNamespaceInUse"
        s.foreign_server.patch(
            ("pods", FOREIGN, "web"),
            {"status": {"phase": "Failed"}},
            by=KUBELET,
            status=True,
            strategic=False,
        )
        s.wait(5.0)
        pod = s.pod()
        assert pod is not None
        assert pod["status"]["phase"] == "Failed"


class _Colliding(NamespaceMap):
    """As two names with the same hash."""

    def foreign(self, namespace: str) -> str | None:
        return FOREIGN


def test_two_home_namespaces_of_one_foreign_namespace_are_kept_apart() -> None:
    ctx = within(namespaces=_Colliding(home="h", own=harness.OWN))
    with harness.running(ctx=ctx) as s:
        s.create()
        s.wait(5.0)
        s.runs()
        s.wait(5.0)
        s.create(namespace="second", policy="Never")
        s.wait(30.0)
        assert s.reason(namespace="second") == "ForeignNamespaceInUse"
        s.delete(namespace="second")
        s.wait(30.0)
        assert s.pod(namespace="second") is None
        mirror, pod = s.mirror(), s.pod()
        assert mirror is not None
        assert pod is not None
        assert "deletionTimestamp" not in mirror["metadata"]
        assert pod["status"]["phase"] == "Running"
