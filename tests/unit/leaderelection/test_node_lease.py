"""Processes that meet at the Lease of their node without an election between them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
import structlog

from farlet import errors
from farlet.constants import ObjectKey
from farlet.leaderelection import lease as leases
from farlet.leaderelection import node_lease
from farlet.node import heartbeat
from unit import faketime
from unit.leaderelection.leasemodel import FAR, Line, Server

PATH = f"{FAR}/far"
LAPTOP, POD = "far@laptop", "farlet-558-xyz_2b4c"


def process(server: Server, holder: str, *, elected: bool = False) -> node_lease.NodeLease:
    lease = leases.Lease(
        Line(server),
        ObjectKey("kube-node-lease", "far"),
        holder=holder,
        duration=40,
        patience=5.0,
        clock=asyncio.get_running_loop().time,
    )
    return node_lease.NodeLease(lease, node="far", elected=elected)


async def _seconds(waiting: Coroutine[Any, Any, None]) -> int:
    loop = asyncio.get_running_loop()
    started = loop.time()
    await waiting
    return round(loop.time() - started)


@pytest.mark.parametrize(
    ("before", "holder", "elected", "seconds"),
    [
        pytest.param(None, LAPTOP, False, 0, id="no Lease"),
        pytest.param(LAPTOP, LAPTOP, False, 0, id="a restart on the same host"),
        pytest.param("", LAPTOP, False, 0, id="a Lease that was released"),
        pytest.param("far@other", LAPTOP, False, 40, id="another host"),
        pytest.param(POD, LAPTOP, False, 40, id="the leader of an election"),
        pytest.param("far", LAPTOP, False, 40, id="an earlier version, or a kubelet"),
        pytest.param("pod-1_aa", POD, True, 0, id="a leader after another leader"),
        pytest.param(LAPTOP, POD, True, 40, id="a leader after a process without election"),
    ],
)
def test_a_start_waits_for_the_heartbeat_of(
    before: str | None, holder: str, elected: bool, seconds: int
) -> None:
    async def story() -> None:
        server = Server()
        if before is not None:
            await process(server, before or "someone").renew()
            server.edit(PATH, holderIdentity=before)
        ours = process(server, holder, elected=elected)
        assert seconds <= await _seconds(ours.acquire()) <= seconds + node_lease.RETRY_SECONDS
        await ours.renew()
        assert server.leases[PATH]["spec"]["holderIdentity"] == holder

    faketime.run(story())


@pytest.mark.parametrize("elected", [False, True], ids=["without election", "elected"])
def test_a_lease_that_is_renewed_is_never_taken(elected: bool) -> None:
    async def story() -> None:
        server = Server()
        first = process(server, LAPTOP)
        await first.renew()
        beats = asyncio.create_task(heartbeat.beat(first, alive=lambda: True))
        second = process(server, POD if elected else "far@other", elected=elected)
        with structlog.testing.capture_logs() as logs:
            waits = asyncio.create_task(second.acquire())
            await asyncio.sleep(600)
        assert not waits.done()
        assert second.problem is not None
        assert f"another farlet ({LAPTOP}) serves the node far" in second.problem
        assert "--leader-elect" in second.problem
        assert len(logs) == 1
        assert server.leases[PATH]["spec"]["holderIdentity"] == LAPTOP
        beats.cancel()
        await asyncio.wait([beats])
        await first.release()
        await asyncio.sleep(node_lease.RETRY_SECONDS + 0.1)
        assert waits.done()
        assert second.problem is None

    faketime.run(story())


@pytest.mark.parametrize("taker", [POD, "far@other"])
def test_a_process_whose_lease_was_taken_ends(taker: str) -> None:
    async def story() -> None:
        server = Server()
        ours = process(server, LAPTOP)
        await ours.renew()
        server.edit(PATH, holderIdentity=taker)
        with pytest.raises(errors.NotLeading, match="another farlet"):
            await heartbeat.beat(ours, alive=lambda: True)
        assert server.leases[PATH]["spec"]["holderIdentity"] == taker

    faketime.run(story())


def test_a_leader_continues_the_heartbeat_of_the_leader_before() -> None:
    async def story() -> None:
        server = Server()
        before, ours = process(server, "pod-1_aa", elected=True), process(server, POD, elected=True)
        await before.renew()
        await ours.renew()
        await before.renew()
        await ours.renew()
        assert server.leases[PATH]["spec"]["holderIdentity"] == POD

    faketime.run(story())


def test_a_home_api_server_that_does_not_answer_is_waited_for() -> None:
    async def story() -> None:
        server = Server()
        line = Line(server)
        line.refuses = errors.Unreachable(cluster="home", request="GET", cause="refused")
        lease = leases.Lease(
            line, ObjectKey("kube-node-lease", "far"), holder=LAPTOP, duration=40, patience=5.0
        )
        ours = node_lease.NodeLease(lease, node="far", elected=False)
        waits = asyncio.create_task(ours.acquire())
        await asyncio.sleep(10)
        assert ours.problem is not None
        line.refuses = None
        await asyncio.sleep(2.1)
        assert waits.done()

    faketime.run(story())


def test_a_kubelet_that_renews_the_lease_is_distinguished_from_a_farlet() -> None:
    async def story() -> None:
        server = Server()
        await process(server, "someone").renew()
        server.edit(PATH, holderIdentity="far")
        ours = process(server, LAPTOP)
        waits = asyncio.create_task(ours.acquire())
        await asyncio.sleep(1)
        assert ours.problem == (
            "a kubelet renews the Lease of the node far, so it is a real machine or belongs to "
            "another program. Set another --nodename"
        )
        waits.cancel()

    faketime.run(story())


def test_the_certificate_of_another_node_ends_the_start() -> None:
    async def story() -> None:
        server = Server()
        line = Line(server)
        line.refuses = errors.Forbidden(
            cluster="home",
            request="GET",
            code=403,
            status_reason="Forbidden",
            message='leases "far" is forbidden: User "system:node:near" cannot get resource',
        )
        lease = leases.Lease(
            line, ObjectKey("kube-node-lease", "far"), holder=LAPTOP, duration=40, patience=5.0
        )
        async with asyncio.timeout(60):
            with pytest.raises(errors.StartError, match="set FARLET_NODENAME=near"):
                await node_lease.NodeLease(lease, node="far", elected=False).acquire()

    faketime.run(story())
