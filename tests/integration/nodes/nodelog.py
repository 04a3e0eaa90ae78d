"""Records all states of a Node, and checks them."""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from clusters import rest

READY, FOREIGN = "Ready", "farlet.io/ForeignReachable"
CORDONED = "farlet.io/cordoned"
LEASES = "kube-node-lease"
_BY_HOME = "node.kubernetes.io/"


class NodeLog:
    """Each state of a Node since the start of the log; None if deleted."""

    def __init__(self) -> None:
        self.states: list[rest.Object | None] = []
        self.begun = asyncio.Event()

    def never_flapped(self) -> None:
        """Check that it was always the same Node, ready and without taints of home controllers."""
        assert self.states
        for seen in self.states:
            assert seen is not None, "the Node was deleted"
            assert condition(seen, READY)["status"] == "True", condition(seen, READY)
            assert taints_of_home(seen) == [], seen["spec"]["taints"]
        for what, values in {
            "uid": {seen["metadata"]["uid"] for seen in self.states if seen},
            "Ready since": {
                condition(seen, READY)["lastTransitionTime"] for seen in self.states if seen
            },
        }.items():
            assert len(values) == 1, f"{what} changed: {values}"


@contextlib.asynccontextmanager
async def kept(api: rest.Api, name: str) -> AsyncIterator[NodeLog]:
    """Record a Node until the end of the context; a killed API server only delays it."""
    log = NodeLog()
    writing = asyncio.create_task(_write(log, api, name))
    try:
        await log.begun.wait()
        yield log
    finally:
        writing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writing


async def _write(log: NodeLog, api: rest.Api, name: str) -> None:
    while True:
        with contextlib.suppress(aiohttp.ClientError, ConnectionError, rest.ApiError):
            async for kind, seen in api.watch("nodes", fieldSelector=f"metadata.name={name}"):
                log.states.append(None if kind == "DELETED" else seen)
                log.begun.set()
        await asyncio.sleep(0.1)


async def beat(api: rest.Api, name: str) -> None:
    """Return after the next heartbeat of a node."""
    began = datetime.datetime.now(datetime.UTC)

    def renewed(seen: rest.Object | None) -> bool:
        when = ((seen or {}).get("spec") or {}).get("renewTime")
        return when is not None and datetime.datetime.fromisoformat(when) > began

    await api.until("leases", renewed, name=name, namespace=LEASES)


def condition(seen: rest.Object, kind: str) -> dict[str, Any]:
    """A condition of a Node; empty when it has none of that type."""
    found = seen.get("status", {}).get("conditions", [])
    return next((one for one in found if one["type"] == kind), {})


def taints_of_home(seen: rest.Object) -> list[str]:
    """Keys and effects of the taints of home controllers, except a cordon."""
    return [
        f"{taint['key']}:{taint['effect']}"
        for taint in seen["spec"].get("taints", [])
        if taint["key"].startswith(_BY_HOME) and not taint["key"].endswith("/unschedulable")
    ]


def cordoned(seen: rest.Object) -> bool:
    return bool(seen["spec"].get("unschedulable"))


def says(kind: str, status: str) -> rest.Condition:
    """A condition for `Api.until`: the Node's own condition of that type has that status."""
    return lambda seen: seen is not None and condition(seen, kind).get("status") == status


def well(seen: rest.Object | None) -> bool:
    """A condition for `Api.until`: ready, foreign API reachable, schedulable, untainted."""
    return (
        seen is not None
        and condition(seen, READY).get("status") == "True"
        and condition(seen, FOREIGN).get("status") == "True"
        and taints_of_home(seen) == []
        and not cordoned(seen)
    )


def tainted(key: str) -> rest.Condition:
    """A condition for `Api.until`: the Node has this taint of a home controller."""
    return lambda seen: seen is not None and any(key in taint for taint in taints_of_home(seen))
