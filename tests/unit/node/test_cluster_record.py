"""The record of the foreign cluster on the Node: when it is written, and what a start accepts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from farlet import constants
from unit.node import harness
from unit.node.harness import NODE, NOWHERE, Harness
from unit.planning.fake_cluster import HALF_WAY_SECONDS, Fault
from unit.planning.model import JSON, Server, Write

KIND = "farlet.io/ForeignReachable"
UNCONFIRMED = "ForeignClusterUnconfirmed"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Harness]:
    with harness.running(tmp_path) as running:
        yield running


def recorded(node: Harness) -> dict[str, str]:
    return dict(node.stored["metadata"].get("annotations", {}))


def inventory(node: Harness) -> JSON:
    (found,) = node.foreign.server.all("configmaps")
    return found


def term(node: Harness) -> str | None:
    found: str | None = inventory(node)["metadata"].get("annotations", {}).get(constants.TERM)
    return found


def use(node: Harness) -> None:
    """The inventory lists a namespace."""
    where = ("configmaps", "farlet", inventory(node)["metadata"]["name"])
    body = {"data": {"shop-home": "shop"}}
    node.foreign.server.patch(where, body, by="farlet", status=False, strategic=False)


def annotate(node: Harness, **values: str | None) -> None:
    names = {
        "foreign": constants.FOREIGN_CLUSTER,
        "home": constants.HOME_CLUSTER,
        "term": constants.TERM,
        "pending": constants.PENDING_TERM,
    }
    node.change({"metadata": {"annotations": {names[key]: v for key, v in values.items()}}})


def other_cluster(node: Harness) -> Server:
    return Server(node.clock, NOWHERE, cluster="other")


def reason(node: Harness) -> str:
    return str(node.conditions()[KIND]["reason"])


def restart(node: Harness, **flags: object) -> None:
    node.stop()
    node.start(**flags)


def test_a_new_node_records_both_clusters_and_its_term(node: Harness) -> None:
    node.start()
    assert node.identity.confirmed
    assert recorded(node) == {
        constants.FOREIGN_CLUSTER: node.foreign.namespace_uid("farlet"),
        constants.HOME_CLUSTER: "home",
        constants.PENDING_TERM: node.identity.term,
    }
    assert term(node) == node.identity.term


def test_each_start_writes_another_term_and_keeps_the_one_before(node: Harness) -> None:
    node.start()
    first = node.identity.term
    restart(node)
    assert recorded(node)[constants.TERM] == first
    assert recorded(node)[constants.PENDING_TERM] == node.identity.term == term(node) != first


def test_a_start_that_stopped_between_the_two_writes_is_known(node: Harness) -> None:
    node.start()
    use(node)
    first = node.identity.term
    node.stop()
    node.foreign.faults.extend([Fault.LOST] * 9)
    node.start()
    node.stop()
    node.foreign.faults.clear()
    assert term(node) == first
    assert recorded(node)[constants.PENDING_TERM] != first
    node.start()
    assert node.identity.confirmed


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.DONE, Fault.LATE, Fault.THROTTLED])
@pytest.mark.parametrize("side", ["home", "foreign"])
def test_a_start_survives_a_write_that_fails(node: Harness, fault: Fault, side: str) -> None:
    node.start()
    use(node)
    node.stop()
    getattr(node, side).faults.append(fault)
    node.start()
    node.wait(30)
    assert node.identity.confirmed
    assert term(node) == node.identity.term


def test_controllers_that_write_to_a_new_node_cause_no_warning(node: Harness) -> None:
    """As those of the home cluster do, before the record of the cluster arrives."""
    node.home.lag = 1.0
    node.home_server.observers.append(_annotate_soon(node))
    node.start()
    assert node.identity.confirmed
    assert "node changed while it was recorded" in [one["event"] for one in node.logs]
    assert [one for one in node.logs if one["log_level"] not in {"debug", "info"}] == []


def _annotate_soon(node: Harness) -> Callable[[Write], None]:
    """What the home cluster does after farlet has read the new Node."""

    def observe(write: Write) -> None:
        if write.verb == "create":
            change = {"metadata": {"annotations": {"node.alpha.kubernetes.io/ttl": "0"}}}
            asyncio.get_running_loop().call_later(4 * HALF_WAY_SECONDS, node.change, change)

    return observe


def _exchanged(node: Harness) -> None:
    node.foreign.lead_to(other_cluster(node))


def _clone(node: Harness) -> None:
    """Another home with the same identity has used the foreign cluster."""
    use(node)
    where = ("configmaps", "farlet", inventory(node)["metadata"]["name"])
    body = {"metadata": {"annotations": {constants.TERM: "t9"}}}
    node.foreign.server.patch(where, body, by="farlet", status=False, strategic=False)


def _home_restored(node: Harness) -> None:
    """The Node is that of an earlier time."""
    use(node)
    annotate(node, term="t1", pending="t2")


def _other_home(node: Harness) -> None:
    annotate(node, home="another")


def _new_node(node: Harness) -> None:
    use(node)
    node.delete()


DOUBTS: dict[str, Callable[[Harness], None]] = {
    "another foreign cluster": _exchanged,
    "a clone of the home cluster": _clone,
    "a home cluster that was restored": _home_restored,
    "a Node of another home cluster": _other_home,
    "a new Node with namespaces in use": _new_node,
}


def _needed(node: Harness) -> str:
    """The value that the Node's condition asks for."""
    message = str(node.conditions()[KIND]["message"])
    return message.partition("--adopt-foreign-cluster=")[2].partition(".")[0]


