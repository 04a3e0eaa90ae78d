"""The shipped HAProxy configuration, checked by HAProxy itself. No cluster is required."""

from __future__ import annotations

import os
import subprocess

import pytest

from clusters import apiproxy


def check(*backends: str) -> tuple[int, str]:
    """Exit code and output of HAProxy's own check, in an empty environment."""
    answer = subprocess.run(
        [apiproxy.program(), "-c", "-f", apiproxy.CONFIGURATION],
        env={"PATH": os.environ["PATH"], **apiproxy.environment(backends)},
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.returncode, answer.stdout + answer.stderr


@pytest.mark.parametrize(
    "backends",
    [
        pytest.param(["203.0.113.7:6443"], id="one address"),
        pytest.param(["2001:db8::7:6443"], id="IPv6 as in the variables of a pod"),
        pytest.param(["[2001:db8::7]:6443"], id="IPv6 in brackets"),
        pytest.param([f"203.0.113.{last}:6443" for last in range(1, 6)], id="five addresses"),
    ],
)
def test_haproxy_accepts_the_configuration_without_a_warning(backends: list[str]) -> None:
    code, output = check(*backends)
    assert (code, "[WARNING]" in output, "[ALERT]" in output) == (0, False, False), output


def test_an_unknown_name_does_not_prevent_the_start() -> None:
    """The load balancer can be created later: names are resolved again."""
    code, output = check("api.home.invalid:6443")
    assert code == 0, output


@pytest.mark.parametrize(
    ("backends", "why"),
    [
        pytest.param([], "set HOME_API_1", id="no address"),
        pytest.param(["203.0.113.7"], "port", id="no port"),
    ],
)
def test_haproxy_refuses_to_start_and_reports_why(backends: list[str], why: str) -> None:
    code, output = check(*backends)
    assert code == 1
    assert why in output
