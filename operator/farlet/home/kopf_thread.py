"""The thread in which Kopf watches home pods, and its supervisor.

Kopf ends on errors that a watch must survive (a 403 while permissions are being changed, an ERROR
event other than 410). It is restarted with backoff. The resync of `home.pods` finds the pods that
were deleted in between.
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
from farlet.client import connection_errors

BACKOFF_FIRST_SECONDS = 1.0
BACKOFF_LAST_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""A run of this length was a successful start: the backoff begins anew."""
END_SECONDS = 10.0
SETTLED_SECONDS = 3.0
"""If Kopf cannot list or watch pods, it ends sooner."""
IDENTITY = "farlet"
"""For peering, which is off. By default Kopf looks up the name of the user, and in a container the
user may have none."""

log = structlog.get_logger()


class KopfThread:
    """Runs Kopf until `stop`, and restarts it when it ends."""

    def __init__(self, registry: kopf.OperatorRegistry) -> None:
        self._registry = registry
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._end: Callable[[], object] | None = None
        """Ends the current Kopf; callable from any thread while `_lock` is held."""
        self.problem: str | None = None
        """Why Kopf ended; `None` once it has run for some seconds again."""

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

    def restart(self) -> None:
        """End the current Kopf; another one starts and lists all pods. Callable in any thread."""
        with self._lock:
            if self._end is not None:
                self._end()

    async def stop(self) -> None:
        """Ask Kopf to end and wait for it for some seconds."""
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
                ended = "it ended without an error"
            except Exception as err:  # noqa: BLE001  Kopf raises its own and aiohttp's, all fatal to it
                ended = connection_errors.cause(err)
            if self._stop.is_set():
                return
            if time.monotonic() - started > STEADY_SECONDS:
                backoff.reset()
            seconds = backoff.next()
            self.problem = ended
            log.warning("home pod watch ended", err=ended, retry_in=seconds)
            if self._stop.wait(seconds):
                return
            on_restart()

    async def _operate(self) -> None:
        """Run Kopf once.

        The stop flag belongs to its loop. Kopf would await a `threading.Event` in a thread that
        does not end with Kopf, and `asyncio.run` waits for that thread.
        """
        loop, flag = asyncio.get_running_loop(), asyncio.Event()
        loop.set_exception_handler(_handle_loop_error)
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


def _handle_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Handle an error of Kopf's loop that no task awaits.

    Kopf leaves its watches open until the loop ends, and their generators cannot be closed from
    outside. Without this, many ordinary ends would log an error with a traceback.
    """
    if "asyncgen" in context:
        log.debug("home pod watch closed", err=repr(context.get("exception")))
    else:
        loop.default_exception_handler(context)
