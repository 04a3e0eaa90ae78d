"""`kopf run -A operator/main.py`: Kopf in the main thread, the engine in its own thread.

Settings come from the environment (`FARLET_*`), since `kopf run` rejects flags that it does not
know.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from typing import Any

import kopf

from farlet import engine, errors, health
from farlet.home import handlers
from farlet.settings import Settings, loading
from farlet.telemetry import logs


class _Hosted:
    """The engine in a thread, which Kopf's startup and cleanup start and stop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine = engine.Engine(settings, watch=health.HostedWatch())
        self.started = threading.Event()
        self.failed: str | None = None
        self._loop = asyncio.new_event_loop()
        self._shutdown = engine.Shutdown()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self.started.wait()

    def stop(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._shutdown.requested.set)
        self._thread.join(self.settings.shutdown_grace_period + 10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self.engine.run(self._shutdown, started=self.started.set))
        except errors.FarletError as err:
            self.failed = str(err)
        except BaseException as err:
            self.failed = f"internal error: {type(err).__name__}. See the farlet log"
            raise
        finally:
            if self.started.is_set() and self.failed is not None:
                # Kopf would keep watching pods although no engine mirrors them.
                os.kill(os.getpid(), signal.SIGTERM)
            self.started.set()
            self._loop.close()


def _configured() -> _Hosted:
    """Read the settings. Exits with one line on stderr if they are wrong."""
    try:
        settings = loading.load(Settings, {})
        if settings.drain_on_exit:
            raise errors.UsageError(
                "FARLET_DRAIN_ON_EXIT has no effect under kopf run, which stops watching pods "
                "before it ends; use farlet run, or kubectl drain"
            )
        return _Hosted(settings)
    except (errors.UsageError, errors.StartError) as err:
        sys.stderr.write(f"farlet: {' '.join(str(err).split())}\n")
        sys.exit(2 if isinstance(err, errors.UsageError) else 1)


_hosted = _configured()
handlers.register(
    kopf.get_default_registry(),
    node=_hosted.settings.nodename,
    sessions=_hosted.engine.kopf_sessions,
    feed=_hosted.engine.bridge.feed,
)


@kopf.on.startup()
async def start(**_: Any) -> None:
    """Start the engine before Kopf watches pods."""
    logs.configure(_hosted.settings.log_level, _hosted.settings.log_format)
    asyncio.get_running_loop().set_exception_handler(_handle_loop_error)
    try:
        await asyncio.to_thread(_hosted.start)
    except asyncio.CancelledError:
        # Stopped while the engine waits for an API server: Kopf does not run the cleanup then.
        _hosted.stop()
        raise
    if _hosted.failed is not None:
        raise kopf.PermanentError(_hosted.failed)


def _handle_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Handle an error of Kopf's loop that no task awaits.

    Kopf sets the same future for each signal, which fails for a second Ctrl-C and changes nothing.
    """
    if not isinstance(context.get("exception"), asyncio.InvalidStateError):
        loop.default_exception_handler(context)


@kopf.on.cleanup()
async def stop(**_: Any) -> None:
    """Stop the engine with Kopf. An error of the engine becomes one of Kopf."""
    await asyncio.to_thread(_hosted.stop)
    if _hosted.failed is not None:
        raise kopf.PermanentError(_hosted.failed)
