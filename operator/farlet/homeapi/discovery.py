"""What only the clusters can tell of the context: who home is, where pods abroad reach it, and at
which address it reaches us.

Found at start, waiting for a home API server that does not answer, and looked at again while
farlet runs, since certificates, Services and routes change. An address that was seen to lead to
home is kept while it is only out of reach: pods start then as they do at home while its API server
is away. One that was never seen to is not given to pods, if farlet should be able to see it.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from farlet import errors, retrying
from farlet.client import own_address, resources
from farlet.client.cluster import Cluster
from farlet.constants import HOME_API_SERVICE, Reason
from farlet.context import Context, Endpoint
from farlet.homeapi import endpoint, endpoint_state, preflight
from farlet.homeapi import service as homeservice
from farlet.homeapi.endpoint import Passage
from farlet.homeapi.preflight import PreflightResult, Unreachable, Verified, WrongCertificate
from farlet.homeapi.service import HomeService
from farlet.settings import Preflight, Settings

RETRY_SECONDS = 3.0
LOOK_SECONDS = 60.0
SOON_SECONDS = 5.0
"""Between two looks at the address: usually, and while pods wait for it."""
LEAST_SECONDS = 0.2
"""Between two looks, however often something changes."""
TEXT_SECONDS = 30.0
"""So long one text stands for a failure that lasts."""

_WITHIN = preflight.WITHIN_SECONDS

log = structlog.get_logger()


class Discovery:
    """Makes the context of the moment; `on_change` is called when it has become another."""

    def __init__(
        self,
        settings: Settings,
        home: Cluster,
        foreign: Cluster,
        *,
        on_change: Callable[[], None],
        gateway_problem: Callable[[], str | None],
    ) -> None:
        """`gateway_problem` tells why no gateway is connected, if one should be."""
        self._settings = settings
        self._home = home
        self._on_change = on_change
        self._gateway_problem = gateway_problem
        self._ctx: Context | None = None
        self._worded_at = 0.0
        self._ca_failures = retrying.OncePerCause()
        self._again = asyncio.Event()
        self._seen: Endpoint | None = None
        """What was seen to lead to home by the Service."""
        self._service: HomeService | None = None
        if settings.home_api_server_host is None and settings.home_api_server_port is None:
            self._service = homeservice.HomeService(
                foreign, namespace=settings.foreign_system_namespace, on_change=self.look_again
            )
        self.looked = asyncio.Event()
        """The address has been looked at once."""
        self.problem: str | None = None
        """Why there is no context yet."""

    def ctx(self) -> Context:
        """The context of the moment."""
        if self._ctx is None:
            raise RuntimeError("the context is read before the start was over")
        return self._ctx

    def look_again(self) -> None:
        """Something has changed that the address depends on."""
        self._again.set()

    async def find_out(self, stop: asyncio.Event) -> bool:
        """Make a context, in which the address is not looked at yet; false once stopped.

        Raises `StartError` where home cannot be identified, `UsageError` for settings that do
        not fit what was found.
        """
        home_id = self._settings.home_id
        while home_id is None:
            try:
                service = await self._home.get(
                    resources.SERVICES, "kubernetes", namespace="default"
                )
                home_id = service["metadata"]["uid"]
            except (errors.Unreachable, errors.Throttled) as err:
                if str(err) != self.problem:
                    log.warning(
                        "home API server was not reached", err=str(err), retry_in=RETRY_SECONDS
                    )
                self.problem = str(err)
                if await retrying.wait(stop, RETRY_SECONDS):
                    return False
            except errors.ApiError as err:
                raise errors.StartError(
                    f"the home cluster cannot be identified: {err}. Allow farlet to get the "
                    "Service default/kubernetes, or give --home-id"
                ) from err
        where = endpoint.resolve_endpoint(self._settings, self._home.server)
        if where is not None and (doubt := endpoint.doubt(where)) is not None:
            log.warning("home API address for pods is that of each machine itself", detail=doubt)
        self._ctx = self._settings.context(
            node=self._settings.nodename,
            home_id=home_id,
            endpoint=where,
            home_ca=await self._read_ca(""),
        )
        self.problem = None
        return True

    async def run(self, *, ready: Callable[[], Awaitable[None]]) -> None:
        """Look at the address for ever. `ready` is awaited before: what leads there may still be
        in the making.
        """
        async with asyncio.TaskGroup() as tasks:
            if self._service is not None:
                tasks.create_task(self._service.run(), name="home-api Service")
                await self._service.first_heard()
                await ready()
            while True:
                self._again.clear()
                await self._look()
                self.looked.set()
                waits = self.ctx().endpoint_refusal is not None
                await asyncio.sleep(LEAST_SECONDS)
                await retrying.wait(self._again, SOON_SECONDS if waits else LOOK_SECONDS)

    async def names(self) -> tuple[str, ...] | WrongCertificate | Unreachable:
        """The names in the certificate at the address there is, by the way it is looked at."""
        ctx, by = self.ctx(), preflight.DIRECT
        assert ctx.endpoint is not None
        if self._service is not None and self._service.service is not None:
            by = self._service.approach(endpoint.passage(self._service.service))
        return await preflight.names(ctx.endpoint, ctx.home_ca, within=_WITHIN, by=by)

    async def _look(self) -> None:
        before = self.ctx()
        ctx = dataclasses.replace(before, home_ca=await self._read_ca(before.home_ca))
        if self._settings.node_ip is None:
            address = await own_address.towards(self._home.server)
            ctx = dataclasses.replace(ctx, node_ip=address or ctx.node_ip)
        if self._service is not None:
            ctx = await self._by_service(ctx, self._service)
        elif ctx.endpoint is not None:
            verdict = await preflight.verify(ctx.endpoint, ctx.home_ca, within=_WITHIN)
            ctx = self._judged(ctx, ctx.endpoint, verdict)
        ctx = self._ctx = self._worded(before, ctx)
        if ctx != before or not self.looked.is_set():
            _tell(ctx)
        if ctx != before:
            self._on_change()

    async def _read_ca(self, before: str) -> str:
        file = self._settings.home_api_server_ca_file or self._home.ca_file
        if not file:
            return ""
        try:
            text, problem = await asyncio.to_thread(Path(file).read_text), None
        except (OSError, UnicodeDecodeError) as err:
            # It is being replaced, or has been taken away: what runs keeps the old one.
            text, problem = before, str(err)
        if problem is None:
            self._ca_failures.clear()
        elif self._ca_failures.is_new(problem):
            log.warning("home CA was not read", file=str(file), err=problem)
        return text

    def _worded(self, before: Context, ctx: Context) -> Context:
        """With the words of before for a failure that only says it differently now: each text is
        a write for the Node and for every pod that waits, and a line in the log.
        """
        now = asyncio.get_running_loop().time()
        if (
            self.looked.is_set()
            and endpoint_state.failure(before) is not None
            and endpoint_state.failure(before) == endpoint_state.failure(ctx)
            and now - self._worded_at < TEXT_SECONDS
        ):
            return dataclasses.replace(
                ctx, endpoint_refusal=before.endpoint_refusal, endpoint_doubt=before.endpoint_doubt
            )
        self._worded_at = now
        return ctx

    # --- by the Service -----------------------------------------------------------------------

    async def _by_service(self, ctx: Context, service: HomeService) -> Context:
        if not service.known:
            return (
                ctx
                if ctx.endpoint is not None
                else endpoint_state.without(ctx, *endpoint_state.unheard(service.problem))
            )
        if service.service is None:
            self._seen = None
            return endpoint_state.without(ctx, None)
        try:
            passage = endpoint.passage(service.service)
        except errors.Refused as refused:
            return endpoint_state.without(ctx, refused.message, refused.reason)
        if not passage.selector:
            return await self._sight_unseen(ctx, passage)
        by = service.approach(passage)
        seen = self._seen
        if seen is not None and (seen.addresses, seen.port) == (passage.addresses, passage.port):
            verdict = await preflight.verify(seen, ctx.home_ca, within=_WITHIN, by=by)
            if not isinstance(verdict, WrongCertificate):
                return self._judged(ctx, seen, verdict)
        return await self._by_name(ctx, passage, by)

    async def _by_name(self, ctx: Context, passage: Passage, by: preflight.Approach) -> Context:
        """With the name that the certificate behind the Service has for pods."""
        unnamed = passage.endpoint(passage.addresses[0])
        names = await preflight.names(unnamed, ctx.home_ca, within=_WITHIN, by=by)
        if isinstance(names, WrongCertificate):
            return endpoint_state.without(ctx, names.message, Reason.HOME_API_CERTIFICATE_INVALID)
        if isinstance(names, Unreachable):
            return endpoint_state.without(ctx, self._nowhere(names), Reason.HOME_API_UNVERIFIED)
        name = endpoint.name_for_pods(names, ctx.cluster_domain)
        if name is None:
            return endpoint_state.without(
                ctx,
                f"the certificate behind {passage} has no DNS name that pods could dial; its names "
                f"(SANs) are: {', '.join(names) or 'none'}. Add kubernetes.default.svc to the home "
                "API server's certificate",
                Reason.HOME_API_CERTIFICATE_INVALID,
            )
        where = passage.endpoint(name)
        verdict = await preflight.verify(where, ctx.home_ca, within=_WITHIN, by=by)
        if isinstance(verdict, Unreachable):
            return endpoint_state.without(ctx, self._nowhere(verdict), Reason.HOME_API_UNVERIFIED)
        self._seen = where if isinstance(verdict, Verified) else None
        return self._judged(ctx, where, verdict)

    async def _sight_unseen(self, ctx: Context, passage: Passage) -> Context:
        """Nobody knows who is behind a Service without a selector: home's own certificate names
        what pods should dial.
        """
        url = urlsplit(self._home.server)
        direct = Endpoint(url.hostname or "", url.port or endpoint.SERVICE_PORT)
        names = await preflight.names(direct, ctx.home_ca, within=_WITHIN, by=preflight.DIRECT)
        name = endpoint.name_for_pods(names if isinstance(names, tuple) else (), ctx.cluster_domain)
        where = passage.endpoint(name or endpoint.USUAL_NAME)
        why = Unreachable(f"{passage} has no selector, so farlet cannot see who answers there")
        return self._judged(ctx, where, why)

    def _nowhere(self, verdict: Unreachable) -> str:
        gateway = self._gateway_problem()
        return (
            f"the Service {HOME_API_SERVICE} in farlet's foreign namespace leads nowhere yet: "
            f"{verdict.message}"
        ) + (f"; {gateway}" if gateway else "")

    def _judged(self, ctx: Context, where: Endpoint, verdict: PreflightResult) -> Context:
        return endpoint_state.judged(
            ctx,
            where,
            verdict,
            required=self._settings.home_api_preflight is Preflight.REQUIRE,
            seen=where == self._seen,
        )


def _tell(ctx: Context) -> None:
    where = None if ctx.endpoint is None else str(ctx.endpoint)
    if ctx.endpoint_refusal is not None:
        log.error("home API address was refused", endpoint=where, err=ctx.endpoint_refusal)
    elif ctx.endpoint is None:
        log.warning("home API address for pods is not set up")
    elif ctx.endpoint_doubt is not None:
        log.warning("home API address was not verified", endpoint=where, err=ctx.endpoint_doubt)
    else:
        log.info("home API address was verified", endpoint=where)


async def at_once() -> None:
    """For `ready`, where nothing is in the making."""
