"""The results of a benchmark: a table, and JSON to compare two runs."""

import dataclasses
import datetime
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.counting import Kind, Requests
from bench.floor import Floor
from bench.serving import Run
from bench.variants import Variant

_RECORDS = Path(__file__).parents[2] / "docs" / "soak"
_LIBRARIES = ("kopf", "kubernetes-asyncio", "aiohttp", "orjson")


@dataclasses.dataclass(frozen=True)
class Turn:
    """A run of the floor and one of each version of farlet, by title."""

    floor: Floor
    runs: Mapping[str, Run]


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


def machine_text(where: Mapping[str, Any]) -> str:
    """A machine in one line, for the head of a table or page."""
    return (
        f"{where['cores']} cores ({where['cpu']}), {where['memory_gib']} GiB, "
        f"Python {where['python']}"
    )


def write_record(
    slug: str, title: str, *, purpose: str, said: Sequence[str] = (), table: Sequence[str]
) -> None:
    """The page of a long run with kwok nodes in `docs/soak/`; `table` are its lines."""
    today = datetime.datetime.now(datetime.UTC).date()
    where = (
        f"`make soak` on {machine_text(machine())}; both control planes, kwok nodes and farlet on "
        "this machine."
    )
    blocks = [f"# {title}, {today}", f"Purpose: {purpose}", where, *said, "\n".join(table)]
    _RECORDS.mkdir(exist_ok=True)
    (_RECORDS / f"{today}-{slug}.md").write_text("\n\n".join(blocks) + "\n")


def result(
    count: int,
    variant: Variant,
    turns: Sequence[Turn],
    *,
    where: dict[str, Any],
) -> dict[str, Any]:
    """All figures of the turns; latencies as percentiles, CPU in ms and passes of one pod."""
    return {
        "machine": where,
        "pods": count,
        "variant": dataclasses.asdict(variant),
        "head": variant.words(),
        "turns": [
            {
                "floor": _figures(turn.floor, count=count),
                "sides": {title: _figures(run, count=count) for title, run in turn.runs.items()},
            }
            for turn in turns
        ],
    }


def requests(counted: Mapping[str, Requests]) -> dict[str, Any]:
    """Counted requests, by the title of the version that sent them."""
    return {title: _requests(one) for title, one in counted.items()}


def request_table(counted: Mapping[str, Any]) -> str:
    """What `requests` has returned, for a terminal."""
    return "\n".join(
        line for title, one in counted.items() for line in ("", *_request_lines(title, one))
    )


_ROWS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("first create to last Running, s", ("seconds",)),
    ("pods per second", ("pods_per_second",)),
    ("first delete to last gone, s", ("delete_seconds",)),
    *(
        (f"{title}, s: {point}" if point == "p50" else f"{'':>24}{point}", (key, point))
        for title, key in (
            ("created to Running", "created_to_running"),
            ("created to mirror", "created_to_mirror"),
            ("mirror Running to home", "running_to_home"),
            ("deleted to gone", "deleted_to_gone"),
        )
        for point in ("p50", "p95", "p99")
    ),
    ("CPU per pod, create, ms", ("cpu_create",)),
    ("CPU per pod, delete, ms", ("cpu_delete",)),
    ("passes per pod, create", ("passes_create",)),
    ("passes per pod, delete", ("passes_delete",)),
    ("RSS before, MiB", ("rss_before",)),
    ("RSS with all pods, MiB", ("rss_at_n",)),
    ("RSS peak, MiB", ("rss_peak",)),
    ("RSS after the deletion, MiB", ("rss_after",)),
    ("Events written by foreign nodes", ("events", "written")),
    ("last Running to last Event, s", ("events", "seconds")),
    ("Events missing at home", ("events", "missing")),
)
"""Titles, and where the figures are; those of the floor are missing where it has none."""

_WITH_RATIO = {"seconds", "delete_seconds", "created_to_running", "deleted_to_gone"}


