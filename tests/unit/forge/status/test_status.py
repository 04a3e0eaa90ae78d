"""Reason, addresses, times; waiting, loss and end: combinations beyond the golden cases."""

import dataclasses
from typing import Any

import pytest

from farlet import constants
from farlet.constants import PodCondition, Reason
from farlet.context import NamespaceMap, PodNetwork
from farlet.forge import status
from unit.forge.status import builders, strategicmerge
from unit.forge.status.builders import CONTEXT, NOW, condition, condition_of, ended, reported, waits

CONNECTED = dataclasses.replace(CONTEXT, pod_network=PodNetwork.CONNECTED)
MIRRORED = condition("farlet.io/Mirrored", message="m-1")


def reflected(home: Any, mirror: Any, ctx: Any = CONTEXT) -> status.DesiredStatus:
    return status.reflect(home, mirror, ctx=ctx, now=NOW)


def ran(**fields: Any) -> Any:
    return {
        "phase": "Running",
        "conditions": [MIRRORED],
        "containerStatuses": [reported()],
        **fields,
    }


@pytest.mark.parametrize(
    ("before", "foreign", "expected"),
    [
        pytest.param({}, {"reason": "Evicted", "message": "m"}, ("Evicted", "m"), id="mirrors"),
        pytest.param({"reason": "NameConflict", "message": "m"}, {}, (None, None), id="fixed"),
        pytest.param(
            {},
            {
                "phase": "Pending",
                "conditions": [condition("PodScheduled", "False", message="0/3 nodes")],
            },
            ("Unschedulable", "in the foreign cluster: 0/3 nodes"),
            id="unschedulable",
        ),
        pytest.param(
            {},
            {
                "phase": "Pending",
                "conditions": [condition("PodScheduled", "False", reason="SchedulerError")],
            },
            ("SchedulerError", None),
            id="scheduler-error",
        ),
        pytest.param(
            {"phase": "Failed", "reason": "NodeShutdown", "message": "m"},
            {"reason": "Evicted"},
            ("NodeShutdown", "m"),
            id="finished-pods-stay",
        ),
    ],
)
def test_reason_and_message(before: Any, foreign: Any, expected: Any) -> None:
    home = builders.home(status={"phase": "Pending", **before})
    found = reflected(home, builders.mirror(**foreign)).status
    assert (found.get("reason"), found.get("message")) == expected


@pytest.mark.parametrize(
    ("ctx", "foreign", "podip", "podips", "annotation"),
    [
        pytest.param(CONTEXT, {"podIP": "10.1.1.1"}, None, None, "10.1.1.1", id="isolated"),
        pytest.param(
            CONTEXT,
            {"podIP": "10.1.1.1", "podIPs": [{"ip": "10.1.1.1"}, {"ip": "fd00::1"}]},
            None,
            None,
            "10.1.1.1,fd00::1",
            id="isolated-dual-stack",
        ),
        pytest.param(CONTEXT, {}, None, None, None, id="isolated-without-address"),
        pytest.param(
            CONNECTED,
            {"podIP": "10.1.1.1", "podIPs": [{"ip": "10.1.1.1"}, {"ip": "fd00::1"}]},
            "10.1.1.1",
            [{"ip": "10.1.1.1"}, {"ip": "fd00::1"}],
            None,
            id="connected",
        ),
        pytest.param(
            dataclasses.replace(CONNECTED, to_home_ip=lambda ip: ip.replace("10.1", "172.16")),
            {"podIP": "10.1.1.1"},
            "172.16.1.1",
            [{"ip": "172.16.1.1"}],
            None,
            id="connected-and-translated",
        ),
        pytest.param(
            dataclasses.replace(CONNECTED, to_home_ip=lambda ip: "" if ":" in ip else ip),
            {"podIP": "fd00::1", "podIPs": [{"ip": "fd00::1"}, {"ip": "10.1.1.1"}]},
            "10.1.1.1",
            [{"ip": "10.1.1.1"}],
            None,
            id="connected-for-one-family",
        ),
    ],
)
def test_addresses_show_where_home_can_route_to_them(
    ctx: Any, foreign: Any, podip: Any, podips: Any, annotation: Any
) -> None:
    result = reflected(builders.home(), builders.mirror(**foreign), ctx)
    assert (result.status.get("podIP"), result.status.get("podIPs")) == (podip, podips)
    assert result.annotations == {constants.FOREIGN_POD_IP: annotation}


