"""Home pods of this node: the events that Kopf passes on, and what Kopf does not report.

Kopf never reports an object that was deleted while its watch was down. So the list of names is
compared with the store: at start, after each new list of Kopf, and every few minutes (a resync).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

import structlog

from farlet import errors
from farlet.client import api_client, resources, shapes
from farlet.client.api_client import ApiClient
from farlet.constants import JSON, ObjectKey
from farlet.k8s_types import NamespacedMeta, PartialObject, Pod
from farlet.store import Store, key_of, version

RESYNC_SECONDS = 300.0
_IDENTITY = frozenset({"namespace", "name", "uid", "resourceVersion"})

SETTLE_SECONDS = 1.0
"""From the first event of a new list to the resync after it; Kopf still delivers the others."""

T = TypeVar("T", Pod, PartialObject)

log = structlog.get_logger()


class HomePods:
    """Feeds the store with home pods. All methods run in the engine's loop."""

    def __init__(
        self,
        home: ApiClient,
        store: Store,
        *,
        node: str,
        wake: Callable[[ObjectKey], None],
        dropped: Callable[[ObjectKey, str], None],
        on_synced: Callable[[], None],
        prune: Callable[[], None],
        restart_watch: Callable[[], None],
    ) -> None:
        """`prune` requests that unused namespaces are closed; no resync waits for it."""
        self._home = home
        self._store = store
        self._node = node
        self._wake = wake
        self._dropped = dropped
        self._on_listed = on_synced
        self._prune = prune
        self._restart_watch = restart_watch
        self._resync_requested = asyncio.Event()
        self._listed_before = False
        self._awaited: set[str] = set()
        """Uids of the first list that Kopf has not delivered yet."""
        self._undelivered: set[str] = set()
        """Uids of the last list that Kopf had not delivered."""
        self._rewound = False
        self._seen = 0
        """The latest version of home pods."""
        self.has_synced = False
        """Every pod that was bound to this node when we started is in the store."""
        self.error: str | None = "not listed yet"

    def event(self, kind: str | None, obj: Pod) -> None:
        """One event of Kopf's watch; `kind` None: part of a listing.

        A pod of a form that is not valid is unknown; it concerns no other pod.
        """
        pod = self._valid(obj, resources.PODS)
        if pod is None:
            return
        key = key_of(pod)
        self._seen = max(self._seen, version(pod["metadata"]))
        if kind == "DELETED":
            uid = pod["metadata"]["uid"]
            known = self._store.home.deleted_for_good(uid)
            self._dropped(key, uid)
            if not known:
                self._wake(key)
            return
        before = self._store.home.uid(key)
        if self._store.home.put(pod):
            if before is not None and before != pod["metadata"]["uid"]:
                self._dropped(key, before)
            self._wake(key)
        self._awaited.discard(pod["metadata"]["uid"])
        if kind is None and self.has_synced:
            self._resync_requested.set()

    def is_known(self, kind: str | None, pod: JSON) -> bool:
        """Whether an event says nothing new: it is the echo of a request that was answered.

        Callable from any thread: each of its reads is one operation on a dict.
        """
        home = self._store.home
        try:
            key, metadata = key_of(cast("Pod", pod)), pod["metadata"]
            if kind == "DELETED":
                return home.deleted_for_good(metadata["uid"])
            return kind == "MODIFIED" and home.has(key, metadata["uid"], version(metadata))
        except (KeyError, TypeError, ValueError, AttributeError):
            return False  # its form is not valid, which `event` reports

    def _valid(self, obj: T, resource: resources.Resource[T]) -> T | None:
        valid, problem = shapes.read(resource.shape, obj)
        if problem is None:
            return cast("T", valid)
        key = shapes.key(obj)
        log.warning("invalid home pod ignored", pod=str(key), err=problem)
        if key is not None:
            self._doubt(key)
        return None

    def _doubt(self, key: ObjectKey) -> None:
        self._store.home.doubt(key)
        self._wake(key)

    def resync(self) -> None:
        """Kopf was restarted, or home was down: it does not report what was deleted in between."""
        self._resync_requested.set()

    def rewound(self) -> None:
        """The home API server has another history than before: its storage was restored."""
        self._rewound = True
        self._resync_requested.set()

    async def run(self) -> None:
        while True:
            try:
                await self._resync()
                self.error = None
                if self.has_synced:
                    self._prune()
                pause = RESYNC_SECONDS if self.has_synced else SETTLE_SECONDS
            except errors.FarletError as err:
                self.error = str(err)
                log.warning("failed to list home pods", err=str(err))
                pause = SETTLE_SECONDS * 5
            try:
                async with asyncio.timeout(pause):
                    await self._resync_requested.wait()
                    await asyncio.sleep(SETTLE_SECONDS)
            except TimeoutError:
                continue
            finally:
                self._resync_requested.clear()

    async def _resync(self) -> None:
        home = self._store.home
        since, seen = home.mark(), self._seen
        listed, as_of = await self._list(resources.PODS.metadata_only, trimmed=_identity)
        if self._rewound or as_of < seen or self._is_deaf(listed, since=since):
            await self._list_anew()
            return
        self._seen = max(self._seen, as_of)
        self._remove_missing(listed, since=since, as_of=as_of)
        if not self.has_synced:
            missing = self._undelivered_of(listed)
            # Pods come and go meanwhile: wait only for those of the first list.
            self._awaited = missing & self._awaited if self._listed_before else missing
            self._listed_before = True
            if not self._awaited:
                self.has_synced = True
                log.info("home pods listed", count=len(listed))
                self._on_listed()

    async def _list(
        self, resource: resources.Resource[T], *, trimmed: Callable[[T], T]
    ) -> tuple[list[T], int]:
        """Valid pods of this node, as `trimmed` leaves them, and the version of the list.

        The managed fields of ten thousand pods take 70 MiB while they are in memory.
        """
        listed: list[T] = []
        version = "0"
        async for page in self._home.pages(resource, field_selector=f"spec.nodeName={self._node}"):
            version = page.version
            async for item in api_client.in_turns(page.items):
                pod = self._valid(item, resource)
                if pod is None:
                    continue
                try:
                    listed.append(trimmed(pod))
                except Exception:
                    log.exception("failed to handle a home pod", pod=str(key_of(pod)))
                    self._doubt(key_of(pod))
        return listed, int(version)

    def _is_deaf(self, listed: Sequence[PartialObject], *, since: int) -> bool:
        """Whether Kopf's watch does not show what a list of later versions shows.

        A restored server can have later versions than before, and objects that are older than they
        were. Or, for any cause, two lists in a row have a pod that Kopf has not delivered.
        """
        if not self.has_synced:
            return False
        if self._store.home.contradicted_by(listed, since=since):
            return True
        missing = self._undelivered_of(listed)
        undelivered, self._undelivered = self._undelivered & missing, missing
        return bool(undelivered)

    def _undelivered_of(self, listed: Sequence[PartialObject]) -> set[str]:
        """Uids that Kopf has not delivered, in a valid form or another."""
        home = self._store.home
        return {
            pod["metadata"]["uid"]
            for pod in listed
            if key_of(pod) not in home and not home.doubted(key_of(pod))
        }

    async def _list_anew(self) -> None:
        """Replace all that is known of home pods, and restart Kopf's watch.

        A watch from a later version than the server has shows nothing, without an error.
        """
        log.warning("home pod watch is out of date, listing all home pods", before=self._seen)
        # Until the list is complete, no pod is known to be absent.
        self._rewound, self.has_synced = True, False
        home = self._store.home
        since = home.mark()
        listed, as_of = await self._list(resources.PODS, trimmed=home.trimmed)
        self._remove_missing(listed, since=since, as_of=as_of)
        for pod in listed:
            if home.put_listed(pod, since=since, as_of=as_of):
                self._wake(key_of(pod))
        self._seen, self._rewound, self._undelivered = as_of, False, set()
        self.has_synced, self._awaited = True, set()
        self._on_listed()
        self._restart_watch()

    def _remove_missing(
        self, listed: Sequence[Pod | PartialObject], *, since: int, as_of: int
    ) -> None:
        for pod in self._store.home.remove_missing(listed, None, since=since, as_of=as_of):
            key, uid = key_of(pod), pod["metadata"]["uid"]
            log.info("home pod was deleted while the watch was down", pod=str(key), uid=uid)
            self._dropped(key, uid)
            self._wake(key)


def _identity(pod: PartialObject) -> PartialObject:
    """What identifies a pod."""
    metadata = cast("JSON", pod["metadata"])
    kept = {key: value for key, value in metadata.items() if key in _IDENTITY}
    return {"metadata": cast("NamespacedMeta", kept)}
