"""The results of a benchmark: a table, and JSON to compare two runs."""

import dataclasses
import os
import platform
import statistics
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.counting import Kind, Requests
from bench.floor import Floor
from bench.serving import Run

_LIBRARIES = ("kopf", "kubernetes-asyncio", "aiohttp", "orjson")


@dataclasses.dataclass(frozen=True)
class Pair:
    """A run of the floor and the following run of farlet."""

    floor: Floor
    farlet: Run


def machine() -> dict[str, Any]:
    """The machine; call this before the benchmark starts."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
        **{name: metadata.version(name) for name in _LIBRARIES},
    }


def result(
    count: int, pairs: Sequence[Pair], requests: Requests | None, *, where: dict[str, Any]
) -> dict[str, Any]:
    """All figures; latencies as percentiles."""
    return {
        "machine": where,
        "pods": count,
        "pairs": [
            {
                "floor": dataclasses.asdict(pair.floor),
                "farlet": _farlet(pair.farlet, count=count),
                "ratio": pair.farlet.seconds / pair.floor.seconds,
                "delete_ratio": pair.farlet.delete_seconds / pair.floor.delete_seconds,
            }
            for pair in pairs
        ],
        "requests": None if requests is None else _requests(requests),
    }


def table(found: dict[str, Any]) -> str:
    """A table for a terminal, with each figure as median (minimum to maximum)."""
    pairs, count = found["pairs"], found["pods"]
    where = found["machine"]
    head = (
        f"{count} pods, {len(pairs)} pairs of floor and farlet; {where['cores']} cores "
        f"({where['cpu']}), {where['memory_gib']} GiB, Python {where['python']}, "
        f"load before {where['load_before']:.1f}"
    )
    lines = [
        head,
        "",
        f"{'':34}{'floor':>22}{'farlet':>22}{'ratio':>20}",
    ]

    def both(title: str, key: str, ratio: str) -> None:
        lines.append(
            f"{title:34}{_spread([p['floor'][key] for p in pairs]):>22}"
            f"{_spread([p['farlet'][key] for p in pairs]):>22}"
            f"{_spread([p[ratio] for p in pairs]):>20}"
        )

    def ours(title: str, *path: str) -> None:
        values = []
        for pair in pairs:
            value = pair["farlet"]
            for key in path:
                value = value[key]
            values.append(value)
        lines.append(f"{title:34}{'':22}{_spread(values):>22}")

    both("first create to last Running, s", "seconds", "ratio")
    lines.append(
        f"{'pods per second':34}{_spread([count / p['floor']['seconds'] for p in pairs]):>22}"
        f"{_spread([count / p['farlet']['seconds'] for p in pairs]):>22}"
    )
    both("first delete to last gone, s", "delete_seconds", "delete_ratio")
    for title, key in (
        ("bound to mirror, s", "bound_to_mirror"),
        ("mirror Running to home Running, s", "running_to_home"),
        ("bound to home Running, s", "bound_to_running"),
    ):
        for point in ("p50", "p95", "p99"):
            ours(f"{title} {point}" if point == "p50" else f"{'':>30} {point}", key, point)
    ours("CPU per pod, ms", "cpu_ms_per_pod")
    ours("RSS before, MiB", "rss_before")
    ours(f"RSS at {count} pods, MiB", "rss_at_n")
    ours("RSS after, MiB", "rss_after")
    ours("RSS peak, MiB", "rss_peak")
    if found["requests"] is not None:
        lines += ["", *_request_lines(found["requests"])]
    return "\n".join(lines)


def _farlet(run: Run, *, count: int) -> dict[str, Any]:
    plain = dataclasses.asdict(run)
    for key in ("bound_to_mirror", "running_to_home", "bound_to_running"):
        plain[key] = _percentiles(plain[key])
    return {**plain, "cpu_ms_per_pod": run.cpu_seconds / count * 1000}


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        f"p{point}": ordered[min(len(ordered) * point // 100, len(ordered) - 1)]
        for point in (50, 95, 99)
    }


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def _requests(requests: Requests) -> dict[str, Any]:
    def plain(counted: dict[Kind, float]) -> list[dict[str, Any]]:
        return [{**dataclasses.asdict(kind), "requests": n} for kind, n in counted.items()]

    return {
        "pods": requests.count,
        "start": plain(requests.start),
        "end": plain(requests.end),
        "per_minute": plain(requests.per_minute),
        "refused": plain(requests.refused),
    }


def _request_lines(requests: dict[str, Any]) -> list[str]:
    lines = [f"Requests per pod ({requests['pods']} pods, from audit logs)"]
    for title, key in (
        ("bound to Running", "start"),
        ("deleted to gone", "end"),
        ("of these rejected", "refused"),
        ("per minute, of the process", "per_minute"),
    ):
        lines.append(f"  {title}: {sum(one['requests'] for one in requests[key]):.2f}")
        lines += [
            f"    {one['cluster']:8}{one['verb']:8}{one['resource']:28}{one['requests']:6.2f}"
            for one in requests[key]
        ]
    return lines
