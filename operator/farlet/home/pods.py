"""Home pods of this node: the events that Kopf passes on, and what Kopf does not report.

Kopf never reports an object that was deleted while its watch was down. So the list of names is
compared with the store: at start, after each new list of Kopf, and every few minutes (a resync).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from farlet import errors
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import ObjectKey
from farlet.k8s_types import Pod
from farlet.store import Store, key_of

RESYNC_SECONDS = 300.0
SETTLE_SECONDS = 1.0
"""From the first event of a new list to the resync after it; Kopf still delivers the others."""

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
        prune: Callable[[], Awaitable[None]],
    ) -> None:
        self._home = home
        self._store = store
        self._node = node
        self._wake = wake
        self._dropped = dropped
        self._on_listed = on_synced
        self._prune = prune
        self._resync_requested = asyncio.Event()
        self._listed_before = False
        self._awaited: set[str] = set()
        """Uids of the first list that Kopf has not delivered yet."""
        self.has_synced = False
        """Every pod that was bound to this node when we started is in the store."""
        self.error: str | None = "not listed yet"

    def event(self, kind: str | None, pod: Pod) -> None:
        """One event of Kopf's watch; `kind` None: part of a listing."""
        key = key_of(pod)
        if kind == "DELETED":
            self._dropped(key, pod["metadata"]["uid"])
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

    def resync(self) -> None:
        """Kopf was restarted: it does not report what was deleted in between."""
        self._resync_requested.set()

    async def run(self) -> None:
        while True:
            try:
                await self._resync()
                self.error = None
                if self.has_synced:
                    await self._prune()
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
        listed, version = await self._home.list_all(
            resources.PODS.metadata_only, field_selector=f"spec.nodeName={self._node}"
        )
        for pod in self._store.home.missing_from(listed, None, int(version)):
            key = key_of(pod)
            log.info(
                "home pod was deleted while the watch was down",
                pod=str(key),
                uid=pod["metadata"]["uid"],
            )
            self._dropped(key, pod["metadata"]["uid"])
            self._wake(key)
        if not self.has_synced:
            missing = {p["metadata"]["uid"] for p in listed if key_of(p) not in self._store.home}
            # Pods come and go meanwhile: wait only for those of the first list.
            self._awaited = missing & self._awaited if self._listed_before else missing
            self._listed_before = True
            if not self._awaited:
                self.has_synced = True
                log.info("home pods listed", count=len(listed))
                self._on_listed()
