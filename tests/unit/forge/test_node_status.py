"""The Node's status: its conditions, and that only differences are written."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from farlet.forge import capacity
from farlet.forge import node as forge
from farlet.forge.node_health import Foreign, ForeignUnreachable
from unit.forge.nodes import CONFIG, LATER, OBSERVED, RESOURCES, conditions, existing


def patch(
    node: Any,
    observed: forge.NodeObservation = OBSERVED,
    *,
    due: bool = False,
    config: forge.NodeConfig = CONFIG,
) -> Any:
    body = forge.status_patch(node, config, observed, conditions(node=node), LATER, due=due)
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
        pytest.param(Foreign.REACHABLE, HOLD, None, "True", "True", id="reachable"),
        pytest.param(Foreign.REACHABLE, NOTREADY, existing(), "True", "True", id="reachable again"),
        pytest.param(Foreign.UNREACHABLE, HOLD, existing(), "True", "False", id="held"),
        pytest.param(Foreign.UNREACHABLE, NOTREADY, existing(), "False", "False", id="not ready"),
        pytest.param(Foreign.REFUSED, HOLD, existing(), "True", "False", id="refused, held"),
        pytest.param(Foreign.REFUSED, NOTREADY, existing(), "True", "False", id="refused just now"),
        pytest.param(Foreign.UNKNOWN, HOLD, None, "False", "Unknown", id="a new node waits"),
        pytest.param(Foreign.UNKNOWN, HOLD, existing(), None, None, id="a restart changes nothing"),
        pytest.param(
            Foreign.UNKNOWN,
            NOTREADY,
            existing(status={"conditions": UNKNOWN_READY}),
            None,
            None,
            id="a restart after a long time keeps the old conditions",
        ),
        pytest.param(
            Foreign.UNKNOWN,
            HOLD,
            existing(status={"conditions": []}),
            "False",
            "Unknown",
            id="a node created by hand is like a new one",
        ),
    ],
)
def test_the_node_reports_whether_the_foreign_api_server_answers(
    foreign: Foreign,
    policy: ForeignUnreachable,
    node: Any,
    ready: str | None,
    reachable: str | None,
) -> None:
    statuses = {one.type: one.status for one in conditions(foreign, policy=policy, node=node)}
    assert statuses.get("Ready") == ready
    assert statuses.get("farlet.io/ForeignReachable") == reachable
    assert statuses["NetworkUnavailable"] == "False"


# --- status -----------------------------------------------------------------------------------


def test_a_current_status_is_not_written() -> None:
    assert patch(existing()) is None


def test_a_heartbeat_that_is_due_keeps_the_times_of_transitions() -> None:
    status = patch(existing(), due=True)
    assert set(status) == {"conditions"}
    for condition in status["conditions"]:
        assert condition["lastTransitionTime"] == "2026-05-01T12:00:00Z"
        assert condition["lastHeartbeatTime"] == "2026-05-01T12:01:00Z"


def test_a_condition_that_was_changed_is_corrected_and_dated() -> None:
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
    ("node", "observed", "config", "changes"),
    [
        pytest.param(
            existing(),
            dataclasses.replace(OBSERVED, resources=capacity.configured([("cpu", "4")])),
            CONFIG,
            {
                "capacity": {"cpu": "4", "memory": None, "pods": None},
                "allocatable": {"cpu": "4", "memory": None, "pods": None},
            },
            id="a resource that no foreign node has is removed",
        ),
        pytest.param(
            existing(
                status={"allocatable": {**RESOURCES.allocatable, "nvidia.com/gpu": "0"}},
            ),
            OBSERVED,
            CONFIG,
            {"allocatable": {**RESOURCES.allocatable, "nvidia.com/gpu": None}},
            id="a stale extended resource is removed, even with amount 0",
        ),
        pytest.param(
            existing(status={"capacity": {**RESOURCES.capacity, "cpu": "999"}}),
            OBSERVED,
            CONFIG,
            {"capacity": dict(RESOURCES.capacity)},
            id="an amount written by another component is corrected",
        ),
        pytest.param(
            existing(),
            dataclasses.replace(OBSERVED, resources=None),
            CONFIG,
            None,
            id="unknown resources stay",
        ),
        pytest.param(
            existing(),
            dataclasses.replace(OBSERVED, address="10.0.0.2"),
            CONFIG,
            {"addresses": [{"$patch": "replace"}, {"type": "InternalIP", "address": "10.0.0.2"}]},
            id="a new address replaces the old one",
        ),
        pytest.param(
            existing(),
            dataclasses.replace(OBSERVED, address=""),
            CONFIG,
            None,
            id="no address known",
        ),
        pytest.param(
            existing(),
            dataclasses.replace(OBSERVED, version="v1.37.0"),
            CONFIG,
            {"nodeInfo": {"kubeletVersion": "v1.37.0"}},
            id="the foreign cluster was upgraded",
        ),
        pytest.param(
            existing(),
            dataclasses.replace(OBSERVED, version=None, platform=capacity.Platform()),
            CONFIG,
            None,
            id="what is not known stays",
        ),
        pytest.param(
            existing(),
            OBSERVED,
            dataclasses.replace(CONFIG, port=None),
            {"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}},
            id="the kubelet API was turned off",
        ),
    ],
)
def test_only_what_differs_is_written(
    node: Any, observed: forge.NodeObservation, config: forge.NodeConfig, changes: Any
) -> None:
    status = patch(node, observed, config=config)
    if changes is None:
        assert status is None
    else:
        assert status.pop("conditions")
        assert status == changes


# --- declared features ------------------------------------------------------------------------


RESIZES = list(forge.DECLARED_FEATURES)


@pytest.mark.parametrize(
    ("declared", "due", "written"),
    [
        pytest.param(None, False, None, id="a server that does not keep them costs no write"),
        pytest.param(None, True, RESIZES, id="they are written with a heartbeat"),
        pytest.param(["Other"], True, RESIZES, id="others are replaced"),
        pytest.param(RESIZES, True, None, id="they are written once"),
    ],
)
def test_features_that_a_resize_requires_are_declared(
    declared: list[str] | None, due: bool, written: list[str] | None
) -> None:
    node = existing()
    node["status"]["declaredFeatures"] = declared
    body = patch(node, due=due)
    assert (body or {}).get("declaredFeatures") == written


def test_declared_features_are_sorted_as_api_servers_require() -> None:
    assert sorted(RESIZES) == RESIZES
