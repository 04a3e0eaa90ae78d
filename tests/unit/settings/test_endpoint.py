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
