"""One election: how the leadership is taken, kept, lost and handed over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from farlet import errors, leadership
from farlet.settings import loading
from farlet.settings.leader import LeaderSettings
from unit import faketime
from unit.leadership.leasemodel import FAR, Fate, Line, Server, Watcher, refusal

PATH = f"{FAR}/far"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in LeaderSettings.model_fields:
        monkeypatch.delenv(loading.env_name(field), raising=False)


class Process:
    """A farlet as far as it elects: 15 s, 10 s and 2 s."""

    def __init__(self, server: Server, **settings: object) -> None:
        self.line = Line(server)
        self.seen = Watcher()
        self.stop = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.leadership = leadership.Leadership(
            self.line,
            loading.load(LeaderSettings, settings),
            node="far",
            observer=self.seen,
            clock=self.loop.time,
        )

    async def lead(self) -> float:
        """Acquire; how long it took."""
        began = self.loop.time()
        assert await self.leadership.acquire(self.stop)
        return self.loop.time() - began


async def leader(server: Server) -> tuple[Process, asyncio.Task[Any]]:
    """A process that leads and renews."""
    server.leases[PATH] = {"metadata": {"uid": "1", "resourceVersion": "1"}, "spec": {}}
    made = Process(server)
    await made.lead()
    return made, asyncio.create_task(made.leadership.keep())


def test_a_lease_of_nobody_is_taken_at_once() -> None:
    async def story() -> None:
        server = Server()
        one, keeping = await leader(server)
        assert one.loop.time() == pytest.approx(0.04)
        assert one.seen.leading is True
        spec = server.leases[PATH]["spec"]
        assert spec["leaseDurationSeconds"] == 15
        assert spec["holderIdentity"] == one.leadership.lease.holder
        assert one.leadership.guard() == pytest.approx(15 - 0.02)
        keeping.cancel()

    faketime.run(story())


def test_who_stands_by_leaves_a_deleted_lease_to_its_holder() -> None:
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


def test_who_finds_no_lease_takes_it_but_does_not_lead_yet() -> None:
    async def story() -> None:
        server = Server()
        one, keeping = await leader(server)
        server.leases.clear()
        other = Process(server)
        waiting = asyncio.create_task(other.lead())
        with pytest.raises(errors.NotLeading, match=f"is held by {other.leadership.lease.holder}"):
            await keeping
        lost = one.loop.time()
        assert not other.leadership.leading
        await waiting
        assert one.loop.time() - lost > 10

    faketime.run(story())


def test_the_first_of_all_waits_as_long_as_a_leader_could_still_write() -> None:
    async def story() -> None:
        server = Server()
        one, other = Process(server), Process(server)
        waiting = [asyncio.create_task(process.lead()) for process in (one, other)]
        await asyncio.sleep(0.1)
        assert server.leases[PATH]["spec"]["holderIdentity"]
        assert not one.leadership.leading
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert 15 <= done.pop().result() < 17.1
        assert one.leadership.leading is not other.leadership.leading
        for task in waiting:
            task.cancel()

    faketime.run(story())


def test_who_made_the_lease_and_stops_before_it_leads_lets_it_run_out() -> None:
    async def story() -> None:
        server = Server()
        one = Process(server)
        waiting = asyncio.create_task(one.leadership.acquire(one.stop))
        await asyncio.sleep(5)
        one.stop.set()
        assert await waiting is False
        await one.leadership.release()
        assert server.leases[PATH]["spec"]["holderIdentity"] == one.leadership.lease.holder

    faketime.run(story())


def test_who_stands_by_writes_nothing() -> None:
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
        with pytest.raises(errors.NotLeading, match="is not held"):
            other.leadership.guard()
        waiting.cancel()
        keeping.cancel()

    faketime.run(story())


def test_a_dead_leader_is_followed_after_the_duration_of_its_lease() -> None:
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


def test_a_leader_that_releases_is_followed_within_a_retry_period() -> None:
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
        with pytest.raises(errors.NotLeading, match="no answer came in time") as caught:
            await keeping
        assert 8 < one.loop.time() - began <= 10
        assert "Lease kube-node-lease/far was not renewed within 10 s" in str(caught.value)
        assert one.seen.leading is False
        with pytest.raises(errors.NotLeading, match="leadership was lost"):
            one.leadership.guard()

    faketime.run(story())


def test_the_guard_closes_at_the_deadline_though_nothing_else_runs() -> None:
    async def story() -> None:
        server = Server()
        one, keeping = await leader(server)
        keeping.cancel()
        sent = one.loop.time() - 0.02
        await asyncio.sleep(sent + 9.99 - one.loop.time())
        assert one.leadership.guard() == pytest.approx(5.01)
        await asyncio.sleep(0.02)
        with pytest.raises(errors.NotLeading):
            one.leadership.guard()

    faketime.run(story())


def test_a_frozen_leader_that_wakes_up_late_renews_no_more() -> None:
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


def test_a_leader_that_sees_another_name_stops_at_once() -> None:
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


@pytest.mark.parametrize(
    "meet",
    [
        pytest.param(lambda s: s.edit(PATH), id="a label was put on the Lease"),
        pytest.param(lambda s: s.leases.clear(), id="the Lease was deleted"),
        pytest.param(lambda s: s.edit(PATH, holderIdentity=""), id="the name was taken out"),
    ],
)
def test_a_leader_goes_on_where_nobody_else_leads(meet: Any) -> None:
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
        assert one.leadership.guard() > 12
        keeping.cancel()

    faketime.run(story())


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(refusal(errors.Forbidden, "GET", code=403), id="forbidden"),
        pytest.param(refusal(errors.Invalid, "POST", code=422), id="invalid"),
        pytest.param(None, id="no such namespace"),
    ],
)
def test_a_lease_that_may_never_be_had_refuses_the_start(refused: errors.ApiError | None) -> None:
    async def story() -> None:
        one = Process(Server(), leader_elect_lease="farlet/far")
        one.line.refuses = refused
        with pytest.raises(errors.StartError, match="--leader-elect-lease=node") as caught:
            await one.lead()
        assert "Lease farlet/far" in str(caught.value)

    faketime.run(story())


@pytest.mark.parametrize(
    "err",
    [
        pytest.param(
            errors.Unreachable(cluster="home", request="GET", cause="refused"), id="unreachable"
        ),
        pytest.param(refusal(errors.Throttled, "GET", code=429), id="throttled"),
        pytest.param(refusal(errors.ApiError, "GET", code=401), id="not let in"),
    ],
)
def test_who_stands_by_waits_for_an_api_server(err: errors.FarletError) -> None:
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


def test_who_stands_by_ends_when_it_is_told_to() -> None:
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


@pytest.mark.parametrize(
    ("given", "namespace", "name", "is_heartbeat"),
    [
        pytest.param("node", "kube-node-lease", "far", True, id="the node's"),
        pytest.param("farlet/lock", "farlet", "lock", False, id="another"),
    ],
)
def test_the_lock_is_the_lease_that_was_asked_for(
    given: str, namespace: str, name: str, is_heartbeat: bool
) -> None:
    async def story() -> None:
        found = Process(Server(), leader_elect_lease=given).leadership
        assert found.lease.key == (namespace, name)
        assert found.is_heartbeat is is_heartbeat

    faketime.run(story())


def test_no_two_processes_have_the_same_name() -> None:
    async def story() -> None:
        server = Server()
        one, other = Process(server).leadership, Process(server).leadership
        assert one.lease.holder != other.lease.holder

    faketime.run(story())
