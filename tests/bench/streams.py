"""`python -m bench.streams`: 200 concurrent `exec` sessions for a minute, and pods.

Before that, `kubectl cp` and round trips are compared with those in the pod's own cluster
(owncluster.py).

Each session passes through the home API server, farlet's kubelet port and the foreign API server to
a container on a real node, and sends a line of 1 KiB every second, which must be returned. At the
same time pods are created and deleted at a steady rate and must start as usual. No session may
fail, the event loop of farlet must not be late, and its memory must not grow.

Exit codes: 0, 1 if a session failed, 2 for wrong usage, 130 after Ctrl-C.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import environment, execsession, loop_lag, owncluster, report, serving, workload
from bench.environment import NODE, Environment
from bench.interrupts import Interrupts
from bench.workload import NeverRan
from clusters import controlplane, errors, farlet, images, kwok, pair, rest
from clusters import progress as progresses
from clusters.cluster import Spec

PODS = 4
"""Pods among which the sessions are distributed."""

PODS_PER_SECOND = 2.0
MEMORY_EVERY_SECONDS = 1.0
_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Result:
    """All figures, in seconds and MiB."""

    compared: owncluster.Compared
    sessions: int
    seconds: float
    errors: list[str]
    opening: list[float]
    round_trips: list[float]
    lag_p50: float
    lag_p99: float
    rss_before: float
    rss_minute: list[float]
    rss_after: float
    cpu_share: float
    """Cores that farlet used in the minute."""
    pods: int
    bound_to_running: list[float]


def main() -> int:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(prog="bench.streams", description=__doc__)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--mib", type=int, default=1024, help="size of the file for kubectl cp")
    parser.add_argument("--json", type=Path, default=Path(".build/streams.json"), metavar="FILE")
    arguments = parser.parse_args()
    if min(arguments.sessions, arguments.seconds, arguments.mib) < 1:
        parser.error("--sessions, --seconds and --mib must be at least 1")
    progress = progresses.Progress()
    where = report.machine()
    interrupts = Interrupts()
    try:
        with _clusters(progress) as both:
            found = interrupts.run(
                _run(
                    both,
                    arguments.sessions,
                    seconds=arguments.seconds,
                    mib=arguments.mib,
                    progress=progress,
                )
            )
    except (NeverRan, errors.HarnessError, rest.ApiError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    result = _result(found, where)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(_table(result))
    print(f"\nAll figures: {arguments.json}")
    return 1 if found.errors else 0


@contextlib.contextmanager
def _clusters(progress: progresses.Progress) -> Iterator[pair.Clusters]:
    """A home cluster with fake nodes, a foreign one with a real node; no audit logs."""
    options = controlplane.Options(audit=False)
    home = Spec("home", fake_nodes=0, options=options)
    foreign = Spec("foreign", number=2, real_node=True, options=options)
    with pair.start(home=home, foreign=foreign, progress=progress) as both:
        yield both


async def _run(
    both: pair.Clusters, sessions: int, *, seconds: float, mib: int, progress: progresses.Progress
) -> Result:
    async with (
        environment.opened(both) as on,
        serving.process(on, name="streams") as made,
        workload.clock(on) as clock,
    ):
        names = [f"exec-{number}" for number in range(PODS)]
        for name in names:
            await on.home.create("pods", _pod(name), namespace=on.names.home)
        await clock.all_in(clock.home_running, names, what="never ran")
        with progress.step(f"kubectl cp of {mib} MiB and round trips, with and without farlet"):
            compared = await owncluster.compared(on, names[0], mib=mib)
        before = made.usage().rss_bytes / _MIB
        minute = execsession.Minute(asyncio.Barrier(sessions + 1), asyncio.Event())
        async with owncluster.client(both.home) as client, asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(
                    execsession.run(
                        client,
                        both.home.server,
                        namespace=on.names.home,
                        pod=name,
                        minute=minute,
                    )
                )
                for _, name in zip(range(sessions), itertools.cycle(names), strict=False)
            ]
            with progress.step(f"opening {sessions} sessions"):
                await minute.opened.wait()
            with progress.step(f"{seconds:.0f} s with {sessions} sessions"):
                lag, cpu = await loop_lag.read(made), made.usage().cpu_seconds
                memory, pods = await _minute(on, made, seconds=seconds)
                lag = loop_lag.since(lag, await loop_lag.read(made))
                cpu = made.usage().cpu_seconds - cpu
            minute.over.set()
        await asyncio.sleep(5.0)
        after = made.usage().rss_bytes / _MIB
        await clock.all_in(clock.home_running, [*names, *pods], what="never ran")
        reached = clock.between(clock.created, clock.home_running)[len(names) :]
    ended = [task.result() for task in running]
    return Result(
        compared=compared,
        sessions=sessions,
        seconds=seconds,
        errors=[one.error for one in ended if one.error is not None],
        opening=[one.opened_after for one in ended if one.opened_after],
        round_trips=[trip for one in ended for trip in one.round_trips],
        lag_p50=loop_lag.quantile(lag, 0.5),
        lag_p99=loop_lag.quantile(lag, 0.99),
        rss_before=before,
        rss_minute=memory,
        rss_after=after,
        cpu_share=cpu / seconds,
        pods=len(pods),
        bound_to_running=reached,
    )


async def _minute(
    on: Environment, made: farlet.Farlet, *, seconds: float
) -> tuple[list[float], list[str]]:
    """Create and delete pods at a steady rate; return memory in MiB, and the names of the pods."""
    memory: list[float] = []
    names: list[str] = []
    begun = time.monotonic()

    async def look() -> None:
        while time.monotonic() < begun + seconds:
            memory.append(made.usage().rss_bytes / _MIB)
            await asyncio.sleep(MEMORY_EVERY_SECONDS)

    async def create() -> None:
        for number in itertools.count():
            due = begun + number / PODS_PER_SECOND
            if due >= begun + seconds:
                return
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
            names.append(f"beside-{number:05d}")
            await workload.create(on, names[-1])
            if number >= 20:  # ten seconds after it was created
                await workload.delete(on, names[number - 20])

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(look())
        tasks.create_task(create())
    return memory, names


def _pod(name: str) -> rest.Object:
    """A pod on the real node in which many commands can run."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "nodeName": NODE,
            "nodeSelector": {kwok.LABEL: "real"},
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {"name": "main", "image": images.CLIENTS, "command": ["sleep", "86400"]}
            ],
        },
    }


