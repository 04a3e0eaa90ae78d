"""A serving certificate that a folder keeps is served again after a restart while it is good."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

import pytest

from farlet.certs import key_pairs
from farlet.certs import serving_certificate as keepers
from unit import certificates
from unit.certificates import SERVER
from unit.certs.serving_scene import CA, DAY, START, Scene, play


def _kept(folder: Path, *, ends: datetime, hosts: tuple[str, ...] = ("10.0.0.1",)) -> None:
    pair = certificates.issue(
        CA,
        user="system:node:far",
        groups=["system:nodes"],
        hosts=hosts,
        uses=[SERVER],
        begins=START - DAY,
        ends=ends,
    )
    kept = key_pairs.of(pair.pem.encode(), pair.key_pem.encode())
    key_pairs.CertificateStore(folder, keepers.SERVER).store(kept, now=START)


def test_a_restart_uses_what_the_folder_has(tmp_path: Path) -> None:
    async def first(scene: Scene) -> None:
        scene.grant("csr-0", life=30 * DAY)
        await asyncio.sleep(1.0)

    async def second(scene: Scene) -> None:
        await asyncio.sleep(60.0)
        assert scene.signed()
        assert scene.home.requests == []

    play(first, tmp_path)
    play(second, tmp_path)


KEPT: dict[str, tuple[datetime, tuple[str, ...], bool, int]] = {
    "that is good is served": (START + DAY, ("10.0.0.1",), True, 0),
    "that is to be renewed is served meanwhile": (START + DAY / 100, ("10.0.0.1",), True, 1),
    "that is over is not served": (START - DAY / 2, ("10.0.0.1",), False, 1),
    "of another address is not served": (START + DAY, ("10.0.0.7",), False, 1),
}


@pytest.mark.parametrize(("ends", "hosts", "signed", "requests"), KEPT.values(), ids=KEPT)
def test_a_kept_one(
    ends: datetime, hosts: tuple[str, ...], signed: bool, requests: int, tmp_path: Path
) -> None:
    _kept(tmp_path, ends=ends, hosts=hosts)

    async def story(scene: Scene) -> None:
        assert scene.signed() is signed
        assert len(scene.home.requests) == requests

    play(story, tmp_path)


def test_a_broken_file_in_the_folder_is_told_and_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "kubelet-server-current.pem").write_text("broken")

    async def story(scene: Scene) -> None:
        scene.grant("csr-0")
        await asyncio.sleep(1.0)
        assert scene.signed()

    told = [line["event"] for line in play(story, tmp_path) if line["log_level"] == "warning"]
    assert told == ["kept certificate was not used", "certificate was not stored"]
