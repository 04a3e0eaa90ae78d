"""From an installation of 0.1.0 by hand to a VirtualNode of this version, and back.

Both are as their pages say: 0.1.0 with its own manifests, and the rest with the commands of
docs/how-to/upgrade.md, in that order. Meanwhile pods are created, end and are deleted.
"""

import asyncio
import contextlib
import json
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clusters import cordons, farletimage, gateway, kwok, pair, rest
from clusters import progress as progresses
from clusters import workspace as workspaces
from clusters.farlet import ROOT
from clusters.identity import Identity
from farlet import __version__
from faults import random_pods, released
from faults.environment import Environment
from integration import incluster, pages, realpods

pytestmark = [pytest.mark.clusters, pytest.mark.soak]

SEED = 2_2026
FIRST = 60
SYSTEM = "farlet"
SERVER = "server"
PAGE = ROOT / "docs" / "how-to" / "upgrade.md"
SECTION = "## From an installation by hand to a VirtualNode, and back\n"
NODES = "farlet.io/v1alpha1/virtualnodes"
ACCOUNT = "- ../../service-account"
KEPT = ("uid", "labels", "annotations")
ADOPTED = (
    "serviceaccounts",
    "networking.k8s.io/v1/networkpolicies",
    "policy/v1/poddisruptionbudgets",
)


class Page:
    """The section of the page: its VirtualNode, and its commands in the order of the page."""

    def __init__(self) -> None:
        text = PAGE.read_text().partition(SECTION)[2].partition("\n## ")[0]
        self.manager, self.apply, self.hand_over, self.back = pages.blocks(text)
        self.node = text.partition("```yaml\n")[2].partition("```")[0]


class Site:
    """The checkouts of both versions, whose files an administrator has edited."""

    def __init__(self, clusters: pair.Clusters, folder: Path, identity: Identity) -> None:
        self._clusters = clusters
        self._identity = identity
        self.released = released.checkout(folder / "released")
        self.present = folder / "present"
        for name in ("manifests", "crds"):
            shutil.copytree(ROOT / name, self.present / name)
        node = self.released / "manifests" / "home" / "nodes" / "far"
        _edit(node / "kustomization.yaml", {"#- ../../gateway": "- ../../gateway"})
        if identity is Identity.ACCOUNT:
            chosen = {"\n- ../../node-identity": "", "#- ../../service-account": ACCOUNT}
            _edit(node / "kustomization.yaml", chosen)
        _use_image(node / "kustomization.yaml", released.IMAGE, version=released.VERSION)
        _append(node / "settings.env", "FARLET_ALLOW_POD_FEATURE=host-path\n")
        _use_image(
            self.present / "manifests" / "default" / "kustomization.yaml",
            farletimage.NAME,
            version=__version__,
        )

    async def run(self, folder: Path, commands: str) -> None:
        """Run commands of a page in a checkout."""
        print(await asyncio.to_thread(pages.run, commands, self._clusters, folder=folder))

    async def install(self, space: workspaces.Workspace, link: gateway.Gateway) -> None:
        """0.1.0, as docs/installation.md and docs/gateway.md of its checkout say."""
        await self.run(
            self.released,
            f"""
            apply="kubectl --context foreign apply"
            $apply -f manifests/foreign/namespace.yaml
            $apply -k manifests/foreign
            $apply -n {space.foreign} -f manifests/foreign/offloaded-namespace.yaml
            kubectl --context home apply -f manifests/home/namespace.yaml
            """,
        )
        await asyncio.to_thread(
            incluster.write_credentials, self._clusters, self.released, node="far"
        )
        await self.run(
            self.released,
            f"""
            create="kubectl --context home -n farlet create secret generic"
            $create farlet-far-foreign --from-file kubeconfig=foreign.kubeconfig
            {self._identify(space)}
            $create farlet-far-gateway --from-file={link.keys}/home
            kubectl --context home apply -k manifests/home/nodes/far
            kubectl --context home -n farlet rollout status deploy/farlet-far
            """,
        )

    def _identify(self, space: workspaces.Workspace) -> str:
        """What gives farlet its identity in the home cluster, beside a component."""
        if self._identity is Identity.NODE:
            return "$create farlet-far-home --from-file kubeconfig=home.kubeconfig"
        bind = f"kubectl --context home -n {space.home} create rolebinding farlet-far"
        return f"{bind} --clusterrole farlet-far-pods --serviceaccount farlet:farlet-far"

    async def remove(self) -> None:
        """Delete everything of both versions in the home cluster."""
        await self.run(
            self.present,
            f"""
            delete="kubectl --context home delete --ignore-not-found"
            $delete -k {self.released}/manifests/home/nodes/far
            $delete -k manifests/default
            $delete -f crds
            $delete -f manifests/home/namespace.yaml
            $delete node far
            """,
        )

    def diagnostics(self) -> str:
        """The state of both installations, for the message of a failed test."""
        where = f"--namespace={SYSTEM}"
        home = self._clusters.home
        return "\n".join(
            home.kubectl(*command, where)
            for command in (
                ("get", "deployments,replicasets,pods", "-o", "wide"),
                ("get", NODES.rpartition("/")[2], "-o", "yaml", "--ignore-not-found"),
                ("logs", "--selector=app.kubernetes.io/name=farlet", "--prefix", "--tail=40"),
                ("logs", "--selector=app.kubernetes.io/name=farlet-manager", "--tail=80"),
            )
        )


