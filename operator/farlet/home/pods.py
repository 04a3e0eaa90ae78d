"""Home pods of this node as Kopf tells of them, and what Kopf cannot tell.

Kopf never reports an object that vanished while its watch was down. So the list of names is
compared with what is known: at start, after each new listing by Kopf, and every few minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from farlet import errors
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import ObjectKey
from farlet.store import Store, key_of

SWEEP_SECONDS = 300.0
SETTLE_SECONDS = 1.0
"""From an event of a new listing to the sweep that follows it; Kopf is still telling the rest."""

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
        on_listed: Callable[[], None],
        prune: Callable[[], Awaitable[None]],
    ) -> None:
        self._home = home
        self._store = store
        self._node = node
        self._wake = wake
        self._dropped = dropped
        self._on_listed = on_listed
        self._prune = prune
        self._sweep_wanted = asyncio.Event()
        self._asked = False
        self._awaited: set[str] = set()
        """Uids of a list that Kopf has not told of yet."""
        self.listed = False
        """Every pod that was bound to this node when we started is in the store."""
        self.error: str | None = "not listed yet"

    def event(self, kind: str | None, pod: Any) -> None:
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
        if kind is None and self.listed:
            self._sweep_wanted.set()

    def relisted(self) -> None:
        """Kopf was started again: what vanished meanwhile it will not tell."""
        self._sweep_wanted.set()

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            try:
                await self._sweep()
                self.error = None
                if self.listed:
                    await self._prune()
                pause = SWEEP_SECONDS if self.listed else SETTLE_SECONDS
            except errors.FarletError as err:
                self.error = str(err)
                log.warning("home pods were not listed", err=str(err))
                pause = SETTLE_SECONDS * 5
            try:
                async with asyncio.timeout(pause):
                    await self._sweep_wanted.wait()
                    await asyncio.sleep(SETTLE_SECONDS)
            except TimeoutError:
                continue
            finally:
                self._sweep_wanted.clear()

    async def _sweep(self) -> None:
        listed, version = await self._home.list_all(
            resources.PODS.metadata_only, field_selector=f"spec.nodeName={self._node}"
        )
        for pod in self._store.home.missing_from(listed, None, int(version)):
            key = key_of(pod)
            log.info("home pod vanished unseen", pod=str(key), uid=pod["metadata"]["uid"])
            self._dropped(key, pod["metadata"]["uid"])
            self._wake(key)
        if not self.listed:
            missing = {p["metadata"]["uid"] for p in listed if key_of(p) not in self._store.home}
            # New ones come and go meanwhile: only what was there at first is waited for.
            self._awaited = missing & self._awaited if self._asked else missing
            self._asked = True
            if not self._awaited:
                self.listed = True
                log.info("home pods were listed", count=len(listed))
                self._on_listed()
