"""The leadership is taken: at once, after a wait, or never, and under which name."""

from __future__ import annotations

import asyncio

import pytest

from farlet import errors
from unit import faketime
from unit.leaderelection.candidates import PATH, Process, leader
from unit.leaderelection.leasemodel import Server, refusal

# --- which Lease, and who ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "namespace", "name", "is_heartbeat"),
    [
        pytest.param("node", "kube-node-lease", "far", True, id="the node's"),
        pytest.param("farlet/lock", "farlet", "lock", False, id="another"),
    ],
)
def test_the_lock_is_the_lease_of_the_setting(
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


# --- taken ------------------------------------------------------------------------------------


def test_a_lease_without_a_holder_is_taken_immediately() -> None:
    async def story() -> None:
        server = Server()
        one, keeping = await leader(server)
        assert one.loop.time() == pytest.approx(0.04)
        assert one.seen.leading is True
        spec = server.leases[PATH]["spec"]
        assert spec["leaseDurationSeconds"] == 15
        assert spec["holderIdentity"] == one.leadership.lease.holder
        assert one.window.guard() == pytest.approx(15 - 0.02)
        keeping.cancel()

    faketime.run(story())


def test_a_process_that_creates_the_lease_does_not_lead_yet() -> None:
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


def test_the_first_process_waits_as_long_as_an_earlier_leader_could_write() -> None:
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


def test_a_process_that_stops_before_it_leads_lets_its_lease_expire() -> None:
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


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(refusal(errors.Forbidden, "GET", code=403), id="forbidden"),
        pytest.param(refusal(errors.Invalid, "POST", code=422), id="invalid"),
        pytest.param(None, id="no such namespace"),
    ],
)
def test_a_lease_that_cannot_be_held_refuses_the_start(refused: errors.ApiError | None) -> None:
    async def story() -> None:
        one = Process(Server(), leader_elect_lease="farlet/far")
        one.line.refuses = refused
        with pytest.raises(errors.StartError, match="--leader-elect-lease=node") as caught:
            await one.lead()
        assert "Lease farlet/far" in str(caught.value)

    faketime.run(story())


def test_the_certificate_of_another_node_is_named() -> None:
    async def story() -> None:
        one = Process(Server())
        one.line.refuses = errors.Forbidden(
            cluster="home",
            request="GET",
            code=403,
            status_reason="Forbidden",
            message='leases.coordination.k8s.io "far" is forbidden: User "system:node:away" cannot '
            'get resource "leases" in API group "coordination.k8s.io" in the namespace '
            '"kube-node-lease": can only access node lease with the same name',
        )
        with pytest.raises(errors.StartError) as caught:
            await one.lead()
        assert "the certificate is of system:node:away, but --nodename is" in str(caught.value)
        assert "set FARLET_NODENAME=away, or create a certificate" in str(caught.value)

    faketime.run(story())
