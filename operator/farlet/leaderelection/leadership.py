"""Which of several processes is allowed to write: the one that holds the Lease.

Active/standby, like client-go's leader election. A leader whose last renewal was sent
`--leader-elect-renew-deadline` ago begins no further write: `write_window` is checked right before
each one, with a clock that continues while the process is frozen or the machine is suspended. A
standby takes the Lease when it has seen no change in it for its whole duration, which is longer.
So the windows of two processes never overlap if the clocks of their machines run equally fast; no
clock is compared with another machine's. This holds even if the Lease is deleted: a process that
creates it again waits before it leads, unless it led already.

A process that loses the Lease ends, and is restarted as a standby.
`docs/decisions/0008-leases.md` has the alternatives.
"""

from __future__ import annotations

import asyncio
import math
import socket
import uuid
from collections.abc import Callable
from typing import NoReturn, Protocol

import structlog

from farlet import errors, retrying
from farlet.constants import ObjectKey
from farlet.leaderelection import lease
from farlet.leaderelection.write_window import WriteWindow
from farlet.planning import api_refusals
from farlet.settings.leader import NODE, LeaderSettings

PATIENCE = 2
"""One request may take the renew deadline divided by this, so that a single request that hangs does
not lose the leadership (as in controller-runtime)."""

log = structlog.get_logger()


class Observer(Protocol):
    """Receives what an election reports."""

    def led(self, lease: str, *, leading: bool) -> None:
        """Whether the Lease of that name is held by this process."""
        ...

    def slow_path(self, lease: str) -> None:
        """A renewal found a Lease that others had changed."""
        ...


