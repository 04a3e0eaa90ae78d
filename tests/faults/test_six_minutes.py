"""Six minutes without the foreign API server, for both ways to tell home of it, at once.

Home evicts pods from a node that is not ready after five minutes, unless they say otherwise: so
six are enough to see what `hold` spares and what `notready` brings. What ran is told by two ledgers
that farlet has no part in: the foreign audit log (which mirrors were made) and a file of the
foreign real node, into which each container writes its home uid when it begins. The times go into
`docs/soak/`.
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
from faults.stage import Stage
from integration.nodes import nodelog

pytestmark = [pytest.mark.clusters, pytest.mark.soak]

OUTAGE_SECONDS = 360.0
EVICTED_SECONDS = 60.0  # home's five minutes count from when it knows, which takes one more
BACK_SECONDS = 90.0
SETTLED_SECONDS = 180.0
REPLICAS = 3
HOLD, NOTREADY = "hold", "notready"
APP = "web"
RESULTS = Path(__file__).parents[2] / "docs" / "soak"


@pytest.fixture(scope="module")
def clusters(request: pytest.FixtureRequest) -> Iterator[pair.Clusters]:
    """Containers abroad are real; home has the patience that Kubernetes ships with."""
    usual = controlplane.Options(node_grace="50s")
    both = pair.start(
        home=Spec("home", options=usual),
        foreign=Spec("foreign", number=2, real_node=True, fake_nodes=0),
    )
    with lending.lent(both, request.config):
        yield both


@dataclasses.dataclass(frozen=True)
class Side:
    """One virtual node, what home is told of it, and what has happened when."""

    policy: str
    stage: Stage
    farlet: farlets.Farlet
    log: nodelog.NodeLog
    before: list[rest.Object]
    times: dict[str, float] = dataclasses.field(default_factory=dict)

    def pods_named(self, prefix: str) -> set[str]:
        """The uids of those of the first pods whose names begin so."""
        return {
            manifests.uid(pod) for pod in self.before if pod["metadata"]["name"].startswith(prefix)
        }


class Clock:
    """Notes when something was first seen, in seconds since the foreign API server was killed."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    @property
    def now(self) -> float:
        return time.monotonic() - self._begun

    def note(self, side: Side, what: str) -> None:
        side.times.setdefault(what, self.now)


