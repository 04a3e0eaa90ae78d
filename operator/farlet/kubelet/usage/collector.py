"""What the pods of this node use abroad, asked of the foreign cluster's metrics API when home asks.

Nothing runs in between: home's metrics-server asks every 15 s, and a node that nobody asks about
makes no requests. All who ask within a few seconds share one answer. Where the foreign metrics API
is missing, forbidden or broken, the documents are still given, without what is not known, and one
warning tells what to do. What the numbers mean stands in `counters`, the documents in `stats`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog
from prometheus_client import Gauge

from farlet import errors
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import VIRTUAL_NODE_ID, ObjectKey
from farlet.context import Context
from farlet.kubelet import responses
from farlet.kubelet.usage import metrics_api, stats
from farlet.kubelet.usage.counters import Counter, Sample
from farlet.planning import predicates
from farlet.store import Store
from farlet.telemetry.metrics import EXPOSITION

FRESH_SECONDS = 5.0
"""A metrics API has new figures every 15 s at most often (`--metric-resolution`)."""

ASKING_SECONDS = 5.0
"""For all namespaces. metrics-server waits 10 s for a kubelet (`--kubelet-request-timeout`)."""

ASKED_AT_ONCE = 4

_AT_A_TIME = 50
"""So many pods are looked at before other tasks of the loop have their turn."""

log = structlog.get_logger()


class UsageCollector:
    """Reads the usage of all mirrors of this node, and keeps the counters made of it."""

    def __init__(
        self,
        foreign: ApiClient,
        store: Store,
        *,
        ctx: Callable[[], Context],
        up: Gauge,
        fresh: float = FRESH_SECONDS,
        patience: float = ASKING_SECONDS,
    ) -> None:
        self._foreign = foreign
        self._store = store
        self._ctx = ctx
        self._up = up
        self._fresh = fresh
        self._patience = patience
        self._agent = _Agent()
        self._total: Counter | None = None
        self._known: dict[str, stats.PodUsage] = {}
        """By home uid."""
        self._reading: asyncio.Task[stats.Usage] | None = None
        self._read_at = 0.0
        self._told: str | None = None

    def table(self) -> Mapping[str, Callable[[], Awaitable[responses.Response]]]:
        """What it answers, by path, as `service.Service` takes it."""
        return {"/stats/summary": self.summary, "/metrics/resource": self.resource}

    async def summary(self) -> responses.Response:
        """The answer to `/stats/summary`, with or without `only_cpu_and_memory`."""
        return await asyncio.to_thread(_summary, await self.usage())

    async def resource(self) -> responses.Response:
        """The answer to `/metrics/resource`."""
        return await asyncio.to_thread(_exposition, await self.usage())

    async def usage(self) -> stats.Usage:
        """What everything uses now, or used a few seconds ago."""
        age = time.monotonic() - self._read_at
        if self._reading is None or (self._reading.done() and age > self._fresh):
            self._reading = asyncio.create_task(self._read(), name="usage")
        # One of those who wait may go away; the others still want their answer.
        return await asyncio.shield(self._reading)

    async def _read(self) -> stats.Usage:
        namespaces = sorted({key.namespace for key in self._store.mirrors})
        samples, problem = await self._ask_all(namespaces)
        pods = await self._count(samples)
        agent = self._agent.now()
        if problem is None:
            self._total = stats.node_total(self._total, pods, agent, now=agent.last.at)
        if namespaces:
            self._up.set(problem is None)
            self._tell(problem)
        self._read_at = time.monotonic()
        return stats.Usage(
            node=self._ctx().node,
            agent=agent,
            total=self._total if problem is None else None,
            pods=tuple(pods),
        )

    async def _count(
        self, samples: Mapping[ObjectKey, metrics_api.PodSamples]
    ) -> list[stats.PodUsage]:
        """The usage of home pods, by the samples of their mirrors."""
        known: dict[str, stats.PodUsage] = {}
        found: list[stats.PodUsage] = []
        for number, key in enumerate(list(self._store.home)):
            if number % _AT_A_TIME == 0:
                await asyncio.sleep(0)
            uid = self._store.home.uid(key)
            if uid is None:
                continue
            before = self._known.get(uid)
            usage = self._of(key, samples, before)
            if usage is not None:
                found.append(usage)
            if (latest := usage or before) is not None:
                known[uid] = latest
        self._known = known
        return found

    def _of(
        self,
        key: ObjectKey,
        samples: Mapping[ObjectKey, metrics_api.PodSamples],
        before: stats.PodUsage | None,
    ) -> stats.PodUsage | None:
        ctx = self._ctx()
        namespace = ctx.namespaces.foreign(key.namespace)
        if namespace is None or (of_pod := samples.get(ObjectKey(namespace, key.name))) is None:
            return None
        home = self._store.home.get(key)
        mirror = self._store.mirrors.get(ObjectKey(namespace, key.name))
        if home is None or mirror is None:
            return None
        if not predicates.is_mirror_of(home, mirror, virtual_node_id=ctx.virtual_node_id):
            return None
        return stats.pod_usage(home, mirror, of_pod, before)

    async def _ask_all(
        self, namespaces: list[str]
    ) -> tuple[dict[ObjectKey, metrics_api.PodSamples], str | None]:
        """Samples of our mirrors, and why some are not there."""
        slots = asyncio.Semaphore(ASKED_AT_ONCE)
        deadline = asyncio.get_running_loop().time() + self._patience
        found: dict[ObjectKey, metrics_api.PodSamples] = {}
        problems: list[str] = []

        async def ask(namespace: str) -> None:
            try:
                async with slots, asyncio.timeout_at(deadline):
                    answer = await self._ask(namespace)
            except TimeoutError:
                problems.append(f"it did not answer within {self._patience:.0f} s")
            except (errors.FarletError, ValueError) as err:
                problems.append(str(err))
            else:
                found.update({ObjectKey(namespace, name): of for name, of in answer.items()})

        async with asyncio.TaskGroup() as tasks:
            for namespace in namespaces:
                tasks.create_task(ask(namespace))
        return found, problems[0] if problems else None

    async def _ask(self, namespace: str) -> dict[str, metrics_api.PodSamples]:
        """Raises `Unreachable`, and `ValueError` that says what is wrong with the metrics API."""
        code, body = await self._foreign.get_aggregated(
            resources.POD_METRICS,
            namespace=namespace,
            label_selector=f"{VIRTUAL_NODE_ID}={self._ctx().virtual_node_id}",
        )
        if code == 200:
            return await asyncio.to_thread(metrics_api.read, body, now=time.time())
        raise ValueError(_WHY.get(code, "it answers HTTP {code}").format(code=code, ns=namespace))

    def _tell(self, problem: str | None) -> None:
        """One warning when usage gets unknown, not one for every time that home asks."""
        if problem is not None and self._told is None:
            log.warning(
                "foreign metrics API cannot be used: home does not know what pods use, so "
                "kubectl top shows none of them and HPAs on CPU and memory stand still",
                err=problem,
            )
        elif problem is None and self._told is not None:
            log.info("foreign metrics API can be used again")
        self._told = problem


_WHY = {
    403: "farlet may not list pods of metrics.k8s.io in the foreign namespace {ns}; apply the "
    "Role of manifests/foreign there",
    404: "the foreign cluster has no metrics API metrics.k8s.io/v1beta1; install metrics-server "
    "there",
    503: "the server behind the foreign metrics API does not answer (HTTP 503); see APIService "
    "v1beta1.metrics.k8s.io there",
}


# These run in a thread, as does reading: the loop must not wait for thousands of pods.


def _summary(usage: stats.Usage) -> responses.Response:
    return responses.json_response(stats.summary(usage))


def _exposition(usage: stats.Usage) -> responses.Response:
    return responses.Response(200, stats.exposition(usage).encode(), EXPOSITION)


class _Agent:
    """What the process of farlet uses itself."""

    def __init__(self) -> None:
        self._began = self._at = time.time()
        self._base = self._used = time.process_time_ns()

    def now(self) -> Counter:
        """Its counter; the rate is that since it was last asked."""
        at, used = time.time(), time.process_time_ns()
        window = max(at - self._at, 0.001)
        rate = round((used - self._used) / window)
        self._at, self._used = at, used
        sample = Sample(at, window, nanocores=rate, memory=_resident_bytes())
        return Counter(self._began, self._began, used - self._base, sample)


def _resident_bytes() -> int:
    """Memory of this process; 0 where the system does not tell it as Linux does (proc(5))."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
