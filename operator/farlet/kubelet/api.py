"""The kubelet API of one virtual node, assembled from authentication, endpoints and listener."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Self

from farlet.certs import client_ca, serving_certificate, serving_tls
from farlet.client.api_client import ApiClient
from farlet.constants import ObjectKey
from farlet.context import Context
from farlet.kubelet.authentication import Authenticator
from farlet.kubelet.authorization import Authorizer
from farlet.kubelet.request_handler import RequestHandler
from farlet.kubelet.responses import Response
from farlet.kubelet.server import KubeletServer
from farlet.kubelet.usage.collector import UsageCollector
from farlet.listeners.listener import Limits
from farlet.settings import Settings
from farlet.settings.values import Address
from farlet.store import Store
from farlet.telemetry.metrics import EXPOSITION, Metrics


class KubeletAPI:
    """Listens while its context lasts; `run` keeps certificates and the client CA up to date.

    Entering raises `StartError` if a certificate file or the address cannot be used.
    """

    def __init__(
        self,
        at: Address,
        settings: Settings,
        *,
        home: ApiClient,
        foreign: ApiClient,
        store: Store,
        ctx: Callable[[], Context],
        metrics: Metrics,
        problem: Callable[[], str | None],
        may_appear: Callable[[ObjectKey], bool],
        immediate: asyncio.Event,
        connections: int,
        now: Callable[[], datetime],
    ) -> None:
        """`connections`: how many the process can serve at once; `problem`, `may_appear`: see
        `RequestHandler`; `immediate`: see `KubeletServer`.
        """
        self._client_ca = client_ca.ClientCA(home, file=settings.client_ca_file)
        tls = serving_tls.ServingTLS(self._client_ca, now=now)
        self._certificates = serving_certificate.certificate_manager(
            settings,
            home,
            tls,
            node=settings.nodename,
            # Exactly the Node's addresses, without names: approvers compare the two.
            addresses=lambda: [ip] if (ip := ctx().node_ip) else [],
            now=now,
        )
        metrics.serving_certificate_remaining.set_function(tls.remaining)
        usage = UsageCollector(foreign, store, ctx=ctx, up=metrics.foreign_metrics_up)

        async def own_metrics() -> Response:
            return Response(200, metrics.exposition(), EXPOSITION)

        handler = RequestHandler(
            store=store,
            foreign=foreign,
            ctx=ctx,
            authenticator=Authenticator(home, self._client_ca, now=now),
            authorizer=Authorizer(home, node=settings.nodename),
            metrics=metrics.kubelet,
            table={**usage.table(), "/metrics": own_metrics},
            problem=problem,
            may_appear=may_appear,
        )
        self._server = KubeletServer(
            handler.handle,
            at=at,
            contexts=lambda: tls.context,
            grace=settings.shutdown_grace_period,
            immediate=immediate,
            # API servers are few, and each has many streams.
            limits=Limits(connections, per_source=connections * 3 // 4),
        )

    async def __aenter__(self) -> Self:
        self._client_ca.read_file()
        self._certificates.prepare()
        await self._server.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._server.__aexit__(kind, error, trace)

    async def run(self) -> None:
        """Runs until cancelled. Raises `StartError` (in a group)."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._client_ca.run(), name="client CA")
            tasks.create_task(self._certificates.run(), name="serving certificate")
