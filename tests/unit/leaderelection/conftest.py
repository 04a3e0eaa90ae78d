"""No variable of the environment decides how a leader is elected."""

from __future__ import annotations

import pytest

from farlet.settings import loading
from farlet.settings.leader import LeaderSettings


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in LeaderSettings.model_fields:
        monkeypatch.delenv(loading.env_name(field), raising=False)
