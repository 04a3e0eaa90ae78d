"""Conditions of the home pod: what they report, since when, and which ones farlet owns."""

import dataclasses
from typing import Any

import pytest

from farlet import constants
from farlet.constants import PodCondition, Reason
from farlet.context import Endpoint, Unverified, Verified
from farlet.forge import status
from unit.forge.status import builders
from unit.forge.status.builders import MIRROR_UID, NOW_TEXT, THEN, condition, condition_of

LATER = "2026-03-01T11:30:00Z"


def reflected(home: Any, mirror: Any, ctx: Any = builders.CONTEXT) -> Any:
    return status.reflect(home, mirror, ctx=ctx, now=builders.NOW).status


def with_conditions(*existing: Any, **fields: Any) -> Any:
    return builders.home(status={"phase": "Running", "conditions": list(existing), **fields})


@pytest.mark.parametrize(
    ("before", "foreign", "since"),
    [
        pytest.param(condition("Initialized"), {}, THEN, id="unchanged-keeps-homes-time"),
        pytest.param(condition("Initialized", "False"), {}, LATER, id="changed-takes-the-mirrors"),
        pytest.param(None, {}, LATER, id="new-takes-the-mirrors"),
        pytest.param(None, {"lastTransitionTime": None}, NOW_TEXT, id="unknown-is-now"),
    ],
)
def test_a_condition_keeps_its_time_while_its_status_stays(
    before: Any, foreign: Any, since: str
) -> None:
    home = with_conditions(*([before] if before else []))
    reported_conditions = condition("Initialized", **{"lastTransitionTime": LATER, **foreign})
    result = condition_of(
        reflected(home, builders.mirror(conditions=[reported_conditions])), "Initialized"
    )
    assert result["lastTransitionTime"] == since


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        pytest.param(
            condition("PodScheduled", message="by a scheduler", observedGeneration=7),
            condition("PodScheduled", message="by a scheduler", observedGeneration=7),
            id="the-schedulers-own-stays",
        ),
        pytest.param(
            condition("PodScheduled", "False", reason="Unschedulable"),
            {
                "type": "PodScheduled",
                "status": "True",
                "lastTransitionTime": NOW_TEXT,
                "observedGeneration": 1,
            },
            id="bound-by-another-component-since",
        ),
        pytest.param(
            None,
            {
                "type": "PodScheduled",
                "status": "True",
                "lastTransitionTime": NOW_TEXT,
                "observedGeneration": 1,
            },
            id="created-bound",
        ),
    ],
)
def test_a_pod_of_this_node_is_scheduled(before: Any, expected: Any) -> None:
    home = with_conditions(*([before] if before else []))
    mirror = builders.mirror(
        conditions=[condition("PodScheduled", "False", reason="Unschedulable")]
    )
    assert condition_of(reflected(home, mirror), "PodScheduled") == expected


GATE = {"readinessGates": [{"conditionType": "example.com/lb"}]}


@pytest.mark.parametrize(
    ("containers", "foreign_ready", "gate", "expected"),
    [
        pytest.param("True", "True", None, ("False", "ReadinessGatesNotReady"), id="no-condition"),
        pytest.param("True", "True", "False", ("False", "ReadinessGatesNotReady"), id="closed"),
        pytest.param("True", "True", "True", ("True", None), id="open"),
        pytest.param("False", "False", "True", ("False", "Broken"), id="containers-not-ready"),
        pytest.param("True", "False", "True", ("False", "MirrorNotReady"), id="foreign-node-lost"),
        pytest.param("True", None, "True", ("True", None), id="mirror-without-ready"),
    ],
)
def test_readiness_follows_the_containers_and_the_home_pod_s_own_gates(
    containers: str, foreign_ready: str | None, gate: str | None, expected: Any
) -> None:
    home = with_conditions(*([condition("example.com/lb", gate)] if gate else []))
    home["spec"].update(GATE)
    reported_conditions = [condition("ContainersReady", containers)]
    if containers == "False":
        reported_conditions[0]["reason"] = "Broken"
    if foreign_ready:
        reported_conditions.append(condition("Ready", foreign_ready))
    result = condition_of(reflected(home, builders.mirror(conditions=reported_conditions)), "Ready")
    assert (result["status"], result.get("reason")) == expected


def test_gates_that_were_injected_in_the_foreign_cluster_do_not_count() -> None:
    mirror = builders.mirror(
        spec={"nodeName": "worker-1", "readinessGates": [{"conditionType": "foreign/lb"}]},
        conditions=[condition("ContainersReady"), condition("Ready", "False")],
    )
    assert condition_of(reflected(with_conditions(), mirror), "Ready")["status"] == "True"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        pytest.param(builders.reported(), ("True", None), id="ready"),
        pytest.param(
            builders.reported(ready=False),
            ("False", "containers with unready status: [app]"),
            id="not-ready",
        ),
    ],
)
def test_readiness_follows_the_containers_where_the_mirror_has_no_condition(
    row: Any, expected: Any
) -> None:
    result = reflected(with_conditions(), builders.mirror(conditions=[], containerStatuses=[row]))
    for name in ("ContainersReady", "Ready"):
        shown = condition_of(result, name)
        assert (shown["status"], shown.get("message")) == expected


