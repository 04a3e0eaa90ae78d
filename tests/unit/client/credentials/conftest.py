"""A clock that tests move, and a list of what was loaded."""

from __future__ import annotations

import pytest

from farlet.client import credentials
from farlet.client.credential_sources import ClusterSource
from unit.client.credentials.scene import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(credentials, "time", made)
    return made


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[ClusterSource]:
    """What was loaded so far is listed."""
    seen: list[ClusterSource] = []
    load = credentials.load

    async def counted(name: credentials.Name, source: ClusterSource) -> credentials.Login:
        seen.append(source)
        return await load(name, source)

    monkeypatch.setattr(credentials, "load", counted)
    return seen
