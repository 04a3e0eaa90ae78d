"""What the TLS of the kubelet API uses: its serving certificate, and the CA of its clients.

Both are kept up to date by standby processes too, from their start: a leader that had to request
its certificate could not serve `kubectl logs` and `exec` before the request is approved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from farlet.certs import client_ca, serving_certificate, serving_tls
from farlet.client.api_client import ApiClient
from farlet.settings.kubelet import KubeletSettings


class KubeletCertificates:
    """`prepare`, then `run`."""

    def __init__(
        self,
        settings: KubeletSettings,
        home: ApiClient,
        *,
        node: str,
        addresses: Callable[[], Sequence[str]],
        now: Callable[[], datetime],
    ) -> None:
        """`addresses`: the current IPs of the Node, as this process would report them."""
        self.client_ca = client_ca.ClientCA(home, file=settings.client_ca_file)
        self.tls = serving_tls.ServingTLS(self.client_ca, now=now)
        self._serving = serving_certificate.certificate_manager(
            settings, home, self.tls, node=node, addresses=addresses, now=now
        )

    def prepare(self) -> None:
        """Supply a first certificate before the port opens.

        Raises `StartError` if a certificate file cannot be used.
        """
        self.client_ca.read_file()
        self._serving.prepare()

    async def run(self) -> None:
        """Runs until cancelled. Raises `StartError` (in a group)."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.client_ca.run(), name="client CA")
            tasks.create_task(self._serving.run(), name="serving certificate")