@pytest.mark.parametrize(
    ("states", "started", "expected"),
    [
        pytest.param([builders.ended(0), builders.RUNNING], True, "True", id="all-done"),
        pytest.param([builders.ended(0), builders.RUNNING], False, "False", id="sidecar-starting"),
        pytest.param([builders.ended(1), builders.RUNNING], True, "False", id="failed"),
        pytest.param([builders.RUNNING, builders.waits()], False, "False", id="in-progress"),
    ],
)
def test_initialized_follows_the_init_containers_where_the_mirror_has_no_condition(
    states: Any, started: bool, expected: str
) -> None:
    home = builders.home(
        initContainers=[
            builders.container("fetch"),
            builders.container("proxy", restartPolicy="Always"),
        ]
    )
    rows = [
        builders.reported("fetch", states[0]),
        builders.reported("proxy", states[1], started=started),
    ]
    waiting = [builders.reported(state=builders.waits("PodInitializing"))]
    mirror = builders.mirror(conditions=[], initContainerStatuses=rows, containerStatuses=waiting)
    assert condition_of(reflected(home, mirror), "Initialized")["status"] == expected


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_finished_pod_is_not_ready(phase: str) -> None:
    result = reflected(with_conditions(), builders.mirror(phase=phase))
    for name in ("ContainersReady", "Ready"):
        assert condition_of(result, name)["status"] == "False"


@pytest.mark.parametrize(
    ("phase", "home", "foreign", "expected"),
    [
        pytest.param("Failed", None, "True", "True", id="ended-the-pod"),
        pytest.param("Running", None, "True", None, id="not-ended-yet"),
        pytest.param("Failed", None, "False", None, id="withdrawn-by-the-foreign-cluster"),
        pytest.param("Running", "True", None, "True", id="homes-own-stays"),
        pytest.param("Failed", "False", "True", "True", id="mirrors-wins-at-the-end"),
    ],
)
def test_a_foreign_disruption_shows_once_it_has_ended_the_pod(
    phase: str, home: str | None, foreign: str | None, expected: str | None
) -> None:
    existing = [condition("DisruptionTarget", home)] if home else []
    reported_conditions = (
        [condition("DisruptionTarget", foreign, reason="EvictionByEvictionAPI")] if foreign else []
    )
    result = reflected(
        with_conditions(*existing), builders.mirror(phase=phase, conditions=reported_conditions)
    )
    target = condition_of(result, "DisruptionTarget")
    assert (target and target["status"]) == expected


@pytest.mark.parametrize("name", [PodCondition.RESIZE_PENDING, PodCondition.RESIZE_IN_PROGRESS])
def test_a_resize_shows_while_the_mirror_reports_it(name: PodCondition) -> None:
    reported_conditions = condition(name.value, reason="Deferred")
    assert condition_of(
        reflected(with_conditions(), builders.mirror(conditions=[reported_conditions])), name
    )
    assert (
        condition_of(
            reflected(with_conditions(reported_conditions), builders.mirror(conditions=[])), name
        )
        is None
    )


@pytest.mark.parametrize(
    ("verified", "mode", "shown"),
    [
        pytest.param(False, "home", True, id="home-unverified"),
        pytest.param(True, "home", False, id="home-verified"),
        pytest.param(False, "remote", False, id="remote"),
        pytest.param(False, "disabled", False, id="disabled"),
    ],
)
def test_an_unverified_address_is_reported_on_pods_that_use_it(
    verified: bool, mode: str, shown: bool
) -> None:
    endpoint = Endpoint("api.example", 6443)
    home_api = Verified(endpoint) if verified else Unverified(endpoint, "connection refused")
    ctx = dataclasses.replace(builders.CONTEXT, home_api=home_api)
    mirror = builders.mirror(annotations={constants.ACCESS: mode})
    result = condition_of(reflected(with_conditions(), mirror, ctx), "farlet.io/HomeAPIVerified")
    assert (result is not None) is shown
    if result:
        assert (result["status"], result["reason"]) == ("False", Reason.HOME_API_UNVERIFIED)
        assert "api.example:6443" in result["message"]
        assert "--home-api-server-host" in result["message"]


@pytest.mark.parametrize(
    ("existing", "uid"),
    [
        pytest.param([condition("farlet.io/Mirrored", message="m-1")], "m-1", id="true"),
        pytest.param([condition("farlet.io/Mirrored", "False", message="m-1")], None, id="false"),
        pytest.param([condition("Ready", message="m-1")], None, id="none"),
        pytest.param([], None, id="no-conditions"),
    ],
)
def test_the_condition_mirrored_contains_the_uid_of_the_mirror(
    existing: Any, uid: str | None
) -> None:
    assert status.mirrored_uid(with_conditions(*existing)) == uid


def test_the_first_status_has_the_condition_mirrored() -> None:
    result = reflected(builders.home(), builders.mirror(phase="Pending", conditions=[]))
    shown = condition_of(result, "farlet.io/Mirrored")
    assert (shown["status"], shown["message"]) == ("True", MIRROR_UID)


@pytest.mark.parametrize(
    ("metadata", "seen", "expected"),
    [
        pytest.param({"generation": 4}, 2, 4, id="counted"),
        pytest.param({"generation": 4, "deletionTimestamp": NOW_TEXT}, 2, 2, id="deleted-since"),
        pytest.param({"generation": 0}, None, None, id="not-counted-at-home"),
    ],
)
def test_the_generation_is_homes_and_a_deletion_does_not_count(
    metadata: Any, seen: int | None, expected: int | None
) -> None:
    home = builders.home(metadata=metadata)
    if seen:
        home["status"]["observedGeneration"] = seen
    result = reflected(home, builders.mirror(observedGeneration=99))
    assert result.get("observedGeneration") == expected
    assert condition_of(result, "Ready").get("observedGeneration") == expected
