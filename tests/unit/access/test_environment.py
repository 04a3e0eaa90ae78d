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
            id="IPv6 bare as host, in brackets in a URL",
        ),
    ],
)
def test_variables_of_an_address(endpoint: Endpoint, expected: dict[str, str]) -> None:
    assert {e["name"]: e["value"] for e in environment.dialling(endpoint)} == expected
    assert {e["name"]: e["value"] for e in environment.nowhere()} == dict.fromkeys(expected, "")


def test_another_port_leaves_no_name_to_the_foreign_kubelet() -> None:
    env = {e["name"]: e["value"] for e in environment.dialling(Endpoint("api.example", 6443))}
    assert env["KUBERNETES_PORT_6443_TCP"] == "tcp://api.example:6443"
    assert env["KUBERNETES_PORT_443_TCP"] == "tcp://api.example:6443"
    assert env["KUBERNETES_PORT_443_TCP_PORT"] == "6443"
    assert {e["name"] for e in environment.nowhere()} <= env.keys()


@pytest.mark.parametrize(
    ("env", "expected", "unchanged"),
    [
        pytest.param([], ["HOST=ours", "PORT=443"], 0, id="ours alone"),
        pytest.param(
            [("A", "$(HOST)")], ["HOST=ours", "PORT=443", "A=$(HOST)"], 0, id="ours come first"
        ),
        pytest.param([("HOST", "x")], ["PORT=443", "HOST=x"], 1, id="the pod's own value stays"),
        pytest.param(
            [("HOST", "x"), ("A", "$(HOST)")],
            ["PORT=443", "HOST=x", "A=$(HOST)"],
            1,
            id="a later reference sees the pod's own",
        ),
        pytest.param(
            [("A", "$(HOST)"), ("HOST", "x")],
            ["HOST=ours", "PORT=443", "A=$(HOST)", "HOST=x"],
            1,
            id="an earlier reference sees ours",
        ),
        pytest.param(
            [("HOST", "$(HOST):1")],
            ["HOST=ours", "PORT=443", "HOST=$(HOST):1"],
            1,
            id="a value made of ours sees ours",
        ),
    ],
)
def test_order_of_variables(
    env: list[tuple[str, str]], expected: list[str], unchanged: int
) -> None:
    changes = ChangeLog()
    given: list[EnvVar] = [{"name": name, "value": value} for name, value in env]
    result = environment.first(OURS, given, "c", changes)
    assert [f"{e['name']}={e['value']}" for e in result] == expected
    assert [change.kind for change in changes] == [ChangeKind.UNCHANGED] * unchanged


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        pytest.param([("NO_PROXY", "a")], ["NO_PROXY=a"], id="without a proxy nothing changes"),
        pytest.param([("HTTP_PROXY", "")], ["HTTP_PROXY="], id="an empty proxy is none"),
        pytest.param(
            [("HTTPS_PROXY", "p"), ("NO_PROXY", "a")],
            ["HTTPS_PROXY=p", "NO_PROXY=a,H"],
            id="the host joins",
        ),
        pytest.param(
            [("https_proxy", "p"), ("no_proxy", ""), ("NO_PROXY", "a,H")],
            ["https_proxy=p", "no_proxy=H", "NO_PROXY=a,H"],
            id="each spelling for itself",
        ),
        pytest.param(
            [("all_proxy", "p"), ("NO_PROXY", "*")],
            ["all_proxy=p", "NO_PROXY=*"],
            id="everything is excepted already",
        ),
        pytest.param(
            [("HTTP_PROXY", "p")],
            ["NO_PROXY=H", "no_proxy=H", "HTTP_PROXY=p"],
            id="both are added where there is none",
        ),
    ],
)
def test_the_home_api_is_not_dialled_through_a_proxy(
    env: list[tuple[str, str]], expected: list[str]
) -> None:
    given: list[EnvVar] = [{"name": name, "value": value} for name, value in env]
    result = environment.past_proxies(given, "H", "c", ChangeLog())
    assert [f"{e['name']}={e['value']}" for e in result] == expected


def test_a_no_proxy_from_elsewhere_is_told_and_left() -> None:
    source: Any = {"configMapKeyRef": {"name": "proxy", "key": "none"}}
    env: list[EnvVar] = [
        {"name": "HTTP_PROXY", "value": "p"},
        {"name": "NO_PROXY", "valueFrom": source},
    ]
    changes = ChangeLog()
    assert environment.past_proxies(env, "H", "c", changes) == env
    assert [change.kind for change in changes] == [ChangeKind.UNCHANGED]
