"""Conditions name the pod that cannot lead, and say why."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from farlet.constants import JSON
from farlet.manager import conditions
from farlet.manager.conditions import (
    CREDENTIALS_NOT_CHECKED,
    Condition,
    Observation,
    PodReport,
    not_ready,
)
from farlet.telemetry.state import Expiry, ForeignState, HomeAPIState, State
from unit.manager.nodes import node

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
SERVER = "https://foreign.example:6443"
REACHABLE = ForeignState(reachable=True, server=SERVER, cluster="u-1")
VERIFIED = HomeAPIState(state="Verified", endpoint="203.0.113.7:6443")
LEADER = PodReport(
    "farlet-far-a",
    State(
        node="far",
        phase="serving",
        leader=True,
        foreign=REACHABLE,
        home_api=VERIFIED,
        pods={"home": {"Running": 2}, "remote": {"Pending": 1}},
        expires=Expiry(foreign_credentials=1_796_000_000.0),
    ),
)
STANDBY = PodReport("farlet-far-b", State(node="far", phase="standing by", foreign=REACHABLE))
REFUSED = PodReport(
    "farlet-far-b",
    State(
        node="far",
        phase="standing by",
        problems={"started": "the Node far exists and is not virtual"},
        foreign=ForeignState(problem="401"),
    ),
)
UNHEALTHY = PodReport(
    "farlet-far-a",
    State(node="far", phase="serving", leader=True, problems={"home": "timeout"}),
)
REJECTED = PodReport(
    "farlet-far-a",
    State(
        node="far",
        phase="serving",
        leader=True,
        problems={"foreign": "rejected", "home": "timeout", "node": "rejected"},
    ),
)
STANDBY_REJECTED = PodReport(
    "farlet-far-b",
    State(node="far", phase="standing by", problems={"started": "rejected", "foreign": "rejected"}),
)
OLD = PodReport("farlet-far-d", problem="its image contains a farlet before 0.2.0", reports=False)
SILENT = PodReport("farlet-far-c", None, "CrashLoopBackOff: no such Secret")


def status(
    *pods: PodReport,
    refused: Condition | None = None,
    rolling_out: bool = False,
    before: dict[str, Any] | None = None,
    now: datetime = NOW,
) -> JSON:
    observed = Observation(refused, CREDENTIALS_NOT_CHECKED, pods, rolling_out)
    return conditions.status(node(), observed, before=before or {}, now=now)


def condition(found: JSON, type_: str) -> tuple[str, str, str]:
    (one,) = (one for one in found["conditions"] if one["type"] == type_)
    return one["status"], one["reason"], one["message"]


READY = [
    pytest.param((), None, "False", "NoLeader", "no farlet pod exists yet", id="no pods"),
    pytest.param(
        (STANDBY,), None, "False", "NoLeader", "no farlet pod leads yet", id="nothing known"
    ),
    pytest.param(
        (LEADER, STANDBY), None, "True", "Serving", "farlet-far-a serves the node", id="serves"
    ),
    pytest.param(
        (LEADER, REFUSED),
        None,
        "True",
        "Serving",
        "farlet-far-a serves the node; farlet-far-b cannot lead: the Node far exists and is not "
        "virtual",
        id="a standby cannot lead",
    ),
    pytest.param(
        (REFUSED, SILENT),
        None,
        "False",
        "NoLeader",
        "farlet-far-b cannot lead: the Node far exists and is not virtual; farlet-far-c cannot "
        "lead: CrashLoopBackOff: no such Secret",
        id="no pod can lead",
    ),
    pytest.param(
        (UNHEALTHY,),
        None,
        "False",
        "Unhealthy",
        "farlet-far-a serves the node, but home: timeout",
        id="the leader has a problem",
    ),
    pytest.param(
        (REJECTED, STANDBY_REJECTED),
        None,
        "False",
        "Unhealthy",
        "farlet-far-a serves the node, but foreign, node: rejected; home: timeout; farlet-far-b "
        "cannot lead for the same reason",
        id="a cause is written once",
    ),
    pytest.param(
        (STANDBY_REJECTED, dataclasses.replace(STANDBY_REJECTED, name="farlet-far-c")),
        None,
        "False",
        "NoLeader",
        "farlet-far-b and farlet-far-c cannot lead: rejected",
        id="pods with the same cause",
    ),
    pytest.param(
        (SILENT,),
        not_ready("InvalidSpec", "spec.capacity ..."),
        "False",
        "InvalidSpec",
        "spec.capacity ...",
        id="the spec is not valid",
    ),
    pytest.param(
        (LEADER,),
        not_ready("InvalidSpec", "spec.capacity ..."),
        "True",
        "InvalidSpec",
        "farlet-far-a serves the node; its spec is not applied: spec.capacity ...",
        id="the new spec is not valid, and a pod serves with the one before",
    ),
    pytest.param(
        (UNHEALTHY,),
        not_ready("ApplyFailed", "503"),
        "False",
        "Unhealthy",
        "farlet-far-a serves the node, but home: timeout; its spec is not applied: 503",
        id="the leader has a problem, and the spec is not applied",
    ),
    pytest.param(
        (OLD, STANDBY),
        None,
        "Unknown",
        "StateNotReported",
        "farlet-far-d: its image contains a farlet before 0.2.0",
        id="a pod is too old to report",
    ),
    pytest.param(
        (OLD, LEADER),
        None,
        "True",
        "Serving",
        "farlet-far-a serves the node; farlet-far-d: its image contains a farlet before 0.2.0",
        id="an old pod beside a leader",
    ),
]


@pytest.mark.parametrize(("pods", "refused", "status_", "reason", "message"), READY)
def test_ready(
    pods: tuple[PodReport, ...],
    refused: Condition | None,
    status_: str,
    reason: str,
    message: str,
) -> None:
    found = status(*pods, refused=refused)
    assert condition(found, "Ready") == (status_, reason, message)


def test_a_rollout_is_shown() -> None:
    assert condition(status(LEADER, rolling_out=True), "Ready")[:2] == ("True", "RollingOut")


def test_the_leader_describes_the_node() -> None:
    found = status(STANDBY, LEADER)
    assert {key: found[key] for key in found if key != "conditions"} == {
        "observedGeneration": 3,
        "leader": "farlet-far-a",
        "pods": 3,
        "foreignCluster": "u-1",
        "foreignServer": SERVER,
        "foreignCredentialsExpire": "2026-11-30T00:53:20Z",
    }
    assert condition(found, "ForeignReachable") == (
        "True",
        "ForeignAPIServerReachable",
        f"{SERVER} answers",
    )


def test_without_a_leader_a_standby_describes_the_foreign_cluster() -> None:
    found = status(SILENT, REFUSED)
    assert condition(found, "ForeignReachable") == ("False", "ForeignUnreachable", "401")
    assert "leader" not in found
    assert "pods" not in found


@pytest.mark.parametrize(
    ("reported", "shown"),
    [("ForeignUnauthorized", "ForeignUnauthorized"), ("not a reason!", "ForeignUnreachable")],
)
def test_the_reason_of_the_leader_is_shown_if_it_is_one(reported: str, shown: str) -> None:
    foreign = ForeignState(reason=reported, problem="401")
    leader = PodReport(
        "farlet-far-a", State(node="far", phase="serving", leader=True, foreign=foreign)
    )
    assert condition(status(leader), "ForeignReachable") == ("False", shown, "401")


def test_the_secret_that_a_pod_cannot_name_is_named() -> None:
    text = "put new ones into the Secret farlet-NODE-foreign"
    leader = PodReport(
        "a", State(node="far", phase="serving", leader=True, foreign=ForeignState(problem=text))
    )
    observed = Observation(None, CREDENTIALS_NOT_CHECKED, (leader,), False)
    mine = node(foreign={"kubeconfigSecret": {"name": "mine"}})
    found = conditions.status(mine, observed, before={}, now=NOW)
    assert condition(found, "ForeignReachable")[2] == "put new ones into the Secret mine"


def test_while_nothing_is_reported_nothing_is_known() -> None:
    found = status(SILENT)
    for type_ in ("ForeignReachable", "HomeAPIReachable", "CredentialsValid"):
        assert condition(found, type_)[0] == "Unknown"


@pytest.mark.parametrize(
    ("home_api", "status_", "reason"),
    [
        pytest.param(VERIFIED, "True", "HomeAPIVerified", id="verified"),
        pytest.param(HomeAPIState(), "False", "HomeAPINotConfigured", id="not configured"),
        pytest.param(
            HomeAPIState(state="Refused", reason="HomeAPICertificateInvalid", message="x"),
            "False",
            "HomeAPICertificateInvalid",
            id="refused",
        ),
        pytest.param(
            HomeAPIState(state="OutOfReach"), "False", "HomeAPIUnreachable", id="out of reach"
        ),
        pytest.param(
            HomeAPIState(state="Unverified"), "Unknown", "HomeAPIUnverified", id="unverified"
        ),
        pytest.param(
            HomeAPIState(state="Novel"), "Unknown", "HomeAPIUnverified", id="of a newer version"
        ),
    ],
)
def test_the_home_api(home_api: HomeAPIState, status_: str, reason: str) -> None:
    pod = PodReport("a", State(node="far", phase="serving", leader=True, home_api=home_api))
    assert condition(status(pod), "HomeAPIReachable")[:2] == (status_, reason)


def test_a_condition_keeps_the_time_of_its_last_change() -> None:
    first = status(LEADER)
    later = NOW + timedelta(hours=1)
    assert status(LEADER, before=first, now=later) == first
    changed = status(SILENT, before=first, now=later)
    times = {one["type"]: one["lastTransitionTime"] for one in changed["conditions"]}
    assert times["Ready"] == "2026-11-28T13:00:00Z"
    assert times["CredentialsValid"] == "2026-11-28T12:00:00Z"


def test_every_condition_names_the_generation() -> None:
    assert {one["observedGeneration"] for one in status(LEADER)["conditions"]} == {3}


def test_a_message_is_cut_and_contains_no_token() -> None:
    token = "Bearer abcdefghijklmnopqrstuvwxyz0123456789"
    message = condition(status(PodReport("a", None, f"{token} {'x' * 9000}")), "Ready")[2]
    assert len(message) == conditions.MAX_MESSAGE
    assert "abcdefghij" not in message


@pytest.mark.parametrize(
    ("pod_status", "problem"),
    [
        pytest.param({}, "did not answer", id="only the reader knows"),
        pytest.param(
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/1 nodes are available",
                    }
                ]
            },
            "Unschedulable: 0/1 nodes are available",
            id="not scheduled",
        ),
        pytest.param(
            {"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]},
            "ContainerCreating",
            id="is created",
        ),
        pytest.param(
            {
                "containerStatuses": [
                    {
                        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                        "lastState": {
                            "terminated": {"message": '{"level": "info"}\nfarlet: no kubeconfig\n'}
                        },
                    }
                ]
            },
            "CrashLoopBackOff: no kubeconfig",
            id="ended with an error",
        ),
        pytest.param(
            {"containerStatuses": [{"state": {"running": {}}}]}, "did not answer", id="runs"
        ),
    ],
)
def test_what_the_kubelet_says_of_a_pod(pod_status: JSON, problem: str) -> None:
    pod = {"metadata": {"name": "a"}, "status": pod_status}
    assert conditions.pod_report(pod, None, "did not answer", node="far").problem == problem


def test_a_state_of_another_node_is_a_problem() -> None:
    """The address of a pod that has ended can be that of a pod of another node."""
    state = State(node="other", phase="serving", leader=True)
    found = conditions.pod_report({"metadata": {"name": "a"}}, state, None, node="far")
    assert found == PodReport("a", None, "its address answers for another node, other")


QUOTA = "FailedCreate: exceeded quota: small"


def test_pods_that_are_not_admitted_are_explained() -> None:
    none = Observation(None, CREDENTIALS_NOT_CHECKED, (), rolling_out=True, not_admitted=QUOTA)
    found = conditions.status(node(), none, before={}, now=NOW)
    assert condition(found, "Ready") == (
        "False",
        "NoLeader",
        f"no farlet pod exists yet; no pod is admitted: {QUOTA}",
    )
    one = Observation(None, CREDENTIALS_NOT_CHECKED, (LEADER,), True, QUOTA)
    found = conditions.status(node(), one, before={}, now=NOW)
    rolling = "farlet-far-a serves the node; the Deployment is still rolling out"
    assert condition(found, "Ready")[1:] == (
        "RollingOut",
        f"{rolling}; no pod is admitted: {QUOTA}",
    )
