"""`farlet check` names each cause once."""

import pytest

from farlet import errors
from farlet.cli.checks.causes import once
from farlet.cli.checks.findings import Finding, Outcome

FARLET = "Deployment farlet-far"


def _rejected(answer: str) -> str:
    return errors.with_secret(
        errors.credentials_rejected("foreign", answer), "foreign", "farlet-far-foreign"
    )


def _failed(what: str, seen: str, hint: str) -> Finding:
    return Finding(what, Outcome.FAILED, seen, hint)


def test_a_rejected_token_is_explained_once() -> None:
    by_farlet = _rejected("Unauthorized")
    ready = f"farlet-far-1 serves the node, but foreign: {by_farlet}; home: {by_farlet}; new"
    found = once(
        (
            _failed("VirtualNode Ready", "Unhealthy", ready),
            _failed("VirtualNode ForeignReachable", "ForeignUnauthorized", by_farlet),
            Finding("home identity", Outcome.OK, "me"),
            _failed("foreign credentials", "not accepted", _rejected("invalid bearer token")),
            Finding("kubelet port", Outcome.WARNING, "reached", by_farlet),
        ),
        farlet=FARLET,
    )
    assert {one.what: one.hint for one in found} == {
        "VirtualNode Ready": "see foreign credentials; new",
        "VirtualNode ForeignReachable": "see foreign credentials",
        "home identity": "",
        "foreign credentials": _rejected("invalid bearer token"),
        "kubelet port": "see foreign credentials",
    }
    assert [one.what for one in found][:2] == ["VirtualNode Ready", "VirtualNode ForeignReachable"]


def test_the_reason_of_a_pod_is_that_of_the_virtual_node() -> None:
    pulled = "ErrImagePull: no such image"
    found = once(
        (
            _failed("VirtualNode Ready", "Unhealthy", f"farlet-far-1 cannot lead: {pulled}"),
            Finding(FARLET, Outcome.WARNING, f"1 of 2 pods; farlet-far-1: {pulled}", "push it"),
        ),
        farlet=FARLET,
    )
    assert [one.hint for one in found] == [f"see {FARLET}", "push it"]


@pytest.mark.parametrize(
    ("one", "hint"),
    [
        pytest.param(
            _failed("VirtualNode Ready", "NoLeader", "no farlet pod exists yet"),
            f"see {FARLET}",
            id="no leader",
        ),
        pytest.param(
            Finding("VirtualNode HomeAPIReachable", Outcome.WARNING, "NotReported", "no pod has"),
            f"see {FARLET}",
            id="no report",
        ),
        pytest.param(
            _failed("kubelet port", "dial tcp", "check --node-ip"), f"see {FARLET}", id="its port"
        ),
        pytest.param(
            _failed("VirtualNode Ready", "InvalidSpec", "spec.taints"), "spec.taints", id="its spec"
        ),
        pytest.param(_failed("capacity", "unknown", "set it"), "set it", id="another thing"),
    ],
)
def test_what_follows_from_a_farlet_that_does_not_run_refers_to_it(one: Finding, hint: str) -> None:
    found = once((one, _failed(FARLET, "scaled to 0", "scale it")), farlet=FARLET)
    assert [each.hint for each in found] == [hint, "scale it"]
    alone = once((one, Finding(FARLET, Outcome.OK, "1 available")), farlet=FARLET)
    assert alone[0] == one


def test_a_fix_that_another_row_has_is_not_repeated() -> None:
    fix = "Run this with your contexts: farlet connect"
    found = once(
        (
            _failed("foreign permissions", "none", fix),
            _failed("capacity", "none", f"{fix}; or set it"),
        ),
        farlet=FARLET,
    )
    assert [one.hint for one in found] == [fix, "see foreign permissions; or set it"]
