"""HAProxy's configuration as shipped: what it accepts, and that it fits the manifests."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest
import yaml

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


def test_containers_listen_where_the_configuration_does() -> None:
    text = apiproxy.CONFIGURATION.read_text()
    ports = {one["name"]: one["containerPort"] for one in container()["ports"]}
    assert f"presetenv API_PROXY_BIND :::{ports['api']}\n" in text
    assert f"presetenv API_PROXY_STATUS_BIND :::{ports['status']}\n" in text


def test_a_pod_is_given_the_time_that_a_clean_stop_takes() -> None:
    (stop,) = (
        line.split()[1]
        for line in apiproxy.CONFIGURATION.read_text().splitlines()
        if line.strip().startswith("hard-stop-after")
    )
    before, _, after = container()["lifecycle"]["preStop"]["exec"]["command"][-1].split("; ")
    waits = [int(word.removeprefix("sleep ")) for word in (before, after)]
    assert waits[1] > int(stop.removesuffix("s"))
    assert pod()["terminationGracePeriodSeconds"] > sum(waits)


def pod() -> dict[str, Any]:
    text = (apiproxy.MANIFESTS / "base" / "deployment.yaml").read_text()
    spec: dict[str, Any] = yaml.safe_load(text)["spec"]["template"]["spec"]
    return spec


def container() -> dict[str, Any]:
    (only,) = pod()["containers"]
    assert isinstance(only, dict)
    return only
