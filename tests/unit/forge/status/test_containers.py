"""Container statuses of the home pod, one rule of the field table at a time."""

from typing import Any

import pytest

from farlet import constants
from farlet.forge import containers, status
from farlet.k8s_types import Pod
from unit.forge.status import builders
from unit.forge.status.builders import RUNNING, ended, reported, waits


def reflected(home: Any, mirror: Any, kind: str = "containerStatuses") -> Any:
    result = status.reflect(home, mirror, ctx=builders.CONTEXT, now=builders.NOW).status
    return {row["name"]: row for row in result.get(kind, [])}  # type: ignore[attr-defined]


def live(*rows: Any, phase: str = "Running", kind: str = "containerStatuses") -> Any:
    return {"phase": phase, kind: list(rows)}


RULES = {
    "restartPolicy": "Never",
    "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}],
}


@pytest.mark.parametrize(
    ("policy", "fields", "exit_code", "leaves"),
    [
        pytest.param("Always", {}, 0, True, id="always"),
        pytest.param("OnFailure", {}, 1, True, id="on-failure-failed"),
        pytest.param("OnFailure", {}, 0, False, id="on-failure-succeeded"),
        pytest.param("Never", {}, 1, False, id="never"),
        pytest.param("Never", {"restartPolicy": "Always"}, 0, True, id="own-policy-wins"),
        pytest.param("Always", {"restartPolicy": "Never"}, 1, False, id="own-never-wins"),
        pytest.param("Never", RULES, 42, True, id="rule-matches"),
        pytest.param("Never", RULES, 43, False, id="rule-does-not-match"),
        pytest.param(
            "Never",
            {
                **RULES,
                "restartPolicyRules": [
                    {"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [42]}}
                ],
            },
            43,
            True,
            id="rule-by-exclusion",
        ),
    ],
)
@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        pytest.param("containers", "containerStatuses", id="regular"),
        pytest.param("initContainers", "initContainerStatuses", id="init"),
    ],
)
def test_a_container_leaves_terminated_where_the_server_allows_it(
    policy: str, fields: Any, exit_code: int, leaves: bool, spec: str, kind: str
) -> None:
    old = reported(state=ended(exit_code))
    home = builders.home(policy=policy, status=live(old, kind=kind))
    home["spec"][spec] = [builders.container(**fields)]  # type: ignore[literal-required]
    row = reflected(home, builders.mirror(**{kind: [reported(state=RUNNING)]}), kind)["app"]
    assert ("running" in row["state"]) is leaves
    assert leaves or row == old


def test_no_container_restarts_in_a_pod_that_has_finished() -> None:
    old = reported(state=ended(143))
    home = builders.home(status=live(old, phase="Failed"))
    assert reflected(home, builders.mirror())["app"] == old


def test_any_container_may_leave_terminated_where_one_may_restart_them_all() -> None:
    rule = {
        "action": "RestartAllContainers",
        "exitCodes": {"operator": "In", "values": [88]},
    }
    home = builders.home(
        policy="Never",
        containers=[
            builders.container(),
            builders.container("side", restartPolicy="Never", restartPolicyRules=[rule]),
        ],
        status=live(reported(state=ended(0))),
    )
    assert "running" in reflected(home, builders.mirror())["app"]["state"]


def test_an_ephemeral_container_never_leaves_terminated() -> None:
    home = builders.home(
        ephemeralContainers=[builders.container("debug")],
        status=live(reported("debug", ended(1)), kind="ephemeralContainerStatuses"),
    )
    mirror = builders.mirror(ephemeralContainerStatuses=[reported("debug")])
    row = reflected(home, mirror, "ephemeralContainerStatuses")["debug"]
    assert "terminated" in row["state"]


@pytest.mark.parametrize(
    ("state", "after"),
    [
        pytest.param({"running": {}}, "terminated", id="one that ran has ended"),
        pytest.param({"waiting": {}}, "waiting", id="one that never ran waits"),
    ],
)
def test_an_ephemeral_container_that_a_new_mirror_lacks(state: Any, after: str) -> None:
    home = builders.home(
        ephemeralContainers=[builders.container("debug")],
        status=live(reported("debug", state), kind="ephemeralContainerStatuses"),
    )
    row = reflected(home, builders.mirror(), "ephemeralContainerStatuses")["debug"]
    assert (list(row["state"]), row["restartCount"]) == ([after], 0)


