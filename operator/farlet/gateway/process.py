"""`farlet gateway` as a process: logs, signals, probes, and the door.

Ready while farlet is connected, so that the Service sends pods elsewhere meanwhile. When told to
end it stops being ready first, and goes on for as long as the news needs to reach every node.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import structlog

from farlet.gateway import keys, link, server
from farlet.settings import GatewaySettings
from farlet.settings.values import Address
from farlet.telemetry import logs, probes

LINK_ADDRESS = Address("127.0.0.1", link.PORT)
"""Loopback: a port-forward into this pod reaches it, and nobody else."""

PARTING_SECONDS = 5.0

log = structlog.get_logger()


def run(settings: GatewaySettings) -> int:
    """Run until SIGTERM or Ctrl-C. Returns the exit code. Raises `StartError`."""
    logs.configure(settings.log_level, settings.log_format)
    # asyncssh asks the environment who we are, and the user of a container has no name.
    os.environ.setdefault("LOGNAME", "gateway")
    opening = server.GatewayServer(
        keys.read(settings.gateway_keys),
        pods_at=settings.gateway_bind_address,
        farlet_at=LINK_ADDRESS,
    )
    asyncio.run(_serve(opening, settings))
    return 0


async def _serve(opening: server.GatewayServer, settings: GatewaySettings) -> None:
    told, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(sign, lambda: (hurry if told.is_set() else told).set())
    checks = probes.Probes(
        ready={"farlet": lambda: "it is stopping" if told.is_set() else opening.problem()}
    )
    serving = probes.serve(
        metrics=None,
        probes=checks,
        metrics_at=None,
        health_at=settings.health_probe_bind_address,
    )
    async with serving, opening.opened():
        log.info("gateway was started", pods=str(settings.gateway_bind_address))
        await told.wait()
        log.info("gateway is stopping")
        if opening.problem() is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(hurry.wait(), PARTING_SECONDS)
    log.info("gateway was stopped")
