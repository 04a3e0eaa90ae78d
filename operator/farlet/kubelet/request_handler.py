"""Handles the requests of the kubelet API: authenticates, authorizes, and calls the endpoint.

The order is a kubelet's: authentication and authorization come first, also for paths that do not
exist; then the path is resolved. An endpoint that a virtual node does not have answers 501, or the
405 of a kubelet whose administrator has disabled it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

import structlog

from farlet import errors
from farlet.client.api_client import ApiClient
from farlet.constants import ObjectKey
from farlet.context import Context
from farlet.kubelet import (
    authentication,
    authorization,
    logs,
    pod_lists,
    pod_target,
    routes,
    streams,
)
from farlet.kubelet.pod_target import PodTarget
from farlet.kubelet.responder import Responder
from farlet.kubelet.responses import Refusal, Response, text_response
from farlet.kubelet.routes import Endpoint, Route
from farlet.store import Store
from farlet.telemetry.metrics import KubeletMetrics

MAX_STREAMS = 1000
"""As many as a container runtime lets a kubelet open (`maxInFlight` in `request_cache.go`)."""

Table = Mapping[str, Callable[[], Awaitable[Response]]]
"""Handlers of single paths, by path, for GET."""

_DISABLED = {
    "/logs": "logs endpoint is disabled.",
    "/debug/pprof": "profiling endpoint is disabled.",
    "/debug/flags": "flags endpoint is disabled.",
}

_STREAMED = frozenset(
    {Endpoint.EXEC, Endpoint.ATTACH, Endpoint.PORT_FORWARD, Endpoint.CONTAINER_LOGS}
)

log = structlog.get_logger()


class RequestHandler:
    """The endpoints of one virtual node. `KubeletServer` calls `handle`."""

    def __init__(
        self,
        *,
        store: Store,
        foreign: ApiClient,
        ctx: Callable[[], Context],
        authenticator: authentication.Authenticator,
        authorizer: authorization.Authorizer,
        metrics: KubeletMetrics,
        table: Table,
        problem: Callable[[], str | None],
        may_appear: Callable[[ObjectKey], bool],
    ) -> None:
        """`problem`: why `/healthz` fails, else `None`.

        `may_appear`: whether a pod that the store lacks may still appear in it, as just after a
        start.
        """
        self._store = store
        self._foreign = foreign
        self._ctx = ctx
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._metrics = metrics
        self._table = table
        self._problem = problem
        self._may_appear = may_appear
        self._streams = 0

    async def handle(self, responder: Responder) -> None:
        """Answer one request. Raises `OSError` if the connection cannot be used any more."""
        method, path, long_running = routes.labels(responder.request)
        with self._metrics.serving(method, path, long_running=long_running):
            try:
                await self._answer(responder)
            except Refusal as err:
                refusal = err.response
            except errors.FarletError as err:
                refusal = text_response(500, str(err))
            else:
                return
            if responder.status is not None:
                raise ConnectionAbortedError("the answer was cut off")
            await responder.refuse(refusal)

    async def _answer(self, responder: Responder) -> None:
        request = responder.request
        user = await self._authenticator.authenticate(
            responder.channel.certificate, request.header("authorization")
        )
        if user is None:
            raise authentication.unauthorized()
        verb, subresources = routes.required_permission(request.method, request.path)
        if not await self._authorizer.is_allowed(user, verb, request.path, subresources):
            raise authorization.forbidden(user, verb, subresources)
        responder.keep()
        route = routes.match(request.method, request.path, self._table)
        if route.endpoint in _STREAMED:
            log.debug("kubelet stream requested", user=user.name, path=request.path)
            with self._stream_slot():
                await self._stream(responder, route)
        else:
            await responder.answer(await self._response(responder.request.path, route))

    async def _stream(self, responder: Responder, route: Route) -> None:
        """Logs, and the endpoints that need an upgrade."""
        if route.endpoint is Endpoint.CONTAINER_LOGS:
            options = logs.options(responder.request)
            target = self._resolve(route, previous="previous" in options)
            await logs.serve(responder, target, options, self._foreign)
        else:
            target = self._resolve(route)
            await streams.serve(responder, route.endpoint, target, self._foreign)

    def _resolve(self, route: Route, *, previous: bool = False) -> PodTarget:
        try:
            return pod_target.resolve(route, self._store, self._ctx(), previous=previous)
        except Refusal:
            if not self._may_appear(ObjectKey(route.namespace, route.pod)):
                raise
            # Clients give up after "not found", but retry after this.
            text = "the virtual node has just started and does not know this pod yet; try again\n"
            raise Refusal(503, text, headers=(("Retry-After", "1"),)) from None

    async def _response(self, path: str, route: Route) -> Response:
        """The answer of an endpoint that does not stream."""
        match route.endpoint:
            case Endpoint.TABLE:
                return await self._table[path]()
            case Endpoint.PODS:
                return pod_lists.bound(self._store.home.documents())
            case Endpoint.RUNNING_PODS:
                return pod_lists.running(self._store.home.documents())
            case Endpoint.HEALTHZ:
                problem = self._problem()
                return text_response(500, problem) if problem else text_response(200, "ok")
            case Endpoint.RUN | Endpoint.CHECKPOINT:
                self._check_exists(route)
            case Endpoint.LOGS | Endpoint.DEBUG:
                for root, text in _DISABLED.items():
                    if path == root or path.startswith(f"{root}/"):
                        raise Refusal(405, f"{text}\n")
                raise routes.not_found()
            case _:
                pass
        raise Refusal(501, f"a virtual node does not serve /{route.endpoint}\n")

    def _check_exists(self, route: Route) -> None:
        home = self._store.home.get(ObjectKey(route.namespace, route.pod))
        if home is None:
            raise Refusal(404, "pod does not exist")
        if not pod_target.has_container(home, route.container):
            raise Refusal(404, f"container {route.container} does not exist")

    @contextmanager
    def _stream_slot(self) -> Iterator[None]:
        if self._streams >= MAX_STREAMS:
            text = "maximum number of in-flight requests exceeded"
            raise Refusal(429, text, headers=(("Retry-After", "1"),))
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1
