"""N pods, and a clock that records the states of each of them in both clusters.

Times are those at which this process received an event of a watch: both ends of a latency are
delayed by about the same time, and no clock of an API server is used.
"""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

import aiohttp

from bench.environment import OWN, Environment
from bench.variants import DEFAULT, SHARED, Variant
from clusters import errors, resources, rest

T = TypeVar("T")

CONCURRENCY = 32
STALL_SECONDS = 60.0
"""Seconds without progress of any pod after which the run fails."""


class NeverRan(Exception):
    """Some pods did not reach the expected state; the message names some of them."""


def names(count: int, *, prefix: str) -> list[str]:
    """Names of `count` pods."""
    return [f"{prefix}-{number:05d}" for number in range(count)]


def manifest(name: str, *, node: str = OWN.node, variant: Variant = DEFAULT) -> rest.Object:
    """A simple pod bound to a virtual node, with the default account's token."""
    container: rest.Object = {
        "name": "main",
        "image": "bench.example/none:1",
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
    }
    if variant.objects:
        container["envFrom"] = [
            {"configMapRef": {"name": SHARED}},
            {"secretRef": {"name": SHARED}},
        ]
    metadata: rest.Object = {"name": name, "labels": {"app": "bench"}}
    if variant.mode != "home":  # the default
        metadata["annotations"] = {"liqo.io/api-server-support": variant.mode}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"nodeName": node, "containers": [container]},
    }


async def at_once(each: Callable[[T], Awaitable[object]], items: Iterable[T]) -> None:
    """Call `each` for every item, CONCURRENCY at a time. Raises the first error, ungrouped."""
    rest_of = iter(items)

    async def work() -> None:
        for item in rest_of:
            await each(item)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONCURRENCY):
                tasks.create_task(work())
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None


async def create(env: Environment, name: str) -> rest.Object:
    """Create one home pod."""
    pod = manifest(name, node=env.place.node, variant=env.variant)
    return await env.home.create("pods", pod, namespace=env.names.home)


async def delete(env: Environment, name: str) -> None:
    """Request the deletion of one home pod, with its own grace period."""
    await env.home.delete("pods", name=name, namespace=env.names.home)


@dataclasses.dataclass
class Clock:
    """The first time of each state by pod name, in seconds of `time.monotonic`."""

    created: dict[str, float] = dataclasses.field(default_factory=dict)
    mirrored: dict[str, float] = dataclasses.field(default_factory=dict)
    mirror_running: dict[str, float] = dataclasses.field(default_factory=dict)
    home_running: dict[str, float] = dataclasses.field(default_factory=dict)
    home_deleting: dict[str, float] = dataclasses.field(default_factory=dict)
    home_gone: dict[str, float] = dataclasses.field(default_factory=dict)
    mirror_gone: dict[str, float] = dataclasses.field(default_factory=dict)

    async def all_in(self, reached: dict[str, float], wanted: list[str], *, what: str) -> None:
        """Return once all `wanted` are in `reached`. Raises `NeverRan` without progress."""
        last, since = -1, time.monotonic()
        while len(reached) < len(wanted):
            now = time.monotonic()
            if len(reached) > last:
                last, since = len(reached), now
            if now - since > STALL_SECONDS:
                late = [name for name in wanted if name not in reached]
                raise NeverRan(
                    f"{len(late)} of {len(wanted)} pods {what}, without progress for "
                    f"{STALL_SECONDS:.0f} s: {', '.join(late[:5])}"
                )
            await asyncio.sleep(0.02)

    def between(self, earlier: dict[str, float], later: dict[str, float]) -> list[float]:
        """Seconds from one to the other, of each pod that has both."""
        return [when - earlier[name] for name, when in later.items() if name in earlier]


@contextlib.asynccontextmanager
async def clock(env: Environment) -> AsyncIterator[Clock]:
    """A clock that runs for the duration of the context."""
    seen = Clock()
    sides = (
        (
            *(env.home, env.names.home),
            _States(seen.created, seen.home_running, seen.home_deleting, seen.home_gone),
        ),
        (
            *(env.foreign, env.names.foreign),
            _States(seen.mirrored, seen.mirror_running, {}, seen.mirror_gone),
        ),
    )
    watches = [asyncio.create_task(_follow(*side)) for side in sides]
    try:
        yield seen
    finally:
        for watch in watches:
            watch.cancel()
        ended = await asyncio.gather(*watches, return_exceptions=True)
    broken = [one for one in ended if not isinstance(one, asyncio.CancelledError)]
    if broken:
        raise errors.HarnessError(f"the benchmark's watch failed: {broken[0]!r}")


@dataclasses.dataclass(frozen=True)
class _States:
    """The first time of each state of the pods of one cluster."""

    added: dict[str, float]
    running: dict[str, float]
    deleting: dict[str, float]
    gone: dict[str, float]


async def _follow(api: rest.Api, namespace: str, seen: _States) -> None:
    """Record the states of pods. The namespace must be empty at the start."""
    listed = await api.request("GET", resources.path("pods", namespace=namespace))
    version = listed["metadata"]["resourceVersion"]
    while True:
        with contextlib.suppress(aiohttp.ClientPayloadError):  # a watch that was cut off
            async for kind, pod in api.watch("pods", namespace=namespace, resourceVersion=version):
                if kind == "ERROR":
                    raise errors.HarnessError(f"a watch of the benchmark ended: {pod}")
                now = time.monotonic()
                name = pod["metadata"]["name"]
                version = pod["metadata"]["resourceVersion"]
                seen.added.setdefault(name, now)
                if pod.get("status", {}).get("phase") == "Running":
                    seen.running.setdefault(name, now)
                if "deletionTimestamp" in pod["metadata"]:
                    seen.deleting.setdefault(name, now)
                if kind == "DELETED":
                    seen.gone[name] = now
