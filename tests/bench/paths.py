"""`python -m bench.paths [PATH ...]`: the cost of each path to the home API server.

The same load is sent directly to the API server and through each path (homeapi.py), in turns: a
list of 5,000 pods, 500 small requests per second on 200 open connections, and requests on new
connections. The important figures are ratios to the direct path. CPU is measured per process. The
gateway is also compared with a `kubectl port-forward` of as many bytes as its lists have.

Exit codes: 0, 1 if a request failed, 2 for wrong usage, 130 after Ctrl-C.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import itertools
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import bareforward, environment, loop_lag, report, workload
from bench.environment import NAMESPACE, Environment
from bench.homeapi import DIRECT, GATEWAY, PATHS, Open, Used
from bench.interrupts import Interrupts
from clusters import binaries, controlplane, errors, kubeconfig, pair, processes, rest
from clusters import progress as progresses
from clusters.cluster import Spec

PADDING = 5_000
"""Bytes in an annotation of each pod, so that it has a realistic size: 5.7 kB of JSON."""

_MIB = 2**20
SMALL = f"/api/v1/namespaces/{NAMESPACE}/configmaps/small"
LIST = f"/api/v1/namespaces/{NAMESPACE}/pods?resourceVersion=0"
LOADS: dict[str, list[str]] = {
    "list": ["-path", LIST, "-count", "5"],
    "kept": ["-path", SMALL, "-connections", "200", "-rate", "500", "-lasting", "20s"],
    "fresh": ["-path", SMALL, "-count", "300"],
}
BUSY = ["-path", LIST, "-count", "30"]
"""The load during which pods are created."""

IDLE_PODS = 10


@dataclasses.dataclass(frozen=True)
class Round:
    """One load on one path: the output of the load program, and CPU seconds by process.

    `late` are p50 and p99 of the lateness of the carrying farlet's event loop, in ms.
    """

    result: dict[str, Any]
    cpu: dict[str, float]
    late: tuple[float, float] | None

    @property
    def mib_per_second(self) -> float:
        return float(self.result["bytes"]) / float(self.result["seconds"]) / _MIB


@dataclasses.dataclass(frozen=True)
class Beside:
    """Seconds until pods were Running, one after another, and the lists at the same time."""

    listed: Round | None
    reached: list[float]


@dataclasses.dataclass
class Found:
    """All that was measured."""

    rounds: dict[str, dict[str, list[Round]]]
    """By load and path."""
    forwarded: list[float] = dataclasses.field(default_factory=list)
    """MiB/s of `kubectl port-forward`, for each round; empty without the gateway."""
    beside: dict[str, list[Beside]] = dataclasses.field(default_factory=dict)
    """By path."""


def main() -> int:
    """Run it and print the tables."""
    arguments = _arguments()
    progress = progresses.Progress()
    where = report.machine()
    interrupts = Interrupts()
    paths = list(dict.fromkeys([DIRECT, *arguments.paths]))
    try:
        program = binaries.find(["load"], progress=progress)["load"]
        with _clusters(paths, progress) as both:
            found = interrupts.run(
                _run(both, program, paths, arguments=arguments, progress=progress)
            )
    except (errors.HarnessError, rest.ApiError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    result = {"machine": where, "pods": arguments.pods, **dataclasses.asdict(found)}
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(_tables(found.rounds, paths, pods=arguments.pods, where=where))
    if found.forwarded:
        print(_forwarded_line(found))
    print("\n".join(_beside_line(path, one) for path, by in found.beside.items() for one in by))
    print(f"\nAll figures: {arguments.json}")
    failed = [
        one.result for by in found.rounds.values() for rounds in by.values() for one in rounds
    ]
    return 1 if any(one["errors"] for one in failed) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.paths", description=__doc__)
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help=f"of {', '.join(PATHS)}; default all"
    )
    parser.add_argument("--pods", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds")
    parser.add_argument("--json", type=Path, default=Path(".build/paths.json"), metavar="FILE")
    arguments = parser.parse_args()
    arguments.paths = arguments.paths or list(PATHS)
    if unknown := set(arguments.paths) - set(PATHS):
        parser.error(
            f"unknown path: {', '.join(sorted(unknown))}; expected one of {', '.join(PATHS)}"
        )
    if arguments.rounds < 1 or arguments.pods < 1:
        parser.error("--rounds and --pods must be at least 1")
    return arguments


@contextlib.contextmanager
def _clusters(paths: Sequence[str], progress: progresses.Progress) -> Iterator[pair.Clusters]:
    """Home with fake nodes, foreign with a real node if a path requires one; no audit logs."""
    options = controlplane.Options(audit=False)
    real = any(PATHS[path].real_node for path in paths)
    home = Spec("home", fake_nodes=0, options=options)
    foreign = Spec("foreign", number=2, real_node=real, options=options)
    with pair.start(home=home, foreign=foreign, progress=progress) as both:
        yield both


async def _run(
    both: pair.Clusters,
    program: Path,
    paths: Sequence[str],
    *,
    arguments: argparse.Namespace,
    progress: progresses.Progress,
) -> Found:
    login = _login(both)
    found = Found({load: {path: [] for path in paths} for load in LOADS})
    async with environment.opened(both) as on, contextlib.AsyncExitStack() as stack:
        with progress.step(f"creating {arguments.pods} pods"):
            await _fill(on, arguments.pods)
        opened = {path: await stack.enter_async_context(PATHS[path].open(both)) for path in paths}
        if GATEWAY in paths:
            sink = await stack.enter_async_context(bareforward.sink(on))
        for number in range(1, arguments.rounds + 1):
            for path, load in itertools.product(paths, LOADS):
                command: list[str | Path] = [program, "-mode", load, *LOADS[load], *login]
                with progress.step(f"round {number} of {arguments.rounds}: {path}, {load}"):
                    found.rounds[load][path].append(await _measured(both, opened[path], command))
            if GATEWAY in paths:
                size = found.rounds["list"][GATEWAY][-1].result["bytes"]
                with progress.step(f"round {number} of {arguments.rounds}: port-forward"):
                    found.forwarded.append(await sink.mib_per_second(size))
        for path in (one for one in paths if opened[one].carrying is not None):
            with progress.step(f"pods during lists through {path}"):
                command = [program, "-mode", "list", *BUSY, *login]
                found.beside[path] = await _beside(on, opened[path], command)
    return found


async def _fill(on: Environment, count: int) -> None:
    """Create pods that stay unscheduled, and one small object."""
    small = {"metadata": {"name": "small"}, "data": {"key": "value"}}
    await on.home.create("configmaps", small, namespace=NAMESPACE)

    async def create(name: str) -> None:
        pod = workload.manifest(name)
        pod["metadata"]["annotations"] = {"bench.example/padding": "x" * PADDING}
        pod["spec"] |= {"nodeName": None, "schedulerName": "none"}
        await on.home.create("pods", pod, namespace=NAMESPACE)

    await workload.at_once(create, workload.names(count, prefix="pod"))


async def _beside(on: Environment, opened: Open, command: Sequence[str | Path]) -> list[Beside]:
    """Times until pods of this farlet run, without lists and with lists."""
    idle = [await _reached(on, f"idle-{number}") for number in range(IDLE_PODS)]
    listing = asyncio.create_task(_measured(on.clusters, opened, command))
    busy: list[float] = []
    while not listing.done():
        busy.append(await _reached(on, f"busy-{len(busy)}"))
    return [Beside(None, idle), Beside(await listing, busy)]


async def _reached(on: Environment, name: str) -> float:
    """Seconds from the creation of one home pod until it is Running."""
    begun = time.monotonic()
    await workload.create(on, name)
    await on.home.until("pods", rest.phase("Running"), name=name, namespace=NAMESPACE, seconds=60)
    return time.monotonic() - begun


def _login(both: pair.Clusters) -> list[str]:
    """The credentials of the administrator, as files."""
    access = kubeconfig.read(both.home.kubeconfig)
    words: list[str] = []
    for flag, content in (
        ("-ca", access.authority),
        ("-cert", access.certificate),
        ("-key", access.key),
    ):
        if content is None:
            raise errors.HarnessError(
                "the benchmark requires an administrator with a client certificate"
            )
        path = both.instance.folder / f"load{flag}.pem"
        path.touch(mode=0o600)
        path.write_bytes(content)
        words += [flag, str(path)]
    return words


async def _measured(both: pair.Clusters, opened: Open, command: Sequence[str | Path]) -> Round:
    """Run one load to its end."""
    parts = {"API server": both.home.apiserver.process.usage, **opened.parts}
    dial = [*command, "-address", opened.address]
    if opened.network is not None:
        dial = opened.network.inside(dial)
    carrying = opened.carrying
    late = None if carrying is None else await loop_lag.read(carrying)
    before = _used(parts)
    output = await asyncio.to_thread(processes.run, dial, what="run the load")
    used = {name: seconds - before[name] for name, seconds in _used(parts).items()}
    result: dict[str, Any] = json.loads(output)
    if result["errors"] == result["requests"]:
        raise errors.HarnessError(f"no request succeeded: {result['first_error']}")
    points = None
    if carrying is not None and late is not None:
        meanwhile = loop_lag.since(late, await loop_lag.read(carrying))
        points = loop_lag.quantile(meanwhile, 0.5) * 1e3, loop_lag.quantile(meanwhile, 0.99) * 1e3
    return Round(result, {**used, "client": result["cpu_seconds"]}, points)


def _used(parts: Mapping[str, Used]) -> dict[str, float]:
    return {name: used().cpu_seconds for name, used in parts.items()}


def _tables(
    found: Mapping[str, Mapping[str, Sequence[Round]]],
    paths: Sequence[str],
    *,
    pods: int,
    where: Mapping[str, Any],
) -> str:
    """One table per load: medians over the rounds, ratios to the direct path of the same round."""
    head = f"{pods} pods; {report.machine_text(where)}, load before {where['load_before']:.1f}"
    lines = [head]
    for load, by in found.items():
        direct = by[DIRECT]
        lines += ["", f"{load}: {' '.join(LOADS[load][2:])}"]
        for path in paths:
            rounds = by[path]
            errors_seen = sum(one.result["errors"] for one in rounds)
            figures = [
                f"p50 {_median([one.result['p50_ms'] for one in rounds]):9.2f} ms",
                f"p99 {_median([one.result['p99_ms'] for one in rounds]):9.2f} ms",
                f"{_median([one.mib_per_second for one in rounds]):7.1f} MiB/s",
                f"errors {errors_seen}",
            ]
            pairs = list(zip(rounds, direct, strict=True))
            ratios = {
                "p50": [one.result["p50_ms"] / other.result["p50_ms"] for one, other in pairs],
                "CPU": [sum(one.cpu.values()) / sum(other.cpu.values()) for one, other in pairs],
            }
            lines.append(f"  {path:10}{'  '.join(figures)}")
            shares = {name: _median([one.cpu[name] for one in rounds]) for name in rounds[0].cpu}
            cpu = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in shares.items())
            lines.append(f"{'':12}CPU {cpu}")
            late = [one.late for one in rounds if one.late is not None]
            if late:
                p50, p99 = (_median(points) for points in zip(*late, strict=True))
                lines.append(f"{'':12}event loop of farlet late by p50 {p50:.1f}, p99 {p99:.1f} ms")
            if path != DIRECT:
                result = (f"{name} {_spread(values)}" for name, values in ratios.items())
                lines.append(f"{'':12}ratio to direct: {', '.join(result)}")
                more = (
                    f"{point} {_spread([a.result[key] - b.result[key] for a, b in pairs])}"
                    for point, key in (("p50", "p50_ms"), ("p99", "p99_ms"))
                )
                lines.append(f"{'':12}added, ms: {', '.join(more)}")
    return "\n".join(lines)


def _forwarded_line(found: Found) -> str:
    lists = found.rounds["list"][GATEWAY]
    ratios = [one.mib_per_second / bare for one, bare in zip(lists, found.forwarded, strict=True)]
    return (
        f"\nport-forward of the same bytes: {_median(found.forwarded):.1f} MiB/s; "
        f"gateway / port-forward {_spread(ratios)}"
    )


def _beside_line(path: str, one: Beside) -> str:
    reached = f"{len(one.reached)} pods Running after {_spread(one.reached)} s"
    if one.listed is None:
        return f"\n{path}, nothing else: {reached}"
    p50, p99 = one.listed.late or (0.0, 0.0)
    return (
        f"{path}, {one.listed.mib_per_second:.1f} MiB/s of lists: {reached}; event loop late by "
        f"p50 {p50:.1f}, p99 {p99:.1f} ms"
    )


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _spread(values: Sequence[float]) -> str:
    return f"{_median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    sys.exit(main())
