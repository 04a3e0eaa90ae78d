"""Lists and watches of what Kopf cannot watch: sets that change while the process runs.

A `Reflector` follows one kind in one namespace. It lists (in pages), watches with bookmarks,
lists again after 410, tells what vanished in a gap, and backs off. It knows whether it is
`listed` and `live`; only then is the absence of an object known. Losing one reflector touches
only its own namespace.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import quote

import structlog

from farlet import errors
from farlet.client import cluster as clusters
from farlet.constants import JSON

PAGE = 500
BACKOFF_FIRST_SECONDS = 0.5
BACKOFF_LAST_SECONDS = 15.0
SHORTEST_SECONDS = 1.0

log = structlog.get_logger()


class ResourceEventHandler(Protocol):
    """Who is told of objects. Called in the engine's loop; must not block."""

    def replaced(self, objects: Sequence[JSON], version: int) -> None:
        """A complete list as of `version`; what it lacks has vanished."""
        ...

    def changed(self, kind: str, obj: JSON) -> None:
        """One event: ADDED, MODIFIED or DELETED."""
        ...


class Reflector:
    """Follows one collection until cancelled."""

    def __init__(
        self,
        cluster: clusters.Cluster,
        path: str,
        sink: ResourceEventHandler,
        *,
        on_state: Callable[[], None],
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
    ) -> None:
        self._cluster = cluster
        self._path = path
        self._sink = sink
        self._on_state = on_state
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        self._query = "&".join(f"{key}={quote(text)}" for key, text in selectors.items() if text)
        self._list_accept = clusters.METADATA_LIST if metadata_only else None
        self._watch_accept = clusters.METADATA if metadata_only else None
        self.listed = False
        self.live = False
        self.error: errors.FarletError | None = None
        self._failures = 0

    @property
    def complete(self) -> bool:
        """What this reflector has not told of does not exist."""
        return self.listed and self.live

    async def run(self) -> None:
        """Follow for ever. Raises nothing but cancellation."""
        version: str | None = None
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            try:
                if version is None:
                    version = await self._list()
                version = await self._watch(version)
            except errors.Gone:
                log.info("watch was too old, listing again", path=self._path)
                version = None
            except errors.FarletError as err:
                if isinstance(err, errors.ApiError):
                    version = None  # rights may have changed what a watch would show
                await asyncio.sleep(self._lost(err))
                continue
            # A server that ends watches at once must not be asked without a pause.
            await asyncio.sleep(max(0.0, SHORTEST_SECONDS - (loop.time() - started)))

    def _lost(self, err: errors.FarletError) -> float:
        """Tell of it, once per cause; seconds until the next try."""
        repeated = self.error is not None and str(self.error) == str(err)
        self._failures += 1
        seconds = min(BACKOFF_FIRST_SECONDS * 2.0 ** min(self._failures, 8), BACKOFF_LAST_SECONDS)
        if isinstance(err, errors.Throttled):
            seconds = max(seconds, err.retry_after)
        (log.debug if repeated else log.warning)(
            "watch was lost", path=self._path, err=str(err), retry_in=seconds
        )
        self._set(live=False, error=err)
        return seconds * random.uniform(0.7, 1.0)  # noqa: S311

    def _opened(self) -> None:
        self._failures = 0
        self._set(live=True, error=None)

    async def _list(self) -> str:
        items: list[JSON] = []
        token = ""
        while True:
            query = "&".join(
                part
                for part in (self._query, f"limit={PAGE}", token and f"continue={token}")
                if part
            )
            page = await self._cluster.call(
                "GET", f"{self._path}?{query}", accept=self._list_accept
            )
            items.extend(page.get("items") or ())
            token = quote(page["metadata"].get("continue", ""))
            if not token:
                break
        version = str(page["metadata"]["resourceVersion"])
        self._sink.replaced(items, int(version))
        self.listed = True
        return version

    async def _watch(self, version: str) -> str:
        query = "&".join(part for part in (self._query, f"resourceVersion={version}") if part)
        async for event in self._cluster.watch(
            f"{self._path}?{query}",
            accept=self._watch_accept,
            opened=self._opened,
        ):
            version = event.object["metadata"]["resourceVersion"]
            if event.kind != "BOOKMARK":
                self._sink.changed(event.kind, event.object)
        return version

    def _set(self, *, live: bool, error: errors.FarletError | None) -> None:
        moved = live is not self.live or (error is None) is not (self.error is None)
        self.live, self.error = live, error
        if moved:
            self._on_state()
