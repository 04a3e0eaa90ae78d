"""Follow collections that Kopf cannot watch: which ones changes while the process runs.

A `Reflector` follows one resource in one namespace. It lists in pages, watches with bookmarks,
lists again after 410, and backs off. It knows whether it is `in_sync`; only then is the absence of
an object known. The failure of one reflector affects only its own namespace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar, cast

import structlog

from farlet import errors, retrying
from farlet.client import api_client, shapes
from farlet.client.api_client import ApiClient
from farlet.client.resources import Resource
from farlet.constants import ObjectKey
from farlet.planning import api_refusals

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

BACKOFF_FIRST_SECONDS = 1.0
BACKOFF_LAST_SECONDS = 15.0
SHORTEST_SECONDS = 1.0

log = structlog.get_logger()


class ResourceEventHandler(Protocol[T_contra]):
    """Receives objects and events. Called in the engine's loop; must not block."""

    def replaced(self, objects: Sequence[T_contra], version: int) -> None:
        """A complete list as of `version`; what it does not contain was deleted."""
        ...

    def changed(self, kind: str, obj: T_contra) -> None:
        """One event: ADDED, MODIFIED or DELETED."""
        ...


class Reflector(Generic[T]):
    """Follows one collection until cancelled."""

    def __init__(
        self,
        client: ApiClient,
        resource: Resource[T],
        handler: ResourceEventHandler[T],
        *,
        namespace: str = "",
        on_state: Callable[[], None],
        before_list: Callable[[], None] = lambda: None,
        on_rewound: Callable[[], None] = lambda: None,
        on_invalid: Callable[[ObjectKey], None] = lambda _key: None,
        label_selector: str = "",
        field_selector: str = "",
        confirm: Callable[[], Awaitable[None]] | None = None,
        on_listed: Callable[[T], None] | None = None,
        trimmed: Callable[[T], T] | None = None,
        denied_seconds: float = 0.0,
        retry_first: float = BACKOFF_FIRST_SECONDS,
    ) -> None:
        """`before_list` is called when a list is about to be requested. `on_rewound`: the server
        has another history than the one that was followed; a list follows. `confirm` raises a
        `FarletError` unless the answers before it are of the right cluster. It is awaited after
        each list and before each watch that follows another. `on_invalid` gets the key of an
        object that is left out, since its form is not valid. `on_listed` gets each object of a
        list when its page arrives; `replaced` gets none then, so that a list of any length takes
        the memory of a page. `trimmed` returns what `replaced` needs of an object of a list.
        `denied_seconds` is the least pause after a 403, `retry_first` the
        pause after the first failure."""
        self._on_listed = on_listed
        self._trimmed = trimmed
        self._denied_seconds = denied_seconds
        self._confirm = confirm
        self._iteration: asyncio.Timeout | None = None
        self._client = client
        self._resource = resource
        self._handler = handler
        self._namespace = namespace
        self._on_state = on_state
        self._before_list = before_list
        self._on_rewound = on_rewound
        self._on_invalid = on_invalid
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._path = resource.path(namespace)
        self.has_synced = False
        self.live = False
        self.error: errors.FarletError | None = None
        self._seen = 0
        """The latest version of the collection."""
        self._listed_over: object = None
        """The client's connection with which the last list was read."""
        self._losses = 0
        """Failed attempts since a watch was last accepted."""
        self._backoff = retrying.Backoff(retry_first, BACKOFF_LAST_SECONDS)
        self._failures = retrying.OncePerCause()
        self._invalid = retrying.OncePerCause()

    @property
    def in_sync(self) -> bool:
        """Whether an object that the handler has not received does not exist."""
        return self.has_synced and self.live

    @property
    def version(self) -> int:
        """The handler has received all changes of the collection up to this version."""
        return self._seen

    async def run(self) -> None:
        """Follow until cancelled. Raises nothing else."""
        version: str | None = None
        while True:
            try:
                async with asyncio.timeout(None) as self._iteration:
                    version = await self._follow(version)
            except TimeoutError:
                version = None  # `void` ended it

    def void(self) -> None:
        """What was received may be that of another cluster: list again."""
        self.has_synced = False
        if self._iteration is not None and not self._iteration.expired():
            self._iteration.reschedule(asyncio.get_running_loop().time())

    async def _follow(self, version: str | None) -> str | None:
        """One list and watch, or one more watch. Returns the version to watch from; `None`: list.

        Raises only cancellation.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            if self._client.connection != self._listed_over:
                version = None  # that of another server means nothing here
            if version is not None and self.error is not None:
                version = await self._still_valid(version)
            if version is None:
                version = await self._list()
            elif self._confirm is not None:
                await self._confirm()
            version = await self._watch(version)
        except errors.Gone:
            # Without bookmarks, that is the regular end of a watch in which nothing happened.
            (log.info if self._resource.bookmarks else log.debug)(
                "watch expired, listing again", path=self._path
            )
            version = None
        except errors.FarletError as err:
            if isinstance(err, errors.ApiError | errors.Refused):
                version = None  # changed permissions may change what a watch shows
            await asyncio.sleep(self._lost(err))
            return version
        # A server that ends watches immediately must not be asked without a pause.
        await asyncio.sleep(max(0.0, SHORTEST_SECONDS - (loop.time() - started)))
        return version

    def _lost(self, err: errors.FarletError) -> float:
        """Log it, once per cause. Returns the seconds until the next attempt."""
        self._losses += 1
        seconds = self._backoff.next()
        if isinstance(err, errors.Throttled):
            seconds = max(seconds, err.retry_after)
        if isinstance(err, errors.Forbidden):
            seconds = max(seconds, self._denied_seconds)
        # An API server whose caches lag does not fail: it answers a moment later.
        quiet = not self._failures.is_new(str(err)) or api_refusals.lags(err, name="")
        (log.debug if quiet else log.warning)(
            "watch lost", path=self._path, err=str(err), retry_in=seconds
        )
        self._set(live=False, error=err)
        return retrying.jittered(seconds)

    def _opened(self) -> None:
        if self._client.connection != self._listed_over:
            self.void()
            return
        self._losses = 0
        self._backoff.reset()
        self._failures.clear()
        self._set(live=True, error=None)

    async def _still_valid(self, version: str) -> str | None:
        """`version`, or `None` if a list is required.

        A server whose storage was restored from a backup has lower versions than before. It accepts
        a watch from a later version and shows nothing (`getAllEventsSinceLocked` in
        `apiserver/pkg/storage/cacher/watch_cache.go`). It was restarted then, or sends no bookmark,
        so that the watch was lost. The version of a list shows it; one object is the least. But a
        server that was down for longer than one attempt may have reached the later version again.
        """
        if self._losses > 1:
            return None
        found = await self._client.list(
            self._resource,
            namespace=self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            limit=1,
        )
        return None if self._is_rewound(int(found.version)) else version

    def _is_rewound(self, version: int) -> bool:
        """Whether the collection had a later version before. Nothing is known then."""
        if version >= self._seen:
            return False
        log.warning(
            "resource versions decreased, listing again",
            path=self._path,
            before=self._seen,
            now=version,
        )
        self._seen, self.has_synced = 0, False
        self._on_rewound()
        return True

    async def _list(self) -> str:
        self._before_list()
        before = self._client.connection
        valid: list[T] = []
        version = ""
        async for page in self._client.pages(
            self._resource,
            namespace=self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
        ):
            version = page.version
            async for item in api_client.in_turns(page.items):
                obj = self._valid(item)
                if obj is None:
                    continue
                if self._on_listed is None:
                    self._handle(obj, self._keep, obj, valid)
                else:
                    self._handle(obj, self._on_listed, obj)
        if self._confirm is not None:
            await self._confirm()
        self._listed_over = self._client.connection if before is None else before
        as_of = int(version)
        self._is_rewound(as_of)
        self._seen = as_of
        if not self._handle(None, self._handler.replaced, valid, as_of):
            # The handler has a part of it: an object that it lacks may exist.
            self.has_synced = False
            request, cause = f"GET {self._path}", "a list that farlet cannot handle (see its log)"
            raise errors.Unreachable(cluster=self._client.name, request=request, cause=cause)
        self.has_synced = True
        return version

    async def _watch(self, version: str) -> str:
        async for event in self._client.watch(
            self._resource,
            version=version,
            namespace=self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            opened=self._opened,
        ):
            version = _version(event.object) or version
            self._seen = max(self._seen, int(version))
            obj = None if event.kind == "BOOKMARK" else self._valid(event.object)
            if obj is not None:
                self._handle(obj, self._handler.changed, event.kind, obj)
        return version

    def _valid(self, obj: T) -> T | None:
        """As the handler can read it. One that is not valid concerns no other object."""
        valid, problem = shapes.read(self._resource.shape, obj)
        if problem is None:
            return cast("T", valid)
        (log.warning if self._invalid.is_new(problem) else log.debug)(
            "invalid object ignored", path=self._path, err=problem
        )
        self._doubt(obj)
        return None

    def _handle(self, obj: T | None, handle: Callable[..., None], *args: object) -> bool:
        """Call the handler; whether it succeeded. A bug there does not end the watch."""
        try:
            handle(*args)
        except Exception:
            log.exception("failed to handle an object", path=self._path)
            self._doubt(obj)
            return False
        return True

    def _keep(self, obj: T, listed: list[T]) -> None:
        listed.append(obj if self._trimmed is None else self._trimmed(obj))

    def _doubt(self, obj: T | None) -> None:
        key = shapes.key(obj)
        if key is not None:
            self._on_invalid(key._replace(namespace=self._namespace or key.namespace))

    def _set(self, *, live: bool, error: errors.FarletError | None) -> None:
        moved = live is not self.live or (error is None) is not (self.error is None)
        self.live, self.error = live, error
        if moved:
            self._on_state()


def _version(obj: object) -> str | None:
    """The resourceVersion of an object or bookmark, if it is one."""
    metadata = obj.get("metadata") if isinstance(obj, dict) else None
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    return version if shapes.is_version(version) else None
