"""What all runs of a bench share: clusters, one namespace on each side, one virtual node."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from clusters import controlplane, errors, pair, rest, workspace
from clusters import progress as progresses
from clusters.cluster import Spec

NODE = "bench"
NAMESPACE = "bench"
_FAKE_NODES = 4
_PATIENCE = 300.0
HOME_API = {"home-api-server-host": "192.0.2.1", "home-api-server-port": "443"}
"""Where pods are told to find home's API server: nobody here will ask it. On another port each pod
would cost an Event that tells of clients which dial 443; farlet cannot reach this one (TEST-NET-1,
RFC 5737), goes on with a warning, and so needs no port 443 of this machine."""


@dataclasses.dataclass(frozen=True)
class Environment:
    """Open clients of both administrators, and where the pods live."""

    clusters: pair.Clusters
    home: rest.Api
    foreign: rest.Api
    names: workspace.Workspace


@contextlib.contextmanager
def clusters(*, audit: bool, progress: progresses.Progress) -> Iterator[pair.Clusters]:
    """Two plain clusters with the virtual node, gone at the end."""
    home, foreign = (
        Spec(name, fake_nodes=_FAKE_NODES, options=controlplane.Options(audit=audit))
        for name in ("home", "foreign")
    )
    with pair.start(home=home, foreign=foreign, progress=progress) as both:
        both.home.create_virtual_node(NODE)  # the floor has no farlet that would
        yield both


@contextlib.asynccontextmanager
async def opened(both: pair.Clusters) -> AsyncIterator[Environment]:
    """The namespaces, made; both clients, open."""
    async with both.home.api() as home, both.foreign.api() as foreign:
        await workspace.create_farlet_namespace(foreign)
        names = await workspace.create(home, foreign, name=NAMESPACE)
        yield Environment(both, home, foreign, names)


async def settled(env: Environment) -> None:
    """Return once fake nodes run all mirrors there are."""

    async def running() -> bool:
        pods = await env.foreign.list("pods", namespace=env.names.foreign)
        return all(pod["status"].get("phase") == "Running" for pod in pods)

    await _until(running, what="all mirrors run")


async def empty(env: Environment) -> None:
    """Return once neither side has a pod, nor the foreign one a Secret, left."""

    async def nothing() -> bool:
        return not (
            await env.home.list("pods", namespace=env.names.home)
            or await env.foreign.list("pods", namespace=env.names.foreign)
            or await env.foreign.list("secrets", namespace=env.names.foreign)
        )

    await _until(nothing, what="all pods and Secrets are gone")


async def _until(done: Callable[[], Awaitable[bool]], *, what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not await done():
        if time.monotonic() > deadline:
            raise errors.HarnessError(f"waited {_PATIENCE:.0f} s in vain until {what}")
        await asyncio.sleep(0.5)
