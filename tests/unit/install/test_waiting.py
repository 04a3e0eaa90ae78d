"""What a step says it waits for: short, and each cause once."""

from __future__ import annotations

import asyncio

import pytest

from farlet.install import requests
from farlet.install.waiting import LINE_CHARS, Waiting
from unit.install.memory_cluster import MemoryCluster, Object, Process

LABELS = {"app": "farlet"}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "WATCH_SECONDS", 0.0)


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster("home", uid="h", process=Process())


def _waits(name: str, reason: str, message: str) -> Object:
    waiting = {"waiting": {"reason": reason, "message": message}}
    status = {"containerStatuses": [{"state": waiting}]}
    return {"metadata": {"name": name, "labels": LABELS}, "status": status}


async def _shown(cluster: MemoryCluster, why: str) -> tuple[str, bool]:
    """The last line, and whether an image is missing."""
    lines: list[str] = []
    waiting = Waiting(lines.append)
    async with waiting.watching(cluster, "farlet", "app=farlet"):
        waiting.because(why)
        await asyncio.sleep(0.05)
        return lines[-1], waiting.lacks_image


async def test_pods_with_the_same_problem_are_named_together(cluster: MemoryCluster) -> None:
    for name in ("farlet-a", "farlet-b"):
        cluster.put("pods", "farlet", _waits(name, "ImagePullBackOff", "Back-off"))
    line = "      waiting: not ready; pod farlet-a, farlet-b: ImagePullBackOff: Back-off"
    assert await _shown(cluster, "not ready") == (line, True)


async def test_a_line_is_short(cluster: MemoryCluster) -> None:
    for name in ("a", "b", "c"):
        cluster.put("pods", "farlet", _waits(name, "CrashLoopBackOff", name * 1000))
    line, lacks_image = await _shown(cluster, "not ready " * 50)
    assert len(line) <= len("      waiting: ") + LINE_CHARS + len("... (9,999 characters)")
    assert not lacks_image
