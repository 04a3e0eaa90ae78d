"""Writes that an API server accepts without effect: farlet stops sending them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from farlet import constants
from unit.planning import model, objects
from unit.planning.model import JSON
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, KUBELET, Harness

WRITES = r"^(POST|PATCH|PUT|DELETE) "
MIRROR = ("pods", FOREIGN, "web")
CPU = {"requests": {"cpu": "100m"}}

FIELDS: dict[str, Any] = {
    "resources": CPU,
    "allocatedResources": {"cpu": "100m"},
    "user": {"linux": {"uid": 1000, "gid": 1000}},
}
"""Fields of a container's status that a home API server drops where it does not know them."""


def _drop(field: str) -> Callable[[str, JSON], None]:
    def policy(resource: str, obj: JSON) -> None:
        for status in obj.get("status", {}).get("containerStatuses", ()) if obj else ():
            if resource == "pods":
                status.pop(field, None)

    return policy


def _drop_condition(resource: str, obj: JSON) -> None:
    if resource == "pods" and "conditions" in obj["status"]:
        kept = [c for c in obj["status"]["conditions"] if c["type"] != "ContainersReady"]
        obj["status"]["conditions"] = kept


def _create(s: Harness) -> None:
    """A user creates a pod that asks for resources; others are not shown at home."""
    container = {"name": "main", "image": "example.org/app", "resources": CPU}
    pod: JSON = model.clone(objects.home(spec={"containers": [container]}))
    s.home_server.create("pods", harness.HOME, pod, by=harness.USER)


def _runs(s: Harness, *, restarts: int = 0) -> None:
    s.runs(restarts=restarts)
    mirror = s.mirror()
    assert mirror is not None
    (status,) = mirror["status"]["containerStatuses"]
    body = {"status": {"containerStatuses": [{**status, **FIELDS}]}}
    s.foreign_server.patch(MIRROR, body, by=KUBELET, status=True, strategic=False)


def _quiet(s: Harness, *, seconds: float = 600.0) -> None:
    """Not one write in this time, to either cluster."""
    before = [len(one.requests(WRITES)) for one in (s.home, s.foreign)]
    s.wait(seconds)
    assert [len(one.requests(WRITES)) for one in (s.home, s.foreign)] == before


@pytest.mark.parametrize(
    "policy",
    [*(pytest.param(_drop(field), id=field) for field in FIELDS), _drop_condition],
)
def test_what_home_drops_from_a_status_is_sent_twice_at_most_for_each_change(
    policy: Callable[[str, JSON], None],
) -> None:
    with harness.running() as s:
        s.home_server.policy = policy
        _create(s)
        s.wait(3.0)
        _runs(s)
        s.wait(10.0)
        # The mirror was scheduled, then it ran.
        assert len(s.home.requests(r"PATCH .*/status$")) <= 2 * 2
        _quiet(s)
        _runs(s, restarts=1)
        s.wait(10.0)
        pod = s.pod()
        assert pod is not None
        assert pod["status"]["containerStatuses"][0]["restartCount"] == 1
        _quiet(s)


def test_a_status_is_sent_again_once_home_has_changed_and_then_rests() -> None:
    with harness.running() as s:
        s.home_server.policy = _drop("user")
        _create(s)
        s.wait(3.0)
        _runs(s)
        s.wait(10.0)
        sent = len(s.home.requests(r"PATCH .*/status$"))
        s.home_server.policy = _drop("resources")
        body = {"metadata": {"labels": {"a": "b"}}}
        where = ("pods", harness.HOME, "web")
        s.home_server.patch(where, body, by=harness.USER, status=False, strategic=False)
        s.wait(10.0)
        assert len(s.home.requests(r"PATCH .*/status$")) > sent
        pod = s.pod()
        assert pod is not None
        assert pod["status"]["containerStatuses"][0]["user"] == FIELDS["user"]
        _quiet(s)


def test_a_label_that_the_foreign_cluster_removes_is_reported_and_not_written_again() -> None:
    def policy(resource: str, obj: JSON) -> None:
        if resource == "pods":
            obj["metadata"].get("labels", {}).pop(constants.VIRTUAL_NODE_ID, None)

    with harness.running() as s:
        s.create()
        s.wait(3.0)
        s.runs()
        s.wait(5.0)
        s.foreign_server.policy = policy
        s.runs(restarts=1)
        s.wait(30.0)
        assert len(s.foreign.requests(f"PATCH .*{FOREIGN}/pods/web$")) <= 2
        assert s.events() == ["ForeignRejected"]
        _quiet(s)
        s.runs(restarts=2)
        s.wait(20.0)
        pod = s.pod()
        assert pod is not None
        assert pod["status"]["containerStatuses"][0]["restartCount"] == 2
        s.foreign_server.policy = lambda _resource, _obj: None
        s.runs(restarts=3)
        s.wait(20.0)
        mirror = s.mirror()
        assert mirror is not None
        assert mirror["metadata"]["labels"][constants.VIRTUAL_NODE_ID]


@pytest.mark.parametrize("field", ["annotations", "ownerReferences"])
def test_what_the_foreign_cluster_removes_from_a_secret_costs_no_tokens(field: str) -> None:
    def policy(resource: str, obj: JSON) -> None:
        if resource == "secrets":
            obj["metadata"].pop(field, None)

    with harness.running() as s:
        s.foreign_server.policy = policy
        s.create(mode="home")
        s.wait(3.0)
        s.runs()
        s.wait(20.0)
        assert len(s.home.requests("/token$")) <= 2
        assert len(s.foreign.requests("(POST|PATCH) .*/secrets")) <= 2
        _quiet(s)


def test_nothing_is_kept_of_the_writes_of_a_pod_that_is_gone() -> None:
    with harness.running() as s:
        pod = s.create(mode="home")
        s.wait(3.0)
        s.runs()
        s.wait(5.0)
        uid = pod["metadata"]["uid"]
        assert s.executor.times.answered(uid)
        s.delete(grace=0)
        s.wait(60.0)
        assert not s.executor.times.answered(uid)
