"""The leadership survives harmless events, and is given up in time for all others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from farlet import errors
from unit import faketime
from unit.leaderelection.candidates import PATH, leader
from unit.leaderelection.leasemodel import Fate, Server

# --- kept -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "meet",
    [
        pytest.param(lambda s: s.edit(PATH), id="a label was added to the Lease"),
        pytest.param(lambda s: s.leases.clear(), id="the Lease was deleted"),
        pytest.param(lambda s: s.edit(PATH, holderIdentity=""), id="the holder was removed"),
    ],
)
def test_a_leader_continues_while_no_other_process_leads(meet: Any) -> None:
    async def story() -> None:
        server = Server()
        one, keeping = await leader(server)
        for _ in range(3):
            await asyncio.sleep(5)
            meet(server)
        await asyncio.sleep(5)
        assert one.leadership.leading
        assert one.seen.slow == 3
        assert server.leases[PATH]["spec"]["holderIdentity"] == one.leadership.lease.holder
        keeping.cancel()

    faketime.run(story())


def test_a_short_outage_costs_nothing() -> None:
    async def story() -> None:
        server = Server()
        one, keeping = await leader(server)
        await asyncio.sleep(1)
        one.line.refuses = errors.Unreachable(cluster="home", request="PUT", cause="refused")
        await asyncio.sleep(7)
        assert one.leadership.leading
        one.line.refuses = None
        await asyncio.sleep(5)
        assert one.window.guard() > 12
        keeping.cancel()

    faketime.run(story())


# --- lost -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fate",
    [
        pytest.param(Fate(arrives=None), id="nothing arrives"),
        pytest.param(Fate(answers=None), id="no answer arrives"),
        pytest.param(Fate(answers=6.0), id="every answer is slow"),
    ],
)
def test_a_leader_that_cannot_renew_stops_at_its_deadline(fate: Fate) -> None:
    async def story() -> None:
        server = Server()
        one, keeping = await leader(server)
        await asyncio.sleep(1)
        began = one.loop.time()
        one.line.fate = lambda: fate
        with pytest.raises(errors.NotLeading, match="no answer in time") as caught:
            await keeping
        assert 8 < one.loop.time() - began <= 10
        assert "Lease kube-node-lease/far was not renewed within 10 s" in str(caught.value)
        assert one.seen.leading is False
        with pytest.raises(errors.NotLeading, match="leadership was lost"):
            one.window.guard()

    faketime.run(story())


def test_the_guard_closes_at_the_deadline_without_any_task() -> None:
    async def story() -> None:
        server = Server()
        one, keeping = await leader(server)
        keeping.cancel()
        sent = one.loop.time() - 0.02
        await asyncio.sleep(sent + 9.99 - one.loop.time())
        assert one.window.guard() == pytest.approx(5.01)
        await asyncio.sleep(0.02)
        with pytest.raises(errors.NotLeading):
            one.window.guard()

    faketime.run(story())


def test_a_frozen_leader_that_wakes_up_late_does_not_renew() -> None:
    async def story() -> None:
        server = Server()
        one, keeping = await leader(server)
        await asyncio.sleep(1.99)
        one.line.thawed.clear()
        await asyncio.sleep(30)
        assert not one.leadership.leading
        one.line.thawed.set()
        with pytest.raises(errors.NotLeading):
            await keeping

    faketime.run(story())


def test_a_renewal_that_is_answered_too_late_does_not_open_the_guard_again() -> None:
    async def story() -> None:
        server = Server()
        one, keeping = await leader(server)
        await asyncio.sleep(1.99)
        one.line.fate = lambda: Fate(arrives=None)
        await asyncio.sleep(6.5)
        one.line.fate = lambda: Fate(answers=2.5)
        with pytest.raises(errors.NotLeading):
            await keeping
        await asyncio.sleep(3)
        assert not one.leadership.leading

    faketime.run(story())


def test_a_leader_that_sees_another_holder_stops_immediately() -> None:
    async def story() -> None:
        server = Server()
        one, keeping = await leader(server)
        server.edit(PATH, holderIdentity="other")
        with pytest.raises(errors.NotLeading, match="is held by other"):
            await keeping
        assert one.loop.time() < 2.2
        assert not one.leadership.leading
        assert one.seen.slow == 1
        await one.leadership.release()
        assert server.leases[PATH]["spec"]["holderIdentity"] == "other"

    faketime.run(story())
