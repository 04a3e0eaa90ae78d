"""HAProxy's configuration as shipped: what HAProxy itself accepts. No cluster is needed."""

from __future__ import annotations

import os
import subprocess

import pytest

from clusters import apiproxy


def check(*backends: str) -> tuple[int, str]:
    """Exit code and words of HAProxy's own check, without anything of this environment."""
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
        pytest.param(["2001:db8::7:6443"], id="IPv6 as the variables of a pod give it"),
        pytest.param(["[2001:db8::7]:6443"], id="IPv6 in brackets"),
        pytest.param([f"203.0.113.{last}:6443" for last in range(1, 6)], id="five addresses"),
    ],
)
def test_haproxy_accepts_the_configuration_without_a_word(backends: list[str]) -> None:
    code, told = check(*backends)
    assert (code, "[WARNING]" in told, "[ALERT]" in told) == (0, False, False), told


def test_a_name_that_nobody_knows_yet_does_not_stop_haproxy() -> None:
    """The load balancer may come later: names are looked up again."""
    code, told = check("api.home.invalid:6443")
    assert code == 0, told


@pytest.mark.parametrize(
    ("backends", "why"),
    [
        pytest.param([], "set HOME_API_1", id="no address"),
        pytest.param(["203.0.113.7"], "port", id="no port"),
    ],
)
def test_haproxy_refuses_to_start_and_says_why(backends: list[str], why: str) -> None:
    code, told = check(*backends)
    assert code == 1
    assert why in told
