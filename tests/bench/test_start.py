"""Restart and failover while a thousand and ten thousand pods run: how long, and what is written.

The test writes the figures to `docs/soak/`, with the date.
"""

import asyncio
import dataclasses
import re
import time

import aiohttp
import pytest

from bench import environment, report, serving, workload
from bench.environment import Environment
from bench.variants import Side
from clusters import farlet, pair
from clusters import progress as progresses

COUNTS = (1_000, 10_000)
ELECTED = Side("start", {"leader-elect": "true", "kubelet-bind-address": "0"})

_DEPTH = re.compile(r'^workqueue_depth\{name="pods"\} 0\.0$', re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class _Start:
    """Seconds until every pod had its first pass."""

    from_exec: float
    from_lease: float


@pytest.mark.soak
def test_after_a_start_every_pod_has_a_pass_and_no_status_is_written() -> None:
    with environment.clusters(audit=False, progress=progresses.Progress()) as both:
        _write(asyncio.run(_starts(both)))


async def _starts(both: pair.Clusters) -> dict[int, _Start]:
    found: dict[int, _Start] = {}
    names = workload.names(COUNTS[-1], prefix="pod")
    async with (
        environment.opened(both) as on,
        serving.process(on, name="first", side=ELECTED) as first,
        workload.clock(on) as clock,
    ):
        done = 0
        for count in COUNTS:
            await workload.at_once(lambda name: workload.create(on, name), names[done:count])
            await clock.all_in(clock.home_running, names[:count], what="never ran")
            done = count
            before = await _versions(on)
            from_exec = await _restart(first, count)
            from_lease = await _failover(on, first, count)
            found[count] = _Start(from_exec, from_lease)
            assert await _versions(on) == before
    return found


async def _restart(made: farlet.Farlet, count: int) -> float:
    await made.stop()
    begun = time.monotonic()
    made.start()
    await _served(made, count)
    return time.monotonic() - begun


async def _failover(on: Environment, first: farlet.Farlet, count: int) -> float:
    """From the moment in which the standby leads; `first` leads again at the end."""
    async with serving.process(on, name=f"standby-{count}", side=ELECTED) as standby:
        await first.stop()
        await _leads(standby)
        begun = time.monotonic()
        await _served(standby, count)
        seconds = time.monotonic() - begun
        first.start()
        await first.ready()
    await _leads(first)
    await _served(first, count)
    return seconds


async def _leads(made: farlet.Farlet) -> None:
    async with asyncio.timeout(60):
        while not await made.leads():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def _served(made: farlet.Farlet, count: int) -> None:
    """Return once a process has processed `count` pods and none waits."""
    async with asyncio.timeout(300):
        while True:
            try:
                metrics = await made.metrics()
            except aiohttp.ClientError:
                metrics = ""  # it does not listen yet
            if serving.passes(metrics) >= count and _DEPTH.search(metrics):
                return
            await asyncio.sleep(0.1)


async def _versions(on: Environment) -> dict[str, str]:
    pods = await on.home.list("pods", namespace=on.names.home)
    return {pod["metadata"]["name"]: pod["metadata"]["resourceVersion"] for pod in pods}


def _write(found: dict[int, _Start]) -> None:
    rows = [
        f"| {count} | {start.from_exec:.1f} | {start.from_lease:.1f} |"
        for count, start in found.items()
    ]
    report.write_record(
        "start",
        "Restart and failover with ten thousand pods",
        purpose="measure how long a starting farlet needs until every running pod had its first "
        "pass, and check that it writes no status of a pod that has not changed.",
        said=["No home pod had another resourceVersion afterwards."],
        table=[
            "| pods Running | restart: seconds from exec | failover: seconds from the Lease |",
            "|---|---|---|",
            *rows,
        ],
    )
