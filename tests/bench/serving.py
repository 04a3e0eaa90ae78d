"""One run of farlet: a new process, N pods until all run, and until all are gone."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator

from bench import environment, workload
from bench.environment import NODE, Environment
from clusters import farlet, processes

_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Run:
    """The results of one run: times in seconds, memory in MiB."""

    seconds: float
    delete_seconds: float
    bound_to_mirror: list[float]
    running_to_home: list[float]
    bound_to_running: list[float]
    cpu_seconds: float
    rss_before: float
    rss_at_n: float
    rss_after: float
    rss_peak: float


@contextlib.asynccontextmanager
async def process(on: Environment, *, name: str) -> AsyncIterator[farlet.Farlet]:
    """A ready farlet with default settings, stopped at the end."""
    settings = {"log-level": "info", **environment.HOME_API}
    made = farlet.create(on.clusters, node=NODE, settings=settings, name=name)
    made.start()
    try:
        await made.ready()
        yield made
    finally:
        await made.stop()


async def run(on: Environment, *, count: int, prefix: str) -> Run:
    """Create `count` pods, wait until they run, and delete them. Raises `NeverRan`."""
    names = workload.names(count, prefix=prefix)
    async with process(on, name=prefix) as made, workload.clock(on) as clock:
        await asyncio.sleep(1.0)  # work of a process after its start
        before, begun = made.usage(), time.monotonic()
        await workload.at_once(lambda name: workload.create(on, name), names)
        await clock.all_in(clock.home_running, names, what="never ran")
        seconds = max(clock.home_running.values()) - begun
        await asyncio.sleep(2.0)
        at_n, begun_delete = made.usage(), time.monotonic()
        await workload.at_once(lambda name: workload.delete(on, name), names)
        await clock.all_in(clock.home_gone, names, what="were never removed")
        delete_seconds = max(clock.home_gone.values()) - begun_delete
        await environment.empty(on)
        after, peak = made.usage(), processes.peak_bytes(made.process.pid)
    return Run(
        seconds=seconds,
        delete_seconds=delete_seconds,
        bound_to_mirror=clock.between(clock.bound, clock.mirrored),
        running_to_home=clock.between(clock.mirror_running, clock.home_running),
        bound_to_running=clock.between(clock.bound, clock.home_running),
        cpu_seconds=after.cpu_seconds - before.cpu_seconds,
        rss_before=before.rss_bytes / _MIB,
        rss_at_n=at_n.rss_bytes / _MIB,
        rss_after=after.rss_bytes / _MIB,
        rss_peak=peak / _MIB,
    )
