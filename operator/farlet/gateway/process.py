"""`farlet gateway` as a process: logs, signals, probes and the gateway server.

The gateway is ready while farlet is connected, so that the Service uses other gateways meanwhile.
When it is stopped, it becomes unready first and keeps serving until every node has learned that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import structlog

from farlet.gateway import keys, link, server
from farlet.listeners import open_files
from farlet.settings import GatewaySettings
from farlet.settings.values import Address
from farlet.telemetry import logs, probes

LINK_ADDRESS = Address("127.0.0.1", link.PORT)
"""Loopback: only a port-forward into this pod reaches it."""

UNREADY_SECONDS = 5.0
"""Between becoming unready and the end."""

log = structlog.get_logger()


def run(settings: GatewaySettings) -> int:
    """Run until SIGTERM or Ctrl-C. Returns the exit code. Raises `StartError`."""
    logs.configure(settings.log_level, settings.log_format)
    # asyncssh reads the name of the user from here, and the user of a container has no name.
    os.environ.setdefault("LOGNAME", "gateway")
    gateway = server.GatewayServer(
        keys.read(settings.gateway_keys),
        pods_at=settings.gateway_bind_address,
        farlet_at=LINK_ADDRESS,
        budget=open_files.raise_limit(),
    )
    asyncio.run(_serve(gateway, settings))
    return 0


async def _serve(gateway: server.GatewayServer, settings: GatewaySettings) -> None:
    requested, immediate = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(
            sign, lambda: (immediate if requested.is_set() else requested).set()
        )
    checks = probes.Probes(
        ready={"farlet": lambda: "stopping" if requested.is_set() else gateway.problem()}
    )
    serving = probes.serve(
        metrics=None,
        probes=checks,
        metrics_at=None,
        health_at=settings.health_probe_bind_address,
    )
    async with serving, gateway.serving():
        log.info("gateway started", pods=str(settings.gateway_bind_address))
        await requested.wait()
        log.info("gateway is stopping")
        if gateway.problem() is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(immediate.wait(), UNREADY_SECONDS)
    log.info("gateway stopped")
