"""Drain the node before farlet stops for good: cordon it, evict its pods, wait until they are gone.

It is `kubectl drain` by the node itself, while pods are still reconciled: an evicted pod ends like
any deleted one, its mirror first. Like `kubectl drain` it leaves pods of DaemonSets, which would be
recreated, and static pods. It is bounded in time and forces nothing, so that the next farlet finds
the remaining pods as they are. `docs/decisions/0010-drain.md` has the reasons.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from farlet import errors, retrying
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import ObjectKey
from farlet.context import Context
from farlet.forge import guards
from farlet.k8s_types import Pod
from farlet.planning import predicates
from farlet.store import Store

RETRY_SECONDS = 5.0
"""Between two tries to evict a pod whose disruption budget is used up, as in `kubectl drain`."""
POLL_SECONDS = 0.25
CONCURRENT_EVICTIONS = 16

STATIC_POD = "kubernetes.io/config.mirror"
"""Annotation of the object that represents a static pod: deleting it stops no container."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Drained:
    """The result: the number of evicted pods, and the pods that remain."""

    evicted: int
    left: tuple[ObjectKey, ...]


async def drain(
    home: ApiClient,
    store: Store,
    *,
    ctx: Callable[[], Context],
    cordon: Callable[[], Awaitable[None]],
    seconds: float,
    immediate: asyncio.Event,
) -> Drained:
    """Drain the node; returns when it is empty, after `seconds`, or as soon as `immediate` is set.

    `cordon` makes the Node unschedulable. Raises nothing but cancellation and bugs.
    """
    draining = _Drain(home, store, ctx)
    work = asyncio.create_task(draining.run(cordon), name="drain")
    immediate_end = asyncio.create_task(immediate.wait(), name="immediate end of the drain")
    log.info("node drain started", pods=len(store.home), seconds=seconds)
    try:
        await asyncio.wait(
            {work, immediate_end}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        if work.done():
            work.result()
    finally:
        work.cancel()
        immediate_end.cancel()
        await asyncio.wait({work, immediate_end})
    drained = Drained(draining.evicted, tuple(draining.left()))
    if drained.left:
        some = ", ".join(map(str, drained.left[:10]))
        log.warning("node drain ended with pods left", left=len(drained.left), some=some)
    else:
        log.info("node drained", evicted=drained.evicted)
    return drained


class _Drain:
    """The state of one drain, by pod uid."""

    def __init__(self, home: ApiClient, store: Store, ctx: Callable[[], Context]) -> None:
        self._home = home
        self._store = store
        self._ctx = ctx
        self._stay: set[str] = set()
        """Pods that a drain leaves."""
        self._next: dict[str, float] = {}
        """When a pod is evicted or checked again; the loop's time."""
        self._failures: dict[str, retrying.OncePerCause] = defaultdict(retrying.OncePerCause)
        """By pod uid; the cordon has an empty one."""
        self._slots = asyncio.Semaphore(CONCURRENT_EVICTIONS)
        self.evicted = 0

    async def run(self, cordon: Callable[[], Awaitable[None]]) -> None:
        """Evict pods until none is left, including those that are bound meanwhile."""
        now = asyncio.get_running_loop().time
        cordoned, again = False, now()
        while True:
            if not cordoned and again <= now():
                cordoned, again = await self._cordon(cordon), now() + RETRY_SECONDS
            due = [key for key in self.left() if self._next.get(self._uid(key), 0) <= now()]
            await asyncio.gather(*(self._process(key) for key in due))
            if not self.left():
                return
            await asyncio.sleep(POLL_SECONDS)

    def left(self) -> list[ObjectKey]:
        """The pods that must go and still exist."""
        return [key for key in self._store.home if self._uid(key) not in self._stay]

    async def _cordon(self, cordon: Callable[[], Awaitable[None]]) -> bool:
        try:
            await cordon()
        except errors.FarletError as err:
            if self._failures[""].is_new(str(err)):
                log.warning("failed to cordon node", err=str(err), retry_in=RETRY_SECONDS)
            return False
        return True

    async def _process(self, key: ObjectKey) -> None:
        async with self._slots:
            pod = self._store.home.get(key)
            if pod is None:
                return
            uid = predicates.uid(pod)
            if stays(pod) or self._held_by_others(key, pod):
                self._stay.add(uid)
                return
            if not predicates.is_deleting(pod):
                await self._evict(key, uid)
            self._next[uid] = asyncio.get_running_loop().time() + RETRY_SECONDS

    async def _evict(self, key: ObjectKey, uid: str) -> None:
        try:
            await self._home.create(
                resources.POD_EVICTIONS,
                {
                    "apiVersion": "policy/v1",
                    "kind": "Eviction",
                    "metadata": {"namespace": key.namespace, "name": key.name},
                    "deleteOptions": {"preconditions": {"uid": uid}},
                },
                namespace=key.namespace,
                name=key.name,
            )
        except (errors.NotFound, errors.Conflict):
            return  # it is gone or was replaced: the watch shows it
        except errors.FarletError as err:
            if self._failures[uid].is_new(str(err)):
                log.warning(
                    "failed to evict pod", pod=str(key), err=str(err), retry_in=RETRY_SECONDS
                )
            return
        self.evicted += 1

    def _held_by_others(self, key: ObjectKey, pod: Pod) -> bool:
        """The mirror is gone, and finalizers of other controllers keep the home pod."""
        metadata = pod["metadata"]
        foreign = self._ctx().namespaces.foreign(key.namespace)
        return (
            predicates.is_deleting(pod)
            and metadata.get("deletionGracePeriodSeconds") == 0
            and bool(metadata.get("finalizers"))
            and predicates.is_terminal(pod)
            and (foreign is None or ObjectKey(foreign, key.name) not in self._store.mirrors)
        )

    def _uid(self, key: ObjectKey) -> str:
        return self._store.home.uid(key) or ""


def stays(pod: Pod) -> bool:
    """Whether a drain leaves this pod: it would be recreated, or is a static pod."""
    annotations = pod["metadata"].get("annotations") or {}
    return guards.daemonset(pod) is not None or STATIC_POD in annotations
