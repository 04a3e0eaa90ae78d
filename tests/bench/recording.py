"""What farlet sends for one pod, written down while farlet itself does it.

The engine runs in this process, without Kopf: pods are handed to it as Kopf would. Its HTTP client
is wrapped, nothing else; so the floor replays what the product sends now, not what it once sent.
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
from bench.stage import HOME_API, NODE, Stage
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
"""In paths of requests that are no pod's: heartbeats, and whether the foreign server is there."""


@dataclasses.dataclass(frozen=True)
class Request:
    """One request as `Cluster.call` got it; names and tokens are those of the recorded pod."""

    cluster: str
    method: str
    path: str
    body: bytes | None
    content_type: str
    accept: str | None


@dataclasses.dataclass(frozen=True)
class Identity:
    """What in the recorded requests differs from pod to pod."""

    name: str
    uid: str
    mirror_uid: str
    token: str

    def values(self) -> list[bytes]:
        """In an order that is the same for all; the token also as a Secret holds it."""
        secret = base64.b64encode(self.token.encode())
        return [v.encode() for v in (self.name, self.uid, self.mirror_uid)] + [secret]


@dataclasses.dataclass(frozen=True)
class Script:
    """The requests from binding to Running at home, and those from deletion to gone."""

    identity: Identity
    start: list[Request]
    end: list[Request]


async def record(stage: Stage) -> Script:
    """Let farlet serve one pod from its binding to its end, and write down what it sends."""
    sent: list[tuple[Request, JSON]] = []
    async with _engine(stage) as engine:
        # What a namespace costs once is not part of what a pod costs.
        await _live(stage, engine, "first")
        with _recorder(sent):
            pod = await _start(stage, engine, "recorded")
            start = list(sent)
            await _end(stage, engine, "recorded")
    identity = Identity(
        name="recorded",
        uid=pod["metadata"]["uid"],
        mirror_uid=_answer(start, "/pods")["metadata"]["uid"],
        token=_answer(start, "/token")["status"]["token"],
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
async def _engine(stage: Stage) -> AsyncIterator[engines.Engine]:
    both = stage.clusters
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
    ends, started = engines.Shutdown(), asyncio.Event()
    running = asyncio.create_task(engine.run(ends, started=started.set))
    try:
        await started.wait()
        yield engine
    finally:
        ends.stop.set()
        await running


async def _live(stage: Stage, engine: engines.Engine, name: str) -> None:
    await _start(stage, engine, name)
    await _end(stage, engine, name)


async def _start(stage: Stage, engine: engines.Engine, name: str) -> rest.Object:
    await workload.create(stage, name)
    return await _told(stage, engine, name, until=rest.phase("Running"))


async def _end(stage: Stage, engine: engines.Engine, name: str) -> None:
    await workload.delete(stage, name)
    await _told(stage, engine, name, until=rest.gone)


async def _told(
    stage: Stage, engine: engines.Engine, name: str, *, until: rest.Condition
) -> rest.Object:
    """Tell the engine of a home pod, as Kopf would, until it is as wished."""
    last: rest.Object = {}
    deadline = time.monotonic() + workload.STALL_SECONDS
    while time.monotonic() < deadline:
        pod = await stage.home.find("pods", name=name, namespace=stage.names.home)
        if pod is None:
            engine.bridge.feed("DELETED", last)
        elif pod["metadata"]["resourceVersion"] != last.get("metadata", {}).get("resourceVersion"):
            engine.bridge.feed("MODIFIED", orjson.loads(orjson.dumps(pod)))
        if until(pod):
            return pod or last
        last = pod or last
        await asyncio.sleep(0.05)
    raise workload.NeverRan(f"the pod to be recorded got no further than {last.get('status')}")


def _answer(sent: list[tuple[Request, JSON]], ending: str) -> JSON:
    return next(a for r, a in sent if r.method == "POST" and r.path.endswith(ending))
