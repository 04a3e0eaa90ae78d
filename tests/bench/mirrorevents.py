"""Events that foreign nodes write (kubelet_events.yaml), and when they are in the home cluster."""

import asyncio
import dataclasses
import time
from collections.abc import Collection, Iterable
from pathlib import Path

from bench.environment import Environment
from clusters import errors, rest

STAGES = Path(__file__).parent / "kubelet_events.yaml"
REASONS = frozenset({"Pulling", "Pulled", "Created", "Started"})
INTERVAL_SECONDS = 1.0
WRITTEN_SECONDS = 10.0
"""Without a new Event for so long, foreign nodes have written all."""
STALL_SECONDS = 60.0
"""Without a new Event for so long, the missing ones do not arrive."""


@dataclasses.dataclass(frozen=True)
class Arrived:
    """Events of N pods: `expected` is four for each pod, `written` by nodes, `missing` at home."""

    expected: int
    written: int
    missing: int
    seconds: float
    """From the last Running pod to the last Event in the home cluster, to one second."""


def pairs(events: Iterable[rest.Object], names: Collection[str]) -> set[tuple[str, str]]:
    """Pod and reason of each kubelet's Event of these pods."""
    return {
        (event["involvedObject"].get("name", ""), event["reason"])
        for event in events
        if event["reason"] in REASONS and event["involvedObject"].get("name") in names
    }


async def arrived(on: Environment, names: list[str], *, since: float) -> Arrived:
    """Return once all Events of the pods are in the home cluster, or no more arrive.

    It lists them, and only after the pods run: a watch would compete with farlet for the cores.
    """
    wanted, expected = frozenset(names), len(names) * len(REASONS)
    written: set[tuple[str, str]] = set()
    home: set[tuple[str, str]] = set()
    changed = last_arrival = time.monotonic()
    while True:
        before = len(written), len(home)
        written = pairs(await on.foreign.list("events", namespace=on.names.foreign), wanted)
        home = pairs(await on.home.list("events", namespace=on.names.home), wanted)
        now = time.monotonic()
        if len(home) > before[1]:
            last_arrival = now
        if (len(written), len(home)) != before:
            changed = now
        complete = len(written) == expected or now - changed > WRITTEN_SECONDS
        if complete and not written:
            raise errors.HarnessError(
                f"foreign nodes wrote no Events for {names[0]} and others; see {STAGES} and "
                f"{on.clusters.foreign.folder}/logs/kwok.log"
            )
        if (complete and written <= home) or now - changed > STALL_SECONDS:
            return Arrived(expected, len(written), len(written - home), last_arrival - since)
        await asyncio.sleep(INTERVAL_SECONDS)
