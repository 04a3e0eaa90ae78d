"""How long this process may write: from each renewal of the Lease until the renew deadline.

Connections ask `guard` right before each write (`client/write_guard.py`); `leadership` opens and
closes the window. The clock continues while the process is frozen or the machine is suspended.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from farlet import errors
from farlet.leaderelection import lease
from farlet.settings.leader import LeaderSettings


class WriteWindow:
    """Closed until `renewed`."""

    def __init__(
        self, settings: LeaderSettings, *, clock: Callable[[], float] = lease.boottime
    ) -> None:
        self._renew_deadline = settings.leader_elect_renew_deadline
        self._lease_duration = settings.leader_elect_lease_duration
        self.clock = clock
        self._sent = -math.inf
        """When the last renewal that succeeded was sent."""
        self._reason = "the Lease of leader election is not held by this process"

    @property
    def left(self) -> float:
        """Seconds for which a write may still begin; negative once it is closed."""
        return self._sent + self._renew_deadline - self.clock()

    @property
    def ever_opened(self) -> bool:
        """Whether there was a renewal since the window was closed last."""
        return self._sent > -math.inf

    def guard(self) -> float:
        """For how many seconds a write that begins now cannot meet a write of the next leader.

        A `write_guard.Guard`. Raises `NotLeading`.
        """
        if self.left <= 0:
            raise errors.NotLeading(self._reason)
        return self._sent + self._lease_duration - self.clock()

    def renewed(self, sent: float) -> None:
        """A renewal that was sent at this time succeeded."""
        self._sent = sent

    def close(self, reason: str = "") -> None:
        """From now on no write begins."""
        self._sent = -math.inf
        self._reason = reason or self._reason