def table(found: dict[str, Any]) -> str:
    """A table for a terminal, with each figure as median (minimum to maximum).

    The ratio is that of each version of farlet to the floor of the same turn.
    """
    turns, where = found["turns"], found["machine"]
    titles = list(turns[0]["sides"])
    head = (
        f"{found['pods']} pods, {found['head']}; {len(turns)} turns of floor and "
        f"{' and '.join(titles)}; {machine_text(where)}, load before {where['load_before']:.1f}"
    )
    lines = [
        head,
        "",
        _line("", "floor", *(word for title in titles for word in (title, "ratio"))),
    ]
    for title, path in _ROWS:
        floors = [_at(turn["floor"], path) for turn in turns]
        cells = [_spread(floors)]
        for side in titles:
            ours = [_at(turn["sides"][side], path) for turn in turns]
            ratios = [
                one / least if one is not None and least else None
                for one, least in zip(ours, floors, strict=True)
            ]
            cells += [_spread(ours), _spread(ratios) if path[0] in _WITH_RATIO else ""]
        if any(cells):
            lines.append(_line(title, *cells))
    for title, loss in losses(turns).items():
        what = f"{title}, compared with {titles[-1]}: loss in pods per second, %"
        lines += ["", f"{what}: {_spread(loss)}"]
    return "\n".join(lines)


def losses(turns: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Of each version but the last, the loss in pods per second compared with the last.

    In percent, turn by turn; negative where it was faster. Empty for one version alone.
    """
    *others, last = turns[0]["sides"]
    return {
        title: [
            100 * (1 - sides[title]["pods_per_second"] / sides[last]["pods_per_second"])
            for sides in (turn["sides"] for turn in turns)
        ]
        for title in others
    }


def _line(title: str, *cells: str) -> str:
    return f"{title:34}{''.join(f'{cell:>22}' for cell in cells)}".rstrip()


def _at(figures: Any, path: Sequence[str]) -> float | None:
    for key in path:
        figures = None if figures is None else figures.get(key)
    return None if figures is None else float(figures)


def _figures(run: Floor | Run, *, count: int) -> dict[str, Any]:
    plain = dataclasses.asdict(run)
    for key, value in plain.items():
        if isinstance(value, list):
            plain[key] = _percentiles(value)
        elif key.startswith("cpu_"):
            plain[key] = value / count * 1000
        elif key.startswith("passes_"):
            plain[key] = value / count
    return {**plain, "pods_per_second": count / run.seconds}


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        f"p{point}": ordered[min(len(ordered) * point // 100, len(ordered) - 1)]
        for point in (50, 95, 99)
        if ordered
    }


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    return f"{statistics.median(known):.2f} ({min(known):.2f}-{max(known):.2f})"


def _requests(requests: Requests) -> dict[str, Any]:
    def plain(counted: dict[Kind, float]) -> list[dict[str, Any]]:
        return [{**dataclasses.asdict(kind), "requests": n} for kind, n in counted.items()]

    return {
        "pods": requests.count,
        "start": plain(requests.start),
        "end": plain(requests.end),
        "events": plain(requests.events),
        "per_minute": plain(requests.per_minute),
        "refused": plain(requests.refused),
    }


def _request_lines(title: str, requests: dict[str, Any]) -> list[str]:
    lines = [f"{title}: requests per pod ({requests['pods']} pods, from audit logs)"]
    for what, key in (
        ("created to Running", "start"),
        ("deleted to gone", "end"),
        ("Events", "events"),
        ("of these rejected", "refused"),
        ("per minute, of the process", "per_minute"),
    ):
        lines.append(f"  {what}: {sum(one['requests'] for one in requests[key]):.2f}")
        lines += [
            f"    {one['cluster']:8}{one['verb']:8}{one['resource']:28}{one['requests']:6.2f}"
            for one in requests[key]
        ]
    return lines
