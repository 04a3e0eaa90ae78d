"""The ways in which a request can fail in the proxy, each a `proxy.Fault`."""

import asyncio
import dataclasses
import enum
import json
from collections.abc import Callable, Mapping
from typing import Any

from faults.proxy import Answer, Cut, Fault, Forward, Request


class Moment(enum.Enum):
    """When a fault happens: before or after the API server processes the request."""

    BEFORE = "before"
    AFTER = "after"


def cut(moment: Moment = Moment.BEFORE) -> Fault:
    """The connection breaks before the request arrives, or before the response does."""

    async def fault(request: Request, forward: Forward) -> Answer:
        if moment is Moment.AFTER:
            await forward(request)
        raise Cut

    return fault


def late(seconds: float) -> Fault:
    """The response is delayed."""

    async def fault(request: Request, forward: Forward) -> Answer:
        await asyncio.sleep(seconds)
        return await forward(request)

    return fault


def refused(
    code: int,
    *,
    reason: str,
    message: str = "injected by a test",
    moment: Moment = Moment.BEFORE,
    headers: Mapping[str, str] | None = None,
) -> Fault:
    """A failure Status in place of the response."""

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
    """A changed object in the response; error responses pass unchanged."""

    async def fault(request: Request, forward: Forward) -> Answer:
        answer = await forward(request)
        if answer.code >= 300:
            return answer
        body = json.dumps(change(json.loads(answer.body))).encode()
        return dataclasses.replace(answer, body=body)

    return fault


class Hold:
    """Holds a request until the test continues, so that the test can act in between."""

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
        """Break the connection of the held request."""
        self._let_go.set()
