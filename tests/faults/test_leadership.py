"""Two farlets for one node: one is frozen, cut off or stopped, and the other takes over.

Both are the same user; the audit logs of the API servers distinguish them by certificate.
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
from faults.environment import Environment
from faults.test_outages import load

pytestmark = [pytest.mark.clusters, pytest.mark.takes(350)]

SEED = 20261123
LEASES = "kube-node-lease"
DURATION, DEADLINE, RETRY = 12.0, 8.0, 1.0
"""Seconds, for every candidate in these tests."""
IN_FLIGHT = 2.0
"""Seconds from the write guard to the timestamp of the API server, on a busy machine."""
SLACK = 30.0
"""Additional seconds for a busy machine."""
ENOUGH = 5
"""Number of writes to each cluster after which a candidate counts as working."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One of two farlets, and its client certificate in each cluster."""

    farlet: Farlet
    home: str
    foreign: str

    async def leads(self, *, within: float = 0.0) -> None:
        """Return once its metrics show that it leads."""
        async with asyncio.timeout(within + SLACK):
            while not await self.farlet.leads():  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def ended(self, *, within: float = 0.0) -> int:
        """Its exit code, once it has exited."""
        return await asyncio.to_thread(self.farlet.process.wait, seconds=within + SLACK)


@dataclasses.dataclass(frozen=True)
class Election:
    """The environment of two candidates, and their entries in the audit logs."""

    env: Environment
    start_farlet: StartFarlet
    home_mark: auditlog.Mark
    foreign_mark: auditlog.Mark

    async def candidate(
        self, device: str, *, way: Way = Way.RUN, fault_proxy: proxy.Proxy | None = None
    ) -> Candidate:
        """Start a farlet with its own certificates; behind `fault_proxy` to the home cluster."""
        clusters = self.env.clusters
        home = clusters.home.login(self.env.user, groups=["system:nodes"], device=device)
        foreign = clusters.foreign.login(workspace.USER, device=device)
        farlet = await self.start_farlet(
            self.env.node,
            way=way,
            home_login=home if fault_proxy is None else fault_proxy.login(home),
            foreign_login=foreign,
            settings=settings(),
        )
        # The proxy sends requests as the administrator, who impersonates the user.
        seen_at_home = home if fault_proxy is None else clusters.home.kubeconfig
        return Candidate(farlet, credential(seen_at_home), credential(foreign))

    def of(self, one: Candidate, *, home_side: bool) -> list[auditlog.Entry]:
        """Its writes to one cluster, accepted or rejected, by start time."""
        side = self.env.clusters.home if home_side else self.env.clusters.foreign
        since = self.home_mark if home_side else self.foreign_mark
        who = one.home if home_side else one.foreign
        user = self.env.user if home_side else workspace.USER
        found = [
            entry
            for entry in side.audit(since=since, user=user)
            if entry.credential == who
            and entry.verb not in auditlog.READS
            and entry.resource != "selfsubjectaccessreviews"  # changes nothing
        ]
        return sorted(found, key=lambda entry: entry.began)

    def renewals(self, one: Candidate) -> list[auditlog.Entry]:
        """Its successful writes of the Lease."""
        return [
            entry
            for entry in self.of(one, home_side=True)
            if entry.resource == "leases" and entry.code < 300
        ]

    def worked(self, one: Candidate, *, home_side: bool) -> list[auditlog.Entry]:
        """Its writes other than of the Lease."""
        return [one for one in self.of(one, home_side=home_side) if one.resource != "leases"]

    async def works(self, one: Candidate) -> None:
        """Return once it has written enough to both clusters."""
        async with asyncio.timeout(4 * SLACK):
            while not all(len(self.worked(one, home_side=side)) > ENOUGH for side in (True, False)):  # noqa: ASYNC110
                await asyncio.sleep(0.5)

    def check(self, old: Candidate, new: Candidate) -> None:
        """No write of `old` began after its deadline or after `new` acquired the Lease."""
        deadline = self.renewals(old)[-1].began + datetime.timedelta(seconds=DEADLINE + IN_FLIGHT)
        taken = self.renewals(new)[0].began
        for home_side in (True, False):
            before = self.worked(old, home_side=home_side)
            after = self.worked(new, home_side=home_side)
            assert len(before) > ENOUGH
            assert len(after) > ENOUGH
            late = [(e.began, e.verb, e.uri) for e in before if e.began > min(deadline, taken)]
            assert late == []
            assert after[0].began > taken


class Cut(enum.Enum):
    """How a network fails."""

    REFUSING = "connections break"
    SILENT = "no response"


@pytest.fixture
def election(env: Environment, start_farlet: StartFarlet) -> Election:
    """An election without candidates yet."""
    home, foreign = env.clusters.home.audit_mark(), env.clusters.foreign.audit_mark()
    return Election(env, start_farlet, home, foreign)


@pytest.mark.parametrize("way", Way, ids=lambda way: way.value)
async def test_a_frozen_leader_writes_nothing_after_it_is_resumed(
    election: Election, way: Way
) -> None:
    one = await election.candidate("one", way=way)
    other = await election.candidate("other")
    await one.leads()
    async with load(election.env, SEED):
        await election.works(one)
        one.farlet.process.pause_while_waiting()
        await other.leads(within=DURATION + 2 * RETRY)
        await election.works(other)
        one.farlet.process.resume()
        assert await one.ended() == 1
        await asyncio.sleep(1)
    await election.env.settled(seconds=120)
    election.check(one, other)
    reports_cause(one, "the process or its machine was suspended", way=way)


