"""One condition for the credentials of both clusters."""

from __future__ import annotations

from pathlib import Path

import pytest

from farlet.manager import findings
from farlet.manager.findings import Finding, Reason

PAGE = Path(__file__).parents[3] / "docs" / "credentials.md"
VALID = Finding("True", Reason.VALID, "all is well")
STATIC = Finding("True", Reason.NOT_RENEWED, "it is not renewed")
WARNING = Finding("True", Reason.CLIENT_CERTIFICATE_EXPIRING, "it expires")
UNKNOWN = Finding("Unknown", Reason.NOT_VERIFIED, "no answer")
FAILED = Finding("False", Reason.APPROVAL_REQUIRED, "run kubectl")

WORST: dict[str, tuple[list[Finding], Finding]] = {
    "credentials that are not renewed before what is valid": ([VALID, STATIC], STATIC),
    "a warning before credentials that are not renewed": ([STATIC, WARNING], WARNING),
    "a warning before what is valid": ([VALID, WARNING], WARNING),
    "what is unknown before a warning": ([WARNING, UNKNOWN], UNKNOWN),
    "what failed before what is unknown": ([UNKNOWN, FAILED, VALID], FAILED),
}


@pytest.mark.parametrize(("found", "worst"), WORST.values(), ids=WORST)
def test_the_condition_shows(found: list[Finding], worst: Finding) -> None:
    condition = findings.condition(found)
    assert (condition.status, condition.reason) == (worst.status, worst.reason.value)
    first, *others = condition.message.replace("without a problem: ", "").split("; ")
    assert first == worst.message
    assert sorted([first, *others]) == sorted(one.message for one in found)


def test_what_is_wrong_is_apart_from_what_is_valid() -> None:
    message = findings.condition([VALID, FAILED, STATIC]).message
    assert message == "run kubectl; without a problem: it is not renewed; all is well"
    assert findings.problems(message) == "run kubectl"
    assert findings.problems(findings.condition([VALID]).message) == "all is well"


@pytest.mark.parametrize("reason", Reason)
def test_the_page_describes(reason: Reason) -> None:
    assert f" | `{reason.value}` | " in PAGE.read_text(encoding="utf-8")
