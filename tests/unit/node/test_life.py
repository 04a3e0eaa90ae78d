"""A registered node: heartbeats, outages of either cluster, restarts, administrators' changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from unit.node import harness
from unit.node.harness import Harness
from unit.planning.fake_cluster import Fault

CORDON = "farlet.io/cordoned"
REACHABLE = "farlet.io/ForeignReachable"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Harness]:
    with harness.running(tmp_path) as node:
        yield node


def cordoned(node: Harness) -> bool:
    return bool(node.stored["spec"].get("unschedulable"))


def test_the_lease_is_renewed_every_ten_seconds_and_owned_by_the_node(node: Harness) -> None:
    node.start()
    node.wait(100)
    pauses = {
        round(later - earlier)
        for earlier, later in zip(node.lease.renewals, node.lease.renewals[1:], strict=False)
    }
    assert pauses == {10}
    assert node.lease.owner == node.stored["metadata"]["uid"]


def test_an_unchanged_status_is_written_every_five_minutes(node: Harness) -> None:
    node.start()
    node.home.requests.clear()
    node.wait(1000)
    assert node.home.writes() == ["PATCH /api/v1/nodes/far/status"] * 3
    ready = node.conditions()["Ready"]
    assert ready["lastHeartbeatTime"] > ready["lastTransitionTime"]


# --- the foreign API server -------------------------------------------------------------------


def test_a_short_foreign_outage_changes_nothing(node: Harness) -> None:
    node.start()
    node.home.requests.clear()
    node.foreign.down = True
    node.wait(35)
    node.foreign.down = False
    node.wait(100)
    assert node.home.writes() == []


def test_with_hold_a_foreign_outage_cordons_the_node_and_keeps_it_ready(node: Harness) -> None:
    node.start()
    since = node.conditions()["Ready"]["lastTransitionTime"]
    node.foreign.down = True
    node.wait(60)
    assert cordoned(node)
    assert node.stored["metadata"]["annotations"][CORDON] == "foreign-unreachable"
    assert node.condition(REACHABLE) == "False"
    assert node.condition("Ready") == "True"
    node.wait(600)
    node.foreign.down = False
    node.wait(10)
    assert not cordoned(node)
    assert CORDON not in node.stored["metadata"].get("annotations", {})
    assert node.condition(REACHABLE) == "True"
    assert node.conditions()["Ready"]["lastTransitionTime"] == since


def test_with_notready_a_foreign_outage_makes_the_node_notready(node: Harness) -> None:
    node.start(foreign_unreachable="notready")
    node.foreign.down = True
    node.wait(60)
    assert not cordoned(node)
    assert node.condition("Ready") == "False"
    assert node.condition(REACHABLE) == "False"
    node.foreign.down = False
    node.wait(10)
    assert node.condition("Ready") == "True"


def test_the_accepted_duration_of_an_outage_is_a_setting(node: Harness) -> None:
    node.start(foreign_unreachable_after="5m")
    node.foreign.down = True
    node.wait(280)
    assert node.condition(REACHABLE) == "True"
    node.wait(40)
    assert node.condition(REACHABLE) == "False"


def test_an_outage_is_written_once_even_if_its_cause_changes(node: Harness) -> None:
    node.start()
    node.foreign.down = True
    node.wait(60)
    node.home.requests.clear()
    node.foreign.down, node.foreign_problem = False, "the inventory cannot be read"
    node.wait(120)
    assert node.home.writes() == []


def test_another_problem_of_the_foreign_cluster_counts_as_an_outage(node: Harness) -> None:
    node.start()
    node.foreign_problem = "farlet is not allowed to use its own namespace"
    node.wait(60)
    assert (
        node.conditions()[REACHABLE]["message"] == "farlet is not allowed to use its own namespace"
    )


def test_rejected_credentials_are_reported_and_hold_the_node_within_ten_seconds(
    node: Harness,
) -> None:
    node.start()
    node.foreign.rejects_credentials = True
    node.wait(12)
    found = node.conditions()[REACHABLE]
    assert (found["status"], found["reason"]) == ("False", "ForeignUnauthorized")
    assert "into the Secret farlet-NODE-foreign" in found["message"]
    assert node.condition("Ready") == "True"
    assert cordoned(node)
    node.foreign.rejects_credentials = False
    node.wait(5)
    assert node.condition(REACHABLE) == "True"
    assert not cordoned(node)


def test_with_notready_rejected_credentials_make_the_node_notready_after_its_time(
    node: Harness,
) -> None:
    node.start(foreign_unreachable="notready")
    node.foreign.rejects_credentials = True
    node.wait(15)
    assert node.condition("Ready") == "True"
    node.wait(45)
    assert node.condition("Ready") == "False"


def test_events_on_the_node_say_when_the_foreign_cluster_goes_and_returns(node: Harness) -> None:
    node.start()
    node.foreign.down = True
    node.wait(60)
    node.foreign.down, node.foreign.rejects_credentials = False, True
    node.wait(20)
    node.foreign.rejects_credentials = False
    node.wait(20)
    reasons = [reason for reason, _ in node.events]
    assert reasons == ["ForeignUnreachable", "ForeignUnauthorized", "ForeignReachable"]


def test_a_restart_during_an_outage_reports_no_second_event(node: Harness) -> None:
    node.start()
    node.foreign.down = True
    node.wait(60)
    node.stop()
    node.start()
    node.wait(60)
    assert [reason for reason, _ in node.events] == ["ForeignUnreachable"]


def test_the_foreign_version_follows_an_upgrade(node: Harness) -> None:
    node.start()
    node.foreign.version = "v1.37.0"
    node.wait(320)
    assert node.stored["status"]["nodeInfo"]["kubeletVersion"] == "v1.37.0"


# --- restarts ---------------------------------------------------------------------------------


def test_a_restart_changes_no_condition(node: Harness) -> None:
    node.start()
    before = {kind: c["lastTransitionTime"] for kind, c in node.conditions().items()}
    node.stop()
    node.wait(30)
    node.start()
    node.wait(100)
    after = {kind: c["lastTransitionTime"] for kind, c in node.conditions().items()}
    assert after == before


@pytest.mark.parametrize("policy", ["hold", "notready"])
def test_a_restart_during_a_foreign_outage_reports_it_only_after_its_time(
    node: Harness, policy: str
) -> None:
    node.start(foreign_unreachable=policy)
    node.stop()
    node.foreign.down = True
    node.start(foreign_unreachable=policy)
    node.wait(30)
    assert (node.condition("Ready"), node.condition(REACHABLE)) == ("True", "True")
    assert node.lease.renewals
    node.wait(30)
    assert node.condition("Ready") == ("True" if policy == "hold" else "False")
    assert cordoned(node) is (policy == "hold")


def test_a_first_start_during_a_foreign_outage_accepts_no_pods_until_recovery(
    node: Harness,
) -> None:
    node.foreign_node("a")
    node.foreign.down = True
    node.start(capacity=None)
    node.wait(20)
    assert node.condition("Ready") == "False"
    assert node.stored["status"]["allocatable"]["pods"] == "0"
    node.foreign.down = False
    node.wait(20)
    assert node.condition("Ready") == "True"
    assert node.stored["status"]["allocatable"]["pods"] == "110"


def test_capacity_stays_during_a_foreign_outage_and_a_restart(node: Harness) -> None:
    node.foreign_node("a")
    node.start(capacity=None)
    node.stop()
    node.foreign.down = True
    node.start(capacity=None)
    node.wait(100)
    assert node.stored["status"]["allocatable"]["pods"] == "110"


def test_a_hold_ends_after_a_restart_during_the_outage(node: Harness) -> None:
    node.start()
    node.foreign.down = True
    node.wait(60)
    node.stop()
    node.start()
    node.wait(60)
    assert cordoned(node)
    node.foreign.down = False
    node.wait(10)
    assert not cordoned(node)


# --- the home API server, its controllers and its administrators ------------------------------


def test_a_condition_that_home_set_to_unknown_is_corrected_immediately(node: Harness) -> None:
    node.start()
    node.change({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})
    node.wait(5)
    assert node.condition("Ready") == "True"


def test_the_node_recovers_after_a_long_outage_of_home(node: Harness) -> None:
    node.start()
    node.home.down = True
    node.home.break_watches()
    node.wait(600)
    node.home.down = False
    node.wait(30)
    assert node.condition("Ready") == "True"
    node.change({"status": {"allocatable": {"cpu": "1"}}})
    node.wait(30)
    assert node.stored["status"]["allocatable"]["cpu"] == "8"


def test_a_write_that_meets_a_change_is_repeated_without_a_warning(node: Harness) -> None:
    node.start()
    node.home.faults.append(Fault.CONFLICT)
    node.foreign.version = "v1.37.0"
    node.wait(320)
    assert node.stored["status"]["nodeInfo"]["kubeletVersion"] == "v1.37.0"
    assert "node changed during update" in [one["event"] for one in node.logs]
    assert [one for one in node.logs if one["log_level"] not in {"debug", "info"}] == []


def test_an_administrators_cordon_stays_after_a_foreign_outage(node: Harness) -> None:
    node.start()
    node.change({"spec": {"unschedulable": True}})
    node.foreign.down = True
    node.wait(60)
    node.foreign.down = False
    node.wait(30)
    assert cordoned(node)


def test_an_uncordon_by_an_administrator_during_an_outage_is_respected(node: Harness) -> None:
    node.start()
    node.foreign.down = True
    node.wait(60)
    node.change({"spec": {"unschedulable": None}})
    node.wait(400)
    assert not cordoned(node)
    node.foreign.down = False
    node.wait(10)
    assert CORDON not in node.stored["metadata"].get("annotations", {})


def test_labels_of_an_administrator_stay(node: Harness) -> None:
    node.start()
    node.change({"metadata": {"labels": {"theirs": "x"}}})
    node.wait(400)
    assert node.stored["metadata"]["labels"]["theirs"] == "x"


def test_the_label_that_identifies_a_virtual_node_is_restored(node: Harness) -> None:
    node.start()
    node.change({"metadata": {"labels": {"type": None}}})
    node.wait(5)
    assert node.stored["metadata"]["labels"]["type"] == "virtual-kubelet"
    assert node.virtual_node.problem is None


def test_a_deleted_node_is_not_recreated_and_has_no_heartbeat(node: Harness) -> None:
    node.start()
    node.delete()
    node.wait(1)
    node.home.requests.clear()
    node.lease.renewals.clear()
    node.wait(1000)
    assert node.stored_or_none is None
    assert node.home.writes() == []
    assert node.lease.renewals == []
    assert node.lease.owner is None
    reported = [entry for entry in node.logs if "deleted" in entry["event"]]
    assert len(reported) == 1
    assert node.virtual_node.problem == (
        "the Node far was deleted; farlet creates it again at the next start"
    )
    node.stop()
    node.start()
    assert node.condition("Ready") == "True"


def test_a_node_deleted_during_an_outage_of_home_is_not_recreated(node: Harness) -> None:
    node.start()
    node.home.down = True
    node.home.break_watches()
    node.wait(30)
    node.delete()
    node.home_server.compact()
    node.home.down = False
    node.wait(400)
    assert node.stored_or_none is None


def test_a_virtual_node_recreated_by_an_administrator_is_maintained(node: Harness) -> None:
    node.start()
    node.delete()
    node.wait(20)
    node.create()
    node.wait(30)
    assert node.condition("Ready") == "True"
    assert node.lease.owner == node.stored["metadata"]["uid"]
    assert node.lease.renewals[-1] > 20


def test_a_real_machine_with_the_name_of_a_deleted_node_is_not_changed(node: Harness) -> None:
    node.start()
    node.delete()
    node.wait(20)
    created = node.create(labels={})
    renewals = len(node.lease.renewals)
    node.wait(400)
    assert node.stored == created
    assert len(node.lease.renewals) == renewals


# --- requests of other modules ----------------------------------------------------------------


def test_a_drained_node_is_cordoned_until_the_next_start(node: Harness) -> None:
    node.start()
    node.do(node.virtual_node.cordon())
    node.wait(30)
    assert cordoned(node)
    node.do(node.virtual_node.retire())
    assert node.condition("Ready") == "False"
    node.stop()
    node.start()
    assert not cordoned(node)
    assert node.condition("Ready") == "True"


def test_a_changed_address_is_reported(node: Harness) -> None:
    node.start()
    node.address = "10.0.0.2"
    node.virtual_node.context_changed()
    node.wait()
    assert node.stored["status"]["addresses"] == [{"type": "InternalIP", "address": "10.0.0.2"}]


def test_a_node_that_another_process_serves_is_not_touched(node: Harness) -> None:
    node.create()
    node.start()
    node.stop()
    before = node.stored
    node.next_lease.free.clear()
    node.next_lease.problem = "another farlet (far@laptop) serves the node far"
    node.start()
    node.wait(60)
    assert node.stored == before
    assert node.virtual_node.problem == "another farlet (far@laptop) serves the node far"
    node.lease.problem = None
    node.lease.free.set()
    node.wait(5)
    assert node.virtual_node.problem is None


def test_a_node_is_maintained_after_a_restore_of_home_which_is_reported_once(
    node: Harness,
) -> None:
    node.start()
    backup = node.home_server.backup()
    for number in range(50):
        node.change({"metadata": {"annotations": {"example.org/count": str(number)}}})
    node.wait(10)
    node.home_server.restore(backup)
    node.home.break_watches()
    node.wait(10)
    assert node.rewound == 1
    node.change({"metadata": {"labels": {"type": None}}})
    node.wait(10)
    assert node.stored["metadata"]["labels"]["type"] == "virtual-kubelet"
    assert node.rewound == 1


def test_home_pods_are_compared_after_an_outage_of_home(node: Harness) -> None:
    node.start()
    node.reconnected = 0
    node.home.break_watches()
    node.wait(30)
    assert node.reconnected == 1
    node.home.down = True
    node.home.break_watches()
    node.wait(10)
    node.home.down = False
    node.wait(30)
    assert node.reconnected == 2