class Leadership:
    """One election. `acquire`, then `keep` beside the work that it allows, then `release`.

    `window.guard` is the guard of every `Cluster` whose writes it allows.
    """

    def __init__(
        self,
        home: lease.LeaseRequests,
        settings: LeaderSettings,
        window: WriteWindow,
        *,
        node: str,
        observer: Observer,
    ) -> None:
        self._renew_deadline = settings.leader_elect_renew_deadline
        self._lease_duration = settings.leader_elect_lease_duration
        self._retry_period = settings.leader_elect_retry_period
        self._observer = observer
        self._window = window
        self._clock = window.clock
        where = settings.leader_elect_lease
        self.is_heartbeat = where == NODE
        """Whether the lock is the node's own Lease, so that its renewals are the heartbeat, too."""
        self.lease = lease.Lease(
            home,
            ObjectKey(lease.NODE_LEASES, node) if where == NODE else where,
            # Unique: a restarted container has the same node, host and process id.
            holder=f"{socket.gethostname()}_{uuid.uuid4()}",
            duration=int(self._lease_duration),
            patience=self._renew_deadline / PATIENCE,
            clock=window.clock,
        )
        self._obstacles = retrying.OncePerCause()
        observer.led(self.lease.key.name, leading=False)

    @property
    def leading(self) -> bool:
        """Whether a write can begin now."""
        return self._window.left > 0

    async def acquire(
        self,
        stop: asyncio.Event,
        *,
        obstacle: Callable[[], str | None] = lambda: None,
        cleared: asyncio.Event | None = None,
    ) -> bool:
        """Wait until this process leads; false once stopped.

        While there is an `obstacle`, the Lease is only observed; when `cleared` is set, there is
        none any more. Raises `StartError` if the API server does not allow farlet to hold the
        Lease.
        """
        cleared = cleared or asyncio.Event()
        while not stop.is_set():
            cleared.clear()
            try:
                if await self._take(obstacle):
                    log.info("leadership acquired", lease=str(self.lease.key))
                    self._observer.led(self.lease.key.name, leading=True)
                    return True
            except errors.Conflict:
                pass  # another process was faster, or our own write arrived late: read it again
            except (errors.Forbidden, errors.NotFound, errors.Invalid) as err:
                raise errors.StartError(self._refusal(err)) from err
            except (errors.ApiError, errors.Unreachable) as err:
                self._log_obstacle("failed to acquire the Lease", err=str(err))
            # Processes do not try at the same moment, and never later than the setting.
            pause = retrying.jittered(self._retry_period, 0.8)
            await retrying.first(stop, cleared, seconds=pause)
        return False

    async def keep(self) -> NoReturn:
        """Renew until cancelled. Raises `NotLeading` as soon as the Lease is lost."""
        why = ""
        while (left := self._window.left) > 0:
            await asyncio.sleep(min(self._retry_period, left))
            if (left := self._window.left) > 0:
                why = await self._try_to_renew(left)
        self._lose(
            f"was not renewed within {self._renew_deadline:g} s: "
            f"{why or 'the process or its machine was suspended, or an answer took too long'}"
        )

    async def release(self) -> None:
        """Let another process lead immediately. Closes the window.

        Call it only when every write has been answered: one that is still in flight could arrive
        among those of the next leader. Otherwise the Lease must expire. It also expires if it was
        held, but not yet long enough to lead.
        """
        led = self._window.ever_opened
        self._window.close()
        self._observer.led(self.lease.key.name, leading=False)
        if not led:
            return
        try:
            await self.lease.release()
        except (errors.ApiError, errors.Unreachable) as err:
            log.warning(
                "failed to release the Lease", err=str(err), expires_in=self._lease_duration
            )

    # --- inside -------------------------------------------------------------------------------

    async def _take(self, obstacle: Callable[[], str | None]) -> bool:
        """One attempt; whether this process leads now."""
        own = self.lease
        await own.read()
        if (why := obstacle()) is not None:
            self._log_obstacle("this process must not lead", err=why)
            return False
        if own.free_in > 0:
            self._log_obstacle("another process is the leader", held_by=own.held_by or None)
            return False
        # Counted from before it was sent: neither the server nor others can have seen it earlier.
        sent, settled_in = self._clock(), own.settled_in
        await own.hold()
        if settled_in > 0:
            self._log_obstacle(
                "waiting for the duration of a new Lease", seconds=math.ceil(own.settled_in)
            )
            return False
        self._window.renewed(sent)
        return self.leading

    async def _try_to_renew(self, seconds: float) -> str:
        """One renewal. Why it failed, empty if it did not. Raises `NotLeading`."""
        try:
            async with asyncio.timeout(seconds):
                await self._renew()
        except (TimeoutError, errors.ApiError, errors.Unreachable) as err:
            why = str(err) or "no answer in time"
            log.warning(
                "failed to renew the Lease", err=why, seconds_left=round(self._window.left, 1)
            )
            return why
        return ""

    async def _renew(self) -> None:
        sent = self._clock()
        try:
            await self.lease.hold()
        except errors.Conflict:
            self._observer.slow_path(self.lease.key.name)
            await self.lease.read()
            if self.lease.held_by not in {self.lease.holder, ""}:
                self._lose(f"is held by {self.lease.held_by}")
            sent = self._clock()
            await self.lease.hold()
        if self.leading:  # else it came too late: a closed window stays closed
            self._window.renewed(sent)

    def _lose(self, why: str) -> NoReturn:
        lost = (
            f"leadership was lost: Lease {self.lease.key} {why}. Another farlet takes over; "
            "this process ends and must be restarted"
        )
        self._window.close(lost)
        self._observer.led(self.lease.key.name, leading=False)
        raise errors.NotLeading(lost)

    def _log_obstacle(self, what: str, **values: object) -> None:
        """Log why this process does not lead, once while the cause is the same."""
        same = f"{what} {values.get('held_by')} {values.get('err')}"
        if self._obstacles.is_new(same):
            log.info(what, lease=str(self.lease.key), **values)

    def _refusal(self, err: errors.ApiError) -> str:
        key = self.lease.key
        if isinstance(err, errors.Forbidden) and self.is_heartbeat:
            other = api_refusals.denied_to_other_node(err, node=key.name)
            if other is not None:
                return other
        return (
            f"the Lease {key} cannot be the lock of leader election: {err}. A node identity is "
            "allowed to use its own Lease only (--leader-elect-lease=node); a ServiceAccount "
            "needs to get, create and update leases in the namespace "
            f"{key.namespace}, which must exist"
        )
