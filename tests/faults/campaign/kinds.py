"""How each kind of fault is injected and ended."""

import asyncio
import contextlib
import dataclasses
import functools
import os
import random
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from clusters import auditlog, backups, controlplane, errors, gateway, kubeconfig, rest
from clusters.cluster import Cluster
from clusters.workspace import FARLET_NAMESPACE
from faults import failures, manifests, writes
from faults.campaign.candidates import Candidates
from faults.campaign.clock import Clock
from faults.campaign.schedule import Kind, Planned
from faults.campaign.workload import Workload, sent
from faults.environment import Environment
from faults.proxy import Answer, Cut, Fault, Forward, Match, Proxy, Request


@dataclasses.dataclass(frozen=True)
class Backup:
    """A backup of etcd, a place in the audit log before it, and when by the monotonic clock."""

    folder: Path
    mark: auditlog.Mark
    moment: float


@dataclasses.dataclass(frozen=True)
class Restore:
    """A cluster was restored: from when to when, in seconds since 1970."""

    side: str
    moment: float
    ended: float


@dataclasses.dataclass(frozen=True)
class Scene:
    """What faults act on."""

    env: Environment
    home: Proxy
    foreign: Proxy
    candidates: Candidates
    workload: Workload
    clock: Clock
    """The wall clock of both farlets."""
    logins: Sequence[Path]
    """The foreign kubeconfigs of the farlets, which faults may exchange."""
    another: Path | None
    """A kubeconfig of another cluster with the same namespaces."""
    locks: Mapping[Kind, asyncio.Lock]
    """Faults of a kind do not overlap each other."""
    backups: dict[str, Backup] = dataclasses.field(default_factory=dict)
    """By side: from what the next restore is made."""
    restores: list[Restore] = dataclasses.field(default_factory=list)

    async def inject(self, planned: Planned) -> None:
        """Begin the fault, let its time pass, and end it."""
        async with self.locks[planned.kind]:
            await _KINDS[planned.kind](self, planned.seconds, random.Random(planned.seed))


Inject = Callable[[Scene, float, random.Random], Awaitable[None]]


def locks() -> dict[Kind, asyncio.Lock]:
    """One for each kind, and one for both that kill farlet."""
    made = {kind: asyncio.Lock() for kind in Kind}
    made[Kind.KILL_BOTH] = made[Kind.KILL_LEADER]
    return made


# --- processes ---------------------------------------------------------------------------------


async def _kill_leader(scene: Scene, seconds: float, _: random.Random) -> None:
    await scene.candidates.kill_leader(dead_for=seconds)


async def _kill_both(scene: Scene, seconds: float, _: random.Random) -> None:
    await scene.candidates.kill_all(dead_for=seconds)


def _kill_server(side: str) -> Inject:
    async def inject(scene: Scene, seconds: float, _: random.Random) -> None:
        clusters = scene.env.clusters
        server: controlplane.ApiServer = (
            clusters.home if side == writes.HOME else clusters.foreign
        ).apiserver
        server.kill()
        await asyncio.sleep(seconds)
        server.start()
        await asyncio.to_thread(server.wait_ready)

    return inject


def _restore(side: str) -> Inject:
    """etcd is restored under running farlets, from a backup made after the restore before.

    So some backups are older than the last election, and farlet must be adopted.
    """

    async def inject(scene: Scene, seconds: float, _: random.Random) -> None:
        env, at_home = scene.env, side == writes.HOME
        cluster = env.clusters.home if at_home else env.clusters.foreign
        running = scene.locks[Kind.KILL_HOME if at_home else Kind.KILL_FOREIGN]
        if side not in scene.backups:
            async with running:
                scene.backups[side] = await _back_up(cluster)
            await asyncio.sleep(seconds)
        async with running:
            with (scene.home if at_home else scene.foreign).closed():  # farlet acts afterwards
                began, backup = time.time(), scene.backups[side]
                await asyncio.to_thread(backups.restore, cluster, backup.folder)
                listed = time.monotonic()
                pods = await _home_pods(scene)
                if at_home:
                    scene.workload.home_restored(pods, backup=backup.moment, listed=listed)
                else:
                    scene.workload.foreign_restored(env.runs(backup.mark), pods)
            scene.restores.append(Restore(side, began, time.time()))
            scene.backups[side] = await _back_up(cluster)

    return inject


async def _back_up(cluster: Cluster) -> Backup:
    mark, moment = cluster.audit_mark(), time.monotonic()
    return Backup(await asyncio.to_thread(backups.take, cluster), mark, moment)


async def _home_pods(scene: Scene) -> list[rest.Object]:
    home, namespace = scene.env.home, scene.env.workspace.home
    pods = await sent(lambda: home.list("pods", namespace=namespace))
    assert pods is not None, "a list of pods is never superfluous"
    return pods


async def _kill_gateway(scene: Scene, seconds: float, _: random.Random) -> None:
    """Its Deployment creates another pod: a kubelet restarts one that was killed often too late."""
    api, where = scene.env.foreign, FARLET_NAMESPACE
    found = await sent(lambda: api.list("pods", namespace=where, labelSelector=gateway.SELECTED))
    for pod in found or []:
        with contextlib.suppress(errors.HarnessError, ProcessLookupError):  # it does not run now
            os.kill(gateway.process(manifests.uid(pod)), signal.SIGKILL)
    await asyncio.sleep(seconds)
    for name in manifests.names(found or []):
        delete = functools.partial(api.delete, "pods", name=name, namespace=where)
        await sent(functools.partial(delete, gracePeriodSeconds="0"))


async def _clock(scene: Scene, seconds: float, rng: random.Random) -> None:
    scene.clock.set(rng.choice((-7200, -600, -30, 30, 600, 7200)))
    try:
        await asyncio.sleep(seconds)
    finally:
        scene.clock.set(0)


