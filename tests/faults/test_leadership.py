"""Two farlets for one node: one that is frozen, cut off or told to end, and one that takes over.

Both are the same user; the audit logs of both API servers tell them apart by their certificates.
"""

import asyncio
import dataclasses
import datetime
import enum
import hashlib
import re
import ssl
from pathlib import Path

import pytest

from clusters import auditlog, errors, kubeconfig, rest, workspace
from clusters.farlet import Farlet, Way
from clusters.identity import Identity
from conftest import StartFarlet
from faults import failures, proxy, writes
from faults.stage import Stage
from faults.test_outages import load

pytestmark = pytest.mark.clusters

SEED = 20261123
LEASES = "kube-node-lease"
DURATION, DEADLINE, RETRY = 12.0, 8.0, 1.0
"""Seconds; those of every candidate here."""
ON_ITS_WAY = 2.0
"""Seconds from the guard of a write to the API server's clock, on a machine with much to do."""
SLACK = 30.0
"""Seconds beyond those, for what takes one of them elsewhere."""
ENOUGH = 5
"""Writes to each side, and a candidate has worked."""
LOOKS = {"get", "list", "watch"}


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One of two farlets, and by which certificate each side knows it."""

    farlet: Farlet
    at_home: str
    abroad: str

    async def leads(self, *, within: float = 0.0) -> None:
        """Return once it says that it leads."""
        line = f'leader_election_master_status{{name="{self.farlet.node}"}} 1.0'
        async with asyncio.timeout(within + SLACK):
            while line not in await self.farlet.metrics():  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def ended(self, *, within: float = 0.0) -> int:
        """Its exit code, once it has ended by itself."""
        return await asyncio.to_thread(self.farlet.process.wait, seconds=within + SLACK)


@dataclasses.dataclass(frozen=True)
class Contest:
    """What is played on, and what the audit logs say of it."""

    stage: Stage
    start_farlet: StartFarlet
    began_at_home: auditlog.Mark
    began_abroad: auditlog.Mark

    async def candidate(
        self, device: str, *, way: Way = Way.RUN, door: proxy.Proxy | None = None
    ) -> Candidate:
        """A farlet with certificates of its own; at home behind a door if one is given."""
        clusters = self.stage.clusters
        home = clusters.home.login(self.stage.user, groups=["system:nodes"], device=device)
        foreign = clusters.foreign.login(workspace.USER, device=device)
        farlet = await self.start_farlet(
            self.stage.node,
            way=way,
            home_login=home if door is None else door.login(home),
            foreign_login=foreign,
            settings=settings(),
        )
        # A door asks as the administrator, who says whom he stands for.
        seen_at_home = home if door is None else clusters.home.kubeconfig
        return Candidate(farlet, credential(seen_at_home), credential(foreign))

    def of(self, one: Candidate, *, at_home: bool) -> list[auditlog.Entry]:
        """Its writes to one side that were applied or refused, by when they began."""
        side = self.stage.clusters.home if at_home else self.stage.clusters.foreign
        since = self.began_at_home if at_home else self.began_abroad
        who = one.at_home if at_home else one.abroad
        user = self.stage.user if at_home else workspace.USER
        found = [
            entry
            for entry in side.audit(since=since, user=user)
            if entry.credential == who and entry.verb not in LOOKS
        ]
        return sorted(found, key=lambda entry: entry.began)

    def renewals(self, one: Candidate) -> list[auditlog.Entry]:
        """Its writes of the Lease that succeeded."""
        return [
            entry
            for entry in self.of(one, at_home=True)
            if entry.resource == "leases" and entry.code < 300
        ]

    def worked(self, one: Candidate, *, at_home: bool) -> list[auditlog.Entry]:
        """What it has written of the pods' affairs."""
        return [one for one in self.of(one, at_home=at_home) if one.resource != "leases"]

    async def works(self, one: Candidate) -> None:
        """Return once it has written enough to both sides."""
        async with asyncio.timeout(4 * SLACK):
            while not all(len(self.worked(one, at_home=side)) > ENOUGH for side in (True, False)):  # noqa: ASYNC110
                await asyncio.sleep(0.5)

    def check(self, old: Candidate, new: Candidate) -> None:
        """No write of the old one began after its deadline, nor after the new one had the Lease."""
        deadline = self.renewals(old)[-1].began + datetime.timedelta(seconds=DEADLINE + ON_ITS_WAY)
        taken = self.renewals(new)[0].began
        for at_home in (True, False):
            before = self.worked(old, at_home=at_home)
            after = self.worked(new, at_home=at_home)
            assert len(before) > ENOUGH
            assert len(after) > ENOUGH
            late = [(e.began, e.verb, e.uri) for e in before if e.began > min(deadline, taken)]
            assert late == []
            assert after[0].began > taken


class Cut(enum.Enum):
    """How a network can be cut."""

    REFUSING = "connections break"
    SILENT = "nothing is answered"


@pytest.fixture
def contest(stage: Stage, start_farlet: StartFarlet) -> Contest:
    """Two farlets are to come."""
    home, foreign = stage.clusters.home.audit_mark(), stage.clusters.foreign.audit_mark()
    return Contest(stage, start_farlet, home, foreign)


@pytest.mark.parametrize("way", Way, ids=lambda way: way.value)
async def test_a_frozen_leader_writes_no_more_when_it_goes_on(contest: Contest, way: Way) -> None:
    one = await contest.candidate("one", way=way)
    other = await contest.candidate("other")
    await one.leads()
    async with load(contest.stage, SEED):
        await contest.works(one)
        one.farlet.process.pause()
        await other.leads(within=DURATION + 2 * RETRY)
        await contest.works(other)
        one.farlet.process.resume()
        assert await one.ended() == 1
        await asyncio.sleep(1)
    await contest.stage.settled(seconds=120)
    contest.check(one, other)
    says_why(one, "the process or its machine was suspended", way=way)


