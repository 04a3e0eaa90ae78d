"""What farlet asks of both API servers while nothing happens, read from their audit logs."""

import asyncio
import collections
import time
from collections.abc import Sequence

from clusters import auditlog
from clusters import workspace as workspaces
from clusters.cluster import Cluster
from faults.environment import Environment

_QUIET_SECONDS = 3.0


async def requests(env: Environment, *, seconds: float) -> tuple[collections.Counter[str], float]:
    """Requests of at least `seconds` (`home: patch leases`) once farlet has come to rest.

    Also returns how long they were counted.
    """
    sides = (env.clusters.home, env.clusters.foreign)
    users = (env.user, workspaces.USER)
    await _until_quiet(sides, users)
    marks = [side.audit_mark() for side in sides]
    began = time.monotonic()
    await asyncio.sleep(seconds)
    took = time.monotonic() - began
    seen = collections.Counter(
        f"{side.name}: {entry.verb} {entry.resource}"
        for side, user, mark in zip(sides, users, marks, strict=True)
        for entry in side.audit(since=mark, user=user)
    )
    print(f"requests in {took:.1f} idle seconds: {dict(seen)}")
    return seen, took


def writes(seen: collections.Counter[str]) -> dict[str, int]:
    """The requests that write, without the heartbeat."""
    return {
        what: count
        for what, count in seen.items()
        if what.split()[1] not in auditlog.READS and not what.endswith(" leases")
    }


async def _until_quiet(sides: Sequence[Cluster], users: Sequence[str]) -> None:
    """Return once farlet has written only heartbeats for a while."""
    for _ in range(20):
        marks = [side.audit_mark() for side in sides]
        await asyncio.sleep(_QUIET_SECONDS)
        written = [
            entry
            for side, user, mark in zip(sides, users, marks, strict=True)
            for entry in side.audit(since=mark, user=user)
            if entry.verb not in auditlog.READS and entry.resource != "leases"
        ]
        if not written:
            return
