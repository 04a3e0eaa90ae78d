"""The credentials of Kopf: renewed in time, and never tried forever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from farlet.client.credential_sources import ClusterSource
from farlet.home import bridge
from unit.reconcile import apiserver


def _bridge(folder: Path) -> bridge.Bridge:
    source = ClusterSource(kubeconfig=str(folder / "kubeconfig"), context=None)
    return bridge.Bridge(source, on_restart=lambda: None)


@pytest.mark.parametrize(
    ("user", "scheme", "token"),
    [
        pytest.param({"token": "t"}, "Bearer", "t", id="a token"),
        pytest.param({"username": "u", "password": "p"}, "Basic", "dTpw", id="a password"),
        pytest.param({"impersonate": "no one"}, None, None, id="neither"),
    ],
)
async def test_a_login_has(
    user: dict[str, str], scheme: str | None, token: str | None, tmp_path: Path
) -> None:
    apiserver.kubeconfig(tmp_path / "kubeconfig", "https://api:6443", user=user)
    info = await _bridge(tmp_path).login()
    assert (info.server, info.scheme, info.token) == ("https://api:6443", scheme, token)


async def test_a_login_expires_soon_enough_for_the_next_one_to_read_new_files(
    tmp_path: Path,
) -> None:
    apiserver.kubeconfig(tmp_path / "kubeconfig", "https://api:6443")
    info = await _bridge(tmp_path).login()
    assert info.expiration is not None
    life = info.expiration - datetime.now(UTC)
    assert timedelta(seconds=50) < life <= timedelta(minutes=2)
    assert (info.expiration.second, info.expiration.microsecond) == (0, 0)
