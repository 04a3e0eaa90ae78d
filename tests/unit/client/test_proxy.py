"""The proxy of requests to an API server: the kubeconfig's, else the environment's."""

import json
from pathlib import Path

import pytest

from farlet.client import credentials
from farlet.client.credential_sources import ClusterSource

SERVER = "https://api.example.org:6443"
PROXY = "http://proxy.example.org:3128"


@pytest.mark.parametrize(
    ("environment", "in_kubeconfig", "used"),
    [
        pytest.param({}, None, None, id="nothing is configured: no proxy"),
        pytest.param(
            {"HTTPS_PROXY": PROXY}, None, PROXY, id="the proxy of the environment is used"
        ),
        pytest.param({"https_proxy": PROXY}, None, PROXY, id="lower case works, too"),
        pytest.param(
            {"HTTP_PROXY": PROXY}, None, None, id="a proxy for plain HTTP is not used for HTTPS"
        ),
        pytest.param(
            {"HTTPS_PROXY": PROXY, "NO_PROXY": ".example.org"},
            None,
            None,
            id="a server in NO_PROXY needs no proxy",
        ),
        pytest.param(
            {"HTTPS_PROXY": "http://other.example.org:1"},
            PROXY,
            PROXY,
            id="the kubeconfig's own proxy wins",
        ),
    ],
)
async def test_proxy(
    environment: dict[str, str],
    in_kubeconfig: str | None,
    used: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    cluster = {"server": SERVER} | ({"proxy-url": in_kubeconfig} if in_kubeconfig else {})
    path = tmp_path / "kubeconfig"
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "one", "cluster": cluster}],
                "users": [{"name": "one", "user": {"token": "t"}}],
                "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
                "current-context": "one",
            }
        )
    )
    loaded = await credentials.load("home", ClusterSource(kubeconfig=str(path), context=None))
    assert loaded.proxy == used