@pytest.fixture
def node() -> str:
    """The name on the pages."""
    return "far"


@pytest.mark.parametrize("identity", Identity, ids=lambda one: one.value)
async def test_a_node_becomes_a_virtual_node_and_back_without_losing_or_repeating_a_pod(
    env: Environment, tmp_path: Path, identity: Identity
) -> None:
    page, site = Page(), Site(env.clusters, tmp_path, identity)
    virtual_node = f"{page.node}  allowPodFeatures: [host-path]\n"
    if identity is Identity.ACCOUNT:
        virtual_node += "  identity: ServiceAccount\n"
    (site.present / "far.yaml").write_text(virtual_node)
    async with _prepared(env, site, folder=tmp_path / "image") as link:
        await site.install(env.workspace, link)
        await link.use(released.IMAGE)
        await env.home.until("nodes", released.runs(released.VERSION), name="far")
        by_hand = await _objects(env)

        workload = random_pods.Workload(env, random.Random(SEED))
        await workload.create_pods(FIRST)
        await workload.create_real_pods()
        await _run_server(env)
        await env.create(env.pod("running"))
        before = [await env.mirror(one, rest.phase("Running")) for one in ("running", SERVER)]
        await env.settled()

        async with _node_stays_ready(env):
            await site.run(site.present, page.manager)
            await workload.accompany(site.run(site.present, page.apply))
            waiting = await env.home.get(NODES, name="far", namespace=SYSTEM)
            assert _ready(waiting) == ("True", "ObjectConflict")
            assert await _objects(env) == by_hand

            await workload.accompany(site.run(site.present, page.hand_over))
            await env.home.until(NODES, _serving, name="far", namespace=SYSTEM)
            await env.home.until("nodes", released.runs(__version__), name="far")
            await workload.accompany(link.use(farletimage.NAME))

            await workload.accompany(site.run(site.released, page.back))
            await env.home.until("nodes", released.runs(released.VERSION), name="far")
            await workload.accompany(link.use(released.IMAGE))
        assert await _objects(env) == by_hand

        await workload.check_runs()
        for one in before:
            now = await env.mirror(one["metadata"]["name"], rest.phase("Running"))
            assert _kept(now) == _kept(one)
            assert [each.get("restartCount") for each in _containers(now)] == [
                each.get("restartCount") for each in _containers(one)
            ]


