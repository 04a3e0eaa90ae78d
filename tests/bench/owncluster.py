"""What the way through the virtual node costs a stream, beside the same pod in its own cluster.

`kubectl cp` of one large file into the pod and back, and round trips of a line through one exec
session, through the home cluster (its API server, farlet, the foreign API server) and directly in
the foreign cluster, in turns.
"""

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from bench import execsession
from bench.environment import Environment
from clusters import errors, kubeconfig
from clusters.cluster import Cluster
from clusters.kubectl import Kubectl

TURNS = 3
LINES = 300
"""Round trips in each turn."""

_MIB = 2**20
_THERE = "/tmp/copied"


@dataclasses.dataclass(frozen=True)
class Turn:
    """One way: MiB/s into the pod and back, and seconds of each round trip."""

    into: float
    back: float
    round_trips: list[float]


@dataclasses.dataclass(frozen=True)
class Compared:
    """The turns of both ways, in order."""

    through_home: list[Turn] = dataclasses.field(default_factory=list)
    own_cluster: list[Turn] = dataclasses.field(default_factory=list)


async def compared(on: Environment, pod: str, *, mib: int) -> Compared:
    """Raises `HarnessError` if kubectl or a session fails."""
    found = Compared()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        with file.open("wb") as content:
            content.truncate(mib * _MIB)
        for _ in range(TURNS):
            for cluster, namespace, turns in (
                (on.clusters.home, on.names.home, found.through_home),
                (on.clusters.foreign, on.names.foreign, found.own_cluster),
            ):
                turns.append(await _turn(cluster, namespace, pod, file, mib))
    return found


async def _turn(cluster: Cluster, namespace: str, pod: str, file: Path, mib: int) -> Turn:
    kubectl = Kubectl.of(cluster, namespace)
    into = await _seconds(kubectl, "cp", str(file), f"{pod}:{_THERE}")
    back = await _seconds(kubectl, "cp", f"{pod}:{_THERE}", str(file))
    await _seconds(kubectl, "exec", pod, "--", "rm", _THERE)
    try:
        async with client(cluster) as session:
            trips = await execsession.trips(
                session, cluster.server, namespace=namespace, pod=pod, count=LINES
            )
    except (aiohttp.ClientError, OSError, execsession.Broken) as err:
        raise errors.HarnessError(f"an exec session of {cluster.name} failed: {err}") from err
    return Turn(mib / into, mib / back, trips)


async def _seconds(kubectl: Kubectl, *arguments: str) -> float:
    begun = time.monotonic()
    done = await kubectl.run(*arguments)
    if done.code != 0:
        raise errors.HarnessError(f"kubectl {' '.join(arguments)} failed: {done.err.strip()}")
    return time.monotonic() - begun


@contextlib.asynccontextmanager
async def client(cluster: Cluster) -> AsyncIterator[aiohttp.ClientSession]:
    """Connections of the administrator."""
    access = kubeconfig.read(cluster.kubeconfig)
    connector = aiohttp.TCPConnector(ssl=access.ssl_context(), limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield session
