"""The certificate with which farlet is a node at home is renewed in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog.testing

from farlet import errors
from farlet.certs import client_certificate, key_pairs, signing_requests
from unit import certificates, faketime
from unit.certs.home_server import CSRS, Home

CA = certificates.authority()
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class _Scene(Home):
    """Home, as the node logs in there: with what the folder has, if that is used."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = key_pairs.CertificateStore(folder, client_certificate.CLIENT)
        self.certificate: Any = _node().certificate
        self.used = True
        """Whether connections take what lies in the folder."""
        self.renewal = client_certificate.ClientCertificate(
            self, node="far", folder=self.folder, now=self.now, jitter=lambda: 0.5
        )

    def now(self) -> datetime:
        return START + timedelta(seconds=asyncio.get_running_loop().time())

    async def login(self) -> Any:
        kept = self.folder.read() if self.used else None
        return SimpleNamespace(certificate=kept.leaf if kept else self.certificate)

    def grant_next(self) -> None:
        name = self.requests[-1]["metadata"]["name"]
        self.grant(name, CA, now=self.now(), life=DAY)


def _node(user: str = "system:node:far", group: str = "system:nodes") -> certificates.Pair:
    return certificates.issue(CA, user=user, groups=[group], begins=START, ends=START + DAY)


Story = Callable[[_Scene], Awaitable[None]]


def _play(story: Story, folder: Path) -> list[Any]:
    async def main() -> None:
        scene = _Scene(folder)
        running = asyncio.create_task(scene.renewal.run())
        try:
            await story(scene)
        finally:
            running.cancel()
            await asyncio.wait([running])

    with structlog.testing.capture_logs() as logs:
        faketime.run(main())
    return logs


def test_it_is_renewed_once_most_of_its_life_is_over(tmp_path: Path) -> None:
    async def story(scene: _Scene) -> None:
        await asyncio.sleep(0.79 * DAY.total_seconds())
        assert scene.requests == []
        await asyncio.sleep(0.02 * DAY.total_seconds())
        (csr,) = scene.requests
        assert (csr["spec"]["signerName"], csr["spec"]["usages"]) == (
            "kubernetes.io/kube-apiserver-client-kubelet",
            ["digital signature", "client auth"],
        )
        scene.grant_next()
        await asyncio.sleep(1.0)
        kept = scene.folder.read()
        assert kept is not None
        assert key_pairs.is_node(kept.leaf, "far")

    _play(story, tmp_path)


def test_it_is_renewed_again_and_again(tmp_path: Path) -> None:
    async def story(scene: _Scene) -> None:
        for count in range(1, 3):
            await asyncio.sleep(0.85 * DAY.total_seconds())
            assert len(scene.requests) == count
            scene.grant_next()
            await asyncio.sleep(60.0)

    _play(story, tmp_path)


def test_one_that_is_not_used_is_told_and_not_asked_for_all_the_time(tmp_path: Path) -> None:
    async def story(scene: _Scene) -> None:
        scene.used = False
        await asyncio.sleep(0.85 * DAY.total_seconds())
        scene.grant_next()
        await asyncio.sleep(signing_requests.DENIED_SECONDS / 2)
        assert len(scene.requests) == 1

    told = [line["event"] for line in _play(story, tmp_path) if line["log_level"] == "warning"]
    assert told == ["renewed client certificate is not used"]


def test_a_new_kubeconfig_starts_the_count_again(tmp_path: Path) -> None:
    async def story(scene: _Scene) -> None:
        await asyncio.sleep(0.75 * DAY.total_seconds())
        scene.certificate = certificates.issue(
            CA,
            user="system:node:far",
            groups=["system:nodes"],
            begins=scene.now(),
            ends=scene.now() + DAY,
        ).certificate
        await asyncio.sleep(0.75 * DAY.total_seconds())
        assert scene.count("POST", CSRS) == 0

    _play(story, tmp_path)


def test_a_kubeconfig_with_another_login_ends_it_with_a_word(tmp_path: Path) -> None:
    async def story(scene: _Scene) -> None:
        await asyncio.sleep(60.0)
        scene.certificate = None
        await asyncio.sleep(2 * DAY.total_seconds())
        assert scene.requests == []

    told = [line["event"] for line in _play(story, tmp_path)]
    assert told == ["client certificate is renewed no more"]


@pytest.mark.parametrize(
    "certificate",
    [
        pytest.param(None, id="none"),
        pytest.param(_node("system:node:near").certificate, id="of another node"),
        pytest.param(_node("admin", "system:masters").certificate, id="of a person"),
    ],
)
def test_the_start_is_refused_with_a_client_certificate(certificate: Any, tmp_path: Path) -> None:
    async def main() -> None:
        scene = _Scene(tmp_path)
        scene.certificate = certificate
        with pytest.raises(errors.StartError, match="--rotate-certificates renews"):
            await scene.renewal.run()

    faketime.run(main())
