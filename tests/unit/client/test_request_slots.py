"""Requests to one API server: a limited number at once, the others by class and in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from farlet.client.request_slots import URGENCY, RequestSlots
from farlet.planning.urgency import Urgency
from unit import faketime

SECONDS = 0.125


class Harness:
    """Two slots, requests of 125 ms, and when each was sent."""

    def __init__(self) -> None:
        self.slots = RequestSlots(2)
        self.sent: list[tuple[str, float]] = []
        self.most = 0
        self._now = 0
        self._loop = asyncio.get_running_loop()

    def request(self, name: str, urgency: Urgency | None = None) -> asyncio.Task[None]:
        return asyncio.create_task(self._request(name, urgency))

    async def _request(self, name: str, urgency: Urgency | None) -> None:
        if urgency is not None:
            URGENCY.set(urgency)
        async with self.slots:
            self._now += 1
            self.most = max(self.most, self._now)
            self.sent.append((name, round(self._loop.time(), 3)))
            try:
                await asyncio.sleep(SECONDS)
            finally:
                self._now -= 1

    def order(self) -> str:
        return "".join(name for name, _ in self.sent)


async def _as_many_as_slots() -> None:
    s = Harness()
    for name in "abcde":
        s.request(name)
    await asyncio.sleep(1)
    assert s.sent == [("a", 0), ("b", 0), ("c", 0.125), ("d", 0.125), ("e", 0.25)]
    assert s.most == 2


async def _status_before_creations() -> None:
    s = Harness()
    for number in range(48):
        s.request(f"creation {number}", Urgency.START)
    await asyncio.sleep(0.05)
    s.request("status", Urgency.FINISH)
    await asyncio.sleep(10)
    assert ("status", 0.125) in s.sent
    assert len(s.sent) == 49


async def _by_class() -> None:
    s = Harness()
    for name, urgency in (
        *(("x", Urgency.START), ("y", Urgency.START), ("c", Urgency.REPORT)),
        *(("b", Urgency.START), ("a", Urgency.FINISH), ("d", None)),
    ):
        s.request(name, urgency)
        await asyncio.sleep(0)
    await asyncio.sleep(1)
    assert s.order() == "xyadbc"


async def _aged() -> None:
    s = Harness()
    s.request("x"), s.request("x")
    s.request("r", Urgency.REPORT)
    await asyncio.sleep(0.01)
    for _ in range(60):
        s.request("f", Urgency.FINISH)
    await asyncio.sleep(10)
    assert dict(s.sent)["r"] == 1.0


async def _cancelled_waiter() -> None:
    s = Harness()
    s.request("a"), s.request("b")
    gone, c = s.request("gone"), s.request("c")
    await asyncio.sleep(0.05)
    gone.cancel()
    await asyncio.sleep(0)
    assert len(s.slots) == 1
    await c
    assert s.order() == "abc"


async def _cancelled_with_slot() -> None:
    """It is cancelled after it was given the slot, and before it runs."""
    s = Harness()
    s.slots = RequestSlots(1)
    async with s.slots:
        gone = s.request("gone")
        await asyncio.sleep(0)
    gone.cancel()
    await s.request("a")
    assert s.sent == [("a", 0)]


async def _failed() -> None:
    slots = RequestSlots(1)
    for _ in range(3):
        with pytest.raises(OSError, match="broken"):
            async with slots:
                raise OSError("broken")
    assert len(slots) == 0


async def _inherits() -> None:
    s = Harness()
    s.request("x"), s.request("y")
    await asyncio.sleep(0)
    URGENCY.set(Urgency.REPORT)
    asyncio.gather(s._request("r", None), s._request("r", None))
    await asyncio.sleep(0)
    s.request("s", Urgency.START)
    await asyncio.sleep(1)
    assert s.order() == "xysrr"


PROMISES: dict[str, Callable[[], Awaitable[None]]] = {
    "as many requests at a time as there are slots": _as_many_as_slots,
    "a status waits for one request, not for 48 creations": _status_before_creations,
    "more urgent requests are next, in order of arrival": _by_class,
    "a request that has waited for a second is next": _aged,
    "a request that is cancelled leaves the line": _cancelled_waiter,
    "a request that is cancelled with its slot passes it on": _cancelled_with_slot,
    "a request that fails gives its slot back": _failed,
    "requests of a task that is started have its class": _inherits,
}


@pytest.mark.parametrize("promise", PROMISES.values(), ids=PROMISES)
def test_the_slots_keep_their_promise(promise: Callable[[], Awaitable[None]]) -> None:
    async def story() -> None:
        await promise()

    faketime.run(story())
