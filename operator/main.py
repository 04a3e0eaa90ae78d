"""`kopf run operator/main.py`: Kopf in the main thread, the engine in one of its own.

Settings come from `FARLET_*`, since `kopf run` refuses flags that it does not know.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from typing import Any

import kopf
import structlog

from farlet import engine, errors, health
from farlet.home import handlers
from farlet.settings import Settings, loading
from farlet.telemetry import logs


class _Hosted:
    """The engine in a thread, started and ended by Kopf's own startup and cleanup."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine = engine.Engine(settings, watch=health.HostedWatch())
        self.started = threading.Event()
        self.failed: str | None = None
        self._loop = asyncio.new_event_loop()
        self._ends = engine.Shutdown()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self.started.wait()

    def stop(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ends.stop.set)
        self._thread.join(self.settings.shutdown_grace_period + 10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self.engine.run(self._ends, started=self.started.set))
        except errors.FarletError as err:
            self.failed = str(err)
        except BaseException as err:
            self.failed = f"farlet met a bug: {type(err).__name__}"
            raise
        finally:
            if self.started.is_set() and self.failed is not None:
                # Kopf alone would watch pods that nobody mirrors any more.
                os.kill(os.getpid(), signal.SIGTERM)
            self.started.set()
            self._loop.close()


def _configured() -> _Hosted:
    """What the environment asks for; ends the process with one line where that is impossible."""
    try:
        settings = loading.load(Settings, {})
        if settings.drain_on_exit:
            raise errors.UsageError(
                "FARLET_DRAIN_ON_EXIT has no effect under kopf run, which watches no pods any more "
                "when it ends; use farlet run, or kubectl drain"
            )
        return _Hosted(settings)
    except (errors.UsageError, errors.StartError) as err:
        sys.stderr.write(f"farlet: {' '.join(str(err).split())}\n")
        sys.exit(2 if isinstance(err, errors.UsageError) else 1)


_hosted = _configured()
handlers.register(
    kopf.get_default_registry(),
    node=_hosted.settings.nodename,
    login=_hosted.engine.bridge.login,
    feed=_hosted.engine.bridge.feed,
)


@kopf.on.startup()
async def start(**_: Any) -> None:
    """Start the engine before the first pod is watched."""
    logs.configure(_hosted.settings.log_level, _hosted.settings.log_format)
    for name in loading.unknown_variables(Settings, os.environ):
        structlog.get_logger().warning("setting is not known", variable=name)
    try:
        await asyncio.to_thread(_hosted.start)
    except asyncio.CancelledError:
        # Told to end while the engine waits for an API server: Kopf runs no cleanup then.
        _hosted.stop()
        raise
    if _hosted.failed is not None:
        raise kopf.PermanentError(_hosted.failed)


@kopf.on.cleanup()
async def drain(**_: Any) -> None:
    """End the engine when Kopf ends; Kopf ends with an error when the engine did."""
    await asyncio.to_thread(_hosted.stop)
    if _hosted.failed is not None:
        raise kopf.PermanentError(_hosted.failed)