@pytest.mark.parametrize(
    ("annotation", "before", "foreign", "after"),
    [
        pytest.param(None, 0, 2, 2, id="first-mirror"),
        pytest.param('{"app": 3}', 3, 0, 3, id="recreated"),
        pytest.param('{"app": 3}', 3, 2, 5, id="recreated-and-restarted"),
        pytest.param('{"app": 3}', 7, 0, 7, id="never-decreases"),
        pytest.param('{"other": 3}', 1, 1, 1, id="of-another-container"),
        pytest.param('{"app": "3"}', 1, 1, 1, id="text-for-a-number"),
        pytest.param('{"app": true}', 1, 1, 1, id="boolean-for-a-number"),
        pytest.param('{"app": 1.5}', 1, 1, 1, id="fraction"),
        pytest.param('{"app": -4}', 1, 1, 1, id="negative"),
        pytest.param('{"app": 99999999999}', 1, 1, 1, id="more-than-an-int32"),
        pytest.param('{"app": 99}', 1, 5, 5, id="more-than-home-can-have-counted"),
        pytest.param("[1]", 1, 1, 1, id="list"),
        pytest.param("{", 1, 1, 1, id="invalid-json"),
        pytest.param("[" * 100_000, 1, 1, 1, id="deeply-nested"),
        pytest.param("", 1, 1, 1, id="empty"),
    ],
)
def test_restarts_before_this_mirror_count_and_invalid_ones_do_not(
    annotation: str | None, before: int, foreign: int, after: int
) -> None:
    home = made_again(live(reported(restartCount=before)))
    annotations = {} if annotation is None else {constants.RESTARTS: annotation}
    mirror = builders.mirror(
        annotations=annotations, containerStatuses=[reported(restartCount=foreign)]
    )
    assert reflected(home, mirror)["app"]["restartCount"] == after


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        pytest.param(reported(containerID="c://1"), 137, id="ran-until-now"),
        pytest.param(reported(state=ended(9), containerID="c://1"), 9, id="had-ended"),
        pytest.param(
            reported(state=waits(), lastState=ended(7), containerID="c://1"), 7, id="waited"
        ),
        pytest.param(reported(containerID="c://2", lastState=ended(5)), 5, id="reported-before"),
        pytest.param(None, None, id="never-reported"),
    ],
)
def test_the_first_run_of_a_recreated_mirror_shows_how_the_previous_run_ended(
    old: Any, expected: int | None
) -> None:
    home = made_again(live(*([old] if old else [])))
    mirror = builders.mirror(
        annotations={constants.RESTARTS: '{"app": 1}'},
        containerStatuses=[reported(containerID="c://2")],
    )
    last = reflected(home, mirror)["app"]["lastState"]
    assert last.get("terminated", {}).get("exitCode") == expected


def test_the_last_state_of_a_first_mirror_is_its_own() -> None:
    home = builders.home(status=live(reported(containerID="c://1")))
    mirror = builders.mirror(containerStatuses=[reported(containerID="c://2")])
    assert reflected(home, mirror)["app"]["lastState"] == {}


@pytest.mark.parametrize(
    ("old", "init", "state", "count"),
    [
        pytest.param(None, False, waits("ContainerCreating"), 0, id="new"),
        pytest.param(None, True, waits("PodInitializing"), 0, id="new-behind-init-containers"),
        pytest.param(
            reported(state=waits("ImagePullBackOff"), restartCount=2),
            False,
            waits("ContainerCreating"),
            2,
            id="waited",
        ),
        pytest.param(reported(restartCount=2), False, waits("ContainerCreating"), 3, id="ran"),
        pytest.param(
            reported(state=waits("CrashLoopBackOff"), lastState=ended(1), restartCount=2),
            False,
            waits("ContainerCreating"),
            3,
            id="waited-for-its-restart",
        ),
        pytest.param(reported(state=ended(1), restartCount=2), False, ended(1), 2, id="had-ended"),
    ],
)
def test_a_container_that_the_mirror_does_not_report_waits_as_with_a_kubelet(
    old: Any, init: bool, state: Any, count: int
) -> None:
    home = builders.home(
        status=live(*([old] if old else [])),
        initContainers=[builders.container("fetch")] if init else [],
    )
    row = reflected(home, builders.mirror(containerStatuses=[]))["app"]
    assert (row["state"], row["restartCount"]) == (state, count)