async def test_six_minutes_without_the_foreign_api_server_end_as_documented(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    ledger = stage.clusters.foreign.folder / f"ledger-{stage.node}" / "lines"
    ledger.parent.mkdir()
    ledger.touch()
    began = stage.clusters.foreign.audit_mark()
    async with _other(stage) as other, contextlib.AsyncExitStack() as stack:
        held, lost = [
            await _begin(stack, one, policy, ledger, start_farlet)
            for one, policy in ((stage, HOLD), (other, NOTREADY))
        ]
        await cordons.reopen(stage.home, *await _fakes(stage))
        server = stage.clusters.foreign.apiserver
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
async def _other(stage: Stage) -> AsyncIterator[Stage]:
    """A second node and its namespaces on the same clusters."""
    more = await workspaces.create(stage.home, stage.foreign)
    node = f"virtual-{secrets.token_hex(3)}"
    yield dataclasses.replace(stage, workspace=more, node=node)
    await stage.home.delete("nodes", name=node)
    await workspaces.delete(stage.home, stage.foreign, more)


async def _begin(
    stack: contextlib.AsyncExitStack,
    stage: Stage,
    policy: str,
    ledger: Path,
    start_farlet: StartFarlet,
) -> Side:
    """A farlet with pods that run on its node, where home's other nodes take none yet."""
    fakes = await _fakes(stage)
    await cordons.close(stage.home, *fakes)
    farlet = await start_farlet(
        stage.node,
        settings={"foreign-unreachable": policy},
        arguments=["--allow-pod-feature", "host-path"],
    )
    await stage.home.create(
        "deployments",
        _deployment(ledger, [stage.node, *fakes]),
        namespace=stage.workspace.home,
    )
    forever = [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute"}
        for key in ("not-ready", "unreachable")
    ]
    await stage.create(
        stage.pod("never", restart="Never", on="real", **_writing(ledger)),
        stage.pod("patient", on="real", **_writing(ledger, tolerations=forever)),
    )
    await stage.home.until("deployments", _available, name=APP, namespace=stage.workspace.home)
    before = (await stage.settled()).pods
    assert [manifests.state(pod) for pod in before] == ["Running/-"] * (REPLICAS + 2)
    log = await stack.enter_async_context(nodelog.kept(stage.home, stage.node))
    return Side(policy, stage, farlet, log, before)


def _available(seen: rest.Object | None) -> bool:
    return bool((seen or {}).get("status", {}).get("availableReplicas") == REPLICAS)


async def _watch_outage(clock: Clock, held: Side, lost: Side) -> None:
    """Note what is told and what goes, for six minutes, and until home has evicted what it may."""
    evicting = lost.pods_named(APP) | lost.pods_named("never")
    while True:
        for side in (held, lost):
            node = await side.stage.home.get("nodes", name=side.stage.node)
            if nodelog.condition(node, nodelog.FOREIGN)["status"] == "False":
                clock.note(side, "home is told that the foreign side does not answer")
            if nodelog.condition(node, nodelog.READY)["status"] != "True":
                clock.note(side, "the Node is not ready")
            if nodelog.taints_of_home(node):
                clock.note(side, "home taints the Node")
            if nodelog.cordoned(node):
                clock.note(side, "the Node takes no new pods")
            pods = await _pods(side)
            gone = {manifests.uid(pod) for pod in side.before} - pods.keys()
            assert gone == set(), "only the foreign side can say that they have ended"
            states = {manifests.state(pod) for uid, pod in pods.items() if _here(side, pod)}
            assert states == {"Running/-"}
        pods = await _pods(lost)
        going = {uid for uid, pod in pods.items() if "deletionTimestamp" in pod["metadata"]}
        if going:
            clock.note(lost, "home evicts the first pod")
        elsewhere = [pod for pod in pods.values() if not _here(lost, pod)]
        running = [pod for pod in elsewhere if manifests.state(pod) == "Running/-"]
        if len(running) == REPLICAS:
            clock.note(lost, "all replicas run elsewhere")
        done = going == evicting and len(running) == REPLICAS
        if clock.now > OUTAGE_SECONDS and done:
            return
        assert clock.now < OUTAGE_SECONDS + EVICTED_SECONDS, f"home evicted {len(going)} pods only"
        await asyncio.sleep(1)


async def _back(clock: Clock, side: Side) -> None:
    """Return once the Node is well and both sides agree."""
    await side.stage.home.until("nodes", nodelog.well, name=side.stage.node, seconds=BACK_SECONDS)
    clock.note(side, "the Node is as before")
    await side.stage.settled(seconds=SETTLED_SECONDS)
    clock.note(side, "both sides agree")


async def _held_as_documented(held: Side) -> None:
    """Nothing happened at home: same pods, same mirrors, same containers, on a ready Node."""
    held.log.never_flapped()
    after = await held.stage.sight()
    assert _uids(after.pods) == _uids(held.before)
    for pod in (*after.pods, *after.mirrors):
        (container,) = pod["status"]["containerStatuses"]
        assert container["restartCount"] == 0
    assert held.farlet.process.alive


async def _lost_as_documented(lost: Side) -> None:
    """Pods went as from a dead machine, but for the one that tolerates it; replicas run at home."""
    after = await lost.stage.sight()
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
        assert side.stage.runs(began) == dict.fromkeys(names, 1)


async def _pods(side: Side) -> dict[str, rest.Object]:
    """All pods of the side's home namespace by uid, wherever they are."""
    found = await side.stage.home.list("pods", namespace=side.stage.workspace.home)
    return {manifests.uid(pod): pod for pod in found}


def _here(side: Side, pod: rest.Object) -> bool:
    return bool(pod["spec"].get("nodeName") == side.stage.node)


def _uids(pods: Iterable[rest.Object]) -> set[str]:
    return {manifests.uid(pod) for pod in pods}


async def _fakes(stage: Stage) -> list[str]:
    """Home's own nodes."""
    nodes = await stage.home.list("nodes", labelSelector="farlet.test/node=fake")
    return [node["metadata"]["name"] for node in nodes]


def _writing(ledger: Path, **spec: object) -> dict[str, Any]:
    """Arguments of a pod that writes its home uid into the ledger, and goes on."""
    uid = {"valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}
    return {
        "container": {
            "command": ["sh", "-c", 'echo "$UID_AT_HOME" >> /ledger/lines; exec sleep inf'],
            "env": [{"name": "UID_AT_HOME", **uid}],
            "volumeMounts": [{"name": "ledger", "mountPath": "/ledger"}],
        },
        "spec": {
            "volumes": [{"name": "ledger", "hostPath": {"path": str(ledger.parent)}}],
            **spec,
        },
    }


def _deployment(ledger: Path, nodes: list[str]) -> dict[str, Any]:
    """Replicas for those nodes; tolerations of an outage are those that home's admission gives."""
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
    where = report.machine()
    machine = (
        f"`make soak` on {where['cores']} cores ({where['cpu']}), {where['memory_gib']} GiB, "
        f"Python {where['python']}; both control planes, a real foreign node and two farlets on "
        "this machine. Home's settings are those that Kubernetes ships with."
    )
    pods = (
        f"On each node ran a Deployment of {REPLICAS}, a bare pod, and a pod that tolerates an "
        "outage for ever. Seconds count from when the foreign API server was killed."
    )
    title = f"# Six minutes without the foreign API server, {today}"
    lines = [title, "", machine, "", pods]
    for side in sides:
        lines += [
            "",
            f"## `--foreign-unreachable={side.policy}`",
            "",
            "| second | what |",
            "|---|---|",
        ]
        lines += [f"| {at:.0f} | {what} |" for what, at in sorted(side.times.items(), key=_at)]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{today}-outage.md").write_text("\n".join(lines) + "\n")


def _at(item: tuple[str, float]) -> float:
    return item[1]
