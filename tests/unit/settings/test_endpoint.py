"""At which address pods abroad dial the home API server."""

from __future__ import annotations

import pytest

from farlet import endpoint, errors, settings
from farlet.context import Endpoint
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
        pytest.param(None, None, URL, None, id="neither: it is not known"),
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
            "api.test", "443", "http://x/path", Endpoint("api.test", 443), id="both, any URL"
        ),
    ],
)
def test_a_setting_alone_is_honoured_and_the_other_keeps_its_default(
    host: str | None, port: str | None, url: str, expected: Endpoint | None
) -> None:
    assert resolve(host, port, url) == expected


@pytest.mark.parametrize(
    ("host", "port", "url", "says"),
    [
        pytest.param(
            None,
            "443",
            "https://rancher.test/k8s/clusters/c-1",
            "give --home-api-server-host",
            id="a URL with a path",
        ),
        pytest.param(
            "api.test", None, "http://home:8080", "give --home-api-server-port", id="plain http"
        ),
        pytest.param(None, "443", "https://", "give --home-api-server-host", id="no host"),
        pytest.param(
            "a", None, "https://home:port", "give --home-api-server-port", id="a port in words"
        ),
    ],
)
def test_a_url_that_cannot_give_the_other_half_is_told(
    host: str | None, port: str | None, url: str, says: str
) -> None:
    with pytest.raises(errors.UsageError, match=says):
        resolve(host, port, url)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://127.0.0.1:6443", id="IPv4"),
        pytest.param("https://[::1]:6443", id="IPv6"),
        pytest.param("https://localhost:6443", id="a name"),
        pytest.param("https://kind.localhost:6443", id="a name below it"),
        pytest.param("https://0.0.0.0:6443", id="any address of this machine"),
    ],
)
def test_a_port_alone_beside_a_loopback_url_is_doubted(url: str) -> None:
    where = resolve(None, "443", url)
    assert where is not None
    doubt = endpoint.doubt(where)
    assert doubt is not None
    assert where.netloc in doubt
    assert "--home-api-server-host" in doubt


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "home.test", "localhost.test"])
def test_an_address_that_others_can_reach_is_not_doubted(host: str) -> None:
    assert endpoint.doubt(Endpoint(host, 443)) is None
