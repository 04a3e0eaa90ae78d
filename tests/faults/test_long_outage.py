"""Six minutes without the foreign API server, with both values of `--foreign-unreachable`.

The home cluster evicts pods from a node that is not ready after five minutes, unless their
tolerations differ: six minutes show what `hold` prevents and what `notready` causes. Two records
that are independent of farlet show what ran: the foreign audit log (which mirrors were created) and
a file on the real foreign node, into which each container writes its home uid when it starts. The
test writes the measured times to `docs/soak/`.
"""

import asyncio
import contextlib
import dataclasses
import datetime
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lending
from bench import report
from clusters import auditlog, controlplane, cordons, images, pair, rest, virtualnode
from clusters import farlet as farlets
from clusters import workspace as workspaces
from clusters.cluster import Spec
from conftest import StartFarlet
from faults import manifests
from faults.environment import Environment
from integration.nodes import nodelog

pytestmark = [pytest.mark.clusters, pytest.mark.soak]

OUTAGE_SECONDS = 360.0
EVICTED_SECONDS = 60.0  # the five minutes start when the node is tainted, about one minute later
BACK_SECONDS = 90.0
SETTLED_SECONDS = 180.0
REPLICAS = 3
HOLD, NOTREADY = "hold", "notready"
APP = "web"
RESULTS = Path(__file__).parents[2] / "docs" / "soak"


@pytest.fixture(scope="module")
def clusters(request: pytest.FixtureRequest) -> Iterator[pair.Clusters]:
    """Foreign containers are real; the home cluster has the default settings of Kubernetes."""
    usual = controlplane.Options(node_grace="50s")
    both = pair.start(
        home=Spec("home", options=usual),
        foreign=Spec("foreign", number=2, real_node=True, fake_nodes=0),
    )
    with lending.lent(both, request.config):
        yield both


@dataclasses.dataclass(frozen=True)
class Side:
    """One virtual node with its `--foreign-unreachable` policy, and when events happened."""

    policy: str
    env: Environment
    farlet: farlets.Farlet
    log: nodelog.NodeLog
    before: list[rest.Object]
    times: dict[str, float] = dataclasses.field(default_factory=dict)

    def pods_named(self, prefix: str) -> set[str]:
        """The uids of the initial pods whose names have this prefix."""
        return {
            manifests.uid(pod) for pod in self.before if pod["metadata"]["name"].startswith(prefix)
        }


class Clock:
    """Records when events were first seen, in seconds since the kill of the API server."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    @property
    def now(self) -> float:
        return time.monotonic() - self._begun

    def note(self, side: Side, what: str) -> None:
        side.times.setdefault(what, self.now)


async def test_an_outage_of_six_minutes_has_the_documented_effects(
    env: Environment, start_farlet: StartFarlet
) -> None:
    ledger = env.ledger()
    began = env.clusters.foreign.audit_mark()
    async with _other(env) as other, contextlib.AsyncExitStack() as stack:
        held, lost = [
            await _begin(stack, one, policy, ledger, start_farlet)
            for one, policy in ((env, HOLD), (other, NOTREADY))
        ]
        await cordons.reopen(env.home, *await _fakes(env))
        server = env.clusters.foreign.apiserver
        server.kill()
        clock = Clock()
        try:
            await _watch_outage(clock, held, lost)
        finally:
            server.start()
            await asyncio.to_thread(server.wait_ready)
        for side in (held, lost):
            clock.note(side, "the foreign API server answers again")
        await asyncio.gather(_back(clock, held), _back(clock, lost))

        _write(held, lost)
        await _held_as_documented(held)
        await _lost_as_documented(lost)
        _ran_once(held, lost, began, ledger)


@contextlib.asynccontextmanager
async def _other(env: Environment) -> AsyncIterator[Environment]:
    """A second virtual node with its own namespaces in the same clusters."""
    more = await workspaces.create(env.home, env.foreign)
    node = f"virtual-{secrets.token_hex(3)}"
    yield dataclasses.replace(env, workspace=more, node=node)
    await env.home.delete("nodes", name=node)
    await workspaces.delete(env.home, env.foreign, more)


async def _begin(
    stack: contextlib.AsyncExitStack,
    env: Environment,
    policy: str,
    ledger: Path,
    start_farlet: StartFarlet,
) -> Side:
    """Start a farlet with pods on its node, while home's other nodes are cordoned."""
    fakes = await _fakes(env)
    await cordons.close(env.home, *fakes)
    farlet = await start_farlet(
        env.node,
        settings={"foreign-unreachable": policy},
        arguments=["--allow-pod-feature", "host-path"],
    )
    await env.home.create(
        "deployments",
        _deployment(ledger, [env.node, *fakes]),
        namespace=env.workspace.home,
    )
    forever = [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute"}
        for key in ("not-ready", "unreachable")
    ]
    await env.create(
        env.pod("never", restart="Never", on="real", **_writing(ledger)),
        env.pod("patient", on="real", **_writing(ledger, tolerations=forever)),
    )
    await env.home.until("deployments", _available, name=APP, namespace=env.workspace.home)
    before = (await env.settled()).pods
    assert [manifests.state(pod) for pod in before] == ["Running/-"] * (REPLICAS + 2)
    log = await stack.enter_async_context(nodelog.kept(env.home, env.node))
    return Side(policy, env, farlet, log, before)


