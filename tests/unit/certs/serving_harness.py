"""A node that renews its serving certificate while a scenario runs, with a fake clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog.testing

from farlet.certs import client_ca, key_pairs, serving_certificate, serving_tls
from unit import certificates, faketime
from unit.certs.home_server import Home

CA = certificates.authority()
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Harness:
    """A node that renews its serving certificate, with its home API server."""

    def __init__(self, folder: Path | None, *, jitter: float = 0.5) -> None:
        self.home = Home()
        self.addresses = ["10.0.0.1"]
        self.tls = serving_tls.ServingTLS(client_ca.ClientCA(self.home, file=None), now=self.now)
        self.store = (
            key_pairs.CertificateStore(folder, serving_certificate.FILE_PREFIX) if folder else None
        )
        self.manager = serving_certificate.ServingCertificate(
            self.home,
            self.tls,
            node="far",
            addresses=lambda: self.addresses,
            store=self.store,
            now=self.now,
            jitter=lambda: jitter,
        )
        self._loop = asyncio.get_running_loop()

    def now(self) -> datetime:
        return START + timedelta(seconds=self._loop.time())

    @property
    def served(self) -> Any:
        """The certificate that callers receive."""
        assert self.tls._pair is not None
        return self.tls._pair.leaf

    def signed(self) -> bool:
        return bool(self.served.issuer == CA.certificate.subject)

    def grant(self, name: str, *, lifetime: timedelta = DAY) -> None:
        self.home.grant(name, CA, now=self.now(), lifetime=lifetime)


Scenario = Callable[[Harness], Awaitable[None]]


def run(scenario: Scenario, folder: Path | None = None) -> list[Any]:
    """Run the manager and the scenario with a fake clock; returns the log records."""

    async def main() -> None:
        harness = Harness(folder)
        harness.manager.prepare()
        running = asyncio.create_task(harness.manager.run())
        try:
            await asyncio.sleep(1.0)
            await scenario(harness)
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.wait([running])

    with structlog.testing.capture_logs() as logs:
        faketime.run(main())
    return logs
