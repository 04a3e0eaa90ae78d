"""A login is loaded for the first time: broken ones refuse the start, and none shows its token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farlet import errors
from unit.reconcile import apiserver

BROKEN = {
    "no base64": {"certificate-authority-data": "%%%"},
    "no certificate": {"certificate-authority-data": "bm9uZQ=="},
    "an empty certificate": {
        "certificate-authority-data": (
            "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCi0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K"
        )
    },
    "a file that is not there": {"certificate-authority": "/nowhere/ca.crt"},
}


@pytest.mark.parametrize("cluster", BROKEN.values(), ids=BROKEN)
async def test_a_broken_ca_refuses_the_start(cluster: dict[str, Any], tmp_path: Path) -> None:
    path = apiserver.kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1", **cluster)
    with pytest.raises(errors.StartError, match=r"foreign.*kubeconfig"):
        async with apiserver.connection(path):
            pass


async def test_a_login_does_not_show_its_token(tmp_path: Path) -> None:
    path = apiserver.kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1", token="hush")
    async with apiserver.connection(path) as cluster:
        login = await cluster.login()
    assert login.authorization == "Bearer hush"
    assert "hush" not in repr(login) + json.dumps([str(part) for part in login.connecting])