async def _exchanged(scene: Scene, seconds: float, _: random.Random) -> None:
    assert scene.another is not None, "this campaign has no other cluster"
    kept = [Path(shutil.copy(login, login.with_suffix(".kept"))) for login in scene.logins]
    for login in scene.logins:
        kubeconfig.exchange(login, scene.another)
    try:
        await asyncio.sleep(seconds)
    finally:
        for login, right in zip(scene.logins, kept, strict=True):
            kubeconfig.exchange(login, right)


# --- requests ----------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _rule(proxies: tuple[Proxy, ...], match: Match, fault: Fault) -> AsyncIterator[None]:
    rules = [proxy.on(match, fault) for proxy in proxies]
    try:
        yield
    finally:
        for rule in rules:
            rule.end()


def _sides(scene: Scene, rng: random.Random) -> tuple[Proxy, ...]:
    return rng.choice(((scene.home,), (scene.foreign,), (scene.home, scene.foreign)))


def _failing(match: Match, *faults: Fault) -> Inject:
    """Requests of one side or both fail in one of these ways."""

    async def inject(scene: Scene, seconds: float, rng: random.Random) -> None:
        async with _rule(_sides(scene, rng), match, rng.choice(faults)):
            await asyncio.sleep(seconds)

    return inject


def _partition(side: str, *, silent: bool) -> Inject:
    """Nothing reaches a side, and its open watches end; `silent`: without any sign of that."""

    async def inject(scene: Scene, seconds: float, _: random.Random) -> None:
        proxy = scene.home if side == writes.HOME else scene.foreign
        healed = asyncio.Event()

        async def unanswered(request: Request, forward: Forward) -> Answer:
            del request, forward
            await healed.wait()
            raise Cut

        async with _rule((proxy,), writes.everything, unanswered if silent else failures.cut()):
            if not silent:
                proxy.cut_watches()
            await asyncio.sleep(seconds)
            healed.set()

    return inject


async def _truncated(request: Request, forward: Forward) -> Answer:
    answer = await forward(request)
    return dataclasses.replace(answer, body=answer.body[: len(answer.body) // 2])


async def _slow(scene: Scene, seconds: float, rng: random.Random) -> None:
    late = failures.late(rng.uniform(0.2, 3.0))
    async with _rule(_sides(scene, rng), writes.everything, late):
        await asyncio.sleep(seconds)


async def _watch_gap(scene: Scene, seconds: float, rng: random.Random) -> None:
    """Watches break, and the server no longer has what followed: clients must list again."""
    expired = failures.refused(410, reason="Expired", message="too old resource version")
    sides = _sides(scene, rng)
    async with _rule(sides, lambda request: request.watch, expired):
        for proxy in sides:
            proxy.cut_watches()
        await asyncio.sleep(seconds)


def _is_write(request: Request) -> bool:
    return request.method != "GET" and "/leases/" not in request.path


def _is_read(request: Request) -> bool:
    return request.method == "GET"


# --- others ------------------------------------------------------------------------------------


async def _others_home(scene: Scene, _: float, rng: random.Random) -> None:
    for _ in range(3):
        await scene.workload.delete(rng, force=rng.random() < 0.5)
        await scene.workload.relabel(rng)


async def _others_foreign(scene: Scene, _: float, rng: random.Random) -> None:
    for _ in range(3):
        await scene.workload.disturb(rng)


def _code(code: int, reason: str, **headers: str) -> Fault:
    return failures.refused(code, reason=reason, headers=headers)


_KINDS: Mapping[Kind, Inject] = {
    Kind.KILL_LEADER: _kill_leader,
    Kind.KILL_BOTH: _kill_both,
    Kind.KILL_HOME: _kill_server(writes.HOME),
    Kind.KILL_FOREIGN: _kill_server(writes.FOREIGN),
    Kind.RESTORE_HOME: _restore(writes.HOME),
    Kind.RESTORE_FOREIGN: _restore(writes.FOREIGN),
    Kind.KILL_GATEWAY: _kill_gateway,
    Kind.CUT_HOME: _partition(writes.HOME, silent=False),
    Kind.CUT_FOREIGN: _partition(writes.FOREIGN, silent=False),
    Kind.SILENT_HOME: _partition(writes.HOME, silent=True),
    Kind.SILENT_FOREIGN: _partition(writes.FOREIGN, silent=True),
    Kind.ANSWERS_LOST: _failing(writes.everything, failures.cut(failures.Moment.AFTER)),
    Kind.SLOW: _slow,
    Kind.TRUNCATED: _failing(writes.everything, _truncated),
    Kind.STORM_401: _failing(writes.everything, _code(401, "Unauthorized")),
    Kind.STORM_403: _failing(writes.everything, _code(403, "Forbidden")),
    Kind.STORM_409: _failing(_is_write, _code(409, "Conflict")),
    Kind.STORM_410: _failing(_is_read, _code(410, "Expired")),
    Kind.STORM_429: _failing(
        writes.everything,
        failures.refused(429, reason="TooManyRequests", headers={"Retry-After": "1"}),
        _code(429, "TooManyRequests"),
    ),
    Kind.STORM_500: _failing(
        writes.everything,
        _code(500, "InternalError"),
        _code(502, ""),
        _code(503, "ServiceUnavailable"),
        _code(504, "Timeout"),
    ),
    Kind.CLOCK: _clock,
    Kind.WATCH_GAP: _watch_gap,
    Kind.EXCHANGED: _exchanged,
    Kind.OTHERS_HOME: _others_home,
    Kind.OTHERS_FOREIGN: _others_foreign,
}
