"""Which of several processes may write: the one that holds the Lease, and only as long as it can
be sure to.

Active and passive, as client-go's leader election. A leader whose last renewal was sent
`--leader-elect-renew-deadline` ago begins no write any more, whatever it was doing meanwhile: the
guard is asked right before each one (`writing`), and looks at a clock that goes on while the
process is frozen or the machine asleep. Whoever stands by takes the Lease when it has seen nothing
change in it for its whole duration, which is longer. So two guards are never open at once, if the
clocks of both machines run equally fast; no clock is compared with another's. It is so even if
somebody deletes the Lease: who makes it anew waits before it leads, unless it led already.

What is lost stays lost: the process ends, and starts again as one that stands by.
docs/decisions/0008-leases.md says what was weighed.
"""

from __future__ import annotations

import asyncio
import math
import socket
import uuid
from typing import NoReturn, Protocol

import structlog

from farlet import errors, retrying
from farlet.constants import ObjectKey
from farlet.leaderelection import lease as leases
from farlet.leaderelection.write_window import WriteWindow
from farlet.settings.leader import NODE, LeaderSettings

PATIENCE = 2
"""One request may take the renew deadline divided by this, so that one that hangs does not cost
the leadership (as controller-runtime does)."""

log = structlog.get_logger()


class Observer(Protocol):
    """What an election tells of itself."""

    def led(self, lease: str, *, leading: bool) -> None:
        """Whether the Lease of that name is held by this process."""
        ...

    def slow_path(self, lease: str) -> None:
        """A renewal found something else than was written last."""
        ...


class Leadership:
    """One election. `acquire`, then `keep` beside the work that it allows, then `release`.

    `window.guard` is the guard of every `Cluster` whose writes it allows.
    """

    def __init__(
        self,
        home: leases.LeaseRequests,
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
        """Whether renewals of the lock are the node's heartbeat, so that there is no other."""
        self.lease = leases.Lease(
            home,
            ObjectKey(leases.NODE_LEASES, node) if where == NODE else where,
            # Not the node's name, nor host and process, which a restarted container has again.
            holder=f"{socket.gethostname()}_{uuid.uuid4()}",
            duration=int(self._lease_duration),
            patience=self._renew_deadline / PATIENCE,
            clock=window.clock,
        )
        self._obstacles = retrying.OncePerCause()
        observer.led(self.lease.key.name, leading=False)

    @property
    def leading(self) -> bool:
        """Whether a write may begin now."""
        return self._window.left > 0

    async def acquire(self, stop: asyncio.Event) -> bool:
        """Wait until this process leads; false once stopped.

        Raises `StartError` where the Lease may never be had.
        """
        while not stop.is_set():
            try:
                if await self._take():
                    log.info("leadership was taken", lease=str(self.lease.key))
                    self._observer.led(self.lease.key.name, leading=True)
                    return True
            except errors.Conflict:
                pass  # somebody else was faster, or our own write came late: see who
            except (errors.Forbidden, errors.NotFound, errors.Invalid) as err:
                raise errors.StartError(self._refusal(err)) from err
            except (errors.ApiError, errors.Unreachable) as err:
                self._tell("Lease was not reached", err=str(err))
            # Not all at the same moment, and never later than they are told to.
            await retrying.wait(stop, retrying.jittered(self._retry_period, 0.8))
        return False

    async def keep(self) -> NoReturn:
        """Renew for ever. Raises `NotLeading` when the Lease is lost, as soon as it is."""
        why = ""
        while (left := self._window.left) > 0:
            await asyncio.sleep(min(self._retry_period, left))
            if (left := self._window.left) > 0:
                why = await self._try(left)
        self._lose(
            f"was not renewed within {self._renew_deadline:g} s: "
            f"{why or 'the process or its machine stood still'}"
        )

    async def release(self) -> None:
        """Let another one lead at once. Closes the guard.

        Only when every write has been answered: one that is on its way would arrive among those of
        the next leader. Otherwise leave the Lease to run out, as is done with one that was held but
        not yet long enough to lead.
        """
        led = self._window.ever_opened
        self._window.close()
        self._observer.led(self.lease.key.name, leading=False)
        if not led:
            return
        try:
            await self.lease.release()
        except (errors.ApiError, errors.Unreachable) as err:
            log.warning("Lease was not released", err=str(err), runs_out_in=self._lease_duration)

    # --- inside -------------------------------------------------------------------------------

    async def _take(self) -> bool:
        """One try; whether this process leads now."""
        lease = self.lease
        await lease.look()
        if lease.free_in > 0:
            self._tell("leadership is another's", held_by=lease.held_by or None)
            return False
        # From when it was sent: by then the server cannot have seen it, and others cannot either.
        sent, settled_in = self._clock(), lease.settled_in
        await lease.hold()
        if settled_in > 0:
            self._tell("Lease is new", waits=math.ceil(lease.settled_in))
            return False
        self._window.renewed(sent)
        return self.leading

    async def _try(self, seconds: float) -> str:
        """One renewal. Why it failed, empty if it did not. Raises `NotLeading`."""
        try:
            async with asyncio.timeout(seconds):
                await self._renew()
        except (TimeoutError, errors.ApiError, errors.Unreachable) as err:
            why = str(err) or "no answer came in time"
            log.warning("Lease was not renewed", err=why, seconds_left=round(self._window.left, 1))
            return why
        return ""

    async def _renew(self) -> None:
        sent = self._clock()
        try:
            await self.lease.hold()
        except errors.Conflict:
            self._observer.slow_path(self.lease.key.name)
            await self.lease.look()
            if self.lease.held_by not in {self.lease.holder, ""}:
                self._lose(f"is held by {self.lease.held_by}")
            sent = self._clock()
            await self.lease.hold()
        if self.leading:  # else it came too late: what was closed stays closed
            self._window.renewed(sent)

    def _lose(self, why: str) -> NoReturn:
        lost = (
            f"leadership was lost: Lease {self.lease.key} {why}. Another farlet takes over; "
            "this one ends, to be started again"
        )
        self._window.close(lost)
        self._observer.led(self.lease.key.name, leading=False)
        raise errors.NotLeading(lost)

    def _tell(self, what: str, **values: object) -> None:
        """Log what stands in the way of leading, once while it is the same."""
        same = f"{what} {values.get('held_by')} {values.get('err')}"
        if self._obstacles.is_new(same):
            log.info(what, lease=str(self.lease.key), **values)

    def _refusal(self, err: errors.ApiError) -> str:
        key = self.lease.key
        return (
            f"the Lease {key} cannot be the lock of leader election: {err}. A node identity may "
            "use its own only (--leader-elect-lease=node); a ServiceAccount needs to get, create "
            f"and update leases in the namespace {key.namespace}, which must exist"
        )
