"""What keeps the pods of a Deployment from running, and how far it is rolled out."""

from __future__ import annotations

import pytest

from farlet.constants import JSON
from farlet.manager import rollout

COMPLETE = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
QUOTA = 'pods "farlet-far-1" is forbidden: exceeded quota: small'


def deployment(counts: JSON, *conditions: JSON) -> JSON:
    observed = {"observedGeneration": 2} if counts else {}
    return {
        "metadata": {"generation": 2},
        "spec": {"replicas": 2},
        "status": {**observed, **counts, "conditions": list(conditions)},
    }


def failure(status: str = "True") -> JSON:
    return {"type": "ReplicaFailure", "status": status, "reason": "FailedCreate", "message": QUOTA}


@pytest.mark.parametrize(
    ("found", "why"),
    [
        pytest.param(None, "it does not exist yet", id="missing"),
        pytest.param(
            deployment({}), "its controller has not seen the last change yet", id="not observed"
        ),
        pytest.param(deployment(COMPLETE), "", id="complete"),
        pytest.param(
            deployment({**COMPLETE, "replicas": 3}), "1 old pods have not ended", id="an old pod"
        ),
        pytest.param(
            deployment({**COMPLETE, "availableReplicas": 1}),
            "1 of 2 pods are available",
            id="not available",
        ),
        pytest.param(
            deployment({"updatedReplicas": 0}, failure()),
            f"0 of 2 pods are updated; FailedCreate: {QUOTA}",
            id="a quota",
        ),
        pytest.param(
            deployment({"updatedReplicas": 0}, failure("False")),
            "0 of 2 pods are updated",
            id="a quota of the past",
        ),
    ],
)
def test_a_rollout_that_is_not_finished_says_why(found: JSON | None, why: str) -> None:
    assert rollout.unfinished(found) == why


def waiting(reason: str, message: str = "", /, **ended: object) -> JSON:
    last = {"lastState": {"terminated": ended}} if ended else {}
    return {"state": {"waiting": {"reason": reason, "message": message}}, **last}


@pytest.mark.parametrize(
    ("container", "problem"),
    [
        pytest.param(
            waiting("ImagePullBackOff", 'Back-off pulling image "f:9"'),
            'ImagePullBackOff: Back-off pulling image "f:9"',
            id="image",
        ),
        pytest.param(
            waiting("CrashLoopBackOff", "back-off 10s", exitCode=2, reason="Error"),
            "CrashLoopBackOff, exit code 2: back-off 10s",
            id="exit code",
        ),
        pytest.param(
            waiting("CrashLoopBackOff", "back-off", exitCode=1, message="farlet: no kubeconfig\n"),
            "CrashLoopBackOff, exit code 1: no kubeconfig",
            id="last line",
        ),
        pytest.param(
            waiting("CrashLoopBackOff", "back-off", exitCode=137, reason="OOMKilled"),
            "CrashLoopBackOff, OOMKilled with exit code 137: back-off",
            id="memory",
        ),
        pytest.param(
            {"state": {"terminated": {"exitCode": 1, "reason": "Error"}}},
            "exit code 1",
            id="ended just now",
        ),
        pytest.param(
            {"state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1}}},
            None,
            id="runs again",
        ),
    ],
)
def test_what_keeps_a_container_from_running(container: JSON, problem: str | None) -> None:
    pod = {"metadata": {"name": "a"}, "status": {"containerStatuses": [container]}}
    assert rollout.pod_problem(pod) == problem


def test_pods_that_ended_or_are_deleted_have_no_problem() -> None:
    bad = {"containerStatuses": [waiting("ImagePullBackOff")]}
    pods: list[JSON] = [
        {"metadata": {"name": "a"}, "status": bad},
        {"metadata": {"name": "b"}, "status": {**bad, "phase": "Failed"}},
        {"metadata": {"name": "c", "deletionTimestamp": "2026-11-28T12:00:00Z"}, "status": bad},
    ]
    assert rollout.pod_problems(pods) == {"a": "ImagePullBackOff"}
