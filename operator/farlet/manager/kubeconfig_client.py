"""Connections with credentials that are in a Secret, for a few requests."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from farlet.client import credentials
from farlet.client.api_client import ApiClient
from farlet.client.cluster import Cluster
from farlet.client.credential_sources import ClusterSource
from farlet.manager.kubeconfigs import Kubeconfig
from farlet.telemetry.metrics import Metrics


class Connect(Protocol):
    """Opens a connection. Raises `FarletError` if the credentials cannot be loaded."""

    def __call__(
        self, name: credentials.Name, config: Kubeconfig
    ) -> AbstractAsyncContextManager[ApiClient]: ...


class KubeconfigClients:
    """Opens connections, and counts their requests in `metrics`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = {"home": metrics.client("home"), "foreign": metrics.client("foreign")}

    @contextlib.asynccontextmanager
    async def __call__(
        self, name: credentials.Name, config: Kubeconfig
    ) -> AsyncIterator[ApiClient]:
        """A connection. The temporary file with its kubeconfig is deleted at the end."""
        with tempfile.NamedTemporaryFile("w") as file:  # mode 0600
            file.write(config.text())
            file.flush()
            source = ClusterSource(kubeconfig=file.name, context=None)
            async with Cluster(name, source, metrics=self._metrics[name]) as client:
                yield client
