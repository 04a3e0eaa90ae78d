"""The environment of all runs: clusters, a namespace in each, and a virtual node."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

from bench.variants import DEFAULT, SHARED, Variant
from clusters import controlplane, errors, pair, rest, workspace
from clusters import progress as progresses
from clusters.cluster import Spec

NODE = "bench"
NAMESPACE = "bench"
_FAKE_NODES = 4
_PATIENCE = 300.0
HOME_API = {"home-api-server-host": "192.0.2.1", "home-api-server-port": "443"}
"""The address of the home API for pods, which no pod here uses. With another port each pod would
cost an Event about clients that connect to port 443. farlet cannot reach this address (TEST-NET-1,
RFC 5737) and continues with a warning, so the benchmark needs no port 443 on this machine."""


@dataclasses.dataclass(frozen=True)
class Place:
    """The names that one farlet uses. Two versions on the same clusters share none of them."""

    node: str = NODE
    namespace: str = NAMESPACE
    system_namespace: str = workspace.FARLET_NAMESPACE


OWN = Place()
AGAINST = Place("bench-against", "bench-against", "farlet-against")


@dataclasses.dataclass(frozen=True)
class Environment:
    """Open clients of both administrators, the namespaces of the pods, and what these ask for."""

    clusters: pair.Clusters
    home: rest.Api
    foreign: rest.Api
    names: workspace.Workspace
    place: Place = OWN
    variant: Variant = DEFAULT


@contextlib.contextmanager
def clusters(
    *, audit: bool, progress: progresses.Progress, stages: Sequence[Path] = ()
) -> Iterator[pair.Clusters]:
    """Two clusters with fake nodes and the virtual node, stopped at the end.

    `stages` are further Stages of the foreign cluster's fake nodes.
    """
    options = controlplane.Options(audit=audit)
    home = Spec("home", fake_nodes=_FAKE_NODES, options=options)
    foreign = Spec("foreign", fake_nodes=_FAKE_NODES, stages=tuple(stages), options=options)
    with pair.start(home=home, foreign=foreign, progress=progress) as both:
        both.home.create_virtual_node(NODE)  # in the runs of the floor, no farlet does it
        yield both


@contextlib.asynccontextmanager
async def opened(
    both: pair.Clusters,
    *,
    variant: Variant = DEFAULT,
    place: Place = OWN,
    system_rules: workspace.Rules | None = None,
    pod_rules: workspace.Rules | None = None,
) -> AsyncIterator[Environment]:
    """Create the namespaces and open both clients. Rules other than the shipped ones can be given.

    With `variant.objects` the home namespace has the ConfigMap and the Secret.
    """
    async with both.home.api() as home, both.foreign.api() as foreign:
        await workspace.create_farlet_namespace(
            foreign, name=place.system_namespace, rules=system_rules
        )
        names = await workspace.create(home, foreign, name=place.namespace, rules=pod_rules)
        if variant.objects:
            for resource, data in (("configmaps", "data"), ("secrets", "stringData")):
                shared = {"metadata": {"name": SHARED}, data: {resource: "value"}}
                await home.create(resource, shared, namespace=names.home)
        yield Environment(both, home, foreign, names, place, variant)


async def settled(env: Environment) -> None:
    """Return once fake nodes run all existing mirrors."""

    async def running() -> bool:
        pods = await env.foreign.list("pods", namespace=env.names.foreign)
        return all(pod["status"].get("phase") == "Running" for pod in pods)

    await _until(running, what="all mirrors run")


async def empty(env: Environment) -> None:
    """Return once no pods and no foreign Secrets are left."""

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
            raise errors.HarnessError(f"timeout after {_PATIENCE:.0f} s; waited until {what}")
        await asyncio.sleep(0.5)
