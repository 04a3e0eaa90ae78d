"""Requests and passes per pod.

Requests are counted in both audit logs by farlet's user agent, passes by its metrics.

A pod's requests are those that contain its name, its ServiceAccount (here each pod has one with its
own name) or its Secret. Watches, lists and Events are not part of a pod's budget: they are counted
separately and printed.
"""

import asyncio
import collections
import dataclasses
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pytest

from clusters import auditlog, cluster, pair, refusals, rest
from clusters import farlet as farlets
from clusters.workspace import Workspace
from conftest import StartFarlet
from faults import manifests, proxy, writes
from faults.fixtures import StartProxied
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.core, pytest.mark.takes(160)]

AGENT = "farlet/"
PODS = 12
QUIET_SECONDS = 1.0
ENOUGH_SECONDS = 90.0
LAGGED = frozenset(f"create serviceaccounts/token {code}" for code in refusals.ASKED_TOO_SOON)
"""The home API server's caches do not contain the binding yet; only one audience is retried."""
MOST_LAGGED = 5
LAGGED_EACH = 0.1
"""Minimum seconds between two such requests; lagging caches can cause more than `MOST_LAGGED`."""
REFRESH_SECONDS = 24
MOST_PASSES = 3
"""To Running, and to gone; each retry for lagging caches is one more."""


@dataclasses.dataclass(frozen=True)
class Spent:
    """Requests as `verb resource/subresource code`, in order."""

    home: list[str]
    foreign: list[str]
    lagged: float = 0.0
    """Seconds until home's caches contained the pod."""

    def within_lag(self) -> bool:
        """Check that requests to lagging caches were not repeated too fast."""
        count = sum(word in LAGGED for word in self.home)
        return count <= MOST_LAGGED + self.lagged / LAGGED_EACH

    def without_lag(self) -> list[str]:
        return [word for word in self.home if word not in LAGGED]


async def spent(
    clusters: pair.Clusters,
    marks: Mapping[str, auditlog.Mark],
    pods: Sequence[Mapping[str, Any]],
    *,
    foreign: int = 0,
) -> dict[str, Spent]:
    """The requests of each pod since `marks`, once no request was sent for a while.

    It also waits until each pod has the expected number of requests to the foreign cluster.
    """
    before = -1
    deadline = time.monotonic() + ENOUGH_SECONDS
    while True:
        entries = {side.name: _own(side, marks[side.name]) for side in _sides(clusters)}
        costs = {pod["metadata"]["name"]: _spent(clusters, pod, entries) for pod in pods}
        count = sum(map(len, entries.values()))
        enough = all(len(cost.foreign) >= foreign for cost in costs.values())
        if count == before and (enough or time.monotonic() > deadline):
            return costs
        before = count
        await asyncio.sleep(QUIET_SECONDS)


def _spent(
    clusters: pair.Clusters,
    pod: Mapping[str, Any],
    entries: Mapping[str, Sequence[auditlog.Entry]],
) -> Spent:
    home, foreign = (
        [entry for entry in entries[side.name] if _of(pod, entry)] for side in _sides(clusters)
    )
    early = [entry.time for entry in home if _word(entry) in LAGGED]
    return Spent(
        [_word(entry) for entry in home],
        [_word(entry) for entry in foreign],
        (max(early) - min(early)).total_seconds() if early else 0.0,
    )


def mark(clusters: pair.Clusters) -> dict[str, auditlog.Mark]:
    return {side.name: side.audit_mark() for side in _sides(clusters)}


def _sides(clusters: pair.Clusters) -> tuple[cluster.Cluster, cluster.Cluster]:
    return clusters.home, clusters.foreign


def _own(side: cluster.Cluster, since: auditlog.Mark) -> list[auditlog.Entry]:
    return [
        entry
        for entry in side.audit(since=since, user_agent=AGENT)
        if entry.verb not in {"list", "watch"} and entry.resource != "events"
    ]


def _of(pod: Mapping[str, Any], entry: auditlog.Entry) -> bool:
    name, uid = pod["metadata"]["name"], manifests.uid(pod)
    return entry.name == name or uid in entry.name


