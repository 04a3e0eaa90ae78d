"""The node's own Lease where it is only the heartbeat, and not the lock of an election.

It still shows which process serves the node. A process without leader election does not take it
from another host that renews it: both would write to the same pods. Its name there is
`NODE@HOSTNAME`, so that a restart on the same host continues at once. The leader of an election
with another lock takes over the heartbeat of the leader before, and waits only for such a process.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

import structlog

from farlet import errors
from farlet.planning import api_refusals

RETRY_SECONDS = 2.0

log = structlog.get_logger()


class HeldLease(Protocol):
    """The methods of `lease.Lease` that are used here."""

    @property
    def holder(self) -> str: ...

    @property
    def held_by(self) -> str: ...

    @property
    def free_in(self) -> float: ...

    async def read(self) -> None: ...

    async def hold(self) -> None: ...

    async def release(self) -> None: ...

    def owned_by(self, node: str, uid: str | None) -> None: ...


def holder(node: str) -> str:
    """The holder of a process without leader election on this host."""
    return f"{node}@{socket.gethostname()}"


class NodeLease:
    """The heartbeat of one process. For one task at a time."""

    def __init__(self, lease: HeldLease, *, node: str, elected: bool) -> None:
        """`elected`: an election with another lock has selected this process."""
        self._lease = lease
        self._node = node
        self._elected = elected
        self.problem: str | None = None
        """Why this process waits, while it does."""

    async def acquire(self) -> None:
        """Wait until no other process renews the Lease.

        Raises `StartError` if the credentials are those of another node.
        """
        while True:
            try:
                await self._lease.read()
                if not self._is_other() or self._lease.free_in == 0:
                    self.problem = None
                    return
                problem = self._served_by_other()
            except (errors.ApiError, errors.Unreachable) as err:
                if isinstance(err, errors.Forbidden):
                    other = api_refusals.denied_to_other_node(err, node=self._node)
                    if other is not None:
                        raise errors.StartError(other) from err
                problem = f"cannot read the Lease of the node: {err}"
            if problem != self.problem:
                log.warning("waiting for the Lease of the node", err=problem)
                self.problem = problem
            await asyncio.sleep(RETRY_SECONDS)

    async def renew(self) -> None:
        """Raises `NotLeading` if another process has taken the Lease, else like `Lease.hold`."""
        try:
            await self._lease.hold()
        except errors.Conflict:
            await self._lease.read()
            if self._is_other():
                raise errors.NotLeading(self._served_by_other()) from None
            await self._lease.hold()

    async def release(self) -> None:
        """Let a process on another host continue at once. Raises like `lease.Lease.release`."""
        await self._lease.release()

    def owned_by(self, node: str, uid: str | None) -> None:
        """Make that Node the owner of the Lease; `None`: no owner."""
        self._lease.owned_by(node, uid)

    def _is_other(self) -> bool:
        held_by = self._lease.held_by
        if held_by in {"", self._lease.holder}:
            return False
        return not self._elected or held_by.startswith(f"{self._node}@")

    def _served_by_other(self) -> str:
        if self._lease.held_by == self._node:  # as kubelets write it
            return (
                f"a kubelet renews the Lease of the node {self._node}, so it is a real machine or "
                "belongs to another program. Set another --nodename"
            )
        return (
            f"another farlet ({self._lease.held_by}) serves the node {self._node} and renews its "
            "Lease. Stop it, or run each farlet of this node with --leader-elect"
        )
