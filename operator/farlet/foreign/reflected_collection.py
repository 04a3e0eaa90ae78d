"""One collection of a home namespace, such as its Services, reflected into its foreign namespace.

It follows both sides, performs single writes, and remembers which objects are not due yet.
`planning.services` decides what is written, and `foreign.services` when.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence, Set
from typing import Generic, NamedTuple, TypeVar

import structlog

from farlet import errors
from farlet.client.api_client import ApiClient
from farlet.client.reflector import Reflector
from farlet.client.resources import Resource
from farlet.constants import JSON, REFLECTED
from farlet.k8s_types import ObjectMeta, PartialObject
from farlet.planning import api_refusals, services
from farlet.planning.services import Action, Create, Delete, Replace
from farlet.store import version

AGAIN_SECONDS = 60.0
"""An object that the foreign API server did not accept is tried again after this time."""
LATER_SECONDS = 100.0
"""An object that shows a later home state than ours stays for this time: a watch that has lost its
server without a sign ends sooner (`WATCH_SILENCE_SECONDS`). Then home was restored from a backup.
"""

SELECTOR = f"{REFLECTED}=true"

T = TypeVar("T", JSON, PartialObject)

log = structlog.get_logger()


class _Objects(Generic[T]):
    """The objects of one watch by name, the newest version of each."""

    def __init__(self, notify: Callable[[], None]) -> None:
        self._notify = notify
        self.items: dict[str, T] = {}

    def replaced(self, objects: Sequence[T], version: int) -> None:  # noqa: ARG002
        """A complete list."""
        self.items = {obj["metadata"]["name"]: obj for obj in objects}
        self._notify()

    def changed(self, kind: str, obj: T) -> None:
        """One event; one that is older than the object it concerns changes nothing."""
        name = obj["metadata"]["name"]
        stored = self.items.get(name)
        if stored is not None and version(stored["metadata"]) > version(obj["metadata"]):
            return
        if kind == "DELETED":
            self.items.pop(name, None)
        else:
            self.items[name] = obj
        self._notify()


class _Note(NamedTuple):
    """What is remembered of one object for some time."""

    state: str
    """State of the home object, as the foreign one showed it or should have shown it."""
    until: float
    """In the time of the event loop."""
    code: int = 0
    """What the foreign API server answered, if it did not accept the object."""


class ReflectedCollection:
    """The home objects of one resource, and the foreign objects that reflect them."""

    def __init__(
        self,
        resource: Resource[JSON],
        home_cluster: ApiClient,
        cluster: ApiClient,
        *,
        home: str,
        foreign: str,
        on_change: Callable[[], None],
        on_state: Callable[[], None],
        confirm: Callable[[], Awaitable[None]],
    ) -> None:
        """`on_change` is called when an object of either side has changed, `on_state` when a watch
        was lost or is open again."""
        self._resource = resource
        self._cluster = cluster
        self._namespace = foreign
        self._on_change = on_change
        self._home: _Objects[JSON] = _Objects(on_change)
        self._foreign: _Objects[PartialObject] = _Objects(on_change)
        self._left_out: dict[str, _Note] = {}
        """By name: what is not written again before it is due or has changed at home."""
        self._created: dict[str, _Note] = {}
        """By name: what was created a moment ago."""
        self._later: dict[str, _Note] = {}
        """By name: what shows a later home state than ours."""
        self.home_watch = Reflector(
            home_cluster, resource, self._home, namespace=home, on_state=on_state
        )
        self.foreign_watch = Reflector(
            cluster,
            resource.metadata_only,
            self._foreign,
            namespace=foreign,
            on_state=on_state,
            label_selector=SELECTOR,
            confirm=confirm,
        )

    @property
    def home(self) -> Collection[JSON]:
        return self._home.items.values()

    @property
    def foreign(self) -> Mapping[str, ObjectMeta]:
        """The metadata of the foreign objects, by name."""
        return {name: obj["metadata"] for name, obj in self._foreign.items.items()}

    @property
    def left_out(self) -> Mapping[str, str]:
        """The state of each object that was left out a moment ago, by name."""
        return {name: note.state for name, note in _current(self._left_out).items()}

    @property
    def again_in(self) -> float:
        """Seconds until the first object that was left out is due; `AGAIN_SECONDS` if none was."""
        now = _now()
        due = (note.until - now for note in _current(self._left_out).values())
        return min(due, default=AGAIN_SECONDS)

    def kept(self, as_of: int) -> Set[str]:
        """Names of what another virtual node wrote, whose watch of home is ahead of ours.

        Ours is at version `as_of`.
        """
        until = _now() + LATER_SECONDS
        before, self._later = self._later, {}
        for name, state in services.later(self.foreign, as_of).items():
            note = before.get(name)
            if note is None or note.state != state:
                note = _Note(state, until)
            self._later[name] = note
        return _current(self._later).keys()

    async def write(self, actions: Iterable[Action]) -> None:
        """Perform them. One object that is not accepted holds up no other.

        Raises what the API server raises otherwise.
        """
        for action in actions:
            try:
                await self._perform(action)
            except errors.ApiError as err:
                if not api_refusals.concerns_one_object(err):
                    raise
                self._leave_out(action, err)
        self._created = _current(self._created)
        # Those that were due are written or gone.
        self._left_out = _current(self._left_out)

    async def _perform(self, action: Action) -> None:
        match action:
            case Create(body):
                made = await self._cluster.create(self._resource, body, namespace=self._namespace)
                self._foreign.changed("ADDED", {"metadata": made["metadata"]})
                self._note_created(action)
            case Replace(body, existing):
                await self._replace(body, existing)
            case Delete(existing):
                await self._delete(existing)

    async def _replace(self, body: JSON, existing: ObjectMeta) -> None:
        seen = {"uid": existing["uid"], "resourceVersion": existing["resourceVersion"]}
        wanted = {**body, "metadata": {**body["metadata"], **seen}}
        name = existing["name"]
        try:
            made = await self._cluster.replace(
                self._resource, name, wanted, namespace=self._namespace
            )
        except errors.Conflict:
            return  # the watch shows a newer version
        except errors.NotFound:
            self._foreign.items.pop(name, None)
            self._on_change()
        except errors.Invalid:
            # Some fields cannot change, such as headless or not: create it again.
            await self._delete(existing)
            self._on_change()
        else:
            self._foreign.changed("MODIFIED", {"metadata": made["metadata"]})

    async def _delete(self, existing: ObjectMeta) -> None:
        await delete(self._cluster, self._resource, existing, namespace=self._namespace)
        self._foreign.items.pop(existing["name"], None)

    def _leave_out(self, action: Action, err: errors.ApiError) -> None:
        """Its name belongs to another owner, or the foreign cluster does not accept it."""
        name, state = services.subject(action)
        before = self._left_out.get(name)
        self._left_out[name] = _Note(state, _now() + AGAIN_SECONDS, err.code)
        (log.warning if before is None or before.code != err.code else log.debug)(
            "home object not reflected",
            kind=self._resource.plural,
            namespace=self._namespace,
            name=name,
            err=str(err),
            retry_in=AGAIN_SECONDS,
        )

    def _note_created(self, action: Create) -> None:
        """What was created a second time is not created a third time for a minute.

        Another virtual node can know that it is gone at home, while our watch lags.
        """
        name, state = services.subject(action)
        now = _now()
        before = self._created.get(name)
        self._created[name] = note = _Note(state, now + AGAIN_SECONDS)
        if before is not None and before.state == state and before.until > now:
            self._left_out[name] = note


def _now() -> float:
    return asyncio.get_running_loop().time()


def _current(notes: Mapping[str, _Note]) -> dict[str, _Note]:
    now = _now()
    return {name: note for name, note in notes.items() if note.until > now}


async def delete(
    cluster: ApiClient, resource: Resource[JSON], metadata: ObjectMeta, *, namespace: str
) -> None:
    """Delete this very object; no error if it is gone. Raises like `ApiClient.delete`."""
    body = {"preconditions": {"uid": metadata["uid"]}}
    with contextlib.suppress(errors.NotFound, errors.Conflict):
        await cluster.delete(resource, metadata["name"], body, namespace=namespace)
