"""Services of a home namespace and their endpoints, reflected into its foreign namespace.

Four watches and one task for each open namespace. New mirrors wait for the first complete pass, so
that their variables name all Services. `planning.services` decides what is written.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import structlog

from farlet import errors, retrying
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.client.reflector import Reflector
from farlet.client.resources import Resource
from farlet.constants import JSON, REFLECTED, VIRTUAL_NODE_ID, Reason
from farlet.context import Context
from farlet.errors import Refused
from farlet.k8s_types import ObjectMeta, PartialObject
from farlet.planning import api_refusals, services
from farlet.planning.services import Action, Create, Delete, Replace
from farlet.store import version

COALESCE_SECONDS = 0.05
RETRY_FIRST_SECONDS = 1.0
RETRY_LAST_SECONDS = 30.0
AGAIN_SECONDS = 60.0
"""An object that the foreign API server did not accept is tried again after this time."""
LATER_SECONDS = 100.0
"""An object that shows a later home state than ours stays for this time: a watch that has lost its
server without a sign ends sooner (`WATCH_SILENCE_SECONDS`). Then home was restored from a backup.
"""

SELECTOR = f"{REFLECTED}=true"
HOME_ROLE = "manifests/home/reflected-services.yaml"
FOREIGN_ROLE = "manifests/foreign/reflected-services.yaml"

T = TypeVar("T")

log = structlog.get_logger()


class _Objects(Generic[T]):
    """The objects of one watch by name, the newest version of each."""

    def __init__(self, metadata: Callable[[T], ObjectMeta], notify: Callable[[], None]) -> None:
        self._metadata = metadata
        self._notify = notify
        self.items: dict[str, T] = {}

    def replaced(self, objects: Sequence[T], version: int) -> None:  # noqa: ARG002
        """A complete list."""
        self.items = {self._metadata(obj)["name"]: obj for obj in objects}
        self._notify()

    def changed(self, kind: str, obj: T) -> None:
        """One event; one that is older than the object it concerns changes nothing."""
        metadata = self._metadata(obj)
        stored = self.items.get(metadata["name"])
        if stored is not None and version(self._metadata(stored)) > version(metadata):
            return
        if kind == "DELETED":
            self.items.pop(metadata["name"], None)
        else:
            self.items[metadata["name"]] = obj
        self._notify()


class _LeftOut(NamedTuple):
    """An object that the foreign API server did not accept."""

    state: str
    """What it should have shown: after a change at home it is written again."""
    until: float
    """In the time of the event loop."""
    code: int


class _Since(NamedTuple):
    state: str
    since: float
    """In the time of the event loop."""


class ReflectedServices:
    """`run` keeps the Services of one namespace as they are at home, until cancelled."""

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
        self._cluster = cluster
        self._foreign = foreign
        self._ctx = ctx
        self._on_state = on_state
        self._changed = asyncio.Event()
        self.ready = False
        """All Services were reflected once since the namespace was opened."""
        self._refused: Refused | None = None
        self._failures = retrying.OncePerCause()
        self._left_out: dict[str, dict[str, _LeftOut]] = {}
        """By resource and name."""
        self._created: dict[str, dict[str, _Since]] = {}
        """By resource and name: what was created a moment ago."""
        self._later: dict[str, dict[str, _Since]] = {}
        """By resource and name: what shows a later home state than ours."""
        notify = self._changed.set
        self._home_services: _Objects[JSON] = _Objects(_of_whole, notify)
        self._home_slices: _Objects[JSON] = _Objects(_of_whole, notify)
        self._services: _Objects[PartialObject] = _Objects(_of_partial, notify)
        self._slices: _Objects[PartialObject] = _Objects(_of_partial, notify)

        def at_home(resource: Resource[JSON], objects: _Objects[JSON]) -> Reflector[JSON]:
            return Reflector(
                home_cluster, resource, objects, namespace=home, on_state=self._followed
            )

        def reflected(
            resource: Resource[JSON], objects: _Objects[PartialObject]
        ) -> Reflector[PartialObject]:
            return Reflector(
                cluster,
                resource.metadata_only,
                objects,
                namespace=foreign,
                on_state=self._followed,
                label_selector=SELECTOR,
                confirm=confirm,
            )

        self._home_watches = (
            at_home(resources.SERVICES, self._home_services),
            at_home(resources.ENDPOINT_SLICES, self._home_slices),
        )
        self._foreign_watches = (
            reflected(resources.SERVICES, self._services),
            reflected(resources.ENDPOINT_SLICES, self._slices),
        )

    @property
    def problem(self) -> Refused | None:
        """Why Services cannot be reflected, where an administrator has to act."""
        for watch in self._home_watches:
            if isinstance(watch.error, errors.Forbidden):
                return _denied(watch.error, Reason.HOME_NAMESPACE_FORBIDDEN, f"-f {HOME_ROLE}")
        for reflected in self._foreign_watches:
            if isinstance(reflected.error, errors.Forbidden):
                return self._denied(reflected.error)
        return self._refused

    def void(self) -> None:
        """What was read may be that of another cluster: read it again."""
        for watch in self._foreign_watches:
            watch.void()

    async def run(self) -> None:
        """Follow and write until cancelled. Raises nothing else."""
        async with asyncio.TaskGroup() as tasks:
            for watch in self._home_watches:
                tasks.create_task(watch.run())
            for reflected in self._foreign_watches:
                tasks.create_task(reflected.run())
            tasks.create_task(self._reflect())

    def _followed(self) -> None:
        """A watch was lost or is open again. Only pods that wait for Services depend on it."""
        self._changed.set()
        if not self.ready:
            self._on_state()

    async def _reflect(self) -> None:
        backoff = retrying.Backoff(RETRY_FIRST_SECONDS, RETRY_LAST_SECONDS)
        while True:
            await retrying.wait(self._changed, self._again_in())
            self._changed.clear()
            await asyncio.sleep(COALESCE_SECONDS)
            watches = (*self._home_watches, *self._foreign_watches)
            if not all(watch.in_sync for watch in watches):
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
        await self._perform_all(
            resources.SERVICES,
            self._services,
            services.of_services(
                self._home_services.items.values(),
                _metadata(self._services),
                left_out=self._not_due(resources.SERVICES),
                kept=self._kept(resources.SERVICES, self._services, services_at),
            ),
        )
        await self._perform_all(
            resources.ENDPOINT_SLICES,
            self._slices,
            services.of_slices(
                self._home_slices.items.values(),
                _metadata(self._slices),
                reflected=self._services.items,
                ctx=self._ctx(),
                left_out=self._not_due(resources.ENDPOINT_SLICES),
                kept=self._kept(resources.ENDPOINT_SLICES, self._slices, slices_at),
            ),
        )

    async def _perform_all(
        self,
        resource: Resource[JSON],
        objects: _Objects[PartialObject],
        actions: Iterable[Action],
    ) -> None:
        """One object that is not accepted holds up no other."""
        for action in actions:
            try:
                await self._perform(resource, objects, action)
            except errors.ApiError as err:
                if not api_refusals.concerns_one_object(err):
                    raise
                self._leave_out(resource, action, err)
        now = asyncio.get_running_loop().time()
        self._created[resource.plural] = {
            name: one
            for name, one in self._created.get(resource.plural, {}).items()
            if now - one.since < AGAIN_SECONDS
        }
        left_out = self._left_out.get(resource.plural, {})
        # Those that were due are written or gone.
        self._left_out[resource.plural] = {
            name: one for name, one in left_out.items() if one.until > now
        }

    async def _perform(
        self, resource: Resource[JSON], objects: _Objects[PartialObject], action: Action
    ) -> None:
        match action:
            case Create(body):
                made = await self._cluster.create(resource, body, namespace=self._foreign)
                objects.changed("ADDED", {"metadata": made["metadata"]})
                self._note_created(resource, action)
            case Replace(body, existing):
                await self._replace(resource, objects, body, existing)
            case Delete(existing):
                await self._delete(resource, objects, existing)

    async def _replace(
        self,
        resource: Resource[JSON],
        objects: _Objects[PartialObject],
        body: JSON,
        existing: ObjectMeta,
    ) -> None:
        seen = {"uid": existing["uid"], "resourceVersion": existing["resourceVersion"]}
        wanted = {**body, "metadata": {**body["metadata"], **seen}}
        name = existing["name"]
        try:
            made = await self._cluster.replace(resource, name, wanted, namespace=self._foreign)
        except errors.Conflict:
            return  # the watch shows a newer version
        except errors.NotFound:
            objects.items.pop(name, None)
            self._changed.set()
        except errors.Invalid:
            # Some fields cannot change, such as headless or not: create it again.
            await self._delete(resource, objects, existing)
            self._changed.set()
        else:
            objects.changed("MODIFIED", {"metadata": made["metadata"]})

    async def _delete(
        self, resource: Resource[JSON], objects: _Objects[PartialObject], existing: ObjectMeta
    ) -> None:
        await _delete(self._cluster, resource, existing, namespace=self._foreign)
        objects.items.pop(existing["name"], None)

    def _leave_out(self, resource: Resource[JSON], action: Action, err: errors.ApiError) -> None:
        """Its name belongs to another owner, or the foreign cluster does not accept it."""
        name, state = services.subject(action)
        left_out = self._left_out.setdefault(resource.plural, {})
        before = left_out.get(name)
        until = asyncio.get_running_loop().time() + AGAIN_SECONDS
        left_out[name] = _LeftOut(state, until, err.code)
        (log.warning if before is None or before.code != err.code else log.debug)(
            "home object not reflected",
            kind=resource.plural,
            namespace=self._foreign,
            name=name,
            err=str(err),
            retry_in=AGAIN_SECONDS,
        )

    def _note_created(self, resource: Resource[JSON], action: Create) -> None:
        """Created a second time, it is not created a third time for a minute.

        Another virtual node can know that it is gone at home, while our watch lags.
        """
        name, state = services.subject(action)
        now = asyncio.get_running_loop().time()
        created = self._created.setdefault(resource.plural, {})
        before = created.get(name)
        if before is not None and before.state == state and now - before.since < AGAIN_SECONDS:
            left_out = self._left_out.setdefault(resource.plural, {})
            left_out[name] = _LeftOut(state, now + AGAIN_SECONDS, 0)
        created[name] = _Since(state, now)

    def _kept(
        self, resource: Resource[JSON], objects: _Objects[PartialObject], version: int
    ) -> list[str]:
        """Names of what another virtual node wrote, whose watch of home is ahead of ours."""
        now = asyncio.get_running_loop().time()
        before = self._later.get(resource.plural, {})
        later = self._later[resource.plural] = {}
        for name, state in services.later(_metadata(objects), version).items():
            since = before.get(name)
            if since is None or since.state != state:
                since = _Since(state, now)
            later[name] = since
        return [name for name, one in later.items() if now - one.since < LATER_SECONDS]

    def _not_due(self, resource: Resource[JSON]) -> dict[str, str]:
        """The state of each object that was left out a moment ago, by name."""
        now = asyncio.get_running_loop().time()
        left_out = self._left_out.get(resource.plural, {})
        return {name: one.state for name, one in left_out.items() if one.until > now}

    def _again_in(self) -> float:
        """Seconds until the first object that was left out is due, or a pass as any other."""
        now = asyncio.get_running_loop().time()
        due = [one.until for kind in self._left_out.values() for one in kind.values()]
        return min((until - now for until in due if until > now), default=AGAIN_SECONDS)

    def _failed(self, err: errors.FarletError, *, retry_in: float) -> None:
        (log.warning if self._failures.is_new(str(err)) else log.debug)(
            "failed to reflect services", namespace=self._foreign, err=str(err), retry_in=retry_in
        )
        refused = self._denied(err) if isinstance(err, errors.Forbidden) else None
        if (refused is None) is not (self._refused is None):
            self._refused = refused
            self._on_state()

    def _denied(self, err: errors.Forbidden) -> Refused:
        where = f"-n {self._foreign} -f {FOREIGN_ROLE}"
        return _denied(err, Reason.FOREIGN_FORBIDDEN, where)


def _denied(err: errors.Forbidden, reason: Reason, apply: str) -> Refused:
    return Refused(
        reason,
        f"--reflect=services: the {err.cluster} API server answered 403: {err.message}. In the "
        f"{err.cluster} cluster: kubectl apply {apply}",
    )


def _of_whole(obj: JSON) -> ObjectMeta:
    metadata: ObjectMeta = obj["metadata"]
    return metadata


def _of_partial(obj: PartialObject) -> ObjectMeta:
    return obj["metadata"]


def _metadata(objects: _Objects[PartialObject]) -> Mapping[str, ObjectMeta]:
    return {name: obj["metadata"] for name, obj in objects.items.items()}


async def _delete(
    cluster: ApiClient, resource: Resource[JSON], metadata: ObjectMeta, *, namespace: str
) -> None:
    """Delete this very object; no error if it is gone. Raises like `ApiClient.delete`."""
    body = {"preconditions": {"uid": metadata["uid"]}}
    with contextlib.suppress(errors.NotFound, errors.Conflict):
        await cluster.delete(resource, metadata["name"], body, namespace=namespace)


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
        for resource in (resources.SERVICES, resources.ENDPOINT_SLICES)
        for one in (
            await cluster.list_all(
                resource.metadata_only, namespace=namespace, label_selector=SELECTOR
            )
        ).items
    ]
    await confirm()
    for resource, metadata in reflected:
        await _delete(cluster, resource, metadata, namespace=namespace)
