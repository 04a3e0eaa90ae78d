"""Every manifest of the access mode tests, run natively and then through farlet.

This module only collects results; `test_access_modes.py` compares them.
"""

import asyncio
import contextlib
import dataclasses
import json
import secrets
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence

from clusters import auditlog, cordons, farlet, pair, rest, workspace
from clusters.cluster import Cluster
from clusters.identity import Identity
from integration import realpods

POD = "who"
BYSTANDER = "bystander"
CARRIER, GUEST = "carrier", "guest"
PATIENCE = 400.0  # some forty clients at once, on a busy machine


@dataclasses.dataclass(frozen=True)
class Case:
    mode: str
    account: str
    guest: str | None = None  # the foreign account in the annotation

    @property
    def name(self) -> str:
        return f"{self.mode}-{self.guest or self.account}"

    @property
    def clients(self) -> tuple[str, ...]:
        return realpods.CLIENTS if self.guest is None else ("go",)

    @property
    def user_agents(self) -> int:
        return realpods.USER_AGENTS if self.guest is None else 1

    def manifest(self) -> str:
        annotations = {realpods.ACCESS: self.mode} if self.mode != "unset" else {}
        if self.guest is not None:
            annotations[realpods.ACCOUNT] = self.guest
        account = {} if self.account == "default" else {"serviceAccountName": self.account}
        command = ["client-all"] if self.guest is None else ["client-go"]
        return json.dumps(realpods.pod(POD, *command, annotations=annotations, **account))


HOME = [Case("unset", "default"), Case("home", CARRIER)]  # unset means home
REMOTE = [Case("remote", "default"), Case("remote", CARRIER)]
NAMED = Case("remote", "default", GUEST)
DISABLED = [Case("disabled", "default"), Case("disabled", CARRIER)]
CASES = [*HOME, *REMOTE, NAMED, *DISABLED]
AT_HOME = [*HOME, REMOTE[0], DISABLED[0]]
"""Cases that run natively in the home cluster, which ignores the annotations: one of each."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a manifest; `mirror` is the pod whose containers ran."""

    pod: rest.Object
    mirror: rest.Object
    node_uids: dict[str, str]
    lines: dict[str, realpods.OutputLine]

    def output_of(self, client: str) -> realpods.OutputLine:
        """The output of a client, with its uids, node and address replaced by placeholders."""
        line = json.loads(json.dumps(self.lines[client]))
        line["host"] = "ADDRESS" if str(line["host"]).startswith("https://") else line["host"]
        extra = line["extra"]
        node = self.pod["spec"]["nodeName"]
        for key, known in {
            "pod-uid": self.pod["metadata"]["uid"],
            "node-name": node,
            "node-uid": self.node_uids[node],
        }.items():
            assert extra[f"authentication.kubernetes.io/{key}"] == [known], line
            extra[f"authentication.kubernetes.io/{key}"] = key
        assert extra["authentication.kubernetes.io/credential-id"][0].startswith("JTI="), line
        extra["authentication.kubernetes.io/credential-id"] = "credential"
        return dict(line)


@dataclasses.dataclass(frozen=True)
class Native:
    """The runs without farlet; the runs with farlet use the same namespaces."""

    spaces: dict[Case, workspace.Workspace]
    home: dict[Case, Run]
    foreign: dict[Case, Run]  # native in the foreign cluster


@dataclasses.dataclass(frozen=True)
class Seen:
    """All runs, and the audit logs since the creation of farlet's pods."""

    clusters: pair.Clusters
    native: Native
    through_farlet: dict[Case, Run]
    home_mark: auditlog.Mark
    foreign_mark: auditlog.Mark

    def asked_home(self, **wanted: str) -> Iterator[auditlog.Entry]:
        return self.clusters.home.audit(since=self.home_mark, **wanted)

    def asked_foreign(self, **wanted: str) -> Iterator[auditlog.Entry]:
        return self.clusters.foreign.audit(since=self.foreign_mark, **wanted)


@contextlib.asynccontextmanager
async def natively(clusters: pair.Clusters) -> AsyncIterator[Native]:
    """Run the manifests without farlet; the namespaces are deleted at the end."""
    async with clusters.home.api() as home, clusters.foreign.api() as foreign:
        await workspace.create_farlet_namespace(foreign)
        made = await asyncio.gather(*(_space(home, foreign) for _ in CASES))
        spaces = dict(zip(CASES, made, strict=True))
        try:
            at_home, in_foreign = await asyncio.gather(
                _run(clusters.home, {case: spaces[case].home for case in AT_HOME}),
                _run(clusters.foreign, {case: spaces[case].foreign for case in REMOTE}),
            )
            yield Native(spaces, at_home, in_foreign)
        finally:
            await asyncio.gather(
                *(workspace.delete(home, foreign, space) for space in spaces.values())
            )