@contextlib.asynccontextmanager
async def _prepared(
    env: Environment, site: Site, *, folder: Path
) -> AsyncIterator[gateway.Gateway]:
    """Both clusters with the images of both versions, and the gateway of this one."""
    clusters = env.clusters
    async with contextlib.AsyncExitStack() as stack:
        link = await stack.enter_async_context(gateway.installed(clusters, replicas=2))
        progress = progresses.Progress()
        await asyncio.to_thread(
            farletimage.load, clusters.instance, clusters.home, progress=progress
        )
        both = (clusters.home, clusters.foreign)
        await asyncio.to_thread(released.load_image, *both, source=site.released, folder=folder)
        fakes = [
            one["metadata"]["name"]
            for one in await env.home.list("nodes", labelSelector=f"{kwok.LABEL}=fake")
        ]
        await cordons.close(env.home, *fakes)
        stack.push_async_callback(cordons.reopen, env.home, *fakes)
        await env.home.delete("namespaces", name=SYSTEM)  # of other tests
        await env.home.until("namespaces", rest.gone, name=SYSTEM)
        stack.push_async_callback(site.remove)
        approving = asyncio.create_task(incluster.approve_serving(clusters, env.home))
        stack.callback(approving.cancel)
        stack.callback(lambda: print(site.diagnostics()))
        yield link


async def _run_server(env: Environment) -> None:
    """A real container that watches the home cluster through the gateway."""
    await workspaces.allow_listing_pods(env.home, namespace=env.workspace.home)
    pod = realpods.pod(SERVER, "client-watch", "3600")
    await env.create(realpods.bound(pod, "far"))


@contextlib.asynccontextmanager
async def _node_stays_ready(env: Environment) -> AsyncIterator[None]:
    """The Node is the same one and Ready in the whole block."""
    first = await env.home.get("nodes", name="far")
    seen: list[rest.Object] = []

    async def follow() -> None:
        async for _, found in env.home.watch(
            "nodes",
            fieldSelector="metadata.name=far",
            resourceVersion=first["metadata"]["resourceVersion"],
        ):
            seen.append(found)

    following = asyncio.create_task(follow())
    yield
    assert not following.done(), "the watch has ended"
    following.cancel()
    assert seen
    assert {one["metadata"]["uid"] for one in seen} == {first["metadata"]["uid"]}
    assert {_ready(one)[0] for one in seen} == {"True"}


async def _objects(env: Environment) -> str:
    """What the manager adopts, without what an API server or a controller writes."""
    found = []
    for resource in ADOPTED:
        one = await env.home.get(resource, name="farlet-far", namespace=SYSTEM)
        metadata = one["metadata"]
        owners = metadata.get("ownerReferences", [])
        found.append([metadata["uid"], metadata["labels"], owners, one.get("spec")])
    deployment = await env.home.get("deployments", name="farlet-far", namespace=SYSTEM)
    found.append([deployment["metadata"]["labels"], deployment["spec"]])
    return json.dumps(found, sort_keys=True)


def _kept(mirror: rest.Object) -> dict[str, object]:
    return {name: mirror["metadata"].get(name) for name in KEPT}


def _containers(mirror: rest.Object) -> list[rest.Object]:
    found: list[rest.Object] = mirror["status"].get("containerStatuses", [])
    return found


def _ready(found: rest.Object) -> tuple[str, str]:
    (one,) = (one for one in found["status"]["conditions"] if one["type"] == "Ready")
    return one["status"], one["reason"]


def _serving(found: rest.Object | None) -> bool:
    return found is not None and _ready(found) == ("True", "Serving")


def _use_image(path: Path, image: str, *, version: str) -> None:
    name, _, tag = image.rpartition(":")
    _edit(
        path, {"newName: farlet\n": f"newName: {name}\n", f"newTag: {version}": f'newTag: "{tag}"'}
    )


def _append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def _edit(path: Path, replaced: dict[str, str]) -> None:
    text = path.read_text()
    for shipped, ours in replaced.items():
        assert text.count(shipped) == 1, shipped
        text = text.replace(shipped, ours)
    path.write_text(text)
