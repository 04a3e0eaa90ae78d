"""What the kubelet API does with a request: who asks, whether he may, and which room answers.

The order is a kubelet's: first authentication and authorization, for paths that do not exist as
well, then the path. What a virtual node has nothing to answer with, it says so: 501, or the 405 of
a kubelet whose administrator has turned that endpoint off.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

import structlog

from farlet import errors
from farlet.client.api_client import ApiClient
from farlet.constants import ObjectKey
from farlet.context import Context
from farlet.kubelet import auth, logs, pod_lists, routes, streams
from farlet.kubelet import pod_target as targets
from farlet.kubelet.responder import Responder
from farlet.kubelet.responses import Refusal, Response, text_response
from farlet.kubelet.routes import Endpoint, Route
from farlet.store import Store
from farlet.telemetry.metrics import KubeletMetrics

MOST_STREAMS = 1000
"""As many as a container runtime lets a kubelet open (`maxInFlight` in `request_cache.go`)."""

Table = Mapping[str, Callable[[], Awaitable[Response]]]
"""Handlers of single paths, by path, for GET."""

_DISABLED = {
    "/logs": "logs endpoint is disabled.",
    "/debug/pprof": "profiling endpoint is disabled.",
    "/debug/flags": "flags endpoint is disabled.",
}

log = structlog.get_logger()


class RequestHandler:
    """The endpoints of one virtual node. `handle` is what `KubeletServer` calls."""

    def __init__(
        self,
        *,
        store: Store,
        foreign: ApiClient,
        ctx: Callable[[], Context],
        authenticator: auth.Authenticator,
        authorizer: auth.Authorizer,
        metrics: KubeletMetrics,
        table: Table,
        problem: Callable[[], str | None],
        unsettled: Callable[[ObjectKey], bool],
    ) -> None:
        """`problem`: why `/healthz` fails, else `None`.

        `unsettled`: whether what is not known of a pod may yet turn up.
        """
        self._store = store
        self._foreign = foreign
        self._ctx = ctx
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._metrics = metrics
        self._table = table
        self._problem = problem
        self._unsettled = unsettled
        self._streams = 0

    async def handle(self, caller: Responder) -> None:
        """Answer one request. Raises `OSError` when the connection is not to be used any more."""
        method, path, long_running = routes.labels(caller.request)
        with self._metrics.serving(method, path, long_running=long_running):
            try:
                await self._answer(caller)
            except Refusal as err:
                refusal = err.response
            except errors.FarletError as err:
                refusal = text_response(500, str(err))
            else:
                return
            if caller.status is not None:
                raise ConnectionAbortedError("the answer broke off")
            await caller.refuse(refusal)

    async def _answer(self, caller: Responder) -> None:
        request = caller.request
        user = await self._authenticator.who(
            caller.channel.certificate, request.header("authorization")
        )
        if user is None:
            raise auth.unauthorized()
        needs = routes.needs(request.method, request.path)
        if not await self._authorizer.may(user, needs.verb, request.path, needs.subresources):
            raise auth.forbidden(user, needs.verb, needs.subresources)
        route = routes.find(request.method, request.path, self._table)
        if route.endpoint in _STREAMED:
            log.debug("kubelet stream was asked for", user=user.name, path=request.path)
            with self._stream():
                await self._carry(caller, route)
        else:
            await caller.answer(await self._respond(caller, route))

    async def _carry(self, caller: Responder, route: Route) -> None:
        """Logs, and what needs an upgrade."""
        if route.endpoint is Endpoint.CONTAINER_LOGS:
            options = logs.options(caller.request)
            target = self._target(route, previous="previous" in options)
            await logs.serve(caller, target, options, self._foreign)
        else:
            target = self._target(route)
            await streams.serve(caller, route.endpoint, target, self._foreign)

    def _target(self, route: Route, *, previous: bool = False) -> targets.PodTarget:
        try:
            return targets.resolve(route, self._store, self._ctx(), previous=previous)
        except Refusal:
            if not self._unsettled(ObjectKey(route.namespace, route.pod)):
                raise
            # A client that is told of no pod or container gives up; this one it asks again.
            text = "the virtual node has just started and does not know this pod yet\n"
            raise Refusal(503, text, headers=(("Retry-After", "1"),)) from None

    async def _respond(self, caller: Responder, route: Route) -> Response:
        """What is answered at once."""
        path = caller.request.path
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
                self._must_exist(route)
            case Endpoint.LOGS | Endpoint.DEBUG:
                for root, text in _DISABLED.items():
                    if path == root or path.startswith(f"{root}/"):
                        raise Refusal(405, f"{text}\n")
                raise routes.not_found()
            case _:
                pass
        raise Refusal(501, f"a virtual node does not serve /{route.endpoint}\n")

    def _must_exist(self, route: Route) -> None:
        home = self._store.home.get(ObjectKey(route.namespace, route.pod))
        if home is None:
            raise Refusal(404, "pod does not exist")
        if not targets.has_container(home, route.container):
            raise Refusal(404, f"container {route.container} does not exist")

    @contextmanager
    def _stream(self) -> Iterator[None]:
        if self._streams >= MOST_STREAMS:
            text = "maximum number of in-flight requests exceeded"
            raise Refusal(429, text, headers=(("Retry-After", "1"),))
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1


_STREAMED = frozenset(
    {Endpoint.EXEC, Endpoint.ATTACH, Endpoint.PORT_FORWARD, Endpoint.CONTAINER_LOGS}
)