def _result(found: Result, where: dict[str, Any]) -> dict[str, Any]:
    return {
        "machine": where,
        **dataclasses.asdict(found),
        "compared": {
            "through_home": _way(found.compared.through_home),
            "own_cluster": _way(found.compared.own_cluster),
        },
        "opening": _points(found.opening),
        "round_trips": _points(found.round_trips) | {"count": len(found.round_trips)},
        "bound_to_running": _points(found.bound_to_running),
    }


def _way(turns: Sequence[owncluster.Turn]) -> dict[str, float]:
    """Medians of the turns; round trips in seconds."""
    return {
        "into": statistics.median(turn.into for turn in turns),
        "back": statistics.median(turn.back for turn in turns),
        **_points([trip for turn in turns for trip in turn.round_trips]),
    }


def _points(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values) or [math.nan]
    found = {f"p{p}": ordered[min(len(ordered) * p // 100, len(ordered) - 1)] for p in (50, 99)}
    return {**found, "max": ordered[-1]}


def _table(result: dict[str, Any]) -> str:
    where, memory = result["machine"], result["rss_minute"]

    def points(key: str) -> str:
        found = result[key]
        return f"{found['p50']:.3f}, {found['p99']:.3f}, {found['max']:.3f}"

    def compared(*keys: str, scale: float = 1.0) -> str:
        ways = result["compared"].values()
        figures = ["/".join(f"{way[key] * scale:.1f}" for way in ways) for key in keys]
        return ", ".join(figures)

    lag = ", ".join(f"{result[key] * 1e3:.1f}" for key in ("lag_p50", "lag_p99"))
    rss = ", ".join(f"{one:.0f}" for one in (memory[0], memory[-1], max(memory)))
    rows = (
        ("kubectl cp, MiB/s, farlet/own cluster: into, back", compared("into", "back")),
        ("round trip, ms, farlet/own: p50, p99", compared("p50", "p99", scale=1e3)),
        ("sessions that failed", f"{len(result['errors'])} of {result['sessions']}"),
        ("opening, s: p50, p99, max", points("opening")),
        ("lines returned", result["round_trips"]["count"]),
        ("round trip, s: p50, p99, max", points("round_trips")),
        ("loop lag of farlet, ms: p50, p99", lag),
        ("CPU of farlet, cores", f"{result['cpu_share']:.2f}"),
        ("RSS before, MiB", f"{result['rss_before']:.0f}"),
        ("RSS in the minute, MiB: first, last, maximum", rss),
        ("RSS after, MiB", f"{result['rss_after']:.0f}"),
        (f"pods created meanwhile, {PODS_PER_SECOND:.0f} per second", result["pods"]),
        ("bound to home Running, s: p50, p99, max", points("bound_to_running")),
    )
    head = (
        f"{result['sessions']} exec sessions for {result['seconds']:.0f} s; "
        f"{report.machine_text(where)}, load before {where['load_before']:.1f}"
    )
    lines = [head, "", *(f"{name:52}{value}" for name, value in rows)]
    lines += [f"  {error}" for error in sorted(set(result["errors"]))[:10]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