@pytest.mark.parametrize("happens", DOUBTS.values(), ids=DOUBTS)
def test_a_start_changes_nothing_until_an_administrator_adopts(
    node: Harness, happens: Callable[[Harness], None]
) -> None:
    node.start()
    node.stop()
    happens(node)
    before = node.foreign.server.version
    node.start()
    node.wait(120)
    assert (node.condition(KIND), reason(node)) == ("False", UNCONFIRMED)
    assert node.condition("Ready") == "True"
    assert node.stored["spec"]["unschedulable"]
    assert node.foreign.server.version == before
    with pytest.raises(Exception, match="adopt-foreign-cluster"):
        node.identity.guard()

    word = _needed(node)
    restart(node, adopt_foreign_cluster="wrong" + word)
    assert reason(node) == UNCONFIRMED
    restart(node, adopt_foreign_cluster=word)
    assert node.identity.confirmed
    assert node.condition(KIND) == "True"
    assert not node.stored["spec"].get("unschedulable")
    adopted = [one for one in node.logs if one["event"] == "adopting foreign cluster"]
    assert len(adopted) == 1
    assert "MirrorLost" in adopted[0]["consequence"]
    restart(node, adopt_foreign_cluster=word)
    assert node.identity.confirmed
    assert len([one for one in node.logs if one["event"] == "adopting foreign cluster"]) == 1


def test_a_flag_that_was_used_adopts_no_later_clone(node: Harness) -> None:
    node.start()
    _clone(node)
    restart(node)
    word = _needed(node)
    restart(node, adopt_foreign_cluster=word)
    where = ("configmaps", "farlet", inventory(node)["metadata"]["name"])
    body = {"metadata": {"annotations": {constants.TERM: "t10"}}}
    node.stop()
    node.foreign.server.patch(where, body, by="farlet", status=False, strategic=False)
    node.start(adopt_foreign_cluster=word)
    assert reason(node) == UNCONFIRMED


def test_a_corrected_kubeconfig_ends_the_doubt_of_a_start(node: Harness) -> None:
    node.start()
    node.stop()
    right = node.foreign.server
    node.foreign.lead_to(other_cluster(node))
    node.start()
    assert reason(node) == UNCONFIRMED
    node.foreign.lead_to(right)
    node.wait(15)
    assert node.condition(KIND) == "True"


@pytest.mark.parametrize("login", [True, False], ids=["another kubeconfig", "the same address"])
def test_another_cluster_under_a_running_farlet_is_reported_within_seconds(
    node: Harness, login: bool
) -> None:
    node.start()
    right = node.foreign.server
    node.foreign.lead_to(other_cluster(node), login=login)
    node.wait(15)
    assert (node.condition(KIND), reason(node)) == ("False", UNCONFIRMED)
    assert node.foreign.server.all("configmaps") == []
    node.foreign.lead_to(right, login=login)
    node.wait(15)
    assert node.condition(KIND) == "True"
    assert not node.stored["spec"].get("unschedulable")


def test_a_new_connection_to_the_same_cluster_is_confirmed_within_seconds(node: Harness) -> None:
    node.start()
    node.foreign.lead_to(node.foreign.server)
    states = [node.identity.confirmed]
    node.wait(11)
    states.append(node.identity.confirmed)
    assert states == [False, True]
    assert node.condition(KIND) == "True"


def _other_term(node: Harness) -> None:
    _clone(node)


def _taken_over(node: Harness) -> None:
    annotate(node, term="t1", pending="t9")


LOST: dict[str, Callable[[Harness], None]] = {
    "a term of another farlet in the inventory": _other_term,
    "a term of another farlet on the Node": _taken_over,
}


@pytest.mark.parametrize("happens", LOST.values(), ids=LOST)
def test_a_running_farlet_writes_nothing_after(
    node: Harness, happens: Callable[[Harness], None]
) -> None:
    node.start()
    happens(node)
    node.wait(15)
    assert reason(node) == UNCONFIRMED
    before = node.foreign.server.version
    node.wait(300)
    assert not node.identity.confirmed
    assert node.foreign.server.version == before


def test_a_record_that_a_user_removed_is_written_again(node: Harness) -> None:
    node.start()
    annotate(node, foreign=None, home=None, pending=None)
    node.wait(5)
    assert recorded(node)[constants.FOREIGN_CLUSTER] == node.foreign.namespace_uid("farlet")
    assert recorded(node)[constants.PENDING_TERM] == node.identity.term
    assert node.identity.confirmed


def test_a_term_that_a_user_removed_is_written_again(node: Harness) -> None:
    node.start()
    where = ("configmaps", "farlet", inventory(node)["metadata"]["name"])
    body = {"metadata": {"annotations": {constants.TERM: None}}}
    node.foreign.server.patch(where, body, by="admin", status=False, strategic=False)
    node.wait(15)
    assert term(node) == node.identity.term


def test_a_node_that_was_deleted_under_a_running_farlet_is_created_by_the_next_start(
    node: Harness,
) -> None:
    node.start()
    use(node)
    node.delete()
    node.wait(15)
    assert term(node) is None
    restart(node)
    assert node.identity.confirmed
    assert node.condition(KIND) == "True"
    assert cast("str", node.stored["metadata"]["name"]) == NODE
