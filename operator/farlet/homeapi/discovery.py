"""Finds what only the clusters know: the home id, the endpoint at which pods in the foreign cluster
reach the home API server, and the address at which the home cluster reaches farlet.

At start, discovery waits for a home API server that does not answer. While farlet runs it checks
the endpoint again and again, since certificates, Services and routes change. An endpoint that was
verified stays in use while it is only out of reach: pods then start as they do in the home cluster
while its API server is down. An endpoint behind the Service that was never verified is not given
to pods, if farlet is able to check it.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from farlet import errors, retrying
from farlet.client import connection_errors, own_address, resources
from farlet.client.cluster import Cluster
from farlet.constants import HOME_API_SERVICE, Reason
from farlet.context import (
    Context,
    Endpoint,
    HomeAPI,
    NotConfigured,
    OutOfReach,
    Refused,
    Unverified,
    Verified,
)
from farlet.homeapi import endpoint, endpoint_state, preflight
from farlet.homeapi.endpoint import ServiceAddress
from farlet.homeapi.preflight import PreflightResult, Unreachable, WrongCertificate
from farlet.homeapi.service import HomeService
from farlet.settings import Preflight, Settings

RETRY_SECONDS = 3.0
CHECK_SECONDS = 60.0
"""Between two checks of the endpoint."""
CHECK_REFUSED_SECONDS = 5.0
"""Between two checks while the endpoint is refused and pods wait for it."""
MIN_CHECK_SECONDS = 0.2
"""Between two checks, however often something changes."""
MESSAGE_SECONDS = 30.0
"""For this time a lasting failure keeps its first message."""

_WITHIN = preflight.WITHIN_SECONDS

log = structlog.get_logger()


class Discovery:
    """Builds the current context and calls `on_change` when it changes."""

    def __init__(
        self,
        settings: Settings,
        home: Cluster,
        foreign: Cluster,
        *,
        on_change: Callable[[], None],
        gateway_problem: Callable[[], str | None],
    ) -> None:
        """`gateway_problem` returns why no gateway is connected, if one should be."""
        self._settings = settings
        self._home = home
        self._on_change = on_change
        self._gateway_problem = gateway_problem
        self._ctx: Context | None = None
        self._message_at = 0.0
        self._ca_failures = retrying.OncePerCause()
        self._recheck = asyncio.Event()
        self._verified: Endpoint | None = None
        """The endpoint behind the Service where the home API server was seen last."""
        self._service: HomeService | None = None
        if settings.home_api_server_host is None and settings.home_api_server_port is None:
            self._service = HomeService(
                foreign, namespace=settings.foreign_system_namespace, on_change=self.recheck
            )
        self.checked = asyncio.Event()
        """Set after each check of the endpoint."""
        self.problem: str | None = None
        """Why the context does not exist yet."""

    @property
    def known_ctx(self) -> Context | None:
        """The context; `None` before home was identified."""
        return self._ctx

    def ctx(self) -> Context:
        if self._ctx is None:
            raise RuntimeError("the context was read before home was identified")
        return self._ctx

    def recheck(self) -> None:
        """Check the endpoint now, because something has changed that it depends on."""
        self._recheck.set()

    async def identify_home(self, stop: asyncio.Event) -> bool:
        """Create a context in which the endpoint is not checked yet; false if `stop` came first.

        Raises `StartError` if home cannot be identified, `UsageError` for settings that do
        not fit what was found.
        """
        home_id, failures = self._settings.home_id, retrying.OncePerCause()
        while home_id is None:
            try:
                service = await self._home.get(
                    resources.SERVICES, "kubernetes", namespace="default"
                )
                home_id = service["metadata"]["uid"]
            except (errors.Unreachable, errors.Throttled) as err:
                if failures.is_new(str(err)):
                    log.warning(
                        "home API server is unreachable", err=str(err), retry_in=RETRY_SECONDS
                    )
                self.problem = str(err)
                if await retrying.wait(stop, RETRY_SECONDS):
                    return False
            except errors.ApiError as err:
                raise errors.StartError(
                    f"cannot identify the home cluster: {err}. Allow farlet to get the Service "
                    "default/kubernetes, or set --home-id"
                ) from err
        found = endpoint.resolve_endpoint(self._settings, self._home.server)
        if found is not None and (warning := endpoint.loopback_warning(found)) is not None:
            log.warning("home API address for pods is a loopback address", detail=warning)
        self._ctx = self._settings.context(
            node=self._settings.nodename,
            home_id=home_id,
            home_api=NotConfigured() if found is None else Unverified(found, "not checked yet"),
            home_ca=await self._read_ca(""),
        )
        self.problem = None
        return True

    async def run(self, *, ready: Callable[[], Awaitable[None]] | None = None) -> None:
        """Check the endpoint until cancelled. The first check waits for `ready`, which returns
        once the gateways are connected.
        """
        async with asyncio.TaskGroup() as tasks:
            if self._service is not None:
                tasks.create_task(self._service.run(), name="home-api Service")
                await self._service.wait_synced()
                if ready is not None:
                    await ready()
            while True:
                self._recheck.clear()
                await self._check()
                self.checked.set()
                refused = isinstance(self.ctx().home_api, Refused)
                await asyncio.sleep(MIN_CHECK_SECONDS)
                await retrying.wait(
                    self._recheck, CHECK_REFUSED_SECONDS if refused else CHECK_SECONDS
                )

    async def certificate_names(self) -> tuple[str, ...] | WrongCertificate | Unreachable:
        """The names in the certificate at the current endpoint, read over the route of checks."""
        ctx, route = self.ctx(), preflight.DIRECT
        assert ctx.endpoint is not None
        if self._service is not None and self._service.service is not None:
            route = self._service.route(endpoint.service_address(self._service.service))
        return await preflight.names(ctx.endpoint, ctx.home_ca, within=_WITHIN, route=route)

    async def _check(self) -> None:
        before = self.ctx()
        ctx = dataclasses.replace(before, home_ca=await self._read_ca(before.home_ca))
        if self._settings.node_ip is None:
            address = await own_address.towards(self._home.server)
            ctx = dataclasses.replace(ctx, node_ip=address or ctx.node_ip)
        found = ctx.home_api
        if self._service is not None:
            found = await self._check_service(ctx, self._service)
        elif ctx.endpoint is not None:
            result = await preflight.verify(ctx.endpoint, ctx.home_ca, within=_WITHIN)
            found = self._after_preflight(ctx.endpoint, result)
        found = self._keep_message(before.home_api, found)
        ctx = self._ctx = dataclasses.replace(ctx, home_api=found)
        if ctx != before or not self.checked.is_set():
            _log_state(found)
        if ctx != before:
            self._on_change()

    async def _read_ca(self, before: str) -> str:
        file = self._settings.home_api_server_ca_file or self._home.ca_file
        if not file:
            return ""
        try:
            text, problem = await asyncio.to_thread(Path(file).read_text), None
        except (OSError, UnicodeDecodeError) as err:
            # The file is being replaced or was removed: what runs keeps the CA it has.
            text, problem = before, str(err)
        if problem is None:
            self._ca_failures.clear()
        elif self._ca_failures.is_new(problem):
            log.warning("failed to read home CA", file=str(file), err=problem)
        return text

    def _keep_message(self, before: HomeAPI, found: HomeAPI) -> HomeAPI:
        """The state before, if the same failure only has another message. Each new message is a
        write to the Node and to every pod that waits, and a line in the log.
        """
        now = asyncio.get_running_loop().time()
        failure = endpoint_state.failure(found)
        if (
            self.checked.is_set()
            and failure is not None
            and failure == endpoint_state.failure(before)
            and now - self._message_at < MESSAGE_SECONDS
        ):
            return before
        self._message_at = now
        return found

    # --- the endpoint behind the Service ------------------------------------------------------

    async def _check_service(self, ctx: Context, service: HomeService) -> HomeAPI:
        if not service.has_synced:
            if ctx.endpoint is not None:
                return ctx.home_api
            return endpoint_state.not_synced(service.problem)
        if service.service is None:
            self._verified = None
            return NotConfigured()
        try:
            address = endpoint.service_address(service.service)
        except errors.Refused as refused:
            return Refused(refused.reason, refused.message)
        if not address.selector:
            return await self._without_selector(ctx, address)
        route = service.route(address)
        verified = self._verified
        if verified is not None and (verified.addresses, verified.port) == (
            address.addresses,
            address.port,
        ):
            result = await preflight.verify(verified, ctx.home_ca, within=_WITHIN, route=route)
            if not isinstance(result, WrongCertificate):
                return self._after_preflight(verified, result)
        return await self._by_certificate(ctx, address, route)

    async def _by_certificate(
        self, ctx: Context, address: ServiceAddress, route: preflight.Route
    ) -> HomeAPI:
        """Pods dial a name that both the certificate behind the Service and that of the home API
        server contain.
        """
        unnamed = address.endpoint(address.addresses[0])
        names = await preflight.names(unnamed, ctx.home_ca, within=_WITHIN, route=route)
        if isinstance(names, WrongCertificate):
            return Refused(Reason.HOME_API_CERTIFICATE_INVALID, names.message)
        if isinstance(names, Unreachable):
            return self._not_reachable(names)
        own = endpoint.names_for_pods(self._home.certificate_names, ctx.cluster_domain)
        name = next((name for name in own if name in names), None)
        if name is None:
            # Perhaps another replica of the home API server, whose certificate has other names.
            problem = await self._read_home_certificate()
            own = endpoint.names_for_pods(self._home.certificate_names, ctx.cluster_domain)
            name = next((name for name in own if name in names), None)
            if name is None:
                return endpoint_state.unknown_names(
                    address, names, home=self._home.certificate_names, usable=own, problem=problem
                )
        found = address.endpoint(name)
        result = await preflight.verify(found, ctx.home_ca, within=_WITHIN, route=route)
        if isinstance(result, Unreachable):
            return self._not_reachable(result)
        self._verified = found if isinstance(result, preflight.Verified) else None
        return self._after_preflight(found, result)

    async def _without_selector(self, ctx: Context, address: ServiceAddress) -> HomeAPI:
        """farlet cannot know what is behind a Service without a selector. Pods dial a name from
        the certificate that the home API server shows to farlet.
        """
        if not self._home.certificate_names:
            await self._read_home_certificate()
        own = endpoint.names_for_pods(self._home.certificate_names, ctx.cluster_domain)
        return self._after_preflight(
            address.endpoint(next(iter(own), endpoint.DEFAULT_NAME)),
            Unreachable(f"{address} has no selector, so farlet cannot check what answers there"),
        )

    async def _read_home_certificate(self) -> str | None:
        """Connect to the home API server for its names. Returns why that failed."""
        try:
            await self._home.read_certificate()
        except OSError as err:  # TimeoutError is one
            return connection_errors.cause(err)
        return None

    def _not_reachable(self, result: Unreachable) -> Refused:
        gateway = self._gateway_problem()
        return Refused(
            Reason.HOME_API_UNVERIFIED,
            f"farlet has not reached the home API server through the Service {HOME_API_SERVICE} in "
            f"its foreign system namespace yet: {result.message}"
            + (f"; {gateway}" if gateway else ""),
        )

    def _after_preflight(self, found: Endpoint, result: PreflightResult) -> HomeAPI:
        return endpoint_state.after_preflight(
            found,
            result,
            required=self._settings.home_api_preflight is Preflight.REQUIRE,
            was_verified=found == self._verified,
        )


def _log_state(home_api: HomeAPI) -> None:
    where = None if home_api.endpoint is None else str(home_api.endpoint)
    match home_api:
        case Refused(_, message):
            log.error("home API address for pods is unusable", endpoint=where, err=message)
        case NotConfigured():
            log.warning("home API address for pods is missing")
        case Unverified(_, message) | OutOfReach(_, message):
            log.warning("failed to verify home API address for pods", endpoint=where, err=message)
        case Verified():
            log.info("home API address for pods verified", endpoint=where)
