"""The heartbeat of the node: its Lease in `kube-node-lease`, renewed every 10 s (KEP-589).

The home cluster's node lifecycle controller considers a node dead whose Lease was not renewed for
50 s, so a failed renewal is retried soon. Nothing is written without a Node: the home cluster
garbage-collects the Lease of a deleted one.
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


class LeaseOwner(Protocol):
    """The node's own Lease, which the heartbeat or leader election renews."""

    def owned_by(self, node: str, uid: str | None) -> None:
        """Make that Node the owner of the Lease; `None`: no owner."""
        ...


class NodeLease(LeaseOwner, Protocol):
    """The methods of `leaderelection.node_lease.NodeLease` that a node needs."""

    problem: str | None
    """Why this process waits for another one, while it does."""

    async def acquire(self) -> None:
        """Wait until no other process serves the node."""
        ...

    async def renew(self) -> None:
        """Write the Lease. Raises like `Cluster.call`, `NotLeading` if another one has taken it."""
        ...

    async def release(self) -> None:
        """Let another process continue at once. Raises like `Cluster.call`."""
        ...


async def beat(lease: NodeLease, *, alive: Callable[[], bool]) -> None:
    """Renew while the node is `alive`. Raises `NotLeading` when another process has taken it."""
    now = asyncio.get_running_loop().time
    failures = retrying.OncePerCause()
    while True:
        started = now()
        try:
            if alive():
                await lease.renew()
            failures.clear()
            pause = SECONDS
        except errors.NotLeading:
            raise
        except errors.FarletError as err:
            first = failures.is_new("not written")
            (log.warning if first else log.debug)("failed to write heartbeat", err=str(err))
            pause = RETRY_SECONDS
        await asyncio.sleep(max(0.0, started + pause - now()))
