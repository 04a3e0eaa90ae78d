"""The two farlets of a campaign: one leads, the other stands by, and a supervisor restarts both."""

import asyncio
from collections.abc import Sequence

import aiohttp

from clusters.farlet import Farlet

RESTART_SECONDS = 1.0


class Candidates:
    """Restarts a farlet that ended, as a Deployment does. `supervise` until cancelled."""

    def __init__(self, farlets: Sequence[Farlet]) -> None:
        self._farlets = farlets
        self._dead: set[int] = set()
        self.exits: list[int | None] = []
        """Exit codes of those that ended without being killed."""

    async def supervise(self) -> None:
        """Start whatever is not running, unless it is being kept dead."""
        while True:
            for number, farlet in enumerate(self._farlets):
                if number not in self._dead and not farlet.process.alive:
                    self.exits.append(farlet.process.exit_code)
                    farlet.start()
            await asyncio.sleep(RESTART_SECONDS)

    async def kill_leader(self, *, dead_for: float) -> None:
        """SIGKILL the one that leads, or the first one if none does."""
        leading = [n for n, farlet in enumerate(self._farlets) if await _leads(farlet)]
        await self._kill((leading or [0])[:1], dead_for)

    async def kill_all(self, *, dead_for: float) -> None:
        """SIGKILL both."""
        await self._kill(list(range(len(self._farlets))), dead_for)

    async def _kill(self, numbers: list[int], dead_for: float) -> None:
        self._dead.update(numbers)
        try:
            for number in numbers:
                self._farlets[number].kill()
            await asyncio.sleep(dead_for)
            for number in numbers:
                self._farlets[number].start()
        finally:
            self._dead.difference_update(numbers)

    def tails(self) -> str:
        """The ends of both logs."""
        return "".join(farlet.process.tail() for farlet in self._farlets)

    @property
    def tracebacks(self) -> list[str]:
        """The last line of each traceback in their logs: bugs."""
        found = []
        for farlet in self._farlets:
            lines = farlet.log.splitlines()
            found += [line for line in lines if "Traceback (most recent call last)" in line]
        return found


async def _leads(farlet: Farlet) -> bool:
    try:
        return farlet.process.alive and await farlet.leads()
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False