def _word(entry: auditlog.Entry) -> str:
    resource = "/".join(word for word in (entry.resource, entry.subresource) if word)
    return f"{entry.verb} {resource} {entry.code}"


@dataclasses.dataclass(frozen=True)
class Environment:
    """A running farlet and its environment."""

    clusters: pair.Clusters
    home: rest.Api
    foreign: rest.Api
    workspace: Workspace
    node: str
    farlet: farlets.Farlet
    passes_before: list[int] = dataclasses.field(default_factory=list)
    """Passes when the pods of `running` were created."""

    async def passes(self) -> int:
        """How often farlet has processed a pod."""
        count = r'^workqueue_work_duration_seconds_count\{name="pods"\} ([0-9.]+)$'
        found = re.search(count, await self.farlet.metrics(), re.MULTILINE)
        return 0 if found is None else int(float(found[1]))

    async def running(
        self, manifest: Callable[[str], dict[str, Any]], *, mode: str = "disabled"
    ) -> list[rest.Object]:
        """Pods created concurrently, each with its own ServiceAccount, once all run.

        Whatever a first pod of the mode opens is open before.
        """
        pods = [manifest(f"pod-{number}") for number in range(PODS)]
        for api, namespace in (
            (self.home, self.workspace.home),
            (self.foreign, self.workspace.foreign),
        ):
            for pod in pods:
                account = {"metadata": {"name": pod["metadata"]["name"]}}
                await api.create("serviceaccounts", account, namespace=namespace)
        await self.settle(mode)
        marks = mark(self.clusters)
        self.passes_before.append(await self.passes())
        await asyncio.gather(
            *(self.home.create("pods", pod, namespace=self.workspace.home) for pod in pods)
        )
        made = await asyncio.gather(*(self.seen(pod, rest.phase("Running")) for pod in pods))
        self.report(marks)
        return list(made)

    async def settle(self, mode: str) -> None:
        """Open the namespace and its watches first: these requests do not belong to a pod."""
        first = manifests.pod("first", node=self.node, annotations=manifests.access(mode))
        await self.home.create("pods", first, namespace=self.workspace.home)
        await self.seen(first, rest.phase("Running"))

    async def finish(self, pod: Mapping[str, Any]) -> None:
        """End the pod's mirror on a fake node with Succeeded."""
        await self.foreign.patch(
            "pods",
            {"metadata": {"annotations": {manifests.FINISH: "Succeeded"}}},
            name=pod["metadata"]["name"],
            namespace=self.workspace.foreign,
        )

    async def seen(self, pod: Mapping[str, Any], condition: rest.Condition) -> rest.Object:
        name = pod["metadata"]["name"]
        return await self.home.until(
            "pods", condition, name=name, namespace=self.workspace.home, seconds=180
        )

    def report(self, marks: Mapping[str, auditlog.Mark]) -> None:
        """Print the requests that belong to no pod."""
        for side in _sides(self.clusters):
            apart = collections.Counter(
                _word(entry)
                for stage in ("ResponseComplete", "ResponseStarted")
                for entry in side.audit(since=marks[side.name], user_agent=AGENT, stage=stage)
                if entry.verb in {"list", "watch"} or entry.resource == "events"
            )
            print(f"{side.name}, other requests: {dict(apart)}")


