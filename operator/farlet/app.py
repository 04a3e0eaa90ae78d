"""`farlet run` as a process: logs, signals, the engine in this thread, Kopf in one of its own."""

from __future__ import annotations

import asyncio
import logging
import signal

import kopf

from farlet.engine import Engine, Shutdown
from farlet.home import handlers, kopf_thread
from farlet.settings import Settings
from farlet.telemetry import logs


def run(settings: Settings) -> int:
    """Run until SIGTERM or Ctrl-C. Returns the exit code.

    Raises `UsageError` and `StartError`.
    """
    logs.configure(settings.log_level, settings.log_format)
    registry = kopf.OperatorRegistry()
    thread = kopf_thread.KopfThread(registry)
    engine = Engine(settings, watch=thread)
    handlers.register(
        registry,
        node=settings.nodename,
        sessions=engine.kopf_sessions,
        feed=engine.bridge.feed,
    )
    # Kopf warns that it handles no signals outside the main thread; the engine handles them.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)

    async def main() -> None:
        shutdown = Shutdown()
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(sign, _request, shutdown)
        try:
            await engine.run(
                shutdown, started=lambda: thread.start(on_restart=engine.bridge.restarted)
            )
        finally:
            await thread.stop()

    asyncio.run(main())
    return 0


def _request(shutdown: Shutdown) -> None:
    """The first signal requests an orderly shutdown, the second an immediate one."""
    (shutdown.immediate if shutdown.requested.is_set() else shutdown.requested).set()
