"""The kubelet API of one virtual node, put together: who may call, what answers, and its port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from farlet.certs import client_ca, serving_certificate, serving_tls
from farlet.client.api_client import ApiClient
from farlet.constants import ObjectKey
from farlet.context import Context
from farlet.kubelet import auth
from farlet.kubelet.request_handler import RequestHandler
from farlet.kubelet.responses import Response
from farlet.kubelet.server import KubeletServer
from farlet.kubelet.usage import collector
from farlet.settings import Settings
from farlet.settings.values import Address
from farlet.store import Store
from farlet.telemetry.metrics import EXPOSITION, Metrics


class KubeletAPI:
    """Listens while its context lasts; `run` keeps certificates and the client CA good.

    Entering raises `StartError` for files that cannot be used and an address that cannot be had.
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
        unsettled: Callable[[ObjectKey], bool],
        hurry: asyncio.Event,
    ) -> None:
        self._client_ca = client_ca.ClientCA(home, file=settings.client_ca_file)
        tls = serving_tls.ServingTLS(self._client_ca)
        self._keeper = serving_certificate.keeper(
            settings,
            home,
            tls,
            node=settings.nodename,
            # As the Node has them, no name beside: approvers compare the two.
            addresses=lambda: [ip] if (ip := ctx().node_ip) else [],
        )
        metrics.serving_certificate_remaining.set_function(tls.remaining)
        meter = collector.UsageCollector(foreign, store, ctx=ctx, up=metrics.foreign_metrics_up)

        async def own_metrics() -> Response:
            return Response(200, metrics.exposition(), EXPOSITION)

        service = RequestHandler(
            store=store,
            foreign=foreign,
            ctx=ctx,
            authenticator=auth.Authenticator(home, self._client_ca),
            authorizer=auth.Authorizer(home, node=settings.nodename),
            metrics=metrics.kubelet,
            table={**meter.table(), "/metrics": own_metrics},
            problem=problem,
            unsettled=unsettled,
        )
        self._server = KubeletServer(
            service.handle,
            at=at,
            contexts=lambda: tls.context,
            grace=settings.shutdown_grace_period,
            hurry=hurry,
        )

    async def __aenter__(self) -> Self:
        self._client_ca.look()
        self._keeper.prepare()
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
        """For ever. Raises `StartError` (in a group)."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._client_ca.run(), name="client CA")
            tasks.create_task(self._keeper.run(), name="serving certificate")
