"""Requests with credentials that are in a Secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web

from farlet.manager import kubeconfig_client
from farlet.manager.kubeconfigs import Kubeconfig
from farlet.telemetry.metrics import Metrics
from unit.reconcile import apiserver


def modes(folder: Path) -> list[int]:
    return [file.stat().st_mode & 0o777 for file in folder.iterdir()]


async def test_a_request_carries_the_token_and_its_file_is_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    authorization: list[str | None] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        authorization.append(request.headers.get("Authorization"))
        return await apiserver.ok(request)

    metrics = Metrics()
    connect = kubeconfig_client.KubeconfigClients(metrics)
    async with apiserver.listening() as front:
        front.answer = answer
        async with connect("foreign", Kubeconfig(front.url, token="secret")) as client:
            assert modes(tmp_path) == [0o600]
            await client.call("GET", "/version")
    assert authorization == ["Bearer secret"]
    assert modes(tmp_path) == []
    sample = {"cluster": "foreign", "method": "GET", "code": "200"}
    assert metrics.registry.get_sample_value("rest_client_requests_total", sample) == 1
