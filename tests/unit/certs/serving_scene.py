"""A node that keeps its serving certificate while a story is played, in time that jumps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog.testing

from farlet.certs import client_ca, key_pairs, serving_tls
from farlet.certs import serving_certificate as keepers
from unit import certificates, faketime
from unit.certs.home_server import Home

CA = certificates.authority()
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Scene:
    """A node that keeps its serving certificate, and everybody around it."""

    def __init__(self, folder: Path | None, *, jitter: float = 0.5) -> None:
        self.home = Home()
        self.addresses = ["10.0.0.1"]
        self.tls = serving_tls.ServingTLS(client_ca.ClientCA(self.home, file=None))
        self.folder = key_pairs.CertificateStore(folder, keepers.SERVER) if folder else None
        self.keeper = keepers.ServingCertificate(
            self.home,
            self.tls,
            node="far",
            addresses=lambda: self.addresses,
            folder=self.folder,
            now=self.now,
            jitter=lambda: jitter,
        )
        self._loop = asyncio.get_running_loop()

    def now(self) -> datetime:
        return START + timedelta(seconds=self._loop.time())

    @property
    def shown(self) -> Any:
        """The certificate that callers would see."""
        assert self.tls._pair is not None
        return self.tls._pair.leaf

    def signed(self) -> bool:
        return bool(self.shown.issuer == CA.certificate.subject)

    def grant(self, name: str, *, life: timedelta = DAY) -> None:
        self.home.grant(name, CA, now=self.now(), life=life)


Story = Callable[[Scene], Awaitable[None]]


def play(story: Story, folder: Path | None = None) -> list[Any]:
    """Run the keeper beside the story, in time that jumps; returns what was logged."""

    async def main() -> None:
        scene = Scene(folder)
        scene.keeper.prepare()
        running = asyncio.create_task(scene.keeper.run())
        try:
            await asyncio.sleep(1.0)
            await story(scene)
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.wait([running])

    with structlog.testing.capture_logs() as logs:
        faketime.run(main())
    return logs
