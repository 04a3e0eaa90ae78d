"""Names of objects that farlet creates are names that API servers accept."""

import re

import pytest

from farlet import names

SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""`dns1123SubdomainFmt` in `apimachinery/pkg/util/validation/validation.go`."""

SUFFIX = "0123456789abcdef"


LENGTHS = (1, 63, 200, 234, 235, 236, 237, 238, 252, 253)
PATTERNS = ("a", "a.b", "a-b", "a--b", "ab.c-d")
PODS = [
    pod
    for pattern in PATTERNS
    for length in LENGTHS
    if SUBDOMAIN.fullmatch(pod := (pattern * length)[: length - 1] + "a")
]


@pytest.mark.parametrize("pod", PODS, ids=lambda pod: f"{pod[-6:]}, {len(pod)} characters")
def test_the_name_of_an_event_is_a_subdomain(pod: str) -> None:
    name = names.event_name(pod, suffix=SUFFIX)
    assert SUBDOMAIN.fullmatch(name)
    assert len(name) <= 253
    assert name.endswith(f".{SUFFIX}")


def test_a_cut_before_a_dot_or_dash_leaves_neither() -> None:
    pod = "a" * 234 + "-.x" + "b" * 16
    assert names.event_name(pod, suffix=SUFFIX) == "a" * 234 + "." + SUFFIX
