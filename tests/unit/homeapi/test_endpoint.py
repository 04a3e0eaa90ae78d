"""The endpoint that flags or the Service `home-api` give."""

from __future__ import annotations

from typing import Any

import pytest

from farlet import errors, settings
from farlet.constants import Reason
from farlet.context import Endpoint
from farlet.homeapi import endpoint
from farlet.settings import loading

URL = "https://10.0.0.1:6443"


def resolve(host: str | None, port: str | None, url: str) -> Endpoint | None:
    flags: dict[str, object] = {}
    if host is not None:
        flags["home_api_server_host"] = host
    if port is not None:
        flags["home_api_server_port"] = port
    return endpoint.resolve_endpoint(loading.load(settings.MirrorSettings, flags), url)


@pytest.mark.parametrize(
    ("host", "port", "url", "expected"),
    [
        pytest.param(None, None, URL, None, id="neither"),
        pytest.param("api.test", None, URL, Endpoint("api.test", 6443), id="host alone"),
        pytest.param(None, "443", URL, Endpoint("10.0.0.1", 443), id="port alone"),
        pytest.param("api.test", "443", URL, Endpoint("api.test", 443), id="both"),
        pytest.param(
            "api.test", None, "https://home", Endpoint("api.test", 443), id="a URL without port"
        ),
        pytest.param(
            None, "7", "https://[fd00::1]:6443/", Endpoint("fd00::1", 7), id="an IPv6 URL"
        ),
        pytest.param("[fd00::2]", None, URL, Endpoint("fd00::2", 6443), id="an IPv6 host"),
        pytest.param(
            "api.test",
            None,
            "https://home_api:6443",
            Endpoint("api.test", 6443),
            id="a host of the URL that pods could not use",
        ),
        pytest.param(
            "api.test", "443", "http://x/path", Endpoint("api.test", 443), id="both, any URL"
        ),
    ],
)
def test_a_single_flag_is_combined_with_the_url(
    host: str | None, port: str | None, url: str, expected: Endpoint | None
) -> None:
    assert resolve(host, port, url) == expected


@pytest.mark.parametrize(
    ("host", "port", "url", "message"),
    [
        pytest.param(
            None,
            "443",
            "https://rancher.test/k8s/clusters/c-1",
            "set --home-api-server-host",
            id="a URL with a path",
        ),
        pytest.param(
            "api.test", None, "http://home:8080", "set --home-api-server-port", id="plain http"
        ),
        pytest.param(None, "443", "https://", "set --home-api-server-host", id="not a valid host"),
        pytest.param(
            "a",
            None,
            "https://home:port",
            "set --home-api-server-port",
            id="a port that is not a number",
        ),
    ],
)
def test_a_url_without_the_other_half_is_refused(
    host: str | None, port: str | None, url: str, message: str
) -> None:
    with pytest.raises(errors.UsageError, match=message):
        resolve(host, port, url)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://127.0.0.1:6443", id="IPv4"),
        pytest.param("https://[::1]:6443", id="IPv6"),
        pytest.param("https://localhost:6443", id="a name"),
        pytest.param("https://kind.localhost:6443", id="a subdomain of it"),
        pytest.param("https://0.0.0.0:6443", id="the unspecified address"),
    ],
)
def test_a_loopback_address_causes_a_warning(url: str) -> None:
    where = resolve(None, "443", url)
    assert where is not None
    warning = endpoint.loopback_warning(where)
    assert warning is not None
    assert where.netloc in warning
    assert "--home-api-server-host" in warning


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "home.test", "localhost.test"])
def test_other_addresses_cause_no_warning(host: str) -> None:
    assert endpoint.loopback_warning(Endpoint(host, 443)) is None


# --- by the Service -------------------------------------------------------------------------------

HTTPS = {"name": "https", "port": 443, "targetPort": "pods", "protocol": "TCP"}


