"""Exec plugins: run again before their token expires, with a limit of time."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from kubernetes_asyncio.config import kube_config

from farlet import errors
from farlet.client import credentials
from unit.client.credentials.scene import Clock
from unit.reconcile import apiserver

PLUGIN = """
import datetime, json, pathlib
runs = pathlib.Path({runs!r})
runs.write_text(runs.read_text() + "x")
ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds={life})
status = {{"token": "run-%d" % len(runs.read_text()), "expirationTimestamp": ends.isoformat()}}
print(json.dumps({{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
                  "status": status}}))
"""


@pytest.mark.parametrize(
    ("late", "token"),
    [
        pytest.param(120.0, "run-1", id="in the middle of its life: not run"),
        pytest.param(275.0, "run-2", id="shortly before it expires: run again"),
    ],
)
async def test_a_plugin_is_run_before_its_token_expires(
    late: float, token: str, tmp_path: Path, clock: Clock
) -> None:
    (tmp_path / "runs").write_text("")
    script = tmp_path / "plugin.py"
    script.write_text(PLUGIN.format(runs=str(tmp_path / "runs"), life=300))
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [str(script)],
    }
    async with apiserver.listening() as front:
        path = apiserver.kubeconfig(tmp_path / "kubeconfig", front.url, user={"exec": plugin})
        async with apiserver.connection(path) as cluster:
            clock.late += late
            assert (await cluster.login()).authorization == f"Bearer {token}"


async def test_a_plugin_that_hangs_refuses_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(credentials, "PLUGIN_SECONDS", 0.2)
    monkeypatch.setattr(kube_config.KubeConfigLoader, "load_and_set", hang)
    path = apiserver.kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1")
    with pytest.raises(errors.StartError, match=r"exec plugin did not answer within 0\.2 s"):
        await apiserver.connection(path).login()
