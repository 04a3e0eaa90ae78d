"""HAProxy's configuration as shipped fits the manifests."""

from __future__ import annotations

from typing import Any

import yaml

from clusters import apiproxy


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
