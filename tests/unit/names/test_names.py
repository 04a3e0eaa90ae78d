"""Names of objects that farlet creates are names that API servers accept."""

import re

import pytest

from farlet import names

SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""`dns1123SubdomainFmt` in `apimachinery/pkg/util/validation/validation.go`."""

SUFFIX = "0123456789abcdef"


@pytest.mark.parametrize("length", [1, 63, 200, 234, 235, 236, 237, 238, 252, 253])
@pytest.mark.parametrize("pattern", ["a", "a.b", "a-b", "a--b", "ab.c-d"])
def test_the_name_of_an_event_is_a_subdomain(pattern: str, length: int) -> None:
    pod = (pattern * length)[: length - 1] + "a"
    if SUBDOMAIN.fullmatch(pod) is None:
        pytest.skip("not a name of a pod")
    name = names.event_name(pod, suffix=SUFFIX)
    assert SUBDOMAIN.fullmatch(name)
    assert len(name) <= 253
    assert name.endswith(f".{SUFFIX}")


def test_a_cut_before_a_dot_or_dash_leaves_neither() -> None:
    pod = "a" * 234 + "-.x" + "b" * 16
    assert names.event_name(pod, suffix=SUFFIX) == "a" * 234 + "." + SUFFIX
