"""One run of farlet: a new process, N pods until all run, and until all are gone."""

import asyncio
import contextlib
import dataclasses
import re
import time
from collections.abc import AsyncIterator, Callable

from bench import environment, mirrorevents, workload
from bench.environment import Environment
from bench.variants import FARLET, Side
from clusters import farlet, processes
from farlet.home import freed_memory

_MIB = 2**20
_READY_SECONDS = 300.0  # a start takes one second on an idle machine
_PASSES = re.compile(
    r'^workqueue_work_duration_seconds_count\{name="pods"\} ([0-9.e+]+)$', re.MULTILINE
)

Began = Callable[[str, farlet.Farlet], contextlib.AbstractContextManager[None]]
"""A context for the creation ("create") and the deletion ("delete") of the pods of a process."""


@dataclasses.dataclass(frozen=True)
class Run:
    """The results of one run: times in seconds, memory in MiB, passes and CPU of all pods."""

    seconds: float
    delete_seconds: float
    created_to_mirror: list[float]
    running_to_home: list[float]
    created_to_running: list[float]
    deleted_to_gone: list[float]
    cpu_create: float
    cpu_delete: float
    passes_create: int
    passes_delete: int
    rss_before: float
    rss_at_n: float
    rss_after: float
    rss_peak: float
    events: mirrorevents.Arrived | None


def passes(metrics: str) -> int:
    """How often farlet has processed a pod, from the text of its metrics."""
    found = _PASSES.search(metrics)
    return 0 if found is None else int(float(found[1]))


@contextlib.asynccontextmanager
async def process(
    on: Environment, *, name: str, side: Side = FARLET
) -> AsyncIterator[farlet.Farlet]:
    """A ready farlet with default settings and those of its side, stopped at the end."""
    made = farlet.create(
        on.clusters,
        node=on.place.node,
        settings={"log-level": "info", **environment.HOME_API, **side.settings},
        name=name,
        program=side.program,
        environment=side.environment,
    )
    made.start()
    try:
        await made.ready(seconds=_READY_SECONDS)
        yield made
    finally:
        await made.stop()


def _nothing(phase: str, made: farlet.Farlet) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


async def run(
    on: Environment, *, count: int, prefix: str, side: Side = FARLET, during: Began = _nothing
) -> Run:
    """Create `count` pods, wait until they run, and delete them. Raises `NeverRan`."""
    names = workload.names(count, prefix=prefix)
    async with process(on, name=prefix, side=side) as made, workload.clock(on) as clock:
        await asyncio.sleep(1.0)  # work of a process after its start
        passes_before = passes(await made.metrics())
        with during("create", made):
            before, begun = made.usage(), time.monotonic()
            await workload.at_once(lambda name: workload.create(on, name), names)
            await clock.all_in(clock.home_running, names, what="never ran")
            last = max(clock.home_running.values())
            events = None
            if on.variant.events and side.shows_events:
                events = await mirrorevents.arrived(on, names, since=last)
            await asyncio.sleep(2.0)
            at_n = made.usage()
        passes_at_n = passes(await made.metrics())
        with during("delete", made):
            before_delete, begun_delete = made.usage(), time.monotonic()
            await workload.at_once(lambda name: workload.delete(on, name), names)
            await clock.all_in(clock.home_gone, names, what="were never removed")
            await environment.empty(on)
            gone = made.usage()
        passes_at_end = passes(await made.metrics())
        if count >= freed_memory.REMOVED_PODS:
            await asyncio.sleep(freed_memory.PAUSE_SECONDS + 5)
        after, peak = made.usage(), processes.peak_bytes(made.process.pid)
    return Run(
        seconds=last - begun,
        delete_seconds=max(clock.home_gone.values()) - begun_delete,
        created_to_mirror=clock.between(clock.created, clock.mirrored),
        running_to_home=clock.between(clock.mirror_running, clock.home_running),
        created_to_running=clock.between(clock.created, clock.home_running),
        deleted_to_gone=clock.between(clock.home_deleting, clock.home_gone),
        cpu_create=at_n.cpu_seconds - before.cpu_seconds,
        cpu_delete=gone.cpu_seconds - before_delete.cpu_seconds,
        passes_create=passes_at_n - passes_before,
        passes_delete=passes_at_end - passes_at_n,
        rss_before=before.rss_bytes / _MIB,
        rss_at_n=at_n.rss_bytes / _MIB,
        rss_after=after.rss_bytes / _MIB,
        rss_peak=peak / _MIB,
        events=events,
    )
