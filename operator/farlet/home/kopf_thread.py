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
from typing import Any

import kopf
import structlog

from farlet import retrying

BACKOFF_FIRST_SECONDS = 1.0
BACKOFF_LAST_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""A run of so long was no failed start: the next backoff begins anew."""
END_SECONDS = 10.0
SETTLED_SECONDS = 3.0
"""A Kopf that cannot list or watch pods ends sooner."""
IDENTITY = "farlet"
"""Of peering, which is off. Kopf would ask for the name of the user, and in a container the user
has none."""

log = structlog.get_logger()


class KopfThread:
    """Runs Kopf until `stop`, whatever ends it in between."""

    def __init__(self, registry: kopf.OperatorRegistry) -> None:
        self._registry = registry
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._end: Callable[[], object] | None = None
        """Tells the Kopf of the moment to end; callable from any thread while it is held."""
        self.problem: str | None = None
        """Why Kopf ended; `None` once it has run again for some seconds."""

    def start(self, *, on_restart: Callable[[], None]) -> None:
        """Begin to watch. `on_restart` is called before each further start of Kopf."""
        self._thread = threading.Thread(
            target=self._run, args=(on_restart,), name="kopf", daemon=True
        )
        self._thread.start()

    @property
    def alive(self) -> bool:
        """The supervisor runs; Kopf itself may be between two starts."""
        return self._thread is not None and self._thread.is_alive()

    async def stop(self) -> None:
        """Ask Kopf to end and wait for it, for some seconds."""
        with self._lock:
            self._stop.set()
            if self._end is not None:
                self._end()
        if self._thread is not None and self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, END_SECONDS)

    def _run(self, on_restart: Callable[[], None]) -> None:
        backoff = retrying.Backoff(BACKOFF_FIRST_SECONDS, BACKOFF_LAST_SECONDS)
        while not self._stop.is_set():
            started = time.monotonic()
            ended: str
            try:
                asyncio.run(self._operate())
                ended = "it ended by itself"
            except Exception as err:  # noqa: BLE001  Kopf raises its own and aiohttp's, all fatal to it
                ended = f"{type(err).__name__}: {err}"
            if self._stop.is_set():
                return
            if time.monotonic() - started > STEADY_SECONDS:
                backoff.reset()
            seconds = backoff.next()
            self.problem = ended
            log.warning("watch of home pods ended", err=ended, retry_in=seconds)
            if self._stop.wait(seconds):
                return
            on_restart()

    async def _operate(self) -> None:
        """One life of Kopf.

        Its flag belongs to its loop: a `threading.Event` Kopf would await in a thread that no end
        of Kopf ends, and `asyncio.run` waits for that thread.
        """
        loop, flag = asyncio.get_running_loop(), asyncio.Event()
        loop.set_exception_handler(_complained)
        with self._lock:
            self._end = lambda: loop.call_soon_threadsafe(flag.set)
        try:
            if not self._stop.is_set():
                loop.call_later(SETTLED_SECONDS, self._settled)
                await kopf.operator(
                    registry=self._registry,
                    clusterwide=True,
                    standalone=True,
                    identity=IDENTITY,  # type: ignore[arg-type]  # a string by another name
                    stop_flag=flag,
                )
        finally:
            with self._lock:
                self._end = None

    def _settled(self) -> None:
        self.problem = None


def _complained(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody awaited in Kopf's loop went wrong.

    Kopf leaves its watches to the end of the loop, and the generators that they are cannot be
    closed from outside: an error with a traceback at many an ordinary end.
    """
    if "asyncgen" in context:
        log.debug("watch of home pods was closed", err=repr(context.get("exception")))
    else:
        loop.default_exception_handler(context)
