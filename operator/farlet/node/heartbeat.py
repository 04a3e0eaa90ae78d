"""The sign of life of the node: its Lease in `kube-node-lease`, renewed every 10 s (KEP-589).

Home's node lifecycle controller takes a node for dead whose Lease was not renewed for 50 s, so a
renewal that fails is tried again soon. Nothing is written while there is no Node: what a deleted
one leaves is for home to collect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from farlet import errors, retrying

SECONDS = 10.0
"""A quarter of the Lease, as kubelets renew theirs (`nodeLeaseRenewIntervalFraction`)."""
LEASE_SECONDS = 40
"""`nodeLeaseDurationSeconds` of a kubelet."""
PATIENCE_SECONDS = 10.0
RETRY_SECONDS = 2.0

log = structlog.get_logger()


class NodeLease(Protocol):
    """The part of `leases.Lease` that a node needs."""

    async def renew(self) -> None:
        """Write that we are alive. Raises as `Cluster.call`."""
        ...

    def owned_by(self, node: str, uid: str | None) -> None:
        """Let it go with that Node; `None`: with none."""
        ...


async def beat(lease: NodeLease, *, alive: Callable[[], bool]) -> None:
    """Renew for ever, while the node is `alive`. Raises nothing but cancellation."""
    now = asyncio.get_running_loop().time
    failures = retrying.OncePerCause()
    while True:
        began = now()
        try:
            if alive():
                await lease.renew()
            failures.clear()
            pause = SECONDS
        except errors.FarletError as err:
            first = failures.is_new("not written")
            (log.warning if first else log.debug)("heartbeat was not written", err=str(err))
            pause = RETRY_SECONDS
        await asyncio.sleep(max(0.0, began + pause - now()))
