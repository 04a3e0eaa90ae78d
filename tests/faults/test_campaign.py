"""A random campaign of faults: whatever happens, no pod is lost, run twice or wrongly deleted.

`make test-rest` runs the short one and `make soak` the long one, which writes its figures to
`docs/soak/`. `FARLET_CAMPAIGN_SEED` selects other faults; the same seed repeats them.
`FARLET_CAMPAIGN_TIMES` shortens the long one: how often each kind occurs.
"""

import asyncio
import base64
import collections
import dataclasses
import datetime
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import aiohttp
import pytest

import permissions_audit
from clusters import auditlog, backups, gateway, pair, refusals, rest, workspace
from clusters.cluster import Cluster
from clusters.farlet import Farlet
from clusters.gateway import Gateway
from clusters.workspace import FARLET_NAMESPACE
from conftest import StartFarlet
from faults import manifests, proxy, writes
from faults.campaign import clock, judge, kinds, results, schedule, workload
from faults.campaign.candidates import Candidates
from faults.campaign.judge import Left, Records
from faults.campaign.results import Result
from faults.campaign.schedule import Kind, Planned
from faults.campaign.workload import Workload
from faults.environment import Environment
from faults.test_leadership import settings

pytestmark = [pytest.mark.clusters, pytest.mark.takes(150)]

