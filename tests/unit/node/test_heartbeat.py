"""A heartbeat that cannot be written is tried again soon; one that nobody needs is not written."""

from __future__ import annotations

import asyncio

from farlet import errors
from farlet.node import heartbeat
from unit import faketime

SILENCE = errors.Unreachable(cluster="home", request="PUT lease", cause="timed out")


class Lease:
    """Takes its time, and fails as often as it is told."""

    def __init__(self, *, failures: int = 0, seconds: float = 0.0) -> None:
        self.at: list[float] = []
        self._failures = failures
        self._seconds = seconds

    async def renew(self) -> None:
        self.at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self._seconds)
        self._failures -= 1
        if self._failures >= 0:
            raise SILENCE

    def owned_by(self, node: str, uid: str | None) -> None:
        raise AssertionError(f"not for the heartbeat to say: {node} {uid}")


def beats(lease: Lease, *, seconds: float, alive: bool = True) -> list[float]:
    async def main() -> None:
        task = asyncio.create_task(heartbeat.beat(lease, alive=lambda: alive))
        await asyncio.wait([task], timeout=seconds)
        task.cancel()

    faketime.run(main())
    return lease.at


def test_it_beats_every_ten_seconds_however_long_one_takes() -> None:
    assert beats(Lease(seconds=4), seconds=35) == [0, 10, 20, 30]


def test_one_that_fails_is_tried_again_soon() -> None:
    assert beats(Lease(failures=3), seconds=20) == [0, 2, 4, 6, 16]


def test_one_that_hangs_and_fails_is_tried_again_at_once() -> None:
    assert beats(Lease(failures=2, seconds=10), seconds=25) == [0, 10, 20]


def test_a_node_that_is_not_there_has_no_heartbeat() -> None:
    assert beats(Lease(), seconds=60, alive=False) == []
