"""The client certificate of farlet's node identity is renewed in time."""

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


class _Harness(Home):
    """The home API server; the node logs in with the stored certificate, if that is used."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.store = key_pairs.CertificateStore(folder, client_certificate.FILE_PREFIX)
        self.certificate: Any = _node().certificate
        self.used = True
        """Whether connections use the stored certificate."""
        self.renewal = client_certificate.ClientCertificate(
            self, node="far", store=self.store, now=self.now, jitter=lambda: 0.5
        )

    def now(self) -> datetime:
        return START + timedelta(seconds=asyncio.get_running_loop().time())

    async def login(self) -> Any:
        stored = self.store.read() if self.used else None
        return SimpleNamespace(certificate=stored.leaf if stored else self.certificate)

    def grant_next(self) -> None:
        name = self.requests[-1]["metadata"]["name"]
        self.grant(name, CA, now=self.now(), lifetime=DAY)


def _node(user: str = "system:node:far", group: str = "system:nodes") -> certificates.Pair:
    return certificates.issue(CA, user=user, groups=[group], begins=START, ends=START + DAY)


Scenario = Callable[[_Harness], Awaitable[None]]


def _run(scenario: Scenario, folder: Path) -> list[Any]:
    async def main() -> None:
        harness = _Harness(folder)
        running = asyncio.create_task(harness.renewal.run())
        try:
            await scenario(harness)
        finally:
            running.cancel()
            await asyncio.wait([running])

    with structlog.testing.capture_logs() as logs:
        faketime.run(main())
    return logs


def test_a_certificate_is_renewed_after_most_of_its_lifetime(tmp_path: Path) -> None:
    async def scenario(harness: _Harness) -> None:
        await asyncio.sleep(0.79 * DAY.total_seconds())
        assert harness.requests == []
        await asyncio.sleep(0.02 * DAY.total_seconds())
        (csr,) = harness.requests
        assert (csr["spec"]["signerName"], csr["spec"]["usages"]) == (
            "kubernetes.io/kube-apiserver-client-kubelet",
            ["digital signature", "client auth"],
        )
        harness.grant_next()
        await asyncio.sleep(1.0)
        stored = harness.store.read()
        assert stored is not None
        assert key_pairs.is_node(stored.leaf, "far")

    _run(scenario, tmp_path)


@pytest.mark.thorough
def test_a_certificate_is_renewed_repeatedly(tmp_path: Path) -> None:
    async def scenario(harness: _Harness) -> None:
        for count in range(1, 3):
            await asyncio.sleep(0.85 * DAY.total_seconds())
            assert len(harness.requests) == count
            harness.grant_next()
            await asyncio.sleep(60.0)

    _run(scenario, tmp_path)


def test_an_unused_renewal_is_reported_and_not_repeated_immediately(tmp_path: Path) -> None:
    async def scenario(harness: _Harness) -> None:
        harness.used = False
        await asyncio.sleep(0.85 * DAY.total_seconds())
        harness.grant_next()
        await asyncio.sleep(signing_requests.DENIED_SECONDS / 2)
        assert len(harness.requests) == 1

    logged = [line["event"] for line in _run(scenario, tmp_path) if line["log_level"] == "warning"]
    assert logged == ["credentials still contain the old client certificate"]


def test_a_new_kubeconfig_restarts_the_renewal_period(tmp_path: Path) -> None:
    async def scenario(harness: _Harness) -> None:
        await asyncio.sleep(0.75 * DAY.total_seconds())
        harness.certificate = certificates.issue(
            CA,
            user="system:node:far",
            groups=["system:nodes"],
            begins=harness.now(),
            ends=harness.now() + DAY,
        ).certificate
        await asyncio.sleep(0.75 * DAY.total_seconds())
        assert harness.count("POST", CSRS) == 0

    _run(scenario, tmp_path)


def test_a_kubeconfig_with_another_identity_stops_renewal_with_a_warning(tmp_path: Path) -> None:
    async def scenario(harness: _Harness) -> None:
        await asyncio.sleep(60.0)
        harness.certificate = None
        await asyncio.sleep(2 * DAY.total_seconds())
        assert harness.requests == []

    logged = [line["event"] for line in _run(scenario, tmp_path)]
    assert logged == ["stopped renewing client certificate"]


@pytest.mark.parametrize(
    "certificate",
    [
        pytest.param(None, id="none"),
        pytest.param(_node("system:node:near").certificate, id="of another node"),
        pytest.param(_node("admin", "system:masters").certificate, id="of an administrator"),
    ],
)
def test_the_start_fails_with_a_client_certificate(certificate: Any, tmp_path: Path) -> None:
    async def main() -> None:
        harness = _Harness(tmp_path)
        harness.certificate = certificate
        with pytest.raises(errors.StartError, match="--rotate-certificates renews"):
            await harness.renewal.run()

    faketime.run(main())
