"""What a second virtual node on the same machine costs, idle and while pods are created.

The test writes the figures to `docs/soak/`, with the date.
"""

import asyncio
import contextlib
import dataclasses
import statistics
import time
from collections.abc import Sequence

import pytest

from bench import environment, report, serving, workload
from bench.environment import AGAINST, Environment
from clusters import farlet, pair
from clusters import progress as progresses

PODS = 600
TURNS = 3
IDLE_SECONDS = 30.0
_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class _Turn:
    """Seconds until all pods were Running; CPU per pod in ms, and MiB, of all farlets together."""

    seconds: float
    cpu: float
    rss: float


@dataclasses.dataclass(frozen=True)
class _Idle:
    """Of a farlet without pods: MiB, and the share of a core."""

    rss: float
    cores: float


@pytest.mark.soak
def test_two_virtual_nodes_share_a_machine() -> None:
    with environment.clusters(audit=False, progress=progresses.Progress()) as both:
        idle, one, two = asyncio.run(_compared(both))
    _write(idle, one, two)


async def _compared(both: pair.Clusters) -> tuple[_Idle, list[_Turn], list[_Turn]]:
    one: list[_Turn] = []
    two: list[_Turn] = []
    async with environment.opened(both) as on, environment.opened(both, place=AGAINST) as other:
        async with serving.process(other, name="idle") as made:
            await asyncio.sleep(2.0)  # work of a process after its start
            before = made.usage().cpu_seconds
            await asyncio.sleep(IDLE_SECONDS)
            used = made.usage()
        idle = _Idle(used.rss_bytes / _MIB, (used.cpu_seconds - before) / IDLE_SECONDS)
        for number in range(TURNS):
            one.append(await _turn([on], prefix=f"one-{number}"))
            two.append(await _turn([on, other], prefix=f"two-{number}"))
    return idle, one, two


async def _turn(places: Sequence[Environment], *, prefix: str) -> _Turn:
    """Distribute the pods among the nodes of `places`, and delete them."""
    names = workload.names(PODS // len(places), prefix=prefix)
    async with contextlib.AsyncExitStack() as stack:
        made = [
            await stack.enter_async_context(serving.process(on, name=f"{prefix}-{on.place.node}"))
            for on in places
        ]
        clocks = [await stack.enter_async_context(workload.clock(on)) for on in places]
        await asyncio.sleep(1.0)  # work of a process after its start
        before, begun = _cpu(made), time.monotonic()
        # In turns, so that both nodes are busy all the time.
        every = [(on, name) for name in names for on in places]
        await workload.at_once(lambda pod: workload.create(*pod), every)
        for clock in clocks:
            await clock.all_in(clock.home_running, names, what="never ran")
        last = max(when for clock in clocks for when in clock.home_running.values())
        await asyncio.sleep(2.0)
        cpu = (_cpu(made) - before) / PODS * 1e3
        rss = sum(each.usage().rss_bytes for each in made) / _MIB
        await workload.at_once(lambda pod: workload.delete(*pod), every)
        for clock in clocks:
            await clock.all_in(clock.home_gone, names, what="were never removed")
        for on in places:
            await environment.empty(on)
    return _Turn(last - begun, cpu, rss)


def _cpu(made: Sequence[farlet.Farlet]) -> float:
    return sum(each.usage().cpu_seconds for each in made)


def _write(idle: _Idle, one: Sequence[_Turn], two: Sequence[_Turn]) -> None:
    rows = [
        f"| {title} | {_row([getattr(turn, field) for turn in one])} "
        f"| {_row([getattr(turn, field) for turn in two])} |"
        for title, field in (
            ("first create to last home Running, s", "seconds"),
            ("CPU of farlet per pod, ms", "cpu"),
            ("RSS of all farlets with all pods, MiB", "rss"),
        )
    ]
    said = (
        f"A farlet without pods takes {idle.rss:.0f} MiB and {idle.cores:.1%} of a core. {PODS} "
        f"pods are created on one virtual node, and then half of them on each of two, in turns, "
        f"{TURNS} each. Medians, with minimum and maximum."
    )
    report.write_record(
        "two-nodes",
        "Two virtual nodes on one machine",
        purpose="measure what a second virtual node costs.",
        said=[said],
        table=["| | one node | two nodes |", "|---|---|---|", *rows],
    )


def _row(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"