def _available(seen: rest.Object | None) -> bool:
    return bool((seen or {}).get("status", {}).get("availableReplicas") == REPLICAS)


async def _watch_outage(clock: Clock, held: Side, lost: Side) -> None:
    """Record events for six minutes and until all expected evictions have happened."""
    evicting = lost.pods_named(APP) | lost.pods_named("never")
    while True:
        for side in (held, lost):
            node = await side.env.home.get("nodes", name=side.env.node)
            if nodelog.condition(node, nodelog.FOREIGN)["status"] == "False":
                clock.note(
                    side, "farlet reports on the Node that the foreign API server does not answer"
                )
            if nodelog.condition(node, nodelog.READY)["status"] != "True":
                clock.note(side, "the Node is not ready")
            if nodelog.taints_of_home(node):
                clock.note(side, "the home cluster taints the Node")
            if nodelog.cordoned(node):
                clock.note(side, "the Node accepts no new pods")
            pods = await _pods(side)
            gone = {manifests.uid(pod) for pod in side.before} - pods.keys()
            assert gone == set(), "only the foreign cluster can confirm that pods have ended"
            states = {manifests.state(pod) for uid, pod in pods.items() if _here(side, pod)}
            assert states == {"Running/-"}
        pods = await _pods(lost)
        going = {uid for uid, pod in pods.items() if "deletionTimestamp" in pod["metadata"]}
        if going:
            clock.note(lost, "the home cluster evicts the first pod")
        elsewhere = [pod for pod in pods.values() if not _here(lost, pod)]
        running = [pod for pod in elsewhere if manifests.state(pod) == "Running/-"]
        if len(running) == REPLICAS:
            clock.note(lost, "all replicas run on other nodes")
        done = going == evicting and len(running) == REPLICAS
        if clock.now > OUTAGE_SECONDS and done:
            return
        assert clock.now < OUTAGE_SECONDS + EVICTED_SECONDS, f"only {len(going)} pods were evicted"
        await asyncio.sleep(1)


async def _back(clock: Clock, side: Side) -> None:
    """Return once the Node is ready and both clusters agree."""
    await side.env.home.until("nodes", nodelog.well, name=side.env.node, seconds=BACK_SECONDS)
    clock.note(side, "the Node is as before")
    await side.env.settled(seconds=SETTLED_SECONDS)
    clock.note(side, "home and foreign cluster agree")


async def _held_as_documented(held: Side) -> None:
    """The home cluster shows the same pods, mirrors and containers, on a ready Node."""
    held.log.never_flapped()
    after = await held.env.observe()
    assert _uids(after.pods) == _uids(held.before)
    for pod in (*after.pods, *after.mirrors):
        (container,) = pod["status"]["containerStatuses"]
        assert container["restartCount"] == 0
    assert held.farlet.process.alive