@contextlib.asynccontextmanager
async def through_farlet(
    clusters: pair.Clusters,
    native: Native,
    cases: Sequence[Case],
    *,
    identity: Identity,
    settings: Mapping[str, str | None],
) -> AsyncIterator[Seen]:
    """Run these manifests on a virtual node; pods, mirrors and node are deleted at the end."""
    node = f"virtual-{secrets.token_hex(3)}"
    real = clusters.home.real_node
    spaces = {case: native.spaces[case] for case in cases}
    async with clusters.home.api() as home, clusters.foreign.api() as foreign:
        process = farlet.create(
            clusters, node=node, identity=identity, settings={**realpods.AS_REAL, **settings}
        )
        process.start()
        try:
            await process.ready()
            await cordons.close(home, real)
            marks = clusters.home.audit_mark(), clusters.foreign.audit_mark()
            through = await _run_through_farlet(clusters, spaces)
            yield Seen(clusters, native, through, *marks)
            await _remove(home, [space.home for space in spaces.values()])
            # A finished home pod is gone before farlet has removed its mirror.
            await _until_gone(foreign, [space.foreign for space in spaces.values()])
        finally:
            await process.stop()
            await cordons.reopen(home, real)
            await home.delete("nodes", name=node)
            # The next farlet serves another node, and would not own what a failed run left here.
            for api, each in (
                (home, [space.home for space in spaces.values()]),
                (foreign, [space.foreign for space in spaces.values()]),
            ):
                await _force(api, each)


async def _remove(api: rest.Api, namespaces: Collection[str]) -> None:
    """Delete the pods of manifests, and return once they are gone."""
    for namespace in namespaces:
        await api.delete("pods", name=POD, namespace=namespace)
    await _until_gone(api, namespaces)


async def _until_gone(api: rest.Api, namespaces: Collection[str]) -> None:
    for namespace in namespaces:
        await api.until("pods", rest.gone, name=POD, namespace=namespace)


async def _force(api: rest.Api, namespaces: Collection[str]) -> None:
    """Delete them at once, with their finalizers: the farlet that would remove these has ended."""
    for namespace in namespaces:
        if await api.find("pods", name=POD, namespace=namespace) is not None:
            await workspace.force(api, POD, namespace=namespace)
    await _until_gone(api, namespaces)


async def _space(home: rest.Api, foreign: rest.Api) -> workspace.Workspace:
    """Namespaces with accounts that can list pods, and in each a pod named by its cluster."""
    space = await workspace.create(home, foreign)
    for api, namespace, side in ((home, space.home, "home"), (foreign, space.foreign, "foreign")):
        for account in ("default", CARRIER, GUEST):
            if account != "default":
                await api.create(
                    "serviceaccounts", {"metadata": {"name": account}}, namespace=namespace
                )
            await workspace.allow_listing_pods(api, namespace=namespace, account=account)
        still = realpods.pod(f"{BYSTANDER}-{side}", nodeSelector={"farlet.test/node": "fake"})
        await api.create("pods", still, namespace=namespace)
    return space


async def _run(cluster: Cluster, namespaces: dict[Case, str]) -> dict[Case, Run]:
    """Run each manifest natively, and delete the pod."""
    async with cluster.api() as api:
        for case, namespace in namespaces.items():
            await realpods.create(cluster, case.manifest(), namespace=namespace)
        ended = await realpods.outputs(
            api, [(one, POD) for one in namespaces.values()], seconds=PATIENCE
        )
        await _remove(api, namespaces.values())
        uids = await _node_uids(api)
    return {
        case: Run(pod, pod, uids, _by_client(case, output))
        for case, (pod, output) in zip(namespaces, ended, strict=True)
    }


async def _run_through_farlet(
    clusters: pair.Clusters, spaces: dict[Case, workspace.Workspace]
) -> dict[Case, Run]:
    """Run each manifest in the home cluster, where all nodes but the virtual one are cordoned."""
    for case, space in spaces.items():
        await realpods.create(clusters.home, case.manifest(), namespace=space.home)
    async with clusters.home.api() as home, clusters.foreign.api() as foreign:
        mirrors = await realpods.outputs(
            foreign, [(space.foreign, POD) for space in spaces.values()], seconds=PATIENCE
        )
        pods = [
            await home.until("pods", realpods.ENDED, name=POD, namespace=space.home)
            for space in spaces.values()
        ]
        uids = await _node_uids(home) | await _node_uids(foreign)
    return {
        case: Run(pod, mirror, uids, _by_client(case, output))
        for case, pod, (mirror, output) in zip(spaces, pods, mirrors, strict=True)
    }


async def _node_uids(api: rest.Api) -> dict[str, str]:
    nodes = await api.list("nodes")
    return {node["metadata"]["name"]: node["metadata"]["uid"] for node in nodes}


def _by_client(case: Case, output: str) -> dict[str, realpods.OutputLine]:
    found = {line["client"]: line for line in realpods.lines(output)}
    assert sorted(found) == sorted(case.clients), output
    return found
