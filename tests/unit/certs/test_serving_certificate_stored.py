"""A stored serving certificate is served again after a restart while it is valid."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

import pytest

from farlet.certs import key_pairs, serving_certificate
from unit import certificates
from unit.certificates import SERVER
from unit.certs.serving_harness import CA, DAY, START, Harness, run


def _store(folder: Path, *, ends: datetime, hosts: tuple[str, ...] = ("10.0.0.1",)) -> None:
    issued = certificates.issue(
        CA,
        user="system:node:far",
        groups=["system:nodes"],
        hosts=hosts,
        uses=[SERVER],
        begins=START - DAY,
        ends=ends,
    )
    pair = key_pairs.parse(issued.pem.encode(), issued.key_pem.encode())
    key_pairs.CertificateStore(folder, serving_certificate.FILE_PREFIX).write(pair, now=START)


def test_a_restart_uses_the_stored_certificate(tmp_path: Path) -> None:
    async def first(harness: Harness) -> None:
        harness.grant("csr-0", lifetime=30 * DAY)
        await asyncio.sleep(1.0)

    async def second(harness: Harness) -> None:
        await asyncio.sleep(60.0)
        assert harness.signed()
        assert harness.home.requests == []

    run(first, tmp_path)
    run(second, tmp_path)


STORED: dict[str, tuple[datetime, tuple[str, ...], bool, int]] = {
    "that is valid is served": (START + DAY, ("10.0.0.1",), True, 0),
    "that is due for renewal is served until then": (START + DAY / 100, ("10.0.0.1",), True, 1),
    "that has expired is not served": (START - DAY / 2, ("10.0.0.1",), False, 1),
    "of another address is not served": (START + DAY, ("10.0.0.7",), False, 1),
}


@pytest.mark.parametrize(("ends", "hosts", "signed", "requests"), STORED.values(), ids=STORED)
def test_a_stored_certificate(
    ends: datetime, hosts: tuple[str, ...], signed: bool, requests: int, tmp_path: Path
) -> None:
    _store(tmp_path, ends=ends, hosts=hosts)

    async def scenario(harness: Harness) -> None:
        assert harness.signed() is signed
        assert len(harness.home.requests) == requests

    run(scenario, tmp_path)


def test_an_invalid_stored_file_is_reported_and_ignored(tmp_path: Path) -> None:
    (tmp_path / "kubelet-server-current.pem").write_text("broken")

    async def scenario(harness: Harness) -> None:
        harness.grant("csr-0")
        await asyncio.sleep(1.0)
        assert harness.signed()

    logged = [line["event"] for line in run(scenario, tmp_path) if line["log_level"] == "warning"]
    assert logged == [
        "failed to use stored serving certificate",
        "failed to store serving certificate",
    ]