SEED = int(os.environ.get("FARLET_CAMPAIGN_SEED", "20261128"))
DEVICES = ("one", "two")
CONVERGED_SECONDS = 60.0
"""For the long campaign, which has the machine for itself."""
STEADY_SECONDS = 2.0
TIMES = int(os.environ.get("FARLET_CAMPAIGN_TIMES", "42"))
"""How often each kind of fault occurs in the long campaign."""
NOTICED_SECONDS = 12.0
"""farlet reads the term of the foreign cluster every 10 s."""
ADOPTED_SECONDS = 120.0
ENDED_SECONDS = 120
"""For containers that still run, or have not started, once both clusters agree."""
WRITERS = 0.5
"""Share of pods with real containers in the long campaign."""

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Campaign:
    """Everything that a campaign requires."""

    env: Environment
    home_proxy: proxy.Proxy
    foreign_proxy: proxy.Proxy
    start_farlet: StartFarlet
    gateway: Gateway

    async def run(
        self,
        count: int,
        *,
        kinds_now: Sequence[Kind] = tuple(Kind),
        another: Cluster | None = None,
        writers: float = workload.WRITERS,
    ) -> Result:
        """Inject that many faults, and judge. Both sides converge after each round of faults.

        `another` is a cluster to which the foreign kubeconfig leads at times.
        """
        log.info("seed %d: repeat these faults with FARLET_CAMPAIGN_SEED=%d", SEED, SEED)
        began = datetime.datetime.now(datetime.UTC)
        since_home = self.env.clusters.home.audit_mark()
        since = self.env.clusters.foreign.audit_mark()
        time_of_farlet = clock.create(self.env.clusters.foreign.folder / f"clock-{self.env.node}")
        logins = [self._foreign_login(device) for device in DEVICES]
        candidates = Candidates(
            [
                await self._farlet(device, login, time_of_farlet.environment)
                for device, login in zip(DEVICES, logins, strict=True)
            ]
        )
        await self.gateway.linked()
        users = Workload(self.env, SEED, writers=writers)
        scene = kinds.Scene(
            self.env,
            self.home_proxy,
            self.foreign_proxy,
            candidates,
            users,
            time_of_farlet,
            logins,
            None if another is None else another.login(workspace.USER),
            kinds.locks(),
        )
        faults: collections.Counter[Kind] = collections.Counter()
        overlapping = 0
        pauses: list[float] = []
        uid = await self._foreign_uid()
        background = [
            asyncio.create_task(candidates.supervise()),
            asyncio.create_task(candidates.administer(uid, self._may_adopt)),
        ]
        try:
            for planned in schedule.plan(SEED, count, kinds_now):
                overlapping += await _round(scene, planned)
                faults.update(one.kind for one in planned)
                await self._adopted(scene)
                pauses.append(await self._converged())
                for task in background:
                    assert not task.done(), f"{task} ended: {task.exception()!r}"
        except AssertionError as error:
            error.add_note(candidates.tails())
            raise
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
        await self._writers_ended(users)
        records = await self._records(users, began, since_home, since)
        records = dataclasses.replace(
            records,
            restores=[one.moment for one in scene.restores],
            foreign_restores=[one.moment for one in scene.restores if one.side == writes.FOREIGN],
            adoptions=candidates.adoptions,
        )
        if another is not None:
            records = dataclasses.replace(records, elsewhere=_writes(another))
        return Result(
            faults,
            overlapping,
            records,
            judge.judge(records),
            candidates.tracebacks,
            pauses,
            (datetime.datetime.now(datetime.UTC) - began).total_seconds() / 60,
            candidates.restarts,
        )

    async def _foreign_uid(self) -> str:
        return manifests.uid(await self.env.foreign.get("namespaces", name=FARLET_NAMESPACE))

    async def _may_adopt(self) -> bool:
        """Whether no pod runs that the foreign API server does not know."""
        try:
            known = {manifests.uid(pod) for pod in await self.env.foreign.list("pods")}
        except (rest.ApiError, aiohttp.ClientError, OSError):  # it was killed
            return False
        running = await asyncio.to_thread(backups.running_pods, self.env.clusters.foreign)
        return running <= known

    async def _adopted(self, scene: kinds.Scene) -> None:
        """Return once farlet has noticed the last restore and no farlet asks for an adoption."""
        if not scene.restores:
            return
        await asyncio.sleep(max(0.0, scene.restores[-1].ended + NOTICED_SECONDS - time.time()))
        async with asyncio.timeout(ADOPTED_SECONDS):
            await scene.candidates.looked.wait()

    async def _converged(self) -> float:
        """Seconds until both clusters agree."""
        began = time.monotonic()
        await self.env.settled(steady=STEADY_SECONDS)
        took = time.monotonic() - began - STEADY_SECONDS
        log.info("%s both clusters agree after %.1f s", _now(), took)
        return took

    async def _writers_ended(self, users: Workload) -> None:
        """Give real containers time to end: a busy kubelet starts some after the clusters agree.

        Those that have not ended then are the judge's.
        """
        writers = {
            name
            for name, pod in users.pods.items()
            if pod.writes and not (pod.disturbed or pod.restored)
        }
        for _ in range(ENDED_SECONDS):
            seen = await self.env.observe()
            if not any(
                pod["metadata"]["name"] in writers
                and pod["status"].get("phase") not in {"Succeeded", "Failed"}
                for pod in seen.pods
            ):
                break
            await asyncio.sleep(1)
        await self.env.settled(steady=STEADY_SECONDS)

    def _foreign_login(self, device: str) -> Path:
        return self.foreign_proxy.login(
            self.env.clusters.foreign.login(workspace.USER, device=device)
        )

    async def _farlet(
        self, device: str, foreign_login: Path, environment: Mapping[str, str]
    ) -> Farlet:
        home = self.env.clusters.home.login(self.env.user, groups=["system:nodes"], device=device)
        return await self.start_farlet(
            self.env.node,
            home_login=self.home_proxy.login(home),
            foreign_login=foreign_login,
            settings={**settings(), **self.gateway.settings},
            arguments=["--allow-pod-feature", "host-path"],
            environment=environment,
        )

    async def _records(
        self,
        users: Workload,
        began: datetime.datetime,
        since_home: auditlog.Mark,
        since: auditlog.Mark,
    ) -> Records:
        seen = await self.env.observe()
        clusters, space = self.env.clusters, self.env.workspace
        asked = permissions_audit.read(clusters, home=since_home, foreign=since)
        deleted = [
            {
                entry.name
                for entry in cluster.audit(
                    since=mark, verb="delete", resource="pods", namespace=namespace
                )
                if entry.code < 300
                and not entry.user_agent.startswith(rest.USER_AGENT)
                and entry.user == user
            }
            for cluster, mark, namespace, user in (
                (clusters.home, since_home, space.home, self.env.user),
                (clusters.foreign, since, space.foreign, workspace.USER),
            )
        ]
        return Records(
            pods=users.pods,
            left={
                pod["metadata"]["name"]: Left(
                    pod["status"].get("phase", ""),
                    pod["status"].get("reason", ""),
                    "deletionTimestamp" in pod["metadata"],
                )
                for pod in seen.pods
            },
            mirrors_created=self.env.runs(since),
            home_deleted=frozenset(deleted[0]),
            mirrors_deleted=frozenset(deleted[1]),
            ledger=users.written(),
            tokens=list(_tokens(seen.mirrors, seen.secrets)),
            without_row=list(asked.without_row),
            refused=list(refusals.found(clusters, _earlier(clusters, began))),
        )


