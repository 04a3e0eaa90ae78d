"""The thread in which Kopf watches home pods, and its supervisor.

Kopf ends on errors that a watch must survive (a 403 while rights are being changed, an ERROR
event other than 410). It is started again, with backoff; what vanished meanwhile is found by
the sweep of `homepods`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import kopf
import structlog

BACKOFF_FIRST_SECONDS = 1.0
BACKOFF_LAST_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""A run of so long was no failed start: the next backoff begins anew."""
END_SECONDS = 10.0

log = structlog.get_logger()


class KopfThread:
    """Runs Kopf until `stop`, whatever ends it in between."""

    def __init__(self, registry: kopf.OperatorRegistry, *, on_restart: Callable[[], None]) -> None:
        self._registry = registry
        self._on_restart = on_restart
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """The supervisor runs; Kopf itself may be between two starts."""
        return self._thread.is_alive()

    async def stop(self) -> None:
        """Ask Kopf to end and wait for it, for some seconds."""
        self._stop.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, END_SECONDS)

    def _run(self) -> None:
        seconds = BACKOFF_FIRST_SECONDS
        while not self._stop.is_set():
            started = time.monotonic()
            ended: str
            try:
                kopf.run(
                    registry=self._registry,
                    clusterwide=True,
                    standalone=True,
                    stop_flag=self._stop,
                )
                ended = "it ended by itself"
            except Exception as err:  # noqa: BLE001  Kopf raises its own and aiohttp's, all fatal to it
                ended = f"{type(err).__name__}: {err}"
            if self._stop.is_set():
                return
            if time.monotonic() - started > STEADY_SECONDS:
                seconds = BACKOFF_FIRST_SECONDS
            log.warning("watch of home pods ended", err=ended, retry_in=seconds)
            self._stop.wait(seconds)
            seconds = min(seconds * 2, BACKOFF_LAST_SECONDS)
            self._on_restart()
