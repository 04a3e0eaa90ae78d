"""Why a VirtualNode is not ready."""

from __future__ import annotations

import pytest

from farlet.install import readiness
from unit.install.memory_cluster import Object

READY = {"type": "Ready", "status": "False", "reason": "NoLeader", "message": "no pod leads yet"}
UNREACHABLE = {
    "type": "ForeignReachable",
    "status": "False",
    "reason": "ForeignUnreachable",
    "message": "192.0.2.7:1: connection refused",
}
VALID = {"type": "CredentialsValid", "status": "True", "reason": "Valid", "message": "valid"}
NO_ANSWER = "no answer; without a problem: the client certificate"
APPROVE = "Approve its request: kubectl certificate approve csr-far"


def reported(*conditions: Object, generation: int = 1) -> Object:
    return {"metadata": {"generation": generation}, "status": {"conditions": list(conditions)}}


def ready(**fields: object) -> Object:
    return {**READY, "status": "True", "reason": "Serving", **fields}


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        pytest.param(None, "the VirtualNode does not exist", id="missing"),
        pytest.param({"metadata": {}}, "the manager has not reported yet", id="no status"),
        pytest.param(reported(ready(observedGeneration=1)), "", id="ready"),
        pytest.param(
            reported(ready(observedGeneration=1), generation=2),
            "the manager has not seen the last change yet",
            id="of an earlier generation",
        ),
        pytest.param(
            reported(ready(reason="InvalidSpec", message="a field is wrong")),
            "InvalidSpec: a field is wrong",
            id="with the spec before, since the present one is not valid",
        ),
        pytest.param(
            reported(
                ready(observedGeneration=1),
                {**VALID, "status": "Unknown", "reason": "NotVerified", "message": NO_ANSWER},
            ),
            "CredentialsValid is Unknown: NotVerified: no answer",
            id="credentials that are not verified",
        ),
        pytest.param(
            reported(READY, UNREACHABLE, VALID),
            "NoLeader: no pod leads yet; ForeignReachable is False: ForeignUnreachable: "
            "192.0.2.7:1: connection refused",
            id="other conditions that are False",
        ),
        pytest.param(
            reported(
                {**READY, "reason": "CredentialsInvalid", "message": f"no pod: {APPROVE}"},
                {
                    "type": "CredentialsValid",
                    "status": "False",
                    "reason": "ApprovalRequired",
                    "message": APPROVE,
                },
            ),
            "the client certificate of the node is not issued yet",
            id="an approval that connect itself grants",
        ),
        pytest.param(
            reported(
                {**READY, "reason": "CredentialsInvalid", "message": "no pod: a bad key"},
                {**VALID, "status": "False", "message": "a bad key"},
            ),
            "CredentialsInvalid: no pod: a bad key",
            id="a message that Ready repeats",
        ),
    ],
)
def test_a_node_that_is_not_ready_says_why(node: Object | None, expected: str) -> None:
    assert readiness.problem(node) == expected


@pytest.mark.parametrize(
    ("used", "is_ready"),
    [
        pytest.param("2026-12-01T00:00:00Z", True, id="those of the Secret"),
        pytest.param("2026-11-30T00:00:00Z", False, id="earlier ones"),
        pytest.param(None, True, id="a farlet that does not report them"),
    ],
)
def test_a_farlet_with_earlier_credentials_does_not_count(
    used: str | None, *, is_ready: bool
) -> None:
    node = reported(ready(observedGeneration=1), VALID)
    if used is not None:
        node["status"]["foreignCredentialsExpire"] = used
    found = readiness.problem(node, expires="2026-12-01T00:00:00Z")
    assert (found == "") is is_ready


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param("True", "", id="verified"),
        pytest.param("Unknown", "", id="not verified"),
        pytest.param(
            "False", "HomeAPIReachable is False: HomeAPIUnreachable: no gateway", id="unreachable"
        ),
    ],
)
def test_pods_in_mode_home_start_only_with_an_address_of_the_home_api_server(
    status: str, expected: str
) -> None:
    condition = {
        "type": "HomeAPIReachable",
        "status": status,
        "reason": "HomeAPIUnreachable",
        "message": "no gateway",
    }
    assert readiness.home_api_problem(reported(ready(), VALID, condition)) == expected


def test_without_a_report_nothing_is_known_of_the_home_api_server() -> None:
    assert readiness.home_api_problem(None) == ""
