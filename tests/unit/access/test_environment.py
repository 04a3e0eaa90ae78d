"""The variables that name an API server."""

from typing import Any

import pytest

from farlet.access import environment
from farlet.access.changes import ChangeKind, ChangeLog
from farlet.context import Endpoint
from farlet.k8s_types import EnvVar

OURS: list[EnvVar] = [{"name": "HOST", "value": "ours"}, {"name": "PORT", "value": "443"}]


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        pytest.param(
            Endpoint("192.0.2.1", 443),
            {
                "KUBERNETES_SERVICE_HOST": "192.0.2.1",
                "KUBERNETES_SERVICE_PORT": "443",
                "KUBERNETES_SERVICE_PORT_HTTPS": "443",
                "KUBERNETES_PORT": "tcp://192.0.2.1:443",
                "KUBERNETES_PORT_443_TCP": "tcp://192.0.2.1:443",
                "KUBERNETES_PORT_443_TCP_PROTO": "tcp",
                "KUBERNETES_PORT_443_TCP_PORT": "443",
                "KUBERNETES_PORT_443_TCP_ADDR": "192.0.2.1",
            },
            id="what a kubelet would inject",
        ),
        pytest.param(
            Endpoint("2001:db8::1", 443),
            {
                "KUBERNETES_SERVICE_HOST": "2001:db8::1",
                "KUBERNETES_SERVICE_PORT": "443",
                "KUBERNETES_SERVICE_PORT_HTTPS": "443",
                "KUBERNETES_PORT": "tcp://[2001:db8::1]:443",
                "KUBERNETES_PORT_443_TCP": "tcp://[2001:db8::1]:443",
                "KUBERNETES_PORT_443_TCP_PROTO": "tcp",
                "KUBERNETES_PORT_443_TCP_PORT": "443",
                "KUBERNETES_PORT_443_TCP_ADDR": "2001:db8::1",
            },
            id="an IPv6 address has brackets in a URL only",
        ),
    ],
)
def test_variables_of_an_address(endpoint: Endpoint, expected: dict[str, str]) -> None:
    assert {e["name"]: e["value"] for e in environment.api_variables(endpoint)} == expected
    assert {e["name"]: e["value"] for e in environment.empty_variables()} == dict.fromkeys(
        expected, ""
    )


def test_another_port_sets_every_name_that_the_foreign_kubelet_would_inject() -> None:
    env = {e["name"]: e["value"] for e in environment.api_variables(Endpoint("api.example", 6443))}
    assert env["KUBERNETES_PORT_6443_TCP"] == "tcp://api.example:6443"
    assert env["KUBERNETES_PORT_443_TCP"] == "tcp://api.example:6443"
    assert env["KUBERNETES_PORT_443_TCP_PORT"] == "6443"
    assert {e["name"] for e in environment.empty_variables()} <= env.keys()


@pytest.mark.parametrize(
    ("env", "expected", "unchanged"),
    [
        pytest.param([], ["HOST=ours", "PORT=443"], 0, id="ours alone"),
        pytest.param(
            [("A", "$(HOST)")], ["HOST=ours", "PORT=443", "A=$(HOST)"], 0, id="ours come first"
        ),
        pytest.param([("HOST", "x")], ["PORT=443", "HOST=x"], 1, id="the pod's value is kept"),
        pytest.param(
            [("HOST", "x"), ("A", "$(HOST)")],
            ["PORT=443", "HOST=x", "A=$(HOST)"],
            1,
            id="a later reference gets the pod's value",
        ),
        pytest.param(
            [("A", "$(HOST)"), ("HOST", "x")],
            ["HOST=ours", "PORT=443", "A=$(HOST)", "HOST=x"],
            1,
            id="an earlier reference gets our value",
        ),
        pytest.param(
            [("HOST", "$(HOST):1")],
            ["HOST=ours", "PORT=443", "HOST=$(HOST):1"],
            1,
            id="a value that refers to itself gets our value",
        ),
    ],
)
def test_order_of_variables(
    env: list[tuple[str, str]], expected: list[str], unchanged: int
) -> None:
    changes = ChangeLog()
    given: list[EnvVar] = [{"name": name, "value": value} for name, value in env]
    result = environment.prepend(OURS, given, "c", changes)
    assert [f"{e['name']}={e['value']}" for e in result] == expected
    assert [change.kind for change in changes] == [ChangeKind.UNCHANGED] * unchanged


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        pytest.param([("NO_PROXY", "a")], ["NO_PROXY=a"], id="without a proxy nothing changes"),
        pytest.param([("HTTP_PROXY", "")], ["HTTP_PROXY="], id="an empty proxy is not set"),
        pytest.param(
            [("HTTPS_PROXY", "p"), ("NO_PROXY", "a")],
            ["HTTPS_PROXY=p", "NO_PROXY=a,H"],
            id="the host is appended",
        ),
        pytest.param(
            [("https_proxy", "p"), ("no_proxy", ""), ("NO_PROXY", "a,H")],
            ["https_proxy=p", "no_proxy=H", "NO_PROXY=a,H"],
            id="each spelling separately",
        ),
        pytest.param(
            [("all_proxy", "p"), ("NO_PROXY", "*")],
            ["all_proxy=p", "NO_PROXY=*"],
            id="the wildcard covers the host",
        ),
        pytest.param(
            [("HTTP_PROXY", "p")],
            ["NO_PROXY=H", "no_proxy=H", "HTTP_PROXY=p"],
            id="both spellings are added where the pod has none",
        ),
    ],
)
def test_pods_reach_the_home_api_without_their_proxy(
    env: list[tuple[str, str]], expected: list[str]
) -> None:
    given: list[EnvVar] = [{"name": name, "value": value} for name, value in env]
    result = environment.bypass_proxies(given, "H", "c", ChangeLog())
    assert [f"{e['name']}={e['value']}" for e in result] == expected


def test_a_no_proxy_with_a_source_is_reported_and_kept() -> None:
    source: Any = {"configMapKeyRef": {"name": "proxy", "key": "none"}}
    env: list[EnvVar] = [
        {"name": "HTTP_PROXY", "value": "p"},
        {"name": "NO_PROXY", "valueFrom": source},
    ]
    changes = ChangeLog()
    assert environment.bypass_proxies(env, "H", "c", changes) == env
    assert [change.kind for change in changes] == [ChangeKind.UNCHANGED]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param({"configMapRef": {"name": "settings"}}, [True], id="any content: explained"),
        pytest.param(
            {"configMapRef": {"name": "kubernetes-services-endpoint", "optional": True}},
            [False],
            id="the address of the API server: an Event",
        ),
        pytest.param(
            {"secretRef": {"name": "login"}, "prefix": "KUBERNETES_"}, [True], id="prefix"
        ),
        pytest.param({"secretRef": {"name": "login"}, "prefix": "DB_"}, [], id="another prefix"),
    ],
)
def test_variables_of_a_config_map_that_farlet_overrides_are_reported(
    source: dict[str, Any], expected: list[bool]
) -> None:
    changes = ChangeLog()
    environment.report_env_from({"name": "app", "envFrom": [source]}, "spec", changes)
    assert [change.routine for change in changes] == expected
