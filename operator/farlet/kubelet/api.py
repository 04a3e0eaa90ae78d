"""The kubelet API of one virtual node, assembled from authentication, endpoints and listener."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Self

from farlet.certs.kubelet_certificates import KubeletCertificates
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
    """Listens while its context lasts, with certificates that were prepared.

    Entering raises `StartError` if the address cannot be used.
    """

    def __init__(
        self,
        at: Address,
        settings: Settings,
        *,
        home: ApiClient,
        foreign: ApiClient,
        certificates: KubeletCertificates,
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
        usage = UsageCollector(foreign, store, ctx=ctx, up=metrics.foreign_metrics_up)

        async def own_metrics() -> Response:
            return Response(200, metrics.exposition(), EXPOSITION)

        handler = RequestHandler(
            store=store,
            foreign=foreign,
            ctx=ctx,
            authenticator=Authenticator(home, certificates.client_ca, now=now),
            authorizer=Authorizer(home, node=settings.nodename),
            metrics=metrics.kubelet,
            table={**usage.table(), "/metrics": own_metrics},
            problem=problem,
            may_appear=may_appear,
        )
        self._server = KubeletServer(
            handler.handle,
            at=at,
            contexts=lambda: certificates.tls.context,
            grace=settings.shutdown_grace_period,
            immediate=immediate,
            # API servers are few, and each has many streams.
            limits=Limits(connections, per_source=connections * 3 // 4),
        )

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._server.__aexit__(kind, error, trace)
