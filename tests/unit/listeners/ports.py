"""Every port of farlet and of the gateway, in a process of its own with a limit of open files.

    python ports.py SOFT HARD DIR

DIR contains the keys of the gateway. It prints the ports as JSON, and answers each line that it
reads: `dial PORT` opens 16 connections, as farlet does for its own requests; `state` shows what it
takes.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from pathlib import Path

from clusters import ports as free
from clusters import processes
from farlet.gateway import keys
from farlet.gateway import server as gateways
from farlet.kubelet import authentication, server
from farlet.kubelet.responder import Responder
from farlet.listeners import open_files
from farlet.listeners.listener import Limits
from farlet.settings.process import LogFormat, LogLevel
from farlet.settings.values import Address
from farlet.telemetry import logs, loop_lag, probes
from farlet.telemetry.metrics import Metrics
from unit.kubelet import harness

ANY = Address("127.0.0.1", 0)


async def stranger(responder: Responder) -> None:
    await responder.refuse(authentication.unauthorized().response)


async def dial(port: int) -> str:
    try:
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(16)]
    except OSError as err:
        return str(err)
    for _, writer in opened:
        writer.transport.abort()
    return "ok"


async def main(folder: Path) -> None:
    logs.configure(LogLevel.INFO, LogFormat.JSON)  # on stderr, redacted
    budget = open_files.raise_limit()
    lags: list[float] = []
    serving, _, _ = harness.contexts(folder)
    kubelet = server.KubeletServer(
        stranger,
        at=ANY,
        contexts=lambda: serving,
        grace=0,
        immediate=asyncio.Event(),
        limits=Limits(budget.kubelet, per_source=budget.kubelet),
    )
    served = probes.serve(
        metrics=Metrics(),
        probes=probes.Probes(),
        metrics_at=ANY,
        health_at=Address("localhost", 0),
    )
    pods_port, farlet_port = free.free(2)
    gateway = gateways.GatewayServer(
        keys.read(folder),
        pods_at=Address("127.0.0.1", pods_port),
        farlet_at=Address("127.0.0.1", farlet_port),
        budget=budget,
    )
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with (
        kubelet,
        served as at,
        gateway.serving(),
        asyncio.TaskGroup() as tasks,
    ):
        watch = tasks.create_task(loop_lag.watch(lags.append))
        assert at.metrics is not None
        assert at.health is not None
        ports = {
            "kubelet": kubelet.port,
            "metrics": at.metrics.port,
            "probes": at.health.port,
            "gateway": pods_port,
            "farlet": farlet_port,
        }
        show({"ports": ports, "limit": resource.getrlimit(resource.RLIMIT_NOFILE)})
        while line := (await lines.readline()).split():
            if line[0] == b"dial":
                show({"dial": await dial(int(line[1]))})
            else:
                show(
                    {
                        "files": files(),
                        "lag": max(lags, default=0.0),
                        "memory": processes.peak_bytes(os.getpid()),
                    }
                )
        watch.cancel()


def files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def show(answer: object) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    soft, hard, directory = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(soft), int(hard)))
    asyncio.run(main(Path(directory)))