async def _round(scene: kinds.Scene, faults: Sequence[Planned]) -> int:
    """Inject these faults while pods come and go; how many began while another lasted."""
    overlapping = 0
    running: list[asyncio.Task[None]] = []
    async with asyncio.TaskGroup() as tasks:
        for planned in faults:
            await asyncio.sleep(planned.pause)
            running = [task for task in running if not task.done()]
            overlapping += bool(running)
            log.info("%s %s, %.1f s", _now(), planned.kind.about, planned.seconds)
            running.append(tasks.create_task(scene.inject(planned)))
            tasks.create_task(scene.workload.change())
    log.info("%s the last fault has ended", _now())
    return overlapping


def _now() -> str:
    """The time as in farlet's log."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _earlier(clusters: pair.Clusters, began: datetime.datetime) -> list[refusals.Excuse]:
    """An excuse for all that was rejected before the campaign."""
    ever = datetime.datetime.min.replace(tzinfo=datetime.UTC)
    return [refusals.Excuse(one.name, ever, began) for one in (clusters.home, clusters.foreign)]


def _writes(cluster: Cluster) -> list[str]:
    """What farlet wrote to a cluster."""
    return [
        f"{entry.verb} {entry.resource} {entry.name}"
        for entry in cluster.audit(user=workspace.USER)
        if entry.verb not in auditlog.READS and not entry.resource.startswith("selfsubject")
    ]


def _tokens(mirrors: list[rest.Object], secrets: list[rest.Object]) -> Iterator[tuple[str, str]]:
    """For each token: the home uid of its mirror, and the uid that it is bound to."""
    homes = {
        manifests.uid(mirror): mirror["metadata"]["annotations"][manifests.HOME_UID]
        for mirror in mirrors
    }
    for secret in secrets:
        (owner,) = secret["metadata"]["ownerReferences"]
        for value in secret.get("data", {}).values():
            words = base64.b64decode(value).split(b".")
            if len(words) == 3 and words[0].startswith(b"ey"):
                claims = json.loads(base64.urlsafe_b64decode(words[1] + b"=="))
                yield homes[owner["uid"]], claims["kubernetes.io"]["pod"]["uid"]


@pytest.fixture
async def campaign(
    env: Environment,
    home_proxy: proxy.Proxy,
    foreign_proxy: proxy.Proxy,
    start_farlet: StartFarlet,
) -> AsyncIterator[Campaign]:
    async with gateway.installed(env.clusters) as made:
        yield Campaign(env, home_proxy, foreign_proxy, start_farlet, made)


async def test_a_short_campaign_ends_well(campaign: Campaign) -> None:
    short = [kind for kind in Kind if not kind.restores and kind is not Kind.EXCHANGED]
    result = await campaign.run(30, kinds_now=short)
    assert result.verdict.all == []
    assert result.tracebacks == []
    assert len(result.records.pods) > 60
    assert result.records.ledger
    assert result.records.tokens


@pytest.fixture(scope="module")
def another_cluster(clusters: pair.Clusters) -> Iterator[Cluster]:
    with pair.another(clusters, "another") as made:
        yield made


@pytest.fixture
async def another(another_cluster: Cluster, env: Environment) -> Cluster:
    """Another foreign cluster with the same namespaces, and none of the mirrors."""
    async with another_cluster.api() as api:
        await workspace.create_farlet_namespace(api)
        await workspace.offload(api, namespace=env.workspace.foreign)
    return another_cluster


@pytest.mark.soak
async def test_a_thousand_faults_end_well(campaign: Campaign, another: Cluster) -> None:
    result = await campaign.run(TIMES * len(Kind), another=another, writers=WRITERS)
    page = results.page(result, seed=SEED)
    log.info("%s", page)
    for line in result.tracebacks:
        log.info("%s", line)
    if TIMES >= results.LEAST_TIMES:
        results.write(page)
    assert result.verdict.all == []
    assert result.tracebacks == []
    assert max(result.pauses) <= CONVERGED_SECONDS
    assert result.shortfalls == []