@pytest.mark.parametrize("cut", Cut, ids=lambda cut: cut.value)
async def test_a_leader_that_is_cut_off_from_home_stops_writing(
    election: Election, home_proxy: proxy.Proxy, cut: Cut
) -> None:
    one = await election.candidate("one", fault_proxy=home_proxy)
    other = await election.candidate("other")
    await one.leads()
    async with load(election.env, SEED):
        await election.works(one)
        silent = failures.Hold(failures.Moment.BEFORE)
        home_proxy.on(writes.everything, failures.cut() if cut is Cut.REFUSING else silent)
        home_proxy.cut_watches()
        assert await one.ended(within=DEADLINE) == 1
        ended = datetime.datetime.now(datetime.UTC)
        led = ended - election.renewals(one)[-1].began
        assert led > datetime.timedelta(seconds=DEADLINE - IN_FLIGHT)
        silent.cut()
        home_proxy.heal()
        await other.leads(within=DURATION)
        await election.works(other)
    await election.env.settled(seconds=120)
    election.check(one, other)
    reports_cause(one, "home API server did not answer|no answer in time")


async def test_a_stopped_leader_releases_the_lease_after_its_last_write(
    election: Election,
) -> None:
    one = await election.candidate("one")
    other = await election.candidate("other")
    await one.leads()
    async with load(election.env, SEED):
        await election.works(one)
        assert await one.farlet.stop() == 0
        await other.leads(within=RETRY)
        await election.works(other)
    await election.env.settled(seconds=120)
    election.check(one, other)
    released = election.renewals(one)[-1].began
    # Without the release it would have waited until the Lease expired.
    took = election.renewals(other)[0].began - released
    assert took < datetime.timedelta(seconds=DURATION / 2)
    for home_side in (True, False):
        assert all(entry.began <= released for entry in election.of(one, home_side=home_side))


async def test_a_standby_only_reads(election: Election) -> None:
    one = await election.candidate("one")
    other = await election.candidate("other")
    async with load(election.env, SEED):
        await asyncio.sleep(3 * RETRY)
    await election.env.settled()
    assert election.of(other, home_side=True) == []
    assert election.of(other, home_side=False) == []
    assert await other.farlet.stop() == 0
    await one.leads()


async def test_the_lock_is_also_the_heartbeat_and_survives_its_deletion(
    election: Election,
) -> None:
    env = election.env
    one = await election.candidate("one")
    node = await env.home.get("nodes", name=env.node)

    def renewed(seen: rest.Object | None) -> bool:
        owners = [] if seen is None else seen["metadata"].get("ownerReferences", [])
        return [owner["uid"] for owner in owners] == [node["metadata"]["uid"]]

    lease = await env.home.until("leases", renewed, name=env.node, namespace=LEASES)
    holder = lease["spec"]["holderIdentity"]
    for _ in range(3):
        await env.home.delete("leases", name=env.node, namespace=LEASES)
        again = await env.home.until("leases", renewed, name=env.node, namespace=LEASES)
        assert again["metadata"]["uid"] != lease["metadata"]["uid"]
        assert again["spec"]["holderIdentity"] == holder
        lease = again
    await one.leads()


async def test_a_service_account_can_use_another_lease_as_lock(
    env: Environment, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(
        env.node,
        home_login=Identity.ACCOUNT.login(env.clusters.home, env.node),
        settings={**settings(), "leader-elect-lease": "farlet/lock"},
    )
    await env.create(env.pod("one"))
    await env.seen("one", rest.phase("Running"))
    assert 'leader_election_master_status{name="lock"} 1.0' in await farlet.metrics()
    lock = await env.home.get("leases", name="lock", namespace="farlet")
    beat = await env.home.get("leases", name=env.node, namespace=LEASES)
    assert lock["spec"]["leaseDurationSeconds"] == DURATION
    assert "ownerReferences" not in lock["metadata"]
    assert beat["spec"]["leaseDurationSeconds"] == 40
    assert beat["spec"]["holderIdentity"] == lock["spec"]["holderIdentity"]
    assert await farlet.stop() == 0
    released = await env.home.get("leases", name="lock", namespace="farlet")
    assert released["spec"]["holderIdentity"] == ""


def settings() -> dict[str, str | None]:
    """Settings of every candidate. Two on one machine cannot share the default port."""
    return {
        "leader-elect": "true",
        "leader-elect-lease-duration": f"{DURATION:g}s",
        "leader-elect-renew-deadline": f"{DEADLINE:g}s",
        "leader-elect-retry-period": f"{RETRY:g}s",
        "kubelet-bind-address": "0",
    }


def credential(login: Path) -> str:
    """The ID of a kubeconfig's client certificate in audit logs."""
    certificate = kubeconfig.read(login).certificate
    if certificate is None:
        raise errors.HarnessError(f"{login} contains no client certificate")
    return (
        f"X509SHA256={hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.decode())).hexdigest()}"
    )


def reports_cause(one: Candidate, why: str, *, way: Way = Way.RUN) -> None:
    """Check that it exited with one line that names the cause, and without a traceback."""
    log = one.farlet.log
    last = [line for line in log.splitlines() if "leadership was lost" in line][-1]
    assert re.search(why, last)
    if way is Way.RUN:
        assert last.startswith("farlet: ")
        assert "Traceback" not in log  # under `kopf run`, Kopf prints some of its own
