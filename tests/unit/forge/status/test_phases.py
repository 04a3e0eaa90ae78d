"""The phase of the home pod for each pair of phases, and what keeps it unchanged."""

from typing import Any

import pytest

from farlet.forge import restart_policies, status
from unit.forge.status import builders

DELETED = {"deletionTimestamp": builders.NOW_TEXT}


def phase(home: Any, mirror: Any) -> str:
    return status.reflect(home, mirror, ctx=builders.CONTEXT, now=builders.NOW).status["phase"]


@pytest.mark.parametrize(
    ("before", "foreign", "after"),
    [
        pytest.param(before, foreign, after, id=f"home-{before}-mirror-{foreign}")
        for before, foreign, after in [
            ("Pending", "Pending", "Pending"),
            ("Pending", "Running", "Running"),
            ("Pending", "Succeeded", "Succeeded"),
            ("Pending", "Failed", "Failed"),
            ("Pending", "Unknown", "Unknown"),
            ("Pending", "Dreaming", "Pending"),
            ("Running", "Pending", "Running"),
            ("Running", "Succeeded", "Succeeded"),
            ("Running", "Failed", "Failed"),
            ("Running", "Unknown", "Unknown"),
            ("Unknown", "Pending", "Unknown"),
            ("Unknown", "Running", "Running"),
            ("Succeeded", "Running", "Succeeded"),
            ("Succeeded", "Failed", "Succeeded"),
            ("Failed", "Running", "Failed"),
            ("Failed", "Succeeded", "Failed"),
        ]
    ],
)
def test_phases_only_move_forward(before: str, foreign: str, after: str) -> None:
    home = builders.home(status={"phase": before})
    assert phase(home, builders.mirror(phase=foreign)) == after


@pytest.mark.parametrize(
    ("policy", "foreign", "exit_code", "after"),
    [
        pytest.param("Always", "Failed", 143, "Running", id="always-failed"),
        pytest.param("Always", "Succeeded", 0, "Running", id="always-succeeded"),
        pytest.param("OnFailure", "Failed", 143, "Running", id="on-failure-failed"),
        pytest.param("OnFailure", "Failed", 0, "Failed", id="on-failure-after-a-success"),
        pytest.param("OnFailure", "Succeeded", 0, "Succeeded", id="on-failure-succeeded"),
        pytest.param("Never", "Failed", 143, "Failed", id="never-failed"),
        pytest.param("Never", "Succeeded", 0, "Succeeded", id="never-succeeded"),
    ],
)
def test_a_mirror_deleted_by_others_ends_only_pods_that_do_not_run_again(
    policy: str, foreign: str, exit_code: int, after: str
) -> None:
    home = builders.home(policy=policy, status={"phase": "Running"})
    rows = [builders.reported(state=builders.ended(exit_code))]
    mirror = builders.mirror(metadata=DELETED, phase=foreign, containerStatuses=rows)
    assert phase(home, mirror) == after


def test_a_mirror_that_is_deleted_with_its_home_pod_ends_it() -> None:
    home = builders.home(metadata=DELETED, status={"phase": "Running"})
    assert phase(home, builders.mirror(metadata=DELETED, phase="Failed")) == "Failed"


@pytest.mark.parametrize(
    ("own", "foreign", "exit_code", "after"),
    [
        pytest.param("Always", "Succeeded", 0, "Running", id="always"),
        pytest.param("OnFailure", "Failed", 143, "Running", id="on-failure-failed"),
        pytest.param("OnFailure", "Succeeded", 0, "Succeeded", id="on-failure-succeeded"),
        pytest.param("Never", "Failed", 143, "Failed", id="never-failed"),
        pytest.param("Never", "Succeeded", 0, "Succeeded", id="never-succeeded"),
    ],
)
def test_the_restart_policy_of_a_container_decides_too(
    own: str, foreign: str, exit_code: int, after: str
) -> None:
    home = builders.home(
        containers=[builders.container(restartPolicy=own)], status={"phase": "Running"}
    )
    rows = [builders.reported(state=builders.ended(exit_code))]
    mirror = builders.mirror(metadata=DELETED, phase=foreign, containerStatuses=rows)
    assert phase(home, mirror) == after


@pytest.mark.parametrize(
    ("rows", "ends"),
    [
        pytest.param([builders.reported(state=builders.ended(0))], True, id="succeeded"),
        pytest.param(
            [builders.reported(lastState=builders.ended(0))], True, id="previous-run-succeeded"
        ),
        pytest.param([builders.reported(state=builders.ended(1))], False, id="failed"),
        pytest.param([builders.reported()], False, id="runs"),
        pytest.param([], False, id="reports-nothing"),
        pytest.param(
            [builders.reported(), builders.reported("side", builders.ended(0))],
            True,
            id="one-of-two",
        ),
        pytest.param(
            [builders.reported(), builders.reported("injected", builders.ended(0))],
            False,
            id="of-a-container-that-home-does-not-have",
        ),
    ],
)
def test_a_success_counts_in_the_current_and_the_previous_run(rows: Any, ends: bool) -> None:
    pod = builders.home(
        policy="OnFailure",
        containers=[builders.container(), builders.container("side")],
        status={"phase": "Running", "containerStatuses": rows},
    )
    assert (restart_policies.final(pod, None) is not None) is ends


def test_a_success_of_an_init_container_does_not_count() -> None:
    rows = [builders.reported("fetch", builders.ended(0))]
    pod = builders.home(
        policy="OnFailure", status={"phase": "Running", "initContainerStatuses": rows}
    )
    assert restart_policies.final(pod, None) is None


@pytest.mark.parametrize(
    ("policy", "fields", "expected"),
    [
        pytest.param("Never", {}, "restartPolicy Never", id="of-the-pod"),
        pytest.param("OnFailure", {}, "restartPolicy OnFailure", id="of-the-pod-after-a-success"),
        pytest.param(
            "Always",
            {"restartPolicy": "Never"},
            "restartPolicy Never of its container app",
            id="of-a-container",
        ),
    ],
)
def test_a_pod_that_does_not_run_again_names_the_policy(
    policy: str, fields: Any, expected: str
) -> None:
    rows = [builders.reported(state=builders.ended(0))]
    home = builders.home(
        policy=policy,
        containers=[builders.container(**fields)],
        status={"phase": "Running", "containerStatuses": rows},
    )
    lost = status.lost(home, ctx=builders.CONTEXT, now=builders.NOW).status
    assert f"With {expected} it does not run again" in str(lost["message"])
