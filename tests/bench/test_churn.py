"""Ten minutes of pods that come and go at 45 % of the floor's rate: memory, and time in the queue.

The test writes the figures to `docs/soak/`, with the date.
"""

import asyncio
import dataclasses
import re
import time

import pytest

from bench import environment, floor, frozen, recording, report, serving, workload
from bench.environment import Environment
from clusters import pair
from clusters import progress as progresses

MINUTES = 10
SHARE = 0.45
LIFE_SECONDS = 10.0
FLOOR_PODS = 600
GROWTH = 1.1
"""Maximum ratio of the memory after the last minute to that after the second one, beside
`REMEMBERED_MIB`."""
REMEMBERED_MIB = 17.0
"""The records of deletions (`store.TOMBSTONES`) in three tables, which fill meanwhile."""

_WAITED = re.compile(
    r'^workqueue_queue_duration_seconds_bucket\{le="([^"]+)",name="pods"\} ([0-9.e+]+)$',
    re.MULTILINE,
)


@dataclasses.dataclass(frozen=True)
class _Minute:
    """MiB at its end; the 99th percentile of seconds in the queue, at most, in this minute."""

    rss: float
    waited: float
    cpu: float


@pytest.mark.soak
def test_ten_minutes_of_churn_leave_no_pod_and_memory_stays_the_same() -> None:
    with environment.clusters(audit=False, progress=progresses.Progress()) as both:
        rate, minutes = asyncio.run(_churn(both))
    _write(rate, minutes)
    assert minutes[-1].rss <= minutes[1].rss * GROWTH + REMEMBERED_MIB


async def _churn(both: pair.Clusters) -> tuple[float, list[_Minute]]:
    """Pods per second that are created, and as many deleted; each minute of it."""
    async with environment.opened(both) as on:
        script = frozen.script(await recording.record(on), mode="home")
        await floor.run(on, script, count=100, prefix="warm")
        least = await floor.run(on, script, count=FLOOR_PODS, prefix="floor")
        rate = SHARE * FLOOR_PODS / (least.seconds + least.delete_seconds)
        names = workload.names(int(rate * 60 * MINUTES), prefix="pod")
        async with serving.process(on, name="churn") as made, workload.clock(on) as clock:
            minutes = []
            before = await made.metrics()
            coming = asyncio.create_task(_come_and_go(on, names, rate))
            for _ in range(MINUTES):
                used = made.usage()
                await asyncio.sleep(60.0)
                after = await made.metrics()
                cpu = (made.usage().cpu_seconds - used.cpu_seconds) / (rate * 60) * 1000
                rss = made.usage().rss_bytes / 2**20
                minutes.append(_Minute(rss, _percentile(before, after), cpu))
                before = after
            await coming
            await clock.all_in(clock.home_gone, names, what="were never removed")
            await environment.empty(on)
    return rate, minutes


async def _come_and_go(on: Environment, names: list[str], rate: float) -> None:
    begun = time.monotonic()

    async def live(name: str) -> None:
        await workload.create(on, name)
        await asyncio.sleep(LIFE_SECONDS)
        await workload.delete(on, name)

    async with asyncio.TaskGroup() as pods:
        for number, name in enumerate(names):
            await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
            pods.create_task(live(name))


def _percentile(before: str, after: str) -> float:
    """The upper end of the bucket with the 99th percentile of what waited in between."""
    earlier = {end: float(count) for end, count in _WAITED.findall(before)}
    counts = [(float(end), float(n) - earlier.get(end, 0.0)) for end, n in _WAITED.findall(after)]
    total = counts[-1][1]
    return next(end for end, count in counts if count >= 0.99 * total)


def _write(rate: float, minutes: list[_Minute]) -> None:
    rows = [
        f"| {number} | {one.rss:.0f} | {one.waited:g} | {one.cpu:.1f} |"
        for number, one in enumerate(minutes, 1)
    ]
    said = (
        f"{rate:.1f} pods were created and as many deleted per second, {SHARE:.0%} of the rate "
        f"of the floor ([Performance](../performance.md)). Each pod lived {LIFE_SECONDS:.0f} s "
        "or longer. After the last one, no pod and no Secret was left."
    )
    report.write_record(
        "churn",
        "Ten minutes of churn",
        purpose="check that memory stays the same while pods come and go, and how long they wait.",
        said=[said],
        table=[
            "| minute | RSS of farlet, MiB | 99 % waited in the queue, s | CPU per pod, ms |",
            "|---|---|---|---|",
            *rows,
        ],
    )
