"""Collects the usage of this node's mirrors from the foreign metrics API, on request.

farlet does not poll: the home cluster's metrics-server requests usage every 15 s, and without such
requests farlet sends none. Requests within a few seconds share one answer. If the foreign metrics
API is missing, forbidden or broken, the documents are still served without the unknown values, and
one warning says what to do. `counters` computes the numbers, `stats` writes the documents.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog
from prometheus_client import Gauge

from farlet import errors, retrying
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
"""A metrics API has new values every 15 s at most (`--metric-resolution`)."""

TIMEOUT_SECONDS = 5.0
"""For all namespaces. metrics-server waits 10 s for a kubelet (`--kubelet-request-timeout`)."""

MAX_CONCURRENT = 4

_BATCH = 50
"""Pods that are processed before other tasks of the event loop run."""

log = structlog.get_logger()


class UsageCollector:
    """Reads the usage of all mirrors of this node and keeps their counters.

    `up` is set to 1 if the foreign metrics API answered for all namespaces, else to 0. An answer is
    shared for `fresh` seconds. A collection takes at most `timeout` seconds.
    """

    def __init__(
        self,
        foreign: ApiClient,
        store: Store,
        *,
        ctx: Callable[[], Context],
        up: Gauge,
        fresh: float = FRESH_SECONDS,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        self._foreign = foreign
        self._store = store
        self._ctx = ctx
        self._up = up
        self._fresh = fresh
        self._timeout = timeout
        self._agent = _Agent()
        self._total: Counter | None = None
        self._pods: dict[str, stats.PodUsage] = {}
        """The last known usage by home uid."""
        self._reading: asyncio.Task[stats.Usage] | None = None
        self._read_at = 0.0
        self._failures = retrying.OncePerCause()

    def table(self) -> Mapping[str, Callable[[], Awaitable[responses.Response]]]:
        """Handlers by path, for `RequestHandler`."""
        return {"/stats/summary": self.summary, "/metrics/resource": self.resource}

    async def summary(self) -> responses.Response:
        """The answer to `/stats/summary`, with or without `only_cpu_and_memory`."""
        return await asyncio.to_thread(_summary, await self.usage())

    async def resource(self) -> responses.Response:
        return await asyncio.to_thread(_exposition, await self.usage())

    async def usage(self) -> stats.Usage:
        """The usage now, or of a few seconds ago."""
        age = time.monotonic() - self._read_at
        if self._reading is None or (self._reading.done() and age > self._fresh):
            self._reading = asyncio.create_task(self._read(), name="usage")
        # One of several callers may be cancelled; the others still get the answer.
        return await asyncio.shield(self._reading)

    async def _read(self) -> stats.Usage:
        namespaces = sorted({key.namespace for key in self._store.mirrors})
        samples, problem = await self._query_all(namespaces)
        pods = await self._update(samples)
        agent = self._agent.counter()
        if problem is None:
            self._total = stats.node_total(self._total, pods, agent, now=agent.last.at)
        if namespaces:
            self._up.set(problem is None)
            self._report(problem)
        self._read_at = time.monotonic()
        return stats.Usage(
            node=self._ctx().node,
            agent=agent,
            total=self._total if problem is None else None,
            pods=tuple(pods),
        )

    async def _update(
        self, samples: Mapping[ObjectKey, metrics_api.PodSamples]
    ) -> list[stats.PodUsage]:
        """Continue the counters of home pods with the samples of their mirrors."""
        pods: dict[str, stats.PodUsage] = {}
        found: list[stats.PodUsage] = []
        for number, key in enumerate(list(self._store.home)):
            if number % _BATCH == 0:
                await asyncio.sleep(0)
            uid = self._store.home.uid(key)
            if uid is None:
                continue
            before = self._pods.get(uid)
            usage = self._pod_usage(key, samples, before)
            if usage is not None:
                found.append(usage)
            if (latest := usage or before) is not None:
                pods[uid] = latest
        self._pods = pods
        return found

    def _pod_usage(
        self,
        key: ObjectKey,
        samples: Mapping[ObjectKey, metrics_api.PodSamples],
        before: stats.PodUsage | None,
    ) -> stats.PodUsage | None:
        ctx = self._ctx()
        namespace = ctx.namespaces.foreign(key.namespace)
        if namespace is None or (measured := samples.get(ObjectKey(namespace, key.name))) is None:
            return None
        home = self._store.home.get(key)
        mirror = self._store.mirrors.get(ObjectKey(namespace, key.name))
        if home is None or mirror is None:
            return None
        if not predicates.is_mirror_of(home, mirror, virtual_node_id=ctx.virtual_node_id):
            return None
        return stats.pod_usage(home, mirror, measured, before)

    async def _query_all(
        self, namespaces: list[str]
    ) -> tuple[dict[ObjectKey, metrics_api.PodSamples], str | None]:
        """Samples of this node's mirrors, and why some are missing."""
        slots = asyncio.Semaphore(MAX_CONCURRENT)
        deadline = asyncio.get_running_loop().time() + self._timeout
        found: dict[ObjectKey, metrics_api.PodSamples] = {}
        problems: list[str] = []

        async def query(namespace: str) -> None:
            try:
                async with slots, asyncio.timeout_at(deadline):
                    pods = await self._query(namespace)
            except TimeoutError:
                problems.append(f"the metrics API did not answer within {self._timeout:.0f} s")
            except (errors.FarletError, ValueError) as err:
                problems.append(str(err))
            else:
                found.update({ObjectKey(namespace, name): pod for name, pod in pods.items()})

        async with asyncio.TaskGroup() as tasks:
            for namespace in namespaces:
                tasks.create_task(query(namespace))
        return found, problems[0] if problems else None

    async def _query(self, namespace: str) -> dict[str, metrics_api.PodSamples]:
        """Raises `Unreachable`, and `ValueError` with the problem of the metrics API."""
        code, body = await self._foreign.get_aggregated(
            resources.POD_METRICS,
            namespace=namespace,
            label_selector=f"{VIRTUAL_NODE_ID}={self._ctx().virtual_node_id}",
        )
        if code == 200:
            return await asyncio.to_thread(metrics_api.read, body, now=time.time())
        cause = _PROBLEMS.get(code, "the metrics API answers HTTP {code}")
        raise ValueError(cause.format(code=code, ns=namespace))

    def _report(self, problem: str | None) -> None:
        """Log one warning when usage becomes unknown, not one per request."""
        if problem is not None and self._failures.is_new("metrics API"):
            log.warning("failed to read foreign metrics", err=problem, consequence=_CONSEQUENCE)
        elif problem is None and self._failures.clear():
            log.info("foreign metrics are available again")