def test_statuses_have_the_order_of_a_kubelet() -> None:
    names = ["zeta", "alpha"]
    listed = [builders.container(n) for n in names]
    home = builders.home(
        containers=listed, initContainers=[{**c, "name": f"i-{c['name']}"} for c in listed]
    )
    mirror = builders.mirror(
        containerStatuses=[reported(n) for n in names],
        initContainerStatuses=[reported(f"i-{n}") for n in reversed(names)],
    )
    assert list(reflected(home, mirror)) == ["alpha", "zeta"]
    assert list(reflected(home, mirror, "initContainerStatuses")) == ["i-zeta", "i-alpha"]


@pytest.mark.parametrize(
    ("fields", "container", "expected"),
    [
        pytest.param({"stopSignal": "SIGTERM"}, {}, {}, id="stop-signal-that-home-did-not-set"),
        pytest.param(
            {"stopSignal": "SIGUSR1"},
            {"lifecycle": {"stopSignal": "SIGUSR1"}},
            {"stopSignal": "SIGUSR1"},
            id="stop-signal-that-home-set",
        ),
        pytest.param({"newInKubernetes2": 1}, {}, {}, id="field-of-a-newer-kubernetes"),
        pytest.param(
            {
                "volumeMounts": [
                    {"name": "data", "mountPath": "/data", "volumeStatus": {"image": {}}},
                    {"name": "data", "mountPath": "/elsewhere"},
                    {"name": "mesh", "mountPath": "/mesh"},
                ]
            },
            {"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
            {"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
            id="mounts-that-home-has",
        ),
        pytest.param(
            {"allocatedResourcesStatus": [{"name": "claim:gpu"}, {"name": "cpu"}]},
            {"resources": {"requests": {"cpu": "1"}}},
            {"allocatedResourcesStatus": [{"name": "cpu"}]},
            id="health-of-what-home-requests",
        ),
        pytest.param(
            {
                "resources": {"requests": {"cpu": "1M"}, "limits": {"memory": "1E"}},
                "allocatedResources": {"cpu": "1M", "memory": "1E"},
            },
            {"resources": {"requests": {"cpu": "1"}}},
            {"resources": {"requests": {"cpu": "1"}}, "allocatedResources": {"cpu": "1"}},
            id="no-more-resources-than-home-requests",
        ),
    ],
)
def test_fields_of_a_container_status_follow_the_table(
    fields: Any, container: Any, expected: Any
) -> None:
    home = builders.home(containers=[builders.container(**container)])
    row = reflected(home, builders.mirror(containerStatuses=[reported(**fields)]))["app"]
    plain = {"containerID", "image", "imageID", "lastState", "name", "ready", "restartCount"}
    assert {k: v for k, v in row.items() if k not in plain | {"started", "state"}} == expected


def test_the_device_health_of_an_ephemeral_container_is_dropped() -> None:
    home = builders.home(ephemeralContainers=[builders.container("debug")])
    rows = [reported("debug", allocatedResourcesStatus=[{"name": "cpu"}])]
    mirror = builders.mirror(ephemeralContainerStatuses=rows)
    row = reflected(home, mirror, "ephemeralContainerStatuses")["debug"]
    assert "allocatedResourcesStatus" not in row


def test_counts_of_restarts_are_read_by_name() -> None:
    mirror = builders.mirror(annotations={constants.RESTARTS: '{"app": 2, "side": null}'})
    home = made_again(live(reported(restartCount=2)))
    assert containers.offsets(home, mirror) == {"app": 2}


@pytest.mark.parametrize(
    ("recorded", "after"),
    [
        pytest.param("", 2, id="a-first-mirror-has-none-before-it"),
        pytest.param(' {"app": 3}', 5, id="what-home-recorded-counts"),
        pytest.param(' {"app": 2147483647}', 2147483647, id="never-more-than-an-int32"),
    ],
)
def test_a_changed_annotation_on_a_known_mirror_changes_no_count(recorded: str, after: int) -> None:
    message = f"{builders.MIRROR_UID}{recorded}"
    conditions = [builders.condition("farlet.io/Mirrored", message=message)]
    home = builders.home(status={**live(reported(restartCount=1)), "conditions": conditions})
    forged = builders.mirror(
        annotations={constants.RESTARTS: '{"app": 1}'},
        containerStatuses=[reported(restartCount=2)],
    )
    assert reflected(home, forged)["app"]["restartCount"] == after
    assert containers.record(home, forged) == message.replace('": ', '":')


def made_again(status: Any) -> Pod:
    """A home pod that had another mirror before."""
    conditions = [builders.condition("farlet.io/Mirrored", message="one-before")]
    return builders.home(status={**status, "conditions": conditions})
