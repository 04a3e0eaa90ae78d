"""The interval of heartbeats, retries after failures, and no heartbeat without a Node."""

from __future__ import annotations

import asyncio

from farlet import errors
from farlet.node import heartbeat
from unit import faketime

UNREACHABLE = errors.Unreachable(cluster="home", request="PUT lease", cause="timed out")


class Lease:
    """Renewals that take `seconds`; the first `failures` fail."""

    def __init__(self, *, failures: int = 0, seconds: float = 0.0) -> None:
        self.at: list[float] = []
        self.problem: str | None = None
        self._failures = failures
        self._seconds = seconds

    async def acquire(self) -> None:
        raise AssertionError("the heartbeat waited for the Lease")

    async def release(self) -> None:
        raise AssertionError("the heartbeat released the Lease")

    async def renew(self) -> None:
        self.at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self._seconds)
        self._failures -= 1
        if self._failures >= 0:
            raise UNREACHABLE

    def owned_by(self, node: str, uid: str | None) -> None:
        raise AssertionError(f"the heartbeat set an owner: {node} {uid}")


def beats(lease: Lease, *, seconds: float, alive: bool = True) -> list[float]:
    async def main() -> None:
        task = asyncio.create_task(heartbeat.beat(lease, alive=lambda: alive))
        await asyncio.wait([task], timeout=seconds)
        task.cancel()

    faketime.run(main())
    return lease.at


def test_a_heartbeat_is_written_every_ten_seconds_whatever_its_duration() -> None:
    assert beats(Lease(seconds=4), seconds=35) == [0, 10, 20, 30]


def test_a_failed_heartbeat_is_retried_soon() -> None:
    assert beats(Lease(failures=3), seconds=20) == [0, 2, 4, 6, 16]


def test_a_heartbeat_that_hangs_and_fails_is_retried_immediately() -> None:
    assert beats(Lease(failures=2, seconds=10), seconds=25) == [0, 10, 20]


def test_without_a_node_no_heartbeat_is_written() -> None:
    assert beats(Lease(), seconds=60, alive=False) == []
