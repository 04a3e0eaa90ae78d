"""What only the clusters can tell of the context: who home is, where pods abroad reach it, and at
which address it reaches us.

Found at start, waiting for an API server that does not answer, and looked at again while farlet
runs, since certificates and routes change.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path

import structlog

from farlet import clusters, endpoint, errors, ownaddress, preflight
from farlet.context import Context
from farlet.settings import Preflight, Settings

RETRY_SECONDS = 3.0
PREFLIGHT_SECONDS = 60.0

log = structlog.get_logger()


class Discovery:
    """Makes the context of the moment; `on_change` is called when it has become another."""

    def __init__(
        self, settings: Settings, home: clusters.Cluster, *, on_change: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._home = home
        self._on_change = on_change
        self._ctx: Context | None = None
        self.problem: str | None = None
        """Why there is no context yet."""

    def ctx(self) -> Context:
        """The context of the moment."""
        if self._ctx is None:
            raise RuntimeError("the context is read before the start was over")
        return self._ctx

    async def find_out(self, stop: asyncio.Event) -> bool:
        """Make the context; false once stopped.

        Raises `StartError` where home cannot be identified, `UsageError` for settings that do
        not fit what was found.
        """
        home_id = self._settings.home_id
        while home_id is None:
            try:
                service = await self._home.call(
                    "GET", "/api/v1/namespaces/default/services/kubernetes"
                )
                home_id = service["metadata"]["uid"]
            except (errors.Unreachable, errors.Throttled) as err:
                self.problem = str(err)
                log.warning("home API server was not reached", err=str(err), retry_in=RETRY_SECONDS)
                if await _within(stop, RETRY_SECONDS):
                    return False
            except errors.ApiError as err:
                raise errors.StartError(
                    f"the home cluster cannot be identified: {err}. Allow farlet to get the "
                    "Service default/kubernetes, or give --home-id"
                ) from err
        where = endpoint.resolve_endpoint(self._settings, self._home.server)
        if where is not None and (doubt := endpoint.doubt(where)) is not None:
            log.warning("home API address for pods is that of each machine itself", detail=doubt)
        ca_file = self._settings.home_api_server_ca_file or self._home.ca_file
        home_ca = await asyncio.to_thread(Path(ca_file).read_text) if ca_file else ""
        self._ctx = self._settings.context(
            node=self._settings.nodename, home_id=home_id, endpoint=where, home_ca=home_ca
        )
        await self._look()
        return True

    async def run(self) -> None:
        """Look at the address for ever."""
        while True:
            await asyncio.sleep(PREFLIGHT_SECONDS)
            before = self.ctx()
            await self._look()
            if self.ctx() != before:
                self._on_change()

    async def _look(self) -> None:
        ctx = self.ctx()
        if self._settings.node_ip is None:
            address = await ownaddress.towards(self._home.server)
            ctx = dataclasses.replace(ctx, node_ip=address or ctx.node_ip)
        required = self._settings.home_api_preflight is Preflight.REQUIRE
        self._ctx = await preflight.checked(ctx, required=required)


async def _within(stop: asyncio.Event, seconds: float) -> bool:
    """Wait for `stop`, but not longer; returns whether it came."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True
