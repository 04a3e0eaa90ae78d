"""One read for all who ask at the same time."""

from __future__ import annotations

import asyncio

from farlet.client.joined_read import JoinedRead
from farlet.client.request_slots import URGENCY, RequestSlots
from farlet.planning.urgency import Urgency
from unit import faketime

SECONDS = 0.125


async def _story() -> None:
    loop = asyncio.get_running_loop()
    slots = RequestSlots(1)

    async def request() -> None:
        async with slots:
            await asyncio.sleep(SECONDS)

    join = JoinedRead(request)

    async def creates() -> None:
        URGENCY.set(Urgency.START)
        await request()

    async def creates_after_a_read() -> None:
        URGENCY.set(Urgency.START)
        await join()

    creations = [asyncio.create_task(creates()) for _ in range(8)]
    creations.append(asyncio.create_task(creates_after_a_read()))
    await asyncio.sleep(SECONDS / 2)
    await join()
    assert loop.time() <= 4 * SECONDS, "most creations are still waiting"
    await asyncio.gather(*creations)


def test_a_read_that_a_creation_asked_for_first_is_as_urgent_as_its_other_callers() -> None:
    faketime.run(_story())
