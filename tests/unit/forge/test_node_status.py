"""The Node's status: what its conditions say, and that only what differs is written."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from farlet.forge import capacity
from farlet.forge import node as forge
from farlet.forge.node_health import Foreign, ForeignUnreachable
from unit.forge.nodes import FOUND, LATER, LOOK, ROOM, existing, says


def patch(
    node: Any,
    found: forge.NodeObservation = FOUND,
    *,
    due: bool = False,
    look: forge.NodeConfig = LOOK,
) -> Any:
    body = forge.status_patch(node, look, found, says(node=node), LATER, due=due)
    if body is None:
        return None
    assert body["metadata"] == {"uid": "u"}
    return body["status"]


# --- conditions -------------------------------------------------------------------------------


UNKNOWN_READY = [{"type": "Ready", "status": "Unknown"}]
HOLD, NOTREADY = ForeignUnreachable


@pytest.mark.parametrize(
    ("foreign", "policy", "node", "ready", "reachable"),
    [
        pytest.param(Foreign.REACHABLE, HOLD, None, "True", "True", id="all is well"),
        pytest.param(Foreign.REACHABLE, NOTREADY, existing(), "True", "True", id="well again"),
        pytest.param(Foreign.UNREACHABLE, HOLD, existing(), "True", "False", id="held"),
        pytest.param(Foreign.UNREACHABLE, NOTREADY, existing(), "False", "False", id="not ready"),
        pytest.param(Foreign.UNKNOWN, HOLD, None, "False", "Unknown", id="a new node waits"),
        pytest.param(Foreign.UNKNOWN, HOLD, existing(), None, None, id="a restart is no news"),
        pytest.param(
            Foreign.UNKNOWN,
            NOTREADY,
            existing(status={"conditions": UNKNOWN_READY}),
            None,
            None,
            id="a restart after a long time waits for the foreign side",
        ),
        pytest.param(
            Foreign.UNKNOWN,
            HOLD,
            existing(status={"conditions": []}),
            "False",
            "Unknown",
            id="a node made by hand is like a new one",
        ),
    ],
)
def test_what_home_is_told_of_the_foreign_side(
    foreign: Foreign,
    policy: ForeignUnreachable,
    node: Any,
    ready: str | None,
    reachable: str | None,
) -> None:
    said = {say.type: say.status for say in says(foreign, policy=policy, node=node)}
    assert said.get("Ready") == ready
    assert said.get("farlet.io/ForeignReachable") == reachable
    assert said["NetworkUnavailable"] == "False"


# --- status -----------------------------------------------------------------------------------


def test_a_status_that_stands_is_not_written() -> None:
    assert patch(existing()) is None


def test_a_heartbeat_that_is_due_keeps_the_times_of_transitions() -> None:
    status = patch(existing(), due=True)
    assert set(status) == {"conditions"}
    for condition in status["conditions"]:
        assert condition["lastTransitionTime"] == "2026-05-01T12:00:00Z"
        assert condition["lastHeartbeatTime"] == "2026-05-01T12:01:00Z"


def test_a_condition_that_somebody_changed_is_put_right_and_dated() -> None:
    node = existing()
    ready = next(c for c in node["status"]["conditions"] if c["type"] == "Ready")
    ready |= {"status": "Unknown", "reason": "NodeStatusUnknown"}
    status = patch(node)
    written = {c["type"]: c for c in status["conditions"]}
    assert written["Ready"]["lastTransitionTime"] == "2026-05-01T12:01:00Z"
    assert written["PIDPressure"]["lastTransitionTime"] == "2026-05-01T12:00:00Z"


def test_conditions_of_others_are_not_written() -> None:
    node = existing()
    node["status"]["conditions"].append({"type": "KernelDeadlock", "status": "False"})
    assert patch(node) is None
    assert "KernelDeadlock" not in {c["type"] for c in patch(node, due=True)["conditions"]}


@pytest.mark.parametrize(
    ("node", "found", "look", "changes"),
    [
        pytest.param(
            existing(),
            dataclasses.replace(FOUND, room=capacity.fixed([("cpu", "4")])),
            LOOK,
            {
                "capacity": {"cpu": "4", "memory": None, "pods": None},
                "allocatable": {"cpu": "4", "memory": None, "pods": None},
            },
            id="what does not fit any more goes",
        ),
        pytest.param(
            existing(
                status={"allocatable": {**ROOM.allocatable, "nvidia.com/gpu": "0"}},
            ),
            FOUND,
            LOOK,
            {"allocatable": {**ROOM.allocatable, "nvidia.com/gpu": None}},
            id="a stale extended resource goes, though somebody set it to nothing",
        ),
        pytest.param(
            existing(status={"capacity": {**ROOM.capacity, "cpu": "999"}}),
            FOUND,
            LOOK,
            {"capacity": dict(ROOM.capacity)},
            id="what somebody else wrote is put right",
        ),
        pytest.param(
            existing(), dataclasses.replace(FOUND, room=None), LOOK, None, id="unknown room stays"
        ),
        pytest.param(
            existing(),
            dataclasses.replace(FOUND, address="10.0.0.2"),
            LOOK,
            {"addresses": [{"$patch": "replace"}, {"type": "InternalIP", "address": "10.0.0.2"}]},
            id="a new address replaces the old one",
        ),
        pytest.param(
            existing(), dataclasses.replace(FOUND, address=""), LOOK, None, id="no address known"
        ),
        pytest.param(
            existing(),
            dataclasses.replace(FOUND, version="v1.37.0"),
            LOOK,
            {"nodeInfo": {"kubeletVersion": "v1.37.0"}},
            id="the foreign cluster was upgraded",
        ),
        pytest.param(
            existing(),
            dataclasses.replace(FOUND, version=None, kind=capacity.Platform()),
            LOOK,
            None,
            id="what is not known stays as it was",
        ),
        pytest.param(
            existing(),
            FOUND,
            dataclasses.replace(LOOK, port=None),
            {"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}},
            id="the kubelet API was turned off",
        ),
    ],
)
def test_only_what_differs_is_written(
    node: Any, found: forge.NodeObservation, look: forge.NodeConfig, changes: Any
) -> None:
    status = patch(node, found, look=look)
    if changes is None:
        assert status is None
    else:
        assert status.pop("conditions")
        assert status == changes
