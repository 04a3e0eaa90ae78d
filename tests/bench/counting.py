"""Requests per pod, counted in the audit logs of both API servers by user agent.

The metrics of API servers do not distinguish clients. Audit logs slow both servers down, so this
run measures no times.
"""

import asyncio
import dataclasses
from collections import Counter

from bench import environment, mirrorevents, serving, workload
from bench.environment import Environment
from bench.variants import FARLET, Side
from clusters import auditlog
from clusters.cluster import Cluster

AGENTS = ("farlet/", "kopf/")
_ONCE = {"list", "watch"}
_BESIDE = {"events", "leases", "nodes", "nodes/status", "configmaps"}


@dataclasses.dataclass(frozen=True, order=True)
class Kind:
    """One kind of request."""

    cluster: str
    verb: str
    resource: str


@dataclasses.dataclass(frozen=True)
class Requests:
    """Per pod, from its creation to Running and from its deletion to gone, and its Events; and per
    minute of the process: lists, watches and Leases, which do not belong to a single pod."""

    count: int
    start: dict[Kind, float]
    end: dict[Kind, float]
    events: dict[Kind, float]
    per_minute: dict[Kind, float]
    refused: dict[Kind, float]
    """The requests of `start` and `end` with a 4xx or 5xx response, per pod."""


async def run(on: Environment, *, count: int, side: Side = FARLET) -> Requests:
    """Serve `count` pods on clusters with audit logs."""
    prefix = "counted-" + side.title.lower().replace(" ", "-")
    names = workload.names(count, prefix=prefix)
    sides = (on.clusters.home, on.clusters.foreign)
    async with serving.process(on, name=prefix, side=side), workload.clock(on) as clock:
        await asyncio.sleep(1.0)
        loop = asyncio.get_running_loop()
        begun, begins = loop.time(), [side.audit_mark() for side in sides]
        await workload.at_once(lambda name: workload.create(on, name), names)
        await clock.all_in(clock.home_running, names, what="never ran")
        if on.variant.events and side.shows_events:
            await mirrorevents.arrived(on, names, since=loop.time())
        await asyncio.sleep(2.0)
        middles = [side.audit_mark() for side in sides]
        await workload.at_once(lambda name: workload.delete(on, name), names)
        await clock.all_in(clock.home_gone, names, what="were never removed")
        await environment.empty(on)
        minutes = (loop.time() - begun) / 60
    whole = _seen(sides, begins)
    end = _seen(sides, middles)
    start = whole[0] - end[0]
    return Requests(
        count=count,
        start={kind: n / count for kind, n in sorted(start.items()) if _of_pods(kind)},
        end={kind: n / count for kind, n in sorted(end[0].items()) if _of_pods(kind)},
        events={kind: n / count for kind, n in sorted(whole[0].items()) if _is_event(kind)},
        per_minute={kind: n / minutes for kind, n in sorted(whole[0].items()) if _of_process(kind)},
        refused={kind: n / count for kind, n in sorted(whole[1].items())},
    )


def _of_pods(kind: Kind) -> bool:
    return kind.verb not in _ONCE and kind.resource not in _BESIDE


def _is_event(kind: Kind) -> bool:
    return kind.verb not in _ONCE and kind.resource == "events"


def _of_process(kind: Kind) -> bool:
    return not _of_pods(kind) and not _is_event(kind)


def _seen(
    sides: tuple[Cluster, Cluster], marks: list[auditlog.Mark]
) -> tuple[Counter[Kind], Counter[Kind]]:
    """All requests of farlet since the marks, and the rejected ones."""
    found: Counter[Kind] = Counter()
    refused: Counter[Kind] = Counter()
    for side, mark in zip(sides, marks, strict=True):
        for stage_name, watches in (("ResponseComplete", False), ("ResponseStarted", True)):
            for entry in side.audit(since=mark, stage=stage_name):
                if (entry.verb == "watch") is not watches:
                    continue  # the audit entry of a watch is complete when it ends
                if not entry.user_agent.startswith(AGENTS):
                    continue
                resource = "/".join(part for part in (entry.resource, entry.subresource) if part)
                kind = Kind(side.name, entry.verb, resource)
                found[kind] += 1
                if entry.code >= 400:
                    refused[kind] += 1
    return found, refused