_CONSEQUENCE = (
    "kubectl top shows no pods of this node, and HPAs on CPU and memory do not scale them"
)

_PROBLEMS = {
    403: "farlet is not allowed to list pods of metrics.k8s.io in the foreign namespace {ns}; "
    "farlet connect grants it with --namespace; by hand, apply the Role of manifests/foreign there",
    404: "the foreign cluster has no metrics API metrics.k8s.io/v1beta1; install metrics-server "
    "there",
    503: "the server behind the foreign metrics API does not answer (HTTP 503); in the foreign "
    "cluster, run kubectl describe apiservice v1beta1.metrics.k8s.io",
}


# These run in a thread, as parsing does: the event loop must not wait for thousands of pods.


def _summary(usage: stats.Usage) -> responses.Response:
    return responses.json_response(stats.summary(usage))


def _exposition(usage: stats.Usage) -> responses.Response:
    return responses.Response(200, stats.exposition(usage).encode(), EXPOSITION)


class _Agent:
    """Usage of farlet's own process."""

    def __init__(self) -> None:
        self._started_at = self._at = time.time()
        self._base = self._used = time.process_time_ns()

    def counter(self) -> Counter:
        """The counter; its rate is that since the last call."""
        at, used = time.time(), time.process_time_ns()
        window = max(at - self._at, 0.001)
        rate = round((used - self._used) / window)
        self._at, self._used = at, used
        sample = Sample(at, window, nanocores=rate, memory=_resident_bytes())
        return Counter(self._started_at, self._started_at, used - self._base, sample)


def _resident_bytes() -> int:
    """Memory of this process; 0 on systems without Linux's proc(5)."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
