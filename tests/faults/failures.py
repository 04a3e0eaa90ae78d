"""The ways in which a request can fail at the door, each a `proxy.Fault`."""

import asyncio
import dataclasses
import enum
import json
from collections.abc import Callable, Mapping
from typing import Any

from faults.proxy import Answer, Cut, Fault, Forward, Request


class Moment(enum.Enum):
    """When a fault strikes, seen from the API server."""

    BEFORE = "before"
    AFTER = "after"


def cut(moment: Moment = Moment.BEFORE) -> Fault:
    """The connection breaks before the request arrives, or before its answer does."""

    async def fault(request: Request, forward: Forward) -> Answer:
        if moment is Moment.AFTER:
            await forward(request)
        raise Cut

    return fault


def late(seconds: float) -> Fault:
    """The answer takes longer."""

    async def fault(request: Request, forward: Forward) -> Answer:
        await asyncio.sleep(seconds)
        return await forward(request)

    return fault


def refused(
    code: int,
    *,
    reason: str,
    message: str = "made up by a test",
    moment: Moment = Moment.BEFORE,
    headers: Mapping[str, str] | None = None,
) -> Fault:
    """A Status of failure in place of the answer."""

    async def fault(request: Request, forward: Forward) -> Answer:
        if moment is Moment.AFTER:
            await forward(request)
        body = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": message,
        }
        return Answer(
            code,
            {"Content-Type": "application/json", **(headers or {})},
            json.dumps(body).encode(),
        )

    return fault


def changed(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Fault:
    """Another object in the answer; answers that are no success pass as they are."""

    async def fault(request: Request, forward: Forward) -> Answer:
        answer = await forward(request)
        if answer.code >= 300:
            return answer
        body = json.dumps(change(json.loads(answer.body))).encode()
        return dataclasses.replace(answer, body=body)

    return fault


class Hold:
    """Stops at a request until the test has done what it wanted to at this very moment."""

    def __init__(self, moment: Moment) -> None:
        self._moment = moment
        self._reached = asyncio.Event()
        self._let_go = asyncio.Event()

    async def __call__(self, request: Request, forward: Forward) -> Answer:
        if self._moment is Moment.AFTER:
            answer = await forward(request)
            if answer.code >= 300:
                return answer
        self._reached.set()
        await self._let_go.wait()
        raise Cut

    async def reached(self, *, seconds: float = 120.0) -> None:
        async with asyncio.timeout(seconds):
            await self._reached.wait()

    def cut(self) -> None:
        """The request that waits breaks."""
        self._let_go.set()
