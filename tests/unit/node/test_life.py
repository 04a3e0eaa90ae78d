"""A node that lives: heartbeats, outages on either side, restarts, administrators' wishes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from unit.node import scene
from unit.node.scene import Scene

CORDON = "farlet.io/cordoned"
REACHABLE = "farlet.io/ForeignReachable"


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Scene]:
    with scene.playing(tmp_path) as made:
        yield made


def cordoned(play: Scene) -> bool:
    return bool(play.there["spec"].get("unschedulable"))


def test_the_heartbeat_comes_every_ten_seconds_and_belongs_to_the_node(play: Scene) -> None:
    play.start()
    play.wait(100)
    pauses = {
        round(later - earlier)
        for earlier, later in zip(play.lease.renewals, play.lease.renewals[1:], strict=False)
    }
    assert pauses == {10}
    assert play.lease.owner == play.there["metadata"]["uid"]


def test_a_status_that_does_not_change_is_written_every_five_minutes(play: Scene) -> None:
    play.start()
    play.home.asked.clear()
    play.wait(1000)
    assert play.home.writes() == ["PATCH /api/v1/nodes/far/status"] * 3
    ready = play.conditions()["Ready"]
    assert ready["lastHeartbeatTime"] > ready["lastTransitionTime"]


# --- the foreign API server -------------------------------------------------------------------


def test_a_short_silence_abroad_is_no_news(play: Scene) -> None:
    play.start()
    play.home.asked.clear()
    play.foreign.down = True
    play.wait(35)
    play.foreign.down = False
    play.wait(100)
    assert play.home.writes() == []


def test_under_hold_a_silence_abroad_keeps_pods_and_takes_no_new_ones(play: Scene) -> None:
    play.start()
    since = play.conditions()["Ready"]["lastTransitionTime"]
    play.foreign.down = True
    play.wait(60)
    assert cordoned(play)
    assert play.there["metadata"]["annotations"][CORDON] == "foreign-unreachable"
    assert play.condition(REACHABLE) == "False"
    assert play.condition("Ready") == "True"
    play.wait(600)
    play.foreign.down = False
    play.wait(10)
    assert not cordoned(play)
    assert CORDON not in play.there["metadata"].get("annotations", {})
    assert play.condition(REACHABLE) == "True"
    assert play.conditions()["Ready"]["lastTransitionTime"] == since


def test_under_notready_a_silence_abroad_is_a_dead_machine(play: Scene) -> None:
    play.start(foreign_unreachable="notready")
    play.foreign.down = True
    play.wait(60)
    assert not cordoned(play)
    assert play.condition("Ready") == "False"
    assert play.condition(REACHABLE) == "False"
    play.foreign.down = False
    play.wait(10)
    assert play.condition("Ready") == "True"


def test_how_long_the_silence_may_be_is_a_setting(play: Scene) -> None:
    play.start(foreign_unreachable_after="5m")
    play.foreign.down = True
    play.wait(280)
    assert play.condition(REACHABLE) == "True"
    play.wait(40)
    assert play.condition(REACHABLE) == "False"


def test_a_silence_is_written_once_whatever_its_text(play: Scene) -> None:
    play.start()
    play.foreign.down = True
    play.wait(60)
    play.home.asked.clear()
    play.foreign.down, play.foreign_problem = False, "the registry cannot be read"
    play.wait(120)
    assert play.home.writes() == []


def test_what_else_keeps_pods_from_running_abroad_is_a_silence(play: Scene) -> None:
    play.start()
    play.foreign_problem = "farlet may not use its own namespace"
    play.wait(60)
    assert play.conditions()[REACHABLE]["message"] == "farlet may not use its own namespace"


def test_the_foreign_version_follows_an_upgrade(play: Scene) -> None:
    play.start()
    play.foreign.version = "v1.37.0"
    play.wait(320)
    assert play.there["status"]["nodeInfo"]["kubeletVersion"] == "v1.37.0"


# --- restarts ---------------------------------------------------------------------------------


def test_a_restart_changes_no_condition(play: Scene) -> None:
    play.start()
    before = {kind: c["lastTransitionTime"] for kind, c in play.conditions().items()}
    play.stop()
    play.wait(30)
    play.start()
    play.wait(100)
    after = {kind: c["lastTransitionTime"] for kind, c in play.conditions().items()}
    assert after == before


@pytest.mark.parametrize("policy", ["hold", "notready"])
def test_a_restart_within_an_outage_abroad_tells_nothing_before_its_time(
    play: Scene, policy: str
) -> None:
    play.start(foreign_unreachable=policy)
    play.stop()
    play.foreign.down = True
    play.start(foreign_unreachable=policy)
    play.wait(30)
    assert (play.condition("Ready"), play.condition(REACHABLE)) == ("True", "True")
    assert play.lease.renewals
    play.wait(30)
    assert play.condition("Ready") == ("True" if policy == "hold" else "False")
    assert cordoned(play) is (policy == "hold")


def test_a_first_start_without_the_foreign_side_takes_no_pods_until_it_is_there(
    play: Scene,
) -> None:
    play.machine("a")
    play.foreign.down = True
    play.start(capacity=None)
    play.wait(20)
    assert play.condition("Ready") == "False"
    assert play.there["status"]["allocatable"]["pods"] == "0"
    play.foreign.down = False
    play.wait(20)
    assert play.condition("Ready") == "True"
    assert play.there["status"]["allocatable"]["pods"] == "110"


def test_what_fits_stays_while_the_foreign_side_is_silent_over_a_restart(play: Scene) -> None:
    play.machine("a")
    play.start(capacity=None)
    play.stop()
    play.foreign.down = True
    play.start(capacity=None)
    play.wait(100)
    assert play.there["status"]["allocatable"]["pods"] == "110"


def test_a_hold_ends_though_farlet_was_restarted_within_it(play: Scene) -> None:
    play.start()
    play.foreign.down = True
    play.wait(60)
    play.stop()
    play.start()
    play.wait(60)
    assert cordoned(play)
    play.foreign.down = False
    play.wait(10)
    assert not cordoned(play)


# --- the home API server, its controllers and its administrators ------------------------------


def test_a_node_that_home_took_for_dead_is_alive_at_once(play: Scene) -> None:
    play.start()
    play.change({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})
    play.wait(5)
    assert play.condition("Ready") == "True"


def test_home_may_be_away_for_long(play: Scene) -> None:
    play.start()
    play.home.down = True
    play.home.break_watches()
    play.wait(600)
    play.home.down = False
    play.wait(30)
    assert play.condition("Ready") == "True"
    play.change({"status": {"allocatable": {"cpu": "1"}}})
    play.wait(30)
    assert play.there["status"]["allocatable"]["cpu"] == "8"


def test_an_administrators_cordon_outlives_an_outage_abroad(play: Scene) -> None:
    play.start()
    play.change({"spec": {"unschedulable": True}})
    play.foreign.down = True
    play.wait(60)
    play.foreign.down = False
    play.wait(30)
    assert cordoned(play)


def test_an_administrator_who_uncordons_within_an_outage_is_not_contradicted(play: Scene) -> None:
    play.start()
    play.foreign.down = True
    play.wait(60)
    play.change({"spec": {"unschedulable": None}})
    play.wait(400)
    assert not cordoned(play)
    play.foreign.down = False
    play.wait(10)
    assert CORDON not in play.there["metadata"].get("annotations", {})


def test_labels_of_the_administrator_stay(play: Scene) -> None:
    play.start()
    play.change({"metadata": {"labels": {"theirs": "x"}}})
    play.wait(400)
    assert play.there["metadata"]["labels"]["theirs"] == "x"


def test_the_label_by_which_farlet_knows_its_node_comes_back(play: Scene) -> None:
    play.start()
    play.change({"metadata": {"labels": {"type": None}}})
    play.wait(5)
    assert play.there["metadata"]["labels"]["type"] == "virtual-kubelet"
    assert play.node.problem is None


def test_a_node_that_is_deleted_is_not_made_again_nor_heard_of(play: Scene) -> None:
    play.start()
    play.delete()
    play.wait(1)
    play.home.asked.clear()
    play.lease.renewals.clear()
    play.wait(1000)
    assert play.seen is None
    assert play.home.writes() == []
    assert play.lease.renewals == []
    assert play.lease.owner is None
    told = [entry for entry in play.logs if "deleted" in entry["event"]]
    assert len(told) == 1
    assert play.node.problem == (
        "the Node far was deleted; it is not made again before the next start"
    )
    play.stop()
    play.start()
    assert play.condition("Ready") == "True"


def test_a_node_that_was_deleted_while_home_was_away_is_not_made_again(play: Scene) -> None:
    play.start()
    play.home.down = True
    play.home.break_watches()
    play.wait(30)
    play.delete()
    play.home_server.compact()
    play.home.down = False
    play.wait(400)
    assert play.seen is None


def test_a_node_that_is_deleted_and_made_again_by_hand_is_kept(play: Scene) -> None:
    play.start()
    play.delete()
    play.wait(20)
    play.create()
    play.wait(30)
    assert play.condition("Ready") == "True"
    assert play.lease.owner == play.there["metadata"]["uid"]
    assert play.lease.renewals[-1] > 20


def test_a_real_machine_that_takes_the_name_of_a_deleted_node_is_left_alone(play: Scene) -> None:
    play.start()
    play.delete()
    play.wait(20)
    made = play.create(labels={})
    renewals = len(play.lease.renewals)
    play.wait(400)
    assert play.there == made
    assert len(play.lease.renewals) == renewals


# --- what other parts of farlet say -----------------------------------------------------------


def test_a_condition_of_another_part_is_shown(play: Scene) -> None:
    play.start()
    play.node.set_condition("farlet.io/Other", "True", reason="Because", message="so")
    play.wait(5)
    assert play.conditions()["farlet.io/Other"]["reason"] == "Because"


def test_a_drained_node_is_cordoned_until_the_next_start(play: Scene) -> None:
    play.start()
    play.do(play.node.cordon())
    play.wait(30)
    assert cordoned(play)
    play.do(play.node.retire())
    assert play.condition("Ready") == "False"
    play.stop()
    play.start()
    assert not cordoned(play)
    assert play.condition("Ready") == "True"


def test_a_changed_address_is_shown(play: Scene) -> None:
    play.start()
    play.address = "10.0.0.2"
    play.node.look_again()
    play.wait()
    assert play.there["status"]["addresses"] == [{"type": "InternalIP", "address": "10.0.0.2"}]