@pytest.fixture
async def env(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> Environment:
    return Environment(clusters, home, foreign, workspace, node, await start_farlet(node))


def _account(name: str) -> dict[str, Any]:
    return {"serviceAccountName": name}


def _tokens(*audiences: str) -> dict[str, Any]:
    sources = [
        {"serviceAccountToken": {"path": audience, "audience": audience}} for audience in audiences
    ]
    return {"volumes": [{"name": "more", "projected": {"sources": sources}}]}


@pytest.mark.parametrize(
    ("mode", "audiences", "most_home", "most_foreign"),
    [
        pytest.param("home", (), 3, 2, id="home"),
        pytest.param("home", ("one",), 4, 2, id="home with an additional audience"),
        pytest.param("home", ("one", "two"), 5, 2, id="home with two additional audiences"),
        pytest.param("remote", (), 2, 1, id="remote"),
        pytest.param("disabled", (), 2, 1, id="disabled"),
    ],
)
async def test_a_pod_starts_and_is_deleted_within_its_budget(
    env: Environment, mode: str, audiences: tuple[str, ...], most_home: int, most_foreign: int
) -> None:
    def manifest(name: str) -> dict[str, Any]:
        return manifests.pod(
            name,
            node=env.node,
            annotations=manifests.access(mode),
            spec=_account(name) | (_tokens(*audiences) if audiences else {}),
        )

    began = mark(env.clusters)
    pods = await env.running(manifest, mode=mode)
    costs = await spent(env.clusters, began, pods, foreign=most_foreign)
    lagged = sum(len(cost.home) - len(cost.without_lag()) for cost in costs.values())
    started = await env.passes()
    assert started - env.passes_before[-1] <= MOST_PASSES * PODS + lagged
    for name, cost in costs.items():
        assert cost.within_lag(), (name, cost)
        assert len(cost.without_lag()) <= most_home, (name, cost)
        assert len(cost.foreign) <= most_foreign, (name, cost)
        assert cost.foreign[0] == "create pods 201", (name, cost)
        assert cost.home.count("create serviceaccounts/token 201") == (
            1 + len(audiences) if mode == "home" else 0
        ), (name, cost)

    deleting = mark(env.clusters)
    await _delete(env, pods)
    for name, cost in (await spent(env.clusters, deleting, pods)).items():
        assert len(cost.home) <= 2, (name, cost)
        assert cost.foreign == ["delete pods 200"], (name, cost)
        assert "delete pods 200" in cost.home, (name, cost)
    assert await env.passes() - started <= MOST_PASSES * PODS


async def test_events_of_a_mirror_cost_one_request_each(env: Environment) -> None:
    """A fake node writes no Events, so the scheduler's is the only one.

    A kubelet writes three more for a container: Pulled, Created, Started.
    """
    began = mark(env.clusters)
    pods = await env.running(
        lambda name: manifests.pod(
            name, node=env.node, annotations=manifests.access("disabled"), spec=_account(name)
        )
    )
    for pod in pods:
        await realpods.event(
            env.home, pod["metadata"]["name"], namespace=env.workspace.home, reason="Scheduled"
        )
    await spent(env.clusters, began, pods, foreign=1)
    sent = [
        entry
        for entry in env.clusters.home.audit(since=began["home"], user_agent=AGENT)
        if entry.resource == "events"
    ]
    for pod in pods:
        name = pod["metadata"]["name"]
        words = [_word(entry) for entry in sent if entry.name.rpartition(".")[0] == name]
        assert words == ["create events 201"], (name, words)


async def test_a_pod_that_ends_costs_one_status_and_one_finalizer(env: Environment) -> None:
    def manifest(name: str) -> dict[str, Any]:
        return manifests.pod(
            name,
            node=env.node,
            restart="Never",
            spec=_account(name),
        )

    pods = await _at_rest(env, manifest)
    ending = mark(env.clusters)
    await asyncio.gather(*(env.finish(pod) for pod in pods))
    await asyncio.gather(*(env.seen(pod, rest.phase("Succeeded")) for pod in pods))
    for name, cost in (await spent(env.clusters, ending, pods, foreign=1)).items():
        assert cost.home == ["patch pods/status 200"], (name, cost)
        assert cost.foreign == ["patch pods 200"], (name, cost)

    deleting = mark(env.clusters)
    await _delete(env, pods)
    for name, cost in (await spent(env.clusters, deleting, pods)).items():
        assert len(cost.home) <= 1, (name, cost)
        assert cost.foreign == ["delete pods 200"], (name, cost)


async def test_deleting_a_pod_whose_mirror_has_a_finalizer_costs_one_more_foreign_request(
    env: Environment,
) -> None:
    pods = await _at_rest(
        env,
        lambda name: manifests.pod(name, node=env.node, restart="Never", spec=_account(name)),
    )
    deleting = mark(env.clusters)
    await _delete(env, pods)
    for name, cost in (await spent(env.clusters, deleting, pods)).items():
        assert len(cost.home) <= 2, (name, cost)
        assert len(cost.foreign) <= 2, (name, cost)


async def test_a_token_refresh_costs_one_home_and_two_foreign_requests(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_proxied: StartProxied,
    home_proxy: proxy.Proxy,
) -> None:
    # A shortened lifetime of each pod's first token: exactly one refresh.
    home_proxy.on(writes.KINDS["token"].match, _first(writes.short_tokens(REFRESH_SECONDS)))
    farlet = await start_proxied(node)
    env = Environment(clusters, home, foreign, workspace, node, farlet)
    began = mark(clusters)
    pods = await env.running(lambda name: manifests.pod(name, node=env.node, spec=_account(name)))
    for name, cost in (await spent(clusters, began, pods, foreign=4)).items():
        refresh = Spent(cost.home[-1:], cost.foreign[2:])
        assert refresh.home == ["create serviceaccounts/token 201"], (name, cost)
        assert refresh.foreign == ["patch secrets 200", "patch pods 200"], (name, cost)
        assert len(cost.without_lag()) <= 3 + 1, (name, cost)


def _first(fault: proxy.Fault) -> proxy.Fault:
    """The fault, for the first granted request to each path."""
    met = set()

    async def first(request: proxy.Request, forward: proxy.Forward) -> proxy.Answer:
        if request.path in met:
            return await forward(request)
        answer = await fault(request, forward)
        if answer.code < 300:
            met.add(request.path)
        return answer

    return first


async def test_each_visible_change_of_a_burst_costs_at_most_one_status(env: Environment) -> None:
    pods = await _at_rest(env, lambda name: manifests.pod(name, node=env.node, spec=_account(name)))
    changing = mark(env.clusters)
    for count in (1, 2):
        for pod in pods:
            name = pod["metadata"]["name"]
            found = await env.foreign.get("pods", name=name, namespace=env.workspace.foreign)
            (container,) = found["status"]["containerStatuses"]
            container["restartCount"] = count
            await env.foreign.patch(
                "pods",
                {"status": {"containerStatuses": [container]}},
                name=name,
                namespace=env.workspace.foreign,
                subresource="status",
            )
    await asyncio.gather(*(env.seen(pod, _restarted(2)) for pod in pods))
    for name, cost in (await spent(env.clusters, changing, pods)).items():
        assert 1 <= len(cost.home) <= 2, (name, cost)
        assert set(cost.home) == {"patch pods/status 200"}, (name, cost)
        assert cost.foreign == [], (name, cost)


async def test_a_rejected_pod_costs_one_status_regardless_of_how_long_it_waits(
    env: Environment,
) -> None:
    await env.settle("disabled")
    refusing = mark(env.clusters)
    bad = manifests.pod("bad", node=env.node, annotations={manifests.SUPPORT: "yes"})
    await env.home.create("pods", bad, namespace=env.workspace.home)
    made = await env.seen(bad, rest.reason("InvalidAPIServerSupport"))
    await asyncio.sleep(5)
    cost = (await spent(env.clusters, refusing, [made]))["bad"]
    assert cost == Spent(home=["patch pods/status 200"], foreign=[])


async def _at_rest(
    env: Environment, manifest: Callable[[str], dict[str, Any]]
) -> list[rest.Object]:
    """Running pods of mode home with their Secrets, for which fake nodes do not wait."""
    began = mark(env.clusters)
    pods = await env.running(manifest)
    await spent(env.clusters, began, pods, foreign=2)
    return pods


def _restarted(count: int) -> rest.Condition:
    return lambda seen: (
        seen is not None
        and any(one["restartCount"] == count for one in seen["status"].get("containerStatuses", ()))
    )


async def _delete(env: Environment, pods: Iterable[Mapping[str, Any]]) -> None:
    namespace = env.workspace.home
    await asyncio.gather(
        *(
            env.home.delete("pods", name=pod["metadata"]["name"], namespace=namespace)
            for pod in pods
        )
    )
    await asyncio.gather(*(env.seen(pod, rest.gone) for pod in pods))
