"""Emptying the node before farlet ends for good: cordon it, evict its pods, see them go.

It is `kubectl drain` by the node itself, while reconciling goes on: an evicted pod ends as any
deleted one does, its mirror first. What a drain leaves is left here too: pods of DaemonSets, which
would be made again, and static pods. Bounded in time; nothing is forced, so that what does not go
is found by the next farlet as it is. `docs/decisions/0010-drain.md` has the reasons.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from farlet import errors
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import ObjectKey
from farlet.context import Context
from farlet.forge import guards
from farlet.k8s_types import Pod
from farlet.planning import predicates
from farlet.store import Store

RETRY_SECONDS = 5.0
"""Between two tries to evict a pod whose disruption budget is used up, as `kubectl drain` waits."""
LOOK_SECONDS = 0.25
AT_ONCE = 16

STATIC_POD = "kubernetes.io/config.mirror"
"""Annotation of the object that stands for a static pod: deleting it deletes nothing."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Drained:
    """How it ended: pods evicted by us, and those that are there still though they should go."""

    evicted: int
    left: tuple[ObjectKey, ...]


async def drain(
    home: ApiClient,
    store: Store,
    *,
    ctx: Callable[[], Context],
    cordon: Callable[[], Awaitable[None]],
    seconds: float,
    hurry: asyncio.Event,
) -> Drained:
    """Empty the node; returns when it is empty, after `seconds`, or as soon as `hurry` is set.

    `cordon` makes the Node unschedulable. Raises nothing but cancellation and bugs.
    """
    emptying = _Emptying(home, store, ctx)
    work = asyncio.create_task(emptying.run(cordon), name="drain")
    hurried = asyncio.create_task(hurry.wait(), name="drain in a hurry")
    log.info("node is being drained", pods=len(store.home), seconds=seconds)
    try:
        await asyncio.wait({work, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    finally:
        work.cancel()
        hurried.cancel()
        await asyncio.wait({work, hurried})
    drained = Drained(emptying.evicted, tuple(emptying.left()))
    if drained.left:
        some = ", ".join(map(str, drained.left[:10]))
        log.warning("drain ended before all pods were gone", left=len(drained.left), some=some)
    else:
        log.info("node was drained", evicted=drained.evicted)
    return drained


class _Emptying:
    """What one drain knows of the pods, by uid."""

    def __init__(self, home: ApiClient, store: Store, ctx: Callable[[], Context]) -> None:
        self._home = home
        self._store = store
        self._ctx = ctx
        self._stay: set[str] = set()
        """Not waited for."""
        self._next: dict[str, float] = {}
        """When a pod is looked at again; the loop's time."""
        self._told: set[str] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self.evicted = 0

    async def run(self, cordon: Callable[[], Awaitable[None]]) -> None:
        """Until no pod is left that should go. Those that come meanwhile go too."""
        now = asyncio.get_running_loop().time
        cordoned, again = False, now()
        while True:
            if not cordoned and again <= now():
                cordoned, again = await self._cordon(cordon), now() + RETRY_SECONDS
            due = [key for key in self.left() if self._next.get(self._uid(key), 0) <= now()]
            await asyncio.gather(*(self._attend(key) for key in due))
            if not self.left():
                return
            await asyncio.sleep(LOOK_SECONDS)

    def left(self) -> list[ObjectKey]:
        """The pods that should go and are there."""
        return [key for key in self._store.home if self._uid(key) not in self._stay]

    async def _cordon(self, cordon: Callable[[], Awaitable[None]]) -> bool:
        try:
            await cordon()
        except errors.FarletError as err:
            self._tell("", "node was not cordoned", pod="", err=err)
            return False
        return True

    async def _attend(self, key: ObjectKey) -> None:
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
            return  # it went, or another has its name: the watch will tell
        except errors.FarletError as err:
            self._tell(uid, "eviction was refused", pod=str(key), err=err)
            return
        self.evicted += 1

    def _held_by_others(self, key: ObjectKey, pod: Pod) -> bool:
        """Our part is done: the mirror is gone, and finalizers keep the name of the pod at home."""
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

    def _tell(self, uid: str, what: str, *, pod: str, err: errors.FarletError) -> None:
        """Once per pod; what follows is the same."""
        if uid not in self._told:
            self._told.add(uid)
            log.warning(what, pod=pod, err=str(err), retry_in=RETRY_SECONDS)


def stays(pod: Pod) -> bool:
    """Whether a drain leaves this pod: it would be made again, or is not ours to delete."""
    annotations = pod["metadata"].get("annotations") or {}
    return guards.daemonset(pod) is not None or STATIC_POD in annotations