@pytest.mark.parametrize(
    ("live", "foreign", "expected"),
    [
        pytest.param("2026-01-01T00:00:00Z", builders.THEN, "2026-01-01T00:00:00Z", id="kept"),
        pytest.param(None, builders.THEN, builders.THEN, id="the-mirrors"),
        pytest.param(None, None, builders.NOW_TEXT, id="now"),
    ],
)
def test_the_start_time_is_set_once(live: str | None, foreign: str | None, expected: str) -> None:
    home = builders.home(status={"phase": "Pending", **({"startTime": live} if live else {})})
    mirror = builders.mirror(startTime=foreign)
    assert reflected(home, mirror).status["startTime"] == expected


@pytest.mark.parametrize("reason", list(Reason))
def test_a_waiting_pod_shows_its_reason_where_kubectl_reads_it(reason: Reason) -> None:
    home = builders.home(initContainers=[builders.container("fetch")])
    result = status.waiting(home, reason=reason, message="fix it so", ctx=CONTEXT, now=NOW).status
    assert (result["phase"], result["reason"], result["message"]) == (
        "Pending",
        reason,
        "fix it so",
    )
    rows = result["containerStatuses"] + result["initContainerStatuses"]
    assert [row["state"] for row in rows] == [waits(reason.value)] * 2
    for name in ("Initialized", "ContainersReady", "Ready"):
        found = condition_of(result, name)
        assert (found["status"], found["reason"]) == ("False", reason)
    assert condition_of(result, "PodScheduled")["status"] == "True"
    assert condition_of(result, "farlet.io/Mirrored") is None


@pytest.mark.parametrize(
    "live",
    [
        pytest.param(ran(), id="running"),
        pytest.param(ran(phase="Pending"), id="mirrored-and-pending"),
        pytest.param({"phase": "Running", "conditions": []}, id="running-without-the-condition"),
        pytest.param({"phase": "Unknown", "conditions": []}, id="unknown"),
    ],
)
def test_a_pod_that_had_a_mirror_changes_only_its_reason_when_it_waits(live: Any) -> None:
    home = builders.home(status=live)
    result = status.waiting(
        home, reason=Reason.TOKEN_REQUEST_FAILED, message="m", ctx=CONTEXT, now=NOW
    )
    patch = status.patch(home, result)
    assert patch is not None
    assert patch["status"] == {"reason": "TokenRequestFailed", "message": "m"}


