"""The floor: the cost of the requests for N pods without any decisions.

For each pod one coroutine creates it and sends the requests of `frozen.py`, in this order and with
farlet's client, with the same concurrency as the creation of pods.
"""

import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence

import orjson

from bench import environment, workload
from bench.environment import NODE, Environment
from bench.recording import Identity, Request, Script
from clusters import workspace
from farlet import errors
from farlet.client import cluster as clusters
from farlet.client.credential_sources import ClusterSource
from farlet.constants import JSON
from farlet.telemetry.metrics import Metrics

LAG = 32
"""Number of pods that are created before the first is served: an API server answers a token request
for a pod that it has just stored with 404, and the floor has neither watch nor sleep."""


@dataclasses.dataclass(frozen=True)
class Floor:
    """Seconds, and CPU seconds of sender and creator together.

    Latencies are those of the sender, from the response to the first request to that to the last.
    """

    seconds: float
    delete_seconds: float
    cpu_create: float
    cpu_delete: float
    created_to_running: list[float]
    deleted_to_gone: list[float]


async def run(on: Environment, script: Script, *, count: int, prefix: str) -> Floor:
    """Send the requests for `count` pods, wait until all run, and send those for their deletion."""
    pods: dict[str, Identity] = {}
    bound: deque[Identity] = deque()
    created: dict[str, float] = {}
    running: list[float] = []
    gone: list[float] = []
    async with _clients(on) as clients:

        async def serve(identity: Identity) -> None:
            for request in script.start:
                try:
                    answer = await _send(clients, script, request, identity)
                except errors.NotFound:
                    if not request.path.endswith("/token"):
                        raise
                    bound.append(identity)  # even LAG was too short for this one: retry later
                    return
                if request.path.endswith("/token"):
                    identity = dataclasses.replace(identity, token=answer["status"]["token"])
                elif request.method == "POST" and request.path.endswith("/pods"):
                    identity = dataclasses.replace(identity, mirror_uid=answer["metadata"]["uid"])
            pods[identity.name] = identity
            running.append(time.monotonic() - created[identity.name])

        async def start(name: str) -> None:
            pod = await workload.create(on, name)
            created[name] = time.monotonic()
            bound.append(Identity(name, pod["metadata"]["uid"], "", ""))
            if len(bound) > LAG:
                await serve(bound.popleft())

        async def end(name: str) -> None:
            await workload.delete(on, name)
            begun = time.monotonic()
            for request in script.end:
                await _send(clients, script, request, pods[name])
            gone.append(time.monotonic() - begun)

        names = workload.names(count, prefix=prefix)
        cpu, begun = time.process_time(), time.monotonic()
        await workload.at_once(start, names)
        while bound:
            late = [bound.popleft() for _ in range(len(bound))]
            await workload.at_once(serve, late)
        seconds, used_to_create = time.monotonic() - begun, time.process_time() - cpu
        await environment.settled(on)
        cpu, begun = time.process_time(), time.monotonic()
        await workload.at_once(end, names)
        ended, used_to_delete = time.monotonic() - begun, time.process_time() - cpu
        await environment.empty(on)
    return Floor(seconds, ended, used_to_create, used_to_delete, running, gone)


async def _send(
    clients: dict[str, clusters.Cluster], script: Script, request: Request, identity: Identity
) -> JSON:
    path, body = request.path.encode(), request.body
    olds, news = script.identity.values(), identity.values()
    path = _replaced(path, olds, news)
    body = None if body is None else _replaced(body, olds, news)
    try:
        return await clients[request.cluster].call(
            request.method,
            path.decode(),
            body=None if body is None else orjson.Fragment(body),
            content_type=request.content_type,
            accept=request.accept,
        )
    except errors.NotFound:
        if request.method != "GET":
            raise
        return {}  # farlet checks that the mirror is gone, so the floor does too


def _replaced(text: bytes, olds: Sequence[bytes], news: Sequence[bytes]) -> bytes:
    for old, new in zip(olds, news, strict=True):
        if old:
            text = text.replace(old, new)
    return text


@contextlib.asynccontextmanager
async def _clients(on: Environment) -> AsyncIterator[dict[str, clusters.Cluster]]:
    both, metrics = on.clusters, Metrics()
    home = both.home.login(f"system:node:{NODE}", groups=["system:nodes"])
    foreign = both.foreign.login(workspace.USER)
    async with (
        clusters.Cluster("home", _source(home), metrics=metrics.client("home")) as one,
        clusters.Cluster("foreign", _source(foreign), metrics=metrics.client("foreign")) as two,
    ):
        yield {"home": one, "foreign": two}


def _source(login: object) -> ClusterSource:
    return ClusterSource(kubeconfig=str(login), context=None)