async def _lost_as_documented(lost: Side) -> None:
    """Pods were evicted as from a dead machine, except the one that tolerates the outage."""
    after = await lost.env.observe()
    assert _uids(after.pods) == lost.pods_named("patient")
    assert len(after.mirrors) == 1
    pods = await _pods(lost)
    elsewhere = [pod for pod in pods.values() if not _here(lost, pod)]
    assert [manifests.state(pod) for pod in elsewhere] == ["Running/-"] * REPLICAS
    (patient,) = (pods[uid] for uid in lost.pods_named("patient"))
    assert patient["status"]["containerStatuses"][0]["restartCount"] == 0
    assert lost.farlet.process.alive


def _ran_once(held: Side, lost: Side, began: auditlog.Mark, ledger: Path) -> None:
    first = {uid for side in (held, lost) for uid in _uids(side.before)}
    written = Counter(ledger.read_text().split())
    assert written == dict.fromkeys(first, 1)
    for side in (held, lost):
        names = {pod["metadata"]["name"] for pod in side.before}
        assert side.env.runs(began) == dict.fromkeys(names, 1)


async def _pods(side: Side) -> dict[str, rest.Object]:
    """All pods of the home namespace by uid, on any node."""
    found = await side.env.home.list("pods", namespace=side.env.workspace.home)
    return {manifests.uid(pod): pod for pod in found}


def _here(side: Side, pod: rest.Object) -> bool:
    return bool(pod["spec"].get("nodeName") == side.env.node)


def _uids(pods: Iterable[rest.Object]) -> set[str]:
    return {manifests.uid(pod) for pod in pods}


async def _fakes(env: Environment) -> list[str]:
    """Names of the home cluster's own nodes."""
    nodes = await env.home.list("nodes", labelSelector="farlet.test/node=fake")
    return [node["metadata"]["name"] for node in nodes]


def _writing(ledger: Path, **spec: object) -> dict[str, Any]:
    """Arguments of a pod that writes its home uid into the ledger and keeps running."""
    uid = {"valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}
    return {
        "container": {
            "command": ["sh", "-c", 'echo "$HOME_UID" >> /ledger/lines; exec sleep inf'],
            "env": [{"name": "HOME_UID", **uid}],
            "volumeMounts": [{"name": "ledger", "mountPath": "/ledger"}],
        },
        "spec": {
            "volumes": [{"name": "ledger", "hostPath": {"path": str(ledger.parent)}}],
            **spec,
        },
    }


def _deployment(ledger: Path, nodes: list[str]) -> dict[str, Any]:
    """A Deployment for those nodes, with the default tolerations of the home cluster."""
    labels = {"app": APP}
    writing = _writing(ledger)
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": nodes}
    required = {"nodeSelectorTerms": [{"matchExpressions": [here]}]}
    return {
        "metadata": {"name": APP},
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "tolerations": [{"key": virtualnode.TAINT, "operator": "Exists"}],
                    "affinity": {
                        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}
                    },
                    "containers": [
                        {"name": "main", "image": images.CLIENTS, **writing["container"]}
                    ],
                    **writing["spec"],
                },
            },
        },
    }


def _write(*sides: Side) -> None:
    today = datetime.datetime.now(datetime.UTC).date()
    machine = (
        f"`make soak` on {report.machine_text(report.machine())}; both control planes, a real "
        "foreign node and two farlets on this machine. The home cluster has the default settings "
        "of Kubernetes."
    )
    pods = (
        f"Each node ran a Deployment with {REPLICAS} replicas, a bare pod, and a pod that "
        "tolerates an outage without limit. Seconds count from the moment when the foreign API "
        "server was killed."
    )
    title = f"# Six minutes without the foreign API server, {today}"
    purpose = (
        "Purpose: check what the home cluster shows and does during an outage of the foreign API "
        "server, in both modes of `--foreign-unreachable`."
    )
    lines = [title, "", purpose, "", machine, "", pods]
    for side in sides:
        lines += [
            "",
            f"## `--foreign-unreachable={side.policy}`",
            "",
            "| second | event |",
            "|---|---|",
        ]
        lines += [f"| {at:.0f} | {what} |" for what, at in sorted(side.times.items(), key=_at)]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{today}-outage.md").write_text("\n".join(lines) + "\n")


def _at(item: tuple[str, float]) -> float:
    return item[1]