def service(**spec: Any) -> dict[str, Any]:
    usual = {"clusterIP": "10.96.3.4", "clusterIPs": ["10.96.3.4"], "ports": [HTTPS]}
    return {"spec": {"type": "ClusterIP", "selector": {"app": "gateway"}, **usual, **spec}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(
            service(),
            endpoint.ServiceAddress(("10.96.3.4",), 443, "pods", {"app": "gateway"}),
            id="one address",
        ),
        pytest.param(
            service(clusterIPs=["10.96.3.4", "fd00:96::4"]),
            endpoint.ServiceAddress(("10.96.3.4", "fd00:96::4"), 443, "pods", {"app": "gateway"}),
            id="dual stack, the preferred address first",
        ),
        pytest.param(
            service(clusterIP="fd00:96::4", clusterIPs=None),
            endpoint.ServiceAddress(("fd00:96::4",), 443, "pods", {"app": "gateway"}),
            id="a single-stack API server",
        ),
        pytest.param(
            service(ports=[{"name": "metrics", "port": 9000}, {"port": 443, "targetPort": 6443}]),
            endpoint.ServiceAddress(("10.96.3.4",), 443, 6443, {"app": "gateway"}),
            id="443 among others",
        ),
        pytest.param(
            service(ports=[{"name": "x", "port": 9000}, {"name": "https", "port": 6443}]),
            endpoint.ServiceAddress(("10.96.3.4",), 6443, 6443, {"app": "gateway"}),
            id="https among others, without a target of its own",
        ),
        pytest.param(
            service(ports=[{"port": 8443, "targetPort": 1}]),
            endpoint.ServiceAddress(("10.96.3.4",), 8443, 1, {"app": "gateway"}),
            id="the only port",
        ),
        pytest.param(
            service(selector=None, type="LoadBalancer"),
            endpoint.ServiceAddress(("10.96.3.4",), 443, "pods", {}),
            id="a load balancer without a selector",
        ),
    ],
)
def test_a_service_gives_addresses_and_a_port(
    given: dict[str, Any], expected: endpoint.ServiceAddress
) -> None:
    assert endpoint.service_address(given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param(service(clusterIP="None", clusterIPs=["None"]), "cluster IP", id="headless"),
        pytest.param(service(clusterIP="", clusterIPs=None), "cluster IP", id="not assigned yet"),
        pytest.param(
            {"spec": {"type": "ExternalName", "externalName": "api.example"}},
            "cluster IP",
            id="ExternalName",
        ),
        pytest.param(
            service(ports=[{"port": 1}, {"port": 2}]),
            "neither a port 443",
            id="several other ports",
        ),
        pytest.param(
            service(ports=[{"port": 443, "protocol": "UDP"}]),
            "neither a port 443",
            id="another protocol",
        ),
    ],
)
def test_an_unusable_service_is_refused_with_what_it_lacks(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(errors.Refused, match=message) as caught:
        endpoint.service_address(given)
    assert caught.value.reason is Reason.HOME_API_NOT_CONFIGURED
    assert "home-api" in caught.value.message


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(
            ["node-1", "kubernetes", "kubernetes.default.svc", "10.96.0.1"],
            ("kubernetes.default.svc", "kubernetes"),
            id="those that every client knows",
        ),
        pytest.param(
            ["kubernetes.default.svc.home.test", "kubernetes"],
            ("kubernetes.default.svc.home.test", "kubernetes"),
            id="with the domain",
        ),
        pytest.param(["api.example", "kubernetes"], ("kubernetes",), id="the short one"),
        pytest.param(
            ["localhost", "*.example", "10.0.0.1", "api.example", "b.example"],
            ("api.example", "b.example"),
            id="any others",
        ),
        pytest.param(["10.0.0.1", "fd00::1"], (), id="only addresses"),
        pytest.param(["*.eks.example", "localhost"], (), id="nothing that can be an alias"),
        pytest.param([], (), id="none"),
    ],
)
def test_pods_dial_names_of_the_home_api_server(
    names: list[str], expected: tuple[str, ...]
) -> None:
    assert endpoint.names_for_pods(names, "home.test") == expected
