"""Records the requests that farlet sends for one pod.

The engine runs in this process without Kopf; the benchmark passes pods to it as Kopf would. Only
its HTTP client is wrapped, so the floor replays what the present version of farlet sends.
"""

import asyncio
import base64
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Iterator
from unittest import mock

import orjson

from bench import workload
from bench.environment import HOME_API, NODE, Environment
from clusters import farlet as farlets
from clusters import rest, workspace
from farlet import engine as engines
from farlet import health
from farlet.client import cluster as clusters
from farlet.client.resources import JSON_BODY
from farlet.constants import JSON
from farlet.settings import LogFormat, LogLevel, Settings, loading
from farlet.telemetry import logs

_OF_THE_NODE = ("/leases", "/nodes", "/configmaps")
"""Paths of requests that belong to no pod: heartbeats and checks of the foreign API server."""


@dataclasses.dataclass(frozen=True)
class Request:
    """One request of `Cluster.call`, with names and tokens of the recorded pod."""

    cluster: str
    method: str
    path: str
    body: bytes | None
    content_type: str
    accept: str | None


@dataclasses.dataclass(frozen=True)
class Identity:
    """The parts of the recorded requests that differ between pods."""

    name: str
    uid: str
    mirror_uid: str
    token: str

    def values(self) -> list[bytes]:
        """All values in a fixed order; empty where the pod has no such value."""
        texts = [v.encode() for v in (self.name, self.uid, self.mirror_uid)]
        return [*texts, self.secret_token]

    @property
    def secret_token(self) -> bytes:
        """The token as in a Secret, in base64; empty without a token."""
        return base64.b64encode(self.token.encode())


@dataclasses.dataclass(frozen=True)
class Script:
    """The requests from binding to home Running, and those from deletion to gone."""

    identity: Identity
    start: list[Request]
    end: list[Request]


async def record(env: Environment) -> Script:
    """Let farlet serve one pod from its binding to its end, and record its requests."""
    sent: list[tuple[Request, JSON]] = []
    async with _engine(env) as engine:
        # The cost of opening a namespace is not part of the cost of a pod.
        await _live(env, engine, "first")
        with _recorder(sent):
            pod = await _start(env, engine, "recorded")
            start = list(sent)
            await _end(env, engine, "recorded")
    identity = Identity(
        name="recorded",
        uid=pod["metadata"]["uid"],
        mirror_uid=_answer(start, "/pods")["metadata"]["uid"],
        token="" if env.variant.mode == "remote" else _token(start),
    )
    return Script(identity, [r for r, _ in start], [r for r, _ in sent[len(start) :]])


@contextlib.contextmanager
def _recorder(sent: list[tuple[Request, JSON]]) -> Iterator[None]:
    real = clusters.Cluster.call

    async def call(
        cluster: clusters.Cluster,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = JSON_BODY,
        accept: str | None = None,
    ) -> JSON:
        data = None if body is None else orjson.dumps(body)
        request = Request(cluster.name, method, path, data, content_type, accept)
        answer: JSON = {}
        if any(part in path for part in _OF_THE_NODE):
            return await real(
                cluster, method, path, body=body, content_type=content_type, accept=accept
            )
        place = len(sent)
        sent.append((request, answer))
        answer = await real(
            cluster, method, path, body=body, content_type=content_type, accept=accept
        )
        sent[place] = (request, answer)
        return answer

    with mock.patch.object(clusters.Cluster, "call", call):
        yield


@contextlib.asynccontextmanager
async def _engine(env: Environment) -> AsyncIterator[engines.Engine]:
    both = env.clusters
    settings = loading.load(
        Settings,
        {
            "nodename": NODE,
            "home_kubeconfig": str(both.home.login(f"system:node:{NODE}", groups=["system:nodes"])),
            "foreign_kubeconfig": str(both.foreign.login(workspace.USER)),
            "home_name": workspace.HOME_NAME,
            "foreign_system_namespace": workspace.FARLET_NAMESPACE,
            **{flag.replace("-", "_"): value for flag, value in HOME_API.items()},
            "capacity": farlets.CAPACITY,
            "kubelet_bind_address": "0",
            "metrics_bind_address": "0",
            "health_probe_bind_address": "0",
        },
    )
    logs.configure(LogLevel.ERROR, LogFormat.AUTO)
    engine = engines.Engine(settings, watch=health.HostedWatch())
    shutdown, started = engines.Shutdown(), asyncio.Event()
    running = asyncio.create_task(engine.run(shutdown, started=started.set))
    try:
        await started.wait()
        yield engine
    finally:
        shutdown.requested.set()
        await running


async def _live(env: Environment, engine: engines.Engine, name: str) -> None:
    await _start(env, engine, name)
    await _end(env, engine, name)


async def _start(env: Environment, engine: engines.Engine, name: str) -> rest.Object:
    await workload.create(env, name)
    return await _pass_events(env, engine, name, until=rest.phase("Running"))


async def _end(env: Environment, engine: engines.Engine, name: str) -> None:
    await workload.delete(env, name)
    await _pass_events(env, engine, name, until=rest.gone)


async def _pass_events(
    env: Environment, engine: engines.Engine, name: str, *, until: rest.Condition
) -> rest.Object:
    """Pass events of a home pod to the engine, as Kopf would, until the condition holds."""
    last: rest.Object = {}
    deadline = time.monotonic() + workload.STALL_SECONDS
    while time.monotonic() < deadline:
        pod = await env.home.find("pods", name=name, namespace=env.names.home)
        if pod is None:
            engine.bridge.feed("DELETED", last)
        elif pod["metadata"]["resourceVersion"] != last.get("metadata", {}).get("resourceVersion"):
            engine.bridge.feed("MODIFIED", orjson.loads(orjson.dumps(pod)))
        if until(pod):
            return pod or last
        last = pod or last
        await asyncio.sleep(0.05)
    raise workload.NeverRan(f"the recorded pod stayed in status {last.get('status')}")


def _token(sent: list[tuple[Request, JSON]]) -> str:
    """The token of the request that succeeded: earlier ones meet lagging caches."""
    answers = (a for r, a in sent if r.method == "POST" and r.path.endswith("/token"))
    token: str = next(answer["status"]["token"] for answer in answers if "status" in answer)
    return token


def _answer(sent: list[tuple[Request, JSON]], ending: str) -> JSON:
    return next(a for r, a in sent if r.method == "POST" and r.path.endswith(ending))
