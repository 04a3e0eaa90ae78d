"""Ten thousand pods on one node: all run, all are deleted, and memory grows linearly.

The test writes the figures to `docs/soak/`, with the date.
"""

import asyncio
import dataclasses
import time

import pytest

from bench import environment, report, serving, workload
from clusters import pair
from clusters import progress as progresses
from farlet.home import freed_memory

POINTS = (1_000, 2_500, 5_000, 7_500, 10_000)
GROWTH = 1.25
"""Maximum ratio of memory per pod, later half to earlier half: 1, plus allocator rounding."""
MOST_MIB = 260
"""With ten thousand pods."""
START, END, LATER = "before the first", "after all were deleted", "five minutes later"


@pytest.mark.soak
def test_ten_thousand_pods_run_and_memory_grows_linearly() -> None:
    with environment.clusters(audit=False, progress=progresses.Progress()) as both:
        figures = asyncio.run(_grow(both))
    _write(figures)
    first, middle, last = (figures[str(count)].rss for count in (POINTS[0], POINTS[2], POINTS[-1]))
    earlier = (middle - first) / (POINTS[2] - POINTS[0])
    later = (last - middle) / (POINTS[-1] - POINTS[2])
    assert later <= earlier * GROWTH, f"{later * 1024:.1f} after {earlier * 1024:.1f} KiB per pod"
    assert last <= MOST_MIB
    assert figures[END].rss < last


@dataclasses.dataclass(frozen=True)
class _Point:
    """MiB, and the seconds since the first pod was created."""

    rss: float
    seconds: float


async def _grow(both: pair.Clusters) -> dict[str, _Point]:
    """Memory at each number of Running pods, before the first one and after the deletion of all."""
    figures: dict[str, _Point] = {}
    names = workload.names(POINTS[-1], prefix="pod")
    async with (
        environment.opened(both) as on,
        serving.process(on, name="soak") as made,
        workload.clock(on) as clock,
    ):
        await asyncio.sleep(1.0)  # work of a process after its start
        begun = time.monotonic()

        def point() -> _Point:
            return _Point(made.usage().rss_bytes / 2**20, time.monotonic() - begun)

        figures[START], done = point(), 0
        for count in POINTS:
            await workload.at_once(lambda name: workload.create(on, name), names[done:count])
            await clock.all_in(clock.home_running, names[:count], what="never ran")
            await asyncio.sleep(5.0)
            figures[str(count)], done = point(), count
        await workload.at_once(lambda name: workload.delete(on, name), names)
        await clock.all_in(clock.home_gone, names, what="were never removed")
        await asyncio.sleep(freed_memory.PAUSE_SECONDS + 5)
        figures[END] = point()
        await asyncio.sleep(freed_memory.AGAIN_SECONDS)
        figures[LATER] = point()
    return figures


def _write(figures: dict[str, _Point]) -> None:
    rows = [
        f"| {count} | {point.rss:.0f} | {point.seconds:.0f} |" for count, point in figures.items()
    ]
    report.write_record(
        "ten-thousand-pods",
        "Ten thousand pods on one node",
        purpose="measure memory and time for ten thousand pods.",
        table=[
            "| pods Running | RSS of farlet, MiB | seconds since the first create |",
            "|---|---|---|",
            *rows,
        ],
    )
