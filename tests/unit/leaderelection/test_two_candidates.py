"""Several processes, one Lease, and a world that freezes, cuts off, delays, loses and deletes.

Whatever happens, no two guards are open at once, and no write arrives after another process has
begun to lead. When nothing more happens, one process leads.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farlet import errors
from farlet.leaderelection import leadership
from farlet.leaderelection.write_window import WriteWindow
from farlet.settings import loading
from farlet.settings.leader import LeaderSettings
from unit import examples, faketime
from unit.leaderelection.leasemodel import FAR, Fate, Line, Server, Watcher

PROCESSES = 3
RESTART_SECONDS = 1.0
PEACE_SECONDS = 60.0
"""After the last trouble: longer than a Lease and the restart of the process that lost it."""


class Trouble(StrEnum):
    FREEZE = "freeze"
    CUT_OFF = "cut off"
    LOSE = "lose some"
    STOP = "stop"
    KILL = "kill"
    DELETE = "delete the Lease"
    EDIT = "edit the Lease"


@dataclasses.dataclass(frozen=True)
class Happening:
    after: float
    what: Trouble
    whom: int
    seconds: float


class World:
    """What is true of all processes together."""

    def __init__(self) -> None:
        self.server = Server()
        self.leading: list[Process] = []
        """Whose guard was open, in the order in which they opened."""
        self.living: dict[int, Process] = {}
        self.overlaps: list[str] = []
        """What was open when another guard opened."""
        self.arrived = 0
        self.peace = False

    def opened(self, process: Process) -> None:
        """A guard is open now."""
        if not self.leading or self.leading[-1] is not process:
            self.leading.append(process)

    def arrives(self, process: Process) -> None:
        """A write of that process is applied now."""
        self.arrived += 1
        assert self.leading[-1] is process, "a write arrived after another process began to lead"


class Window(WriteWindow):
    """Notes which others are open whenever it opens: none opens at any other time."""

    def __init__(
        self, world: World, settings: LeaderSettings, *, clock: Callable[[], float]
    ) -> None:
        super().__init__(settings, clock=clock)
        self._world = world

    def renewed(self, sent: float) -> None:
        super().renewed(sent)
        leading = [n for n, process in self._world.living.items() if process.leadership.leading]
        if len(leading) > 1:
            self._world.overlaps.append(f"two guards are open: {leading}")


class Process:
    """One life of a farlet: stands by, leads, writes, ends."""

    def __init__(self, world: World, *, dice: random.Random, behind: float) -> None:
        self.world = world
        self.dice = dice
        self.trouble = 0.0
        """Share of messages that are lost."""
        loop = asyncio.get_running_loop()
        self.line = Line(world.server, self.fate)
        self.stop = asyncio.Event()
        self.under_way = 0
        self.drained = asyncio.Event()
        self.drained.set()
        settings = loading.load(LeaderSettings, {})
        self.window = Window(world, settings, clock=lambda: loop.time() - behind)
        self.leadership = leadership.Leadership(
            self.line, settings, self.window, node="far", observer=Watcher()
        )

    def fate(self) -> Fate:
        """Of the next request for the Lease."""
        return Fate(self.delay(), self.delay())

    def delay(self) -> float | None:
        """Of one message; most are fast, some take longer than any process waits."""
        if self.world.peace:
            return 0.01
        if self.dice.random() < self.trouble:
            return None
        return self.dice.choice([0.01, 0.01, 0.01, 0.3, 2.0, 20.0 * self.trouble])

    async def live(self) -> None:
        """Live until stopped, or until the Lease is lost."""
        if await self.leadership.acquire(self.stop):
            work = [
                asyncio.create_task(self.leadership.keep()),
                asyncio.create_task(self.write()),
                asyncio.create_task(self.stop.wait()),
            ]
            try:
                await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in work:
                    task.cancel()
            if self.stop.is_set():
                await self.drained.wait()
        await self.leadership.release()

    async def write(self) -> None:
        """Write all the time, as far as the guard allows."""
        loop = asyncio.get_running_loop()
        while not self.stop.is_set():
            await asyncio.sleep(1.0 if self.world.peace else self.dice.choice([0.01, 0.3]))
            await self.line.thawed.wait()
            try:
                seconds = self.window.guard()
            except errors.NotLeading:
                continue
            self.world.opened(self)
            # The kernel gives up what does not arrive by then.
            arrives = self.dice.choice([0.01, 1.0, 0.99]) * (seconds - 0.02)
            self.under_way += 1
            self.drained.clear()
            loop.call_later(arrives, self._arrived)

    def _arrived(self) -> None:
        self.under_way -= 1
        if not self.under_way:
            self.drained.set()
        self.world.arrives(self)


async def for_ever(number: int, world: World, seed: int) -> None:
    """As a Deployment does: start it, and restart it when it ends."""
    dice = random.Random(seed * PROCESSES + number)
    while True:
        world.living[number] = process = Process(world, dice=dice, behind=number * 1000.0)
        await process.live()
        await asyncio.sleep(RESTART_SECONDS)


async def happen(story: list[Happening], world: World, seed: int) -> None:
    """Let these events happen, and then nothing more."""
    tasks = {n: asyncio.create_task(for_ever(n, world, seed)) for n in range(PROCESSES)}
    ends: list[asyncio.Task[None]] = []

    async def later(seconds: float, process: Process, attribute: str) -> None:
        await asyncio.sleep(seconds)
        if attribute == "thawed":
            process.line.thawed.set()
        else:
            process.trouble = 0.0

    def soon(end: Coroutine[Any, Any, None]) -> None:
        ends.append(asyncio.create_task(end))

    for it in story:
        await asyncio.sleep(it.after)
        process = world.living[it.whom]
        match it.what:
            case Trouble.FREEZE:
                process.line.thawed.clear()
                soon(later(it.seconds, process, "thawed"))
            case Trouble.CUT_OFF:
                process.trouble = 1.0
                soon(later(it.seconds, process, "trouble"))
            case Trouble.LOSE:
                process.trouble = 0.3
                soon(later(it.seconds, process, "trouble"))
            case Trouble.STOP:
                process.stop.set()
            case Trouble.KILL:
                tasks[it.whom].cancel()
                await asyncio.wait([tasks[it.whom]])
                tasks[it.whom] = asyncio.create_task(for_ever(it.whom, world, seed))
                await asyncio.sleep(0)
            case Trouble.DELETE:
                world.server.leases.clear()
            case Trouble.EDIT:
                for path in world.server.leases:
                    world.server.edit(path)
    await asyncio.gather(*ends)
    world.peace = True
    await asyncio.sleep(PEACE_SECONDS)
    everything = [*tasks.values()]
    assert not any(task.done() for task in everything), [t for t in everything if t.done()]
    assert sum(p.leadership.leading for p in world.living.values()) == 1, "no process leads"
    for task in everything:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*everything)


HAPPENINGS = st.builds(
    Happening,
    after=st.sampled_from([0.05, 1.0, 1.9, 3.0, 8.0, 9.9, 14.0, 17.0]),
    what=st.sampled_from(Trouble),
    whom=st.integers(0, PROCESSES - 1),
    seconds=st.sampled_from([0.5, 3.0, 9.0, 11.0, 16.0, 30.0]),
)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in LeaderSettings.model_fields:
        monkeypatch.delenv(loading.env_name(field), raising=False)


@pytest.mark.parametrize("count", examples.parts(12, of=150))
def test_no_two_processes_write_at_the_same_time(count: int) -> None:
    @given(story=st.lists(HAPPENINGS, max_size=12), seed=st.integers(0, 1 << 16))
    @settings(max_examples=count, deadline=None)
    def no_two_processes_write(story: list[Happening], seed: int) -> None:
        check(story, seed)

    no_two_processes_write()


def check(story: list[Happening], seed: int) -> None:
    world = World()
    with faketime.loop() as loop:
        failures: list[str] = []
        loop.set_exception_handler(lambda _, context: failures.append(str(context)))
        loop.run_until_complete(happen(story, world, seed))
        assert failures == []
    assert world.overlaps == []
    assert world.arrived > 0
    assert FAR + "/far" in world.server.leases
