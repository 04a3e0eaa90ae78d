"""Processes of an election, each with its own connection to one server of Leases."""

from __future__ import annotations

import asyncio
from typing import Any

from farlet.leaderelection import leadership
from farlet.leaderelection.write_window import WriteWindow
from farlet.settings import loading
from farlet.settings.leader import LeaderSettings
from unit.leaderelection.leasemodel import FAR, Line, Server, Watcher

PATH = f"{FAR}/far"


class Process:
    """The part of a farlet that takes part in elections, with 15 s, 10 s and 2 s."""

    def __init__(self, server: Server, **settings: object) -> None:
        self.line = Line(server)
        self.seen = Watcher()
        self.stop = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        read = loading.load(LeaderSettings, settings)
        self.window = WriteWindow(read, clock=self.loop.time)
        self.leadership = leadership.Leadership(
            self.line, read, self.window, node="far", observer=self.seen
        )

    async def lead(self) -> float:
        """Acquire; how long it took."""
        began = self.loop.time()
        assert await self.leadership.acquire(self.stop)
        return self.loop.time() - began


async def leader(server: Server) -> tuple[Process, asyncio.Task[Any]]:
    """A process that leads and renews."""
    server.hold(PATH)
    made = Process(server)
    await made.lead()
    return made, asyncio.create_task(made.leadership.keep())
