"""One Lease: what is written into it, when it may be taken, and what follows lost answers."""

from __future__ import annotations

import asyncio
import math
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from farlet import errors
from farlet.constants import ObjectKey
from farlet.leaderelection import lease as leases
from unit import faketime
from unit.leaderelection.leasemodel import FAR, Fate, Line, Server, moment

PATH = f"{FAR}/far"
NOON = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


class Wall:
    """A clock that people set."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


class Renewed(leases.Lease):
    """A Lease whose holder takes it back from any other holder."""

    async def renew(self) -> None:
        """`hold`, even if others have written to it meanwhile."""
        try:
            await self.hold()
        except errors.Conflict:
            await self.read()
            await self.hold()


def lease(
    line: Line, holder: str = "far", *, duration: int = 40, wall: Wall | None = None
) -> Renewed:
    return Renewed(
        line,
        ObjectKey("kube-node-lease", "far"),
        holder=holder,
        duration=duration,
        patience=5.0,
        clock=asyncio.get_running_loop().time,
        now=wall or Wall(),
    )


def test_a_missing_lease_is_created() -> None:
    async def story() -> None:
        server = Server()
        await lease(Line(server)).renew()
        made = server.leases[PATH]
        assert made["metadata"]["name"] == "far"
        assert "ownerReferences" not in made["metadata"]
        assert made["spec"] == {
            "holderIdentity": "far",
            "leaseDurationSeconds": 40,
            "acquireTime": "2026-05-01T12:00:00.000000Z",
            "renewTime": "2026-05-01T12:00:00.000000Z",
            "leaseTransitions": 0,
        }

    faketime.run(story())


def test_a_renewal_is_one_request_and_changes_nothing_but_the_time() -> None:
    async def story() -> None:
        server, wall = Server(), Wall()
        ours = lease(Line(server), wall=wall)
        await ours.renew()
        server.leases[PATH]["metadata"]["labels"] = {"a": "b"}
        await ours.read()
        before = server.leases[PATH]
        server.log.clear()
        wall.now += timedelta(seconds=10)
        await ours.renew()
        assert server.log == [f"PUT {PATH}"]
        after = server.leases[PATH]
        assert after["spec"] == before["spec"] | {"renewTime": "2026-05-01T12:00:10.000000Z"}
        assert after["metadata"]["labels"] == {"a": "b"}

    faketime.run(story())


@pytest.mark.parametrize(
    "found",
    ["9999-12-31T23:59:59.999999Z", "2026-05-01T12:00:05", "soon", "9" * 5000],
    ids=["the last moment", "no time zone", "a word", "digits"],
)
def test_a_renew_time_that_nothing_follows_is_replaced(found: str) -> None:
    async def story() -> None:
        server, wall = Server(), Wall()
        ours = lease(Line(server), wall=wall)
        await ours.renew()
        server.edit(PATH, renewTime=found)
        await ours.read()
        wall.now += timedelta(seconds=10)
        await ours.renew()
        assert server.leases[PATH]["spec"]["renewTime"] == "2026-05-01T12:00:10.000000Z"

    faketime.run(story())


@pytest.mark.parametrize(
    ("uids", "owners"),
    [
        pytest.param([], None, id="the Node was not read yet"),
        pytest.param([None], [], id="the Node does not exist yet"),
        pytest.param(["1"], ["1"], id="the Node exists"),
        pytest.param([None, "1"], ["1"], id="the Node appeared"),
        pytest.param(["1", "2"], ["2"], id="the Node was created again"),
        pytest.param(["1", None], [], id="the Node was deleted"),
    ],
)
def test_the_node_and_nothing_else_owns_it(
    uids: list[str | None], owners: list[str] | None
) -> None:
    async def story() -> None:
        server = Server()
        ours = lease(Line(server))
        for uid in uids:
            ours.owned_by("far", uid)
            await ours.renew()
        await ours.renew()
        found = server.leases[PATH]["metadata"].get("ownerReferences")
        if owners is None:
            assert found is None
            return
        assert [(o["kind"], o["name"], o["uid"]) for o in found] == [
            ("Node", "far", uid) for uid in owners
        ]

    faketime.run(story())


def test_an_existing_owner_stays_until_the_node_was_read() -> None:
    async def story() -> None:
        server = Server()
        first = lease(Line(server))
        first.owned_by("far", "1")
        await first.renew()
        await lease(Line(server)).renew()
        (owner,) = server.leases[PATH]["metadata"]["ownerReferences"]
        assert owner["uid"] == "1"

    faketime.run(story())


def test_a_new_holder_writes_its_own_duration_and_counts_the_transition() -> None:
    async def story() -> None:
        server = Server()
        one, other = lease(Line(server)), lease(Line(server), "host_uuid", duration=15)
        await one.renew()
        await other.renew()
        await one.renew()
        spec = server.leases[PATH]["spec"]
        assert spec["holderIdentity"] == "far"
        assert spec["leaseDurationSeconds"] == 40
        assert spec["leaseTransitions"] == 2

    faketime.run(story())


def test_a_holder_gets_a_conflict_when_another_wrote_meanwhile() -> None:
    async def story() -> None:
        server = Server()
        ours = lease(Line(server))
        await ours.hold()
        server.edit(PATH, holderIdentity="other")
        with pytest.raises(errors.Conflict):
            await ours.hold()
        assert server.leases[PATH]["spec"]["holderIdentity"] == "other"
        await ours.read()
        assert ours.held_by == "other"

    faketime.run(story())


@pytest.mark.parametrize("again", [False, True], ids=["deleted", "deleted and made again"])
def test_a_renewal_does_not_create_a_deleted_lease(again: bool) -> None:
    async def story() -> None:
        server = Server()
        ours = lease(Line(server))
        await ours.hold()
        del server.leases[PATH]
        if again:
            await lease(Line(server), "other").renew()
        with pytest.raises(errors.Conflict):
            await ours.hold()
        assert (PATH in server.leases) is again
        await ours.renew()
        assert server.leases[PATH]["spec"]["holderIdentity"] == "far"

    faketime.run(story())


def test_a_lost_answer_costs_one_more_read() -> None:
    async def story() -> None:
        server = Server()
        line = Line(server)
        ours = lease(line)
        await ours.renew()
        line.fate = lambda: Fate(answers=None)
        with pytest.raises(errors.Unreachable, match="timed out"):
            await ours.renew()
        line.fate = Fate
        server.log.clear()
        await ours.renew()
        assert server.log == [f"PUT {PATH}", f"GET {PATH}", f"PUT {PATH}"]

    faketime.run(story())


@pytest.mark.parametrize(
    ("ahead", "wanted"),
    [
        pytest.param(timedelta(hours=-1), timedelta(0), id="a clock that was behind"),
        pytest.param(timedelta(hours=1), timedelta(hours=1, microseconds=1), id="one ahead"),
    ],
)
def test_each_renewal_has_a_later_time_even_if_clocks_differ(
    ahead: timedelta, wanted: timedelta
) -> None:
    async def story() -> None:
        server, theirs = Server(), Wall()
        theirs.now += ahead
        await lease(Line(server), "other", wall=theirs).renew()
        await lease(Line(server)).renew()
        assert moment(server.leases[PATH]) == NOON + wanted

    faketime.run(story())


@pytest.mark.parametrize(
    ("seen", "free_in"),
    [
        pytest.param(None, 0.0, id="there is none"),
        pytest.param({}, 0.0, id="without a holder"),
        pytest.param({"holderIdentity": ""}, 0.0, id="released"),
        pytest.param({"holderIdentity": "far", "leaseDurationSeconds": 15}, 0.0, id="ours"),
        pytest.param(
            {"holderIdentity": "other", "leaseDurationSeconds": 15},
            15.0,
            id="held: for its own duration",
        ),
        pytest.param({"holderIdentity": "other"}, 40.0, id="held without a duration"),
        pytest.param(
            {
                "holderIdentity": "other",
                "leaseDurationSeconds": 15,
                "renewTime": "2020-01-01T00:00:00.000000Z",
            },
            15.0,
            id="renewed years ago by its holder's clock",
        ),
    ],
)
def test_it_is_free_when_it_has_not_changed_for_its_duration(
    seen: dict[str, Any] | None, free_in: float
) -> None:
    async def story() -> None:
        server = Server()
        if seen is not None:
            server.hold(PATH, **seen)
        ours = lease(Line(server))
        await ours.read()
        assert ours.free_in == pytest.approx(free_in)
        await asyncio.sleep(10)
        await ours.read()
        assert ours.free_in == pytest.approx(max(0.0, free_in - 10 - 0.02))
        await asyncio.sleep(30)
        assert ours.free_in == 0.0

    faketime.run(story())


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        pytest.param(lambda s: s.edit(PATH, renewTime="2026-05-01T12:00:09Z"), True, id="renewal"),
        pytest.param(lambda s: s.edit(PATH, holderIdentity="third"), True, id="another holder"),
        pytest.param(lambda s: s.leases.clear(), True, id="deletion, until it is created again"),
        pytest.param(
            lambda s: s.leases[PATH]["metadata"].update(uid="2"), True, id="another Lease"
        ),
        pytest.param(lambda s: s.edit(PATH), False, id="a change outside its spec"),
    ],
)
def test_what_counts_as_a_sign_of_its_holder(change: Any, counts: bool) -> None:
    async def story() -> None:
        server = Server()
        await lease(Line(server), "other").renew()
        ours = lease(Line(server))
        await ours.read()
        await asyncio.sleep(39)
        change(server)
        await ours.read()
        assert (ours.free_in > 1) is counts

    faketime.run(story())


def test_a_release_removes_only_its_own_name() -> None:
    async def story() -> None:
        server = Server()
        ours, other = lease(Line(server)), lease(Line(server), "other")
        await ours.renew()
        await other.renew()
        await ours.release()
        assert server.leases[PATH]["spec"]["holderIdentity"] == "other"
        await other.release()
        spec = server.leases[PATH]["spec"]
        assert spec["holderIdentity"] == ""
        assert spec["leaseDurationSeconds"] == 1
        assert spec["renewTime"] > "2026-05-01T12:00:00.000000Z"

    faketime.run(story())


@pytest.mark.parametrize(
    ("absent", "answered", "settled_in"),
    [
        pytest.param(False, True, 0.0, id="one that existed"),
        pytest.param(True, True, 40.0, id="one that we created"),
        pytest.param(True, False, 40.0, id="one that we created without an answer"),
    ],
)
def test_a_new_lease_settles_after_its_duration(
    absent: bool, answered: bool, settled_in: float
) -> None:
    async def story() -> None:
        server = Server()
        line = Line(server)
        if not absent:
            await lease(line, "other").renew()
        ours = lease(line)
        await ours.read()
        assert ours.settled_in == (math.inf if absent else 0.0)
        if answered:
            await ours.hold()
        else:
            line.fate = lambda: Fate(answers=None)
            with pytest.raises(errors.Unreachable):
                await ours.hold()
            assert ours.settled_in == (math.inf if absent else 0.0)
            line.fate = Fate
            await ours.read()
        assert ours.held_by == "far"
        assert ours.settled_in == settled_in
        await asyncio.sleep(settled_in)
        await ours.renew()
        assert ours.settled_in == 0.0

    faketime.run(story())


def test_the_clock_continues_while_the_machine_is_suspended() -> None:
    assert leases.boottime() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"metadata": {}}, id="without a uid"),
        pytest.param({"spec": []}, id="a spec that is a list"),
        pytest.param({"spec": {"leaseDurationSeconds": "40"}}, id="a duration that is a text"),
        pytest.param({"spec": {"holderIdentity": 1}}, id="a holder that is a number"),
    ],
)
def test_a_lease_of_another_form_counts_as_no_answer(wrong: dict[str, Any]) -> None:
    async def story() -> None:
        server = Server()
        server.hold(PATH, holderIdentity="other", leaseDurationSeconds=15)
        ours = lease(Line(server))
        await ours.read()
        server.leases[PATH].update(wrong)
        with pytest.raises(errors.Unreachable, match="not valid"):
            await ours.read()
        assert ours.free_in == pytest.approx(15.0, abs=1.0), "what was read before counts"

    faketime.run(story())