@pytest.mark.parametrize("cut", Cut, ids=lambda cut: cut.value)
async def test_a_leader_that_is_cut_off_from_home_writes_no_more(
    contest: Contest, home_door: proxy.Proxy, cut: Cut
) -> None:
    one = await contest.candidate("one", door=home_door)
    other = await contest.candidate("other")
    await one.leads()
    async with load(contest.stage, SEED):
        await contest.works(one)
        silent = failures.Hold(failures.Moment.BEFORE)
        home_door.on(writes.everything, failures.cut() if cut is Cut.REFUSING else silent)
        home_door.cut_watches()
        assert await one.ended(within=DEADLINE) == 1
        ended = datetime.datetime.now(datetime.UTC)
        led = ended - contest.renewals(one)[-1].began
        assert led > datetime.timedelta(seconds=DEADLINE - ON_ITS_WAY)
        silent.cut()
        home_door.heal()
        await other.leads(within=DURATION)
        await contest.works(other)
    await contest.stage.settled(seconds=120)
    contest.check(one, other)
    says_why(one, "home API server did not answer|no answer in time")


async def test_a_leader_that_is_told_to_end_hands_over_when_its_work_is_done(
    contest: Contest,
) -> None:
    one = await contest.candidate("one")
    other = await contest.candidate("other")
    await one.leads()
    async with load(contest.stage, SEED):
        await contest.works(one)
        assert await one.farlet.stop() == 0
        await other.leads(within=RETRY)
        await contest.works(other)
    await contest.stage.settled(seconds=120)
    contest.check(one, other)
    released = contest.renewals(one)[-1].began
    # Else it would have waited until the Lease had expired.
    took = contest.renewals(other)[0].began - released
    assert took < datetime.timedelta(seconds=DURATION / 2)
    for at_home in (True, False):
        assert all(entry.began <= released for entry in contest.of(one, at_home=at_home))


async def test_who_stands_by_only_looks(contest: Contest) -> None:
    one = await contest.candidate("one")
    other = await contest.candidate("other")
    async with load(contest.stage, SEED):
        await asyncio.sleep(3 * RETRY)
    await contest.stage.settled()
    assert contest.of(other, at_home=True) == []
    assert contest.of(other, at_home=False) == []
    assert await other.farlet.stop() == 0
    await one.leads()


async def test_the_lease_as_a_lock_is_the_heartbeat_too_and_may_be_deleted(
    contest: Contest,
) -> None:
    stage = contest.stage
    one = await contest.candidate("one")
    node = await stage.home.get("nodes", name=stage.node)

    def renewed(seen: rest.Object | None) -> bool:
        owners = [] if seen is None else seen["metadata"].get("ownerReferences", [])
        return [owner["uid"] for owner in owners] == [node["metadata"]["uid"]]

    lease = await stage.home.until("leases", renewed, name=stage.node, namespace=LEASES)
    holder = lease["spec"]["holderIdentity"]
    for _ in range(3):
        await stage.home.delete("leases", name=stage.node, namespace=LEASES)
        again = await stage.home.until("leases", renewed, name=stage.node, namespace=LEASES)
        assert again["metadata"]["uid"] != lease["metadata"]["uid"]
        assert again["spec"]["holderIdentity"] == holder
        lease = again
    await one.leads()


async def test_an_account_may_lead_by_another_lease(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(
        stage.node,
        home_login=Identity.ACCOUNT.login(stage.clusters.home, stage.node),
        settings={**settings(), "leader-elect-lease": "farlet/lock"},
    )
    await stage.create(stage.pod("one"))
    await stage.seen("one", rest.phase("Running"))
    assert 'leader_election_master_status{name="lock"} 1.0' in await farlet.metrics()
    lock = await stage.home.get("leases", name="lock", namespace="farlet")
    beat = await stage.home.get("leases", name=stage.node, namespace=LEASES)
    assert lock["spec"]["leaseDurationSeconds"] == DURATION
    assert "ownerReferences" not in lock["metadata"]
    assert beat["spec"]["leaseDurationSeconds"] == 40
    assert beat["spec"]["holderIdentity"] == stage.node
    assert await farlet.stop() == 0
    released = await stage.home.get("leases", name="lock", namespace="farlet")
    assert released["spec"]["holderIdentity"] == ""


def settings() -> dict[str, str | None]:
    """Of every candidate. Two on one machine cannot both have the usual port."""
    return {
        "leader-elect": "true",
        "leader-elect-lease-duration": f"{DURATION:g}s",
        "leader-elect-renew-deadline": f"{DEADLINE:g}s",
        "leader-elect-retry-period": f"{RETRY:g}s",
        "kubelet-bind-address": "0",
    }


def credential(login: Path) -> str:
    """What an API server calls the certificate in a kubeconfig."""
    certificate = kubeconfig.read(login).certificate
    if certificate is None:
        raise errors.HarnessError(f"{login} holds no client certificate")
    return (
        f"X509SHA256={hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.decode())).hexdigest()}"
    )


def says_why(one: Candidate, why: str, *, way: Way = Way.RUN) -> None:
    """It ended with one line on what happened, and nothing that looks like a bug."""
    log = one.farlet.log
    last = [line for line in log.splitlines() if "leadership was lost" in line][-1]
    assert re.search(why, last)
    if way is Way.RUN:
        assert last.startswith("farlet: ")
        assert "Traceback" not in log  # where Kopf is the host, it prints some of its own
