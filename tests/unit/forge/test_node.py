"""The Node as it should be, and the patches that lead there."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from farlet.forge import capacity, nodehealth, noderestriction
from farlet.forge import node as forge
from farlet.forge.nodehealth import Foreign, ForeignUnreachable

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
TAINT = forge.Taint("farlet.io/virtual-node", "", "NoSchedule")
LOOK = forge.Look(
    name="far",
    labels={"zone": "abroad"},
    annotations={"note": "mine"},
    taints=(TAINT,),
    provider_id=None,
    machine_id="0123456789abcdef0123456789abcdef",
    runtime="farlet://1",
    port=10250,
)
ROOM = capacity.fixed([("cpu", "8"), ("memory", "32Gi"), ("pods", "110")])
FOUND = forge.Found("10.0.0.1", "v1.36.3", ROOM, capacity.Kind("linux", "amd64", "6.1", "Debian"))
OURS = {
    "type": "virtual-kubelet",
    "kubernetes.io/hostname": "far",
    "node.kubernetes.io/exclude-from-external-load-balancers": "true",
    "zone": "abroad",
}


def says(
    foreign: Foreign = Foreign.REACHABLE,
    *,
    problem: str = "",
    policy: ForeignUnreachable = ForeignUnreachable.HOLD,
    node: Any = None,
) -> tuple[nodehealth.Say, ...]:
    return nodehealth.health(foreign, problem=problem, policy=policy, node=node)


def existing(found: forge.Found = FOUND, **changes: Any) -> Any:
    """The Node as the server keeps what `new` asks for."""
    node = forge.new(LOOK, found, says(), NOW)
    node["metadata"] |= {"uid": "u", "resourceVersion": "7"}
    node["status"] |= changes.pop("status", {})
    node["spec"] |= changes.pop("spec", {})
    node["metadata"] |= changes
    return node


def patch(
    node: Any, found: forge.Found = FOUND, *, due: bool = False, look: forge.Look = LOOK
) -> Any:
    body = forge.status_patch(node, look, found, says(node=node), LATER, due=due)
    if body is None:
        return None
    assert body["metadata"] == {"uid": "u"}
    return body["status"]


def test_a_new_node_is_whole_at_once() -> None:
    node = forge.new(LOOK, FOUND, says(), NOW)
    assert node["metadata"] == {
        "name": "far",
        "labels": OURS | {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
        "annotations": {"note": "mine"},
    }
    assert node["spec"] == {
        "taints": [{"key": "farlet.io/virtual-node", "value": "", "effect": "NoSchedule"}]
    }
    status = node["status"]
    assert status["capacity"] == status["allocatable"] == ROOM.capacity
    assert status["addresses"] == [{"type": "InternalIP", "address": "10.0.0.1"}]
    assert status["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 10250}}
    assert status["nodeInfo"] == {
        "machineID": "0123456789abcdef0123456789abcdef",
        "systemUUID": "01234567-89ab-cdef-0123-456789abcdef",
        "bootID": "",
        "kubeProxyVersion": "",
        "containerRuntimeVersion": "farlet://1",
        "kubeletVersion": "v1.36.3",
        "operatingSystem": "linux",
        "architecture": "amd64",
        "kernelVersion": "6.1",
        "osImage": "Debian",
    }
    assert {c["type"]: c["status"] for c in status["conditions"]} == {
        "MemoryPressure": "False",
        "DiskPressure": "False",
        "PIDPressure": "False",
        "NetworkUnavailable": "False",
        "Ready": "True",
        "farlet.io/ForeignReachable": "True",
    }
    assert {c["lastTransitionTime"] for c in status["conditions"]} == {"2026-05-01T12:00:00Z"}


def test_a_new_node_of_which_nothing_is_known_takes_no_pods() -> None:
    found = forge.Found("", None, None, capacity.Kind())
    status = forge.new(LOOK, found, says(Foreign.UNKNOWN), NOW)["status"]
    assert status["allocatable"] == {"cpu": "0", "memory": "0", "pods": "0"}
    assert "addresses" not in status
    ready = next(c for c in status["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["message"]) == (
        "False",
        "the foreign API server has not answered yet",
    )


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        pytest.param(capacity.Kind(), {}, id="not known: not spoken of"),
        pytest.param(
            capacity.Kind("linux", ""),
            {"kubernetes.io/os": "linux", "kubernetes.io/arch": None},
            id="not the same everywhere: taken away",
        ),
    ],
)
def test_labels_of_machines_are_there_where_all_agree(
    kind: capacity.Kind, labels: dict[str, str | None]
) -> None:
    assert forge.labels(LOOK, kind) == OURS | labels


def test_a_label_of_the_settings_wins_over_what_is_found() -> None:
    look = dataclasses.replace(LOOK, labels={"kubernetes.io/arch": "arm64"})
    assert forge.labels(look, FOUND.kind)["kubernetes.io/arch"] == "arm64"


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
            dataclasses.replace(FOUND, version=None, kind=capacity.Kind()),
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
    node: Any, found: forge.Found, look: forge.Look, changes: Any
) -> None:
    status = patch(node, found, look=look)
    if changes is None:
        assert status is None
    else:
        assert status.pop("conditions")
        assert status == changes


# --- metadata and spec ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "look", "expected"),
    [
        pytest.param(existing(), LOOK, None, id="as it should be"),
        pytest.param(
            existing(labels={"theirs": "x"}),
            LOOK,
            {
                "metadata": {
                    "uid": "u",
                    "labels": OURS | {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
                }
            },
            id="labels are added, those of others stay",
        ),
        pytest.param(
            existing(annotations={"note": "old", "theirs": "x"}),
            LOOK,
            {"metadata": {"uid": "u", "annotations": {"note": "mine"}}},
            id="annotations are put right",
        ),
        pytest.param(
            existing(),
            dataclasses.replace(LOOK, provider_id="farlet://far"),
            {"metadata": {"uid": "u"}, "spec": {"providerID": "farlet://far"}},
            id="a provider id is set later",
        ),
    ],
)
def test_a_node_that_exists_is_adopted(node: Any, look: forge.Look, expected: Any) -> None:
    body = forge.adoption_patch(node, look, FOUND.kind)
    assert body == expected


@pytest.mark.parametrize(
    ("present", "missing", "after"),
    [
        pytest.param([{"key": TAINT.key, "effect": "NoSchedule"}], [], None, id="it is there"),
        pytest.param(
            [{"key": "theirs", "effect": "NoExecute"}],
            [TAINT],
            ["theirs", TAINT.key],
            id="beside those of others",
        ),
        pytest.param(
            [{"key": TAINT.key, "value": "x", "effect": "NoSchedule"}],
            [TAINT],
            [TAINT.key],
            id="another value is replaced",
        ),
        pytest.param(
            [{"key": TAINT.key, "effect": "NoExecute"}],
            [TAINT],
            [TAINT.key, TAINT.key],
            id="another effect is another taint",
        ),
    ],
)
def test_taints_that_the_node_lacks_are_added(
    present: list[Any], missing: list[forge.Taint], after: list[str] | None
) -> None:
    node = existing(spec={"taints": present})
    assert forge.missing_taints(node, LOOK) == missing
    if after is not None:
        body = forge.taints_patch(node, missing)
        assert body["metadata"] == {"uid": "u", "resourceVersion": "7"}
        assert [taint["key"] for taint in body["spec"]["taints"]] == after


@pytest.mark.parametrize(
    ("node", "cordons", "uncordons"),
    [
        pytest.param(existing(), True, False, id="schedulable"),
        pytest.param(existing(spec={"unschedulable": True}), False, False, id="by its admin"),
        pytest.param(
            existing(spec={"unschedulable": True}, annotations={"farlet.io/cordoned": "drain"}),
            False,
            True,
            id="by us",
        ),
        pytest.param(
            existing(annotations={"farlet.io/cordoned": "drain"}),
            False,
            True,
            id="by us, and put back by its admin",
        ),
    ],
)
def test_only_our_own_cordon_is_taken_back(node: Any, cordons: bool, uncordons: bool) -> None:
    cordon, uncordon = forge.cordon_patch(node, "drain"), forge.uncordon_patch(node)
    assert (cordon is not None, uncordon is not None) == (cordons, uncordons)
    if cordon is not None:
        assert cordon["spec"] == {"unschedulable": True}
        assert cordon["metadata"]["resourceVersion"] == "7"
    if uncordon is not None:
        assert uncordon["spec"] == {"unschedulable": None}
        assert uncordon["metadata"]["annotations"] == {"farlet.io/cordoned": None}


@pytest.mark.parametrize(
    ("label", "restricted"),
    [
        pytest.param("zone", False, id="no prefix"),
        pytest.param("example.com/zone", False, id="somebody's"),
        pytest.param("kubernetes.io/arch", False, id="one of a kubelet"),
        pytest.param("topology.kubernetes.io/zone", False, id="the zone"),
        pytest.param("node.kubernetes.io/anything", False, id="a domain of kubelets"),
        pytest.param("sub.kubelet.kubernetes.io/anything", False, id="below one"),
        pytest.param("node-role.kubernetes.io/worker", True, id="a role"),
        pytest.param("kubernetes.io/other", True, id="one of Kubernetes"),
        pytest.param("x.k8s.io/other", True, id="below k8s.io"),
        pytest.param("notkubernetes.io/other", False, id="only a like name"),
        pytest.param("node-restriction.kubernetes.io/a", True, id="kept from nodes on purpose"),
        pytest.param("x.node-restriction.kubernetes.io/a", True, id="below that"),
    ],
)
def test_labels_that_a_node_may_not_give_itself(label: str, restricted: bool) -> None:
    assert noderestriction.restricted_labels([label]) == ([label] if restricted else [])