def test_a_stranded_pod_keeps_its_phase_and_is_not_ready() -> None:
    home = builders.home(status=ran(podIP="10.1.1.1", podIPs=[{"ip": "10.1.1.1"}]))
    home["metadata"]["annotations"] = {constants.FOREIGN_POD_IP: "10.1.1.1"}
    result = status.stranded(
        home, reason=Reason.FOREIGN_REJECTED, message="m", ctx=CONTEXT, now=NOW
    )
    patch = status.patch(home, result)
    assert patch is not None
    after = strategicmerge.apply(home, patch)
    assert after["status"]["phase"] == "Running"
    assert "podIP" not in after["status"]
    assert "annotations" not in after["metadata"]
    assert condition_of(after["status"], "Ready")["status"] == "False"
    assert status.mirrored_uid(after) == "m-1"
    row = after["status"]["containerStatuses"][0]
    assert row["state"] == waits("ForeignRejected")
    assert row["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert row["restartCount"] == 1


@pytest.mark.parametrize(
    ("namespaces", "place"),
    [
        pytest.param(CONTEXT.namespaces, "foreign namespace shop-home", id="known-namespace"),
        pytest.param(
            NamespaceMap(home="home", own="farlet", template=None), "foreign cluster", id="unknown"
        ),
    ],
)
def test_the_message_of_a_lost_pod_says_what_was_lost_and_what_to_do(
    namespaces: NamespaceMap, place: str
) -> None:
    ctx = dataclasses.replace(CONTEXT, namespaces=namespaces)
    home = builders.home(policy="Never", status=ran())
    result = status.lost(home, ctx=ctx, now=NOW).status
    assert (result["phase"], result["reason"]) == ("Failed", Reason.MIRROR_LOST)
    assert place in str(result["message"])
    assert "restartPolicy Never" in str(result["message"])
    assert "create a new pod" in str(result["message"])


@pytest.mark.parametrize(
    ("init", "rows", "expected"),
    [
        pytest.param([], [reported()], ([], [137]), id="runs"),
        pytest.param([], [reported(state=ended(0))], ([], [0]), id="succeeded"),
        pytest.param([], [reported(state=waits())], ([], [137]), id="never-started"),
        pytest.param(
            [],
            [reported(state=waits("CrashLoopBackOff"), lastState=ended(3))],
            ([], [3]),
            id="backs-off",
        ),
        pytest.param(
            [reported("fetch"), reported("unpack", waits())],
            [reported(state=waits("PodInitializing"))],
            ([137, None], [None]),
            id="initializing",
        ),
        pytest.param(
            [reported("fetch", waits()), reported("unpack", waits())],
            [reported(state=waits("PodInitializing"))],
            ([137, None], [None]),
            id="not-even-initializing",
        ),
        pytest.param(
            [reported("fetch", ended(0)), reported("unpack", ended(0))],
            [reported(state=waits("PodInitializing"))],
            ([0, 0], [137]),
            id="initialized",
        ),
    ],
)
def test_only_containers_that_started_end(init: Any, rows: Any, expected: Any) -> None:
    home = builders.home(
        policy="Never",
        initContainers=[builders.container(s["name"]) for s in init],
        status=ran(containerStatuses=rows, initContainerStatuses=init),
    )
    for result in (
        status.lost(home, ctx=CONTEXT, now=NOW).status,
        status.ended(home, None, ctx=CONTEXT, now=NOW).status,
    ):
        codes = tuple(
            [s["state"].get("terminated", {}).get("exitCode") for s in rows]
            for rows in (result.get("initContainerStatuses", []), result["containerStatuses"])
        )
        assert codes == expected


@pytest.mark.parametrize(
    ("live", "rows", "expected"),
    [
        pytest.param("Running", [reported(state=ended(0))], "Succeeded", id="all-succeeded"),
        pytest.param("Running", [reported(state=ended(1))], "Failed", id="one-failed"),
        pytest.param("Running", [reported()], "Failed", id="unknown-end"),
        pytest.param("Pending", [], "Failed", id="nothing-ran"),
        pytest.param("Succeeded", [reported()], "Succeeded", id="finished-before"),
    ],
)
def test_the_last_phase_follows_from_how_containers_ended(
    live: str, rows: Any, expected: str
) -> None:
    home = builders.home(status={"phase": live, "containerStatuses": rows})
    assert status.ended(home, None, ctx=CONTEXT, now=NOW).status["phase"] == expected
    plain = builders.home(status={"phase": live})
    mirror = builders.mirror(phase="Running", containerStatuses=rows)
    assert status.ended(plain, mirror, ctx=CONTEXT, now=NOW).status["phase"] == expected


def test_a_pod_shows_no_more_resources_than_home_requests() -> None:
    """The home scheduler and quotas count the larger of spec and status."""
    home = builders.home(resources={"requests": {"cpu": "1"}})
    much = {"resources": {"requests": {"cpu": "1M"}}, "allocatedResources": {"cpu": "1M"}}
    found: Any = reflected(home, builders.mirror(**much)).status
    assert found["resources"] == {"requests": {"cpu": "1"}}
    assert found["allocatedResources"] == {"cpu": "1"}


def test_an_evicted_mirror_ends_its_pod_as_disrupted() -> None:
    target = condition("DisruptionTarget", reason="PreemptionByScheduler")
    mirror = builders.mirror(conditions=[target])
    result = status.ended(builders.home(status=ran()), mirror, ctx=CONTEXT, now=NOW).status
    assert condition_of(result, "DisruptionTarget")["reason"] == "PreemptionByScheduler"


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_only_its_mirror_changes_the_status_of_a_finished_pod(phase: str) -> None:
    home = builders.home(status=ran(phase=phase))
    assert status.is_terminal(home)
    for result in (
        status.waiting(home, reason=Reason.NAME_CONFLICT, message="m", ctx=CONTEXT, now=NOW),
        status.stranded(home, reason=Reason.NAME_CONFLICT, message="m", ctx=CONTEXT, now=NOW),
        status.lost(home, ctx=CONTEXT, now=NOW),
    ):
        assert status.patch(home, result) is None


def test_a_patch_contains_the_uid_and_only_what_farlet_owns() -> None:
    home = builders.home()
    patch = status.patch(
        home, reflected(home, builders.mirror(qosClass="Burstable", resize="Proposed"))
    )
    assert patch is not None
    assert patch["metadata"]["uid"] == home["metadata"]["uid"]
    assert set(patch) == {"metadata", "status"}
    assert {"qosClass", "resize"}.isdisjoint(patch["status"])
    assert {c["type"] for c in patch["status"]["conditions"]} <= {t.value for t in PodCondition}
