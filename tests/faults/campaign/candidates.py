"""The two farlets of a campaign: one leads, the other stands by, and a supervisor restarts both.

An administrator reads what they report and acts as docs/recovery.md says.
"""

import asyncio
import collections
import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence

import aiohttp

from clusters.farlet import Farlet

RESTART_SECONDS = 1.0
LOOK_SECONDS = 1.5
LOOKS = 3
"""So often in a row an administrator must see the same before they act."""
_ENDED = "This process changes nothing any more"
_ADOPTION = re.compile(r"--adopt-foreign-cluster=([0-9a-f-]+(?:/[0-9a-f-]+)?)")

log = logging.getLogger(__name__)


class Candidates:
    """Restarts a farlet that ended, as a Deployment does. `supervise` until cancelled."""

    def __init__(self, farlets: Sequence[Farlet]) -> None:
        self._farlets = farlets
        self._dead: set[int] = set()
        self._lock = asyncio.Lock()
        self.adoptions: list[float] = []
        """When the administrator adopted the foreign cluster, in seconds since 1970."""
        self.restarts = 0
        """How often they restarted a farlet that reported that it ended."""
        self.looked = asyncio.Event()
        """Set while no farlet asks for anything."""
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

    async def administer(self, uid: str, may_adopt: Callable[[], Awaitable[bool]]) -> None:
        """Restart farlets that ended their term, and adopt the foreign cluster with this uid.

        `may_adopt`: whether its kubelets have stopped the pods that it does not know.
        """
        seen: collections.Counter[str] = collections.Counter()
        while True:
            asked = [adoption(await _readiness(farlet), uid) for farlet in self._farlets]
            seen = collections.Counter({one: seen[one] + 1 for one in asked if one is not None})
            word = next((one for one in seen if one and seen[one] >= LOOKS), None)
            if word is not None and await may_adopt():
                log.info("an administrator adopts %s", word)
                self.adoptions.append(time.time())
                await self._restart(range(len(self._farlets)), word)
                seen.clear()
            elif word is None and seen[""] >= LOOKS:
                ended = [number for number, one in enumerate(asked) if one == ""]
                log.info("an administrator restarts farlets %s", ended)
                self.restarts += len(ended)
                await self._restart(ended, None)
                seen.clear()
            if seen:
                self.looked.clear()
            else:
                self.looked.set()
            await asyncio.sleep(LOOK_SECONDS)

    async def _restart(self, numbers: Sequence[int], adopt: str | None) -> None:
        async with self._lock:
            self._dead.update(numbers)
            try:
                for number in numbers:
                    farlet = self._farlets[number]
                    await farlet.stop()
                    if adopt is not None:
                        farlet.process.environment["FARLET_ADOPT_FOREIGN_CLUSTER"] = adopt
                    farlet.start()
            finally:
                self._dead.difference_update(numbers)

    async def kill_leader(self, *, dead_for: float) -> None:
        """SIGKILL the one that leads, or the first one if none does."""
        leading = [n for n, farlet in enumerate(self._farlets) if await _leads(farlet)]
        await self._kill((leading or [0])[:1], dead_for)

    async def kill_all(self, *, dead_for: float) -> None:
        """SIGKILL both."""
        await self._kill(list(range(len(self._farlets))), dead_for)

    async def _kill(self, numbers: list[int], dead_for: float) -> None:
        async with self._lock:
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


async def _readiness(farlet: Farlet) -> str:
    url = f"http://{farlet.health_address}/readyz?verbose"
    timeout = aiohttp.ClientTimeout(total=2)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            return await answer.text()
    except (aiohttp.ClientError, OSError, TimeoutError):
        return ""


def adoption(readiness: str, uid: str) -> str | None:
    """The value for `--adopt-foreign-cluster` that farlet asks for; "": only a restart.

    None: nothing, or another cluster than that with this uid.
    """
    found = _ADOPTION.search(readiness)
    if found is not None:
        return found[1] if found[1].partition("/")[0] == uid else None
    return "" if _ENDED in readiness else None
