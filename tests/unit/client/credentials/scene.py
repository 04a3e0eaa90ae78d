"""For tests of a login in use: a clock that tests move, and a server that accepts one token."""

from __future__ import annotations

import asyncio
import time

from aiohttp import web

from unit.reconcile import apiserver
from unit.reconcile.apiserver import Answer, status

PATH = "/api/v1/namespaces/default/pods/web"


class Clock:
    """Replaces `time` in the module."""

    def __init__(self) -> None:
        self.late = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.late

    def time(self) -> float:
        return time.time() + self.late


def takes_only(token: str, *, together: int = 1) -> Answer:
    """An API server that accepts only that token, and answers others after this many requests."""
    waiting: list[int] = []
    all_here = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.headers["Authorization"] == f"Bearer {token}":
            return await apiserver.ok(request)
        waiting.append(1)
        if len(waiting) >= together:
            all_here.set()
        await all_here.wait()
        return await status(401, "Unauthorized")(request)

    return answer
