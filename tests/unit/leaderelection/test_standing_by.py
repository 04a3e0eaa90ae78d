"""A standby writes nothing, waits as long as it must, and replaces a leader that is gone."""

from __future__ import annotations

import asyncio

import pytest

from farlet import errors
from unit import faketime
from unit.leaderelection.candidates import PATH, Process, leader
from unit.leaderelection.leasemodel import Server, refusal

# --- waiting ----------------------------------------------------------------------------------


def test_a_standby_leaves_a_deleted_lease_to_its_holder() -> None:
    async def story() -> None:
        server = Server()
        one, keeping = await leader(server)
        other = Process(server)
        waiting = asyncio.create_task(other.lead())
        for _ in range(10):
            await asyncio.sleep(5)
            server.leases.clear()
        await asyncio.sleep(5)
        assert one.leadership.leading
        assert server.leases[PATH]["spec"]["holderIdentity"] == one.leadership.lease.holder
        waiting.cancel()
        keeping.cancel()

    faketime.run(story())


def test_a_standby_writes_nothing() -> None:
    async def story() -> None:
        server = Server()
        _, keeping = await leader(server)
        other = Process(server)
        waiting = asyncio.create_task(other.lead())
        await asyncio.sleep(0.5)
        holder = server.leases[PATH]["spec"]["holderIdentity"]
        server.log.clear()
        await asyncio.sleep(60)
        assert sum(entry.startswith("PUT") for entry in server.log) in {29, 30}  # the leader's
        assert server.leases[PATH]["spec"]["holderIdentity"] == holder
        assert other.seen.leading is False
        with pytest.raises(errors.NotLeading, match="is not held by this process"):
            other.window.guard()
        waiting.cancel()
        keeping.cancel()

    faketime.run(story())


def test_a_process_with_an_obstacle_takes_no_free_lease_and_takes_it_without() -> None:
    async def story() -> None:
        server = Server()
        server.hold(PATH)
        process = Process(server)
        problems = ["the credentials are not accepted"]
        acquiring = asyncio.create_task(
            process.leadership.acquire(
                process.stop, obstacle=lambda: problems[0] if problems else None
            )
        )
        await asyncio.sleep(60)
        assert not acquiring.done()
        assert server.leases[PATH]["spec"] == {}
        problems.clear()
        await asyncio.sleep(3)
        assert acquiring.done()

    faketime.run(story())


def test_a_process_takes_a_free_lease_as_soon_as_its_obstacle_is_gone() -> None:
    async def story() -> None:
        server = Server()
        server.hold(PATH)
        process = Process(server)
        problems, cleared = ["not checked yet"], asyncio.Event()
        acquiring = asyncio.create_task(
            process.leadership.acquire(
                process.stop,
                obstacle=lambda: problems[0] if problems else None,
                cleared=cleared,
            )
        )
        await asyncio.sleep(0.5)  # the next attempt would be after 1.6 s at the earliest
        problems.clear()
        cleared.set()
        await asyncio.sleep(0.1)
        assert acquiring.done()

    faketime.run(story())


@pytest.mark.parametrize(
    "err",
    [
        pytest.param(
            errors.Unreachable(cluster="home", request="GET", cause="refused"), id="unreachable"
        ),
        pytest.param(refusal(errors.Throttled, "GET", code=429), id="throttled"),
        pytest.param(refusal(errors.Unauthorized, "GET", code=401), id="credentials not accepted"),
    ],
)
def test_a_standby_waits_for_an_api_server(err: errors.FarletError) -> None:
    async def story() -> None:
        server = Server()
        _, keeping = await leader(server)
        keeping.cancel()
        other = Process(server)
        other.line.refuses = err
        waiting = asyncio.create_task(other.lead())
        await asyncio.sleep(60)
        assert not waiting.done()
        other.line.refuses = None
        await waiting
        assert other.loop.time() < 60 + 2.1 + 15 + 2.1

    faketime.run(story())


def test_a_standby_ends_when_it_is_stopped() -> None:
    async def story() -> None:
        server = Server()
        _, keeping = await leader(server)
        other = Process(server)
        waiting = asyncio.create_task(other.leadership.acquire(other.stop))
        await asyncio.sleep(3)
        began = other.loop.time()
        other.stop.set()
        assert await waiting is False
        assert other.loop.time() - began < 0.1
        keeping.cancel()

    faketime.run(story())


# --- following --------------------------------------------------------------------------------


def test_a_dead_leader_is_replaced_after_the_duration_of_its_lease() -> None:
    async def story() -> None:
        server = Server()
        one, keeping = await leader(server)
        other = Process(server)
        waiting = asyncio.create_task(other.lead())
        await asyncio.sleep(20)
        keeping.cancel()
        died = one.loop.time()
        await waiting
        assert not one.leadership.leading
        assert 13 < one.loop.time() - died < 15 + 2.1

    faketime.run(story())


def test_a_leader_that_releases_is_replaced_within_a_retry_period() -> None:
    async def story() -> None:
        server = Server()
        one, keeping = await leader(server)
        other = Process(server)
        waiting = asyncio.create_task(other.lead())
        await asyncio.sleep(20)
        keeping.cancel()
        released = one.loop.time()
        await one.leadership.release()
        assert not one.leadership.leading
        assert one.seen.leading is False
        await waiting
        assert one.loop.time() - released < 2.1

    faketime.run(story())
