"""A foreign API server that drops fields of a mirror: the owner of the pod is informed."""

from __future__ import annotations

import pytest

from farlet.constants import Reason
from unit.planning.model import JSON
from unit.reconcile import harness
from unit.reconcile.harness import Harness

DROPPED = Reason.SPEC_FIELDS_DROPPED.value


def _without_host_users(resource: str, obj: JSON) -> None:
    if resource == "pods":
        obj["spec"].pop("hostUsers", None)


def _create(s: Harness, name: str, owner: JSON | None = None) -> None:
    def asks(resource: str, obj: JSON) -> None:
        if resource == "pods":
            obj["spec"]["hostUsers"] = False
            if owner is not None:
                obj["metadata"]["ownerReferences"] = [owner]

    s.home_server.policy = asks
    s.create(name)
    s.wait(3.0)


def test_an_event_names_the_fields_that_the_foreign_server_dropped() -> None:
    with harness.running() as s:
        s.foreign_server.policy = _without_host_users
        _create(s, "web")
        events = [e for e in s.home_server.all("events") if e["reason"] == DROPPED]
        (event,) = events
        assert event["type"] == "Warning"
        assert event["involvedObject"]["name"] == "web"
        assert event["message"].startswith("the foreign API server dropped spec.hostUsers: ")


@pytest.mark.parametrize(
    "lag",
    [
        pytest.param(0.0, id="the watch shows the mirror first"),
        pytest.param(1.0, id="the answer comes first, whose spec the store does not keep"),
    ],
)
def test_no_event_where_the_foreign_server_keeps_the_spec(lag: float) -> None:
    with harness.running() as s:
        s.foreign.lag = lag
        _create(s, "web")
        assert DROPPED not in s.events()


def test_one_event_for_all_pods_of_a_controller() -> None:
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r"}
    with harness.running() as s:
        s.foreign_server.policy = _without_host_users
        for name in ("web-1", "web-2"):
            _create(s, name, {**owner, "controller": True})
        assert s.events("web-1").count(DROPPED) + s.events("web-2").count(DROPPED) == 1
