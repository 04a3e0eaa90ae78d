"""Services of a home namespace and their endpoints, reflected into its foreign namespace.

Four watches and one task for each open namespace. New mirrors wait for the first complete pass, so
that their variables name all Services. `planning.services` decides what is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from farlet import errors, retrying
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import VIRTUAL_NODE_ID, Reason
from farlet.context import Context
from farlet.errors import Refused
from farlet.foreign import reflected_collection
from farlet.foreign.reflected_collection import ReflectedCollection
from farlet.planning import services

COALESCE_SECONDS = 0.05
RETRY_FIRST_SECONDS = 1.0
RETRY_LAST_SECONDS = 30.0

REFLECTED_RESOURCES = (resources.SERVICES, resources.ENDPOINT_SLICES)
HOME_ROLE = "manifests/home/reflected-services.yaml"
FOREIGN_ROLE = "manifests/foreign/reflected-services.yaml"

log = structlog.get_logger()


class ReflectedServices:
    """`run` keeps the copies of the Services of one namespace up to date until cancelled."""

    def __init__(
        self,
        home_cluster: ApiClient,
        cluster: ApiClient,
        *,
        home: str,
        foreign: str,
        ctx: Callable[[], Context],
        on_state: Callable[[], None],
        confirm: Callable[[], Awaitable[None]],
    ) -> None:
        """`on_state` is called when `ready` or `problem` may have changed."""
        self._foreign = foreign
        self._ctx = ctx
        self._on_state = on_state
        self._changed = asyncio.Event()
        self.ready = False
        """All Services were reflected once since the namespace was opened."""
        self._refused: Refused | None = None
        self._failures = retrying.OncePerCause()
        self._services, self._slices = (
            ReflectedCollection(
                resource,
                home_cluster,
                cluster,
                home=home,
                foreign=foreign,
                on_change=self._changed.set,
                on_state=self._followed,
                confirm=confirm,
            )
            for resource in REFLECTED_RESOURCES
        )
        self._home_watches = (self._services.home_watch, self._slices.home_watch)
        self._foreign_watches = (self._services.foreign_watch, self._slices.foreign_watch)
        self._watches = (*self._home_watches, *self._foreign_watches)

    @property
    def problem(self) -> Refused | None:
        """Why Services cannot be reflected, where an administrator has to act."""
        for watch in self._watches:
            if isinstance(watch.error, errors.Forbidden):
                return self._denied(watch.error)
        return self._refused

    def void(self) -> None:
        """What was read may be that of another cluster: read it again."""
        for watch in self._foreign_watches:
            watch.void()

    async def run(self) -> None:
        """Follow and write until cancelled. Raises nothing else."""
        async with asyncio.TaskGroup() as tasks:
            for watch in self._watches:
                tasks.create_task(watch.run())
            tasks.create_task(self._reflect())

    def _followed(self) -> None:
        """A watch was lost or is open again. Only pods that wait for Services depend on it."""
        self._changed.set()
        if not self.ready:
            self._on_state()

    async def _reflect(self) -> None:
        backoff = retrying.Backoff(RETRY_FIRST_SECONDS, RETRY_LAST_SECONDS)
        while True:
            again_in = min(self._services.again_in, self._slices.again_in)
            await retrying.wait(self._changed, again_in)
            self._changed.clear()
            await asyncio.sleep(COALESCE_SECONDS)
            if not all(watch.in_sync for watch in self._watches):
                continue
            try:
                await self._pass()
            except errors.FarletError as err:
                pause = backoff.next()
                self._failed(err, retry_in=pause)
            except Exception:
                # As for a pod: an internal error concerns this namespace only.
                pause = RETRY_LAST_SECONDS
                log.exception("failed to reflect services", namespace=self._foreign)
            else:
                pause = 0.0
            if pause:
                await asyncio.sleep(pause)
                self._changed.set()
                continue
            backoff.reset()
            self._failures.clear()
            if not self.ready or self._refused is not None:
                self.ready, self._refused = True, None
                self._on_state()

    async def _pass(self) -> None:
        """Write what differs. Raises what the API server raises, except for single objects."""
        services_at, slices_at = (watch.version for watch in self._home_watches)
        await self._services.write(
            services.of_services(
                self._services.home,
                self._services.foreign,
                left_out=self._services.left_out,
                kept=self._services.kept(services_at),
            )
        )
        await self._slices.write(
            services.of_slices(
                self._slices.home,
                self._slices.foreign,
                reflected=self._services.foreign,
                ctx=self._ctx(),
                left_out=self._slices.left_out,
                kept=self._slices.kept(slices_at),
            )
        )

    def _failed(self, err: errors.FarletError, *, retry_in: float) -> None:
        (log.warning if self._failures.is_new(str(err)) else log.debug)(
            "failed to reflect services", namespace=self._foreign, err=str(err), retry_in=retry_in
        )
        refused = self._denied(err) if isinstance(err, errors.Forbidden) else None
        if (refused is None) is not (self._refused is None):
            self._refused = refused
            self._on_state()

    def _denied(self, err: errors.Forbidden) -> Refused:
        if err.cluster == "home":
            reason, apply = Reason.HOME_NAMESPACE_FORBIDDEN, f"-f {HOME_ROLE}"
        else:
            reason, apply = Reason.FOREIGN_FORBIDDEN, f"-n {self._foreign} -f {FOREIGN_ROLE}"
        return Refused(
            reason,
            f"--reflect=services: the {err.cluster} API server answered 403: {err.message}. In the "
            f"{err.cluster} cluster: kubectl apply {apply}",
        )


async def clear(
    cluster: ApiClient, namespace: str, *, confirm: Callable[[], Awaitable[None]]
) -> None:
    """Delete all that is reflected in a foreign namespace, unless a virtual node has mirrors there.

    `confirm` raises unless the answers before it are of the right cluster. Raises what it and the
    API server raise.
    """
    pods = await cluster.list_all(resources.PODS.metadata_only, namespace=namespace)
    if any(VIRTUAL_NODE_ID in pod["metadata"].get("labels", {}) for pod in pods.items):
        return
    reflected = [
        (resource, one["metadata"])
        for resource in REFLECTED_RESOURCES
        for one in (
            await cluster.list_all(
                resource.metadata_only,
                namespace=namespace,
                label_selector=reflected_collection.SELECTOR,
            )
        ).items
    ]
    await confirm()
    for resource, metadata in reflected:
        await reflected_collection.delete(cluster, resource, metadata, namespace=namespace)
