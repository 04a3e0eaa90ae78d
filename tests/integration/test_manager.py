"""`farlet manager` in the home cluster, with the real image and prepared credentials.

One scenario, as administrators live it: a VirtualNode becomes ready and runs a pod; its spec
changes; another client changes its Deployment; a second VirtualNode comes and goes; the manager is
removed. Nothing of this touches the mirror pod, and the manager sends no request beyond its table.
"""

import asyncio
import base64
import collections
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from clusters import auditlog, cordons, errors, farletimage, kwok, pair, progress, rest
from clusters import workspace as workspaces
from clusters.farlet import ROOT
from clusters.workspace import Workspace
from farlet.install import manager
from farlet.manager import permissions, virtual_node
from farlet.manager.permissions import Scope
from integration import incluster, realpods

pytestmark = [
    pytest.mark.clusters,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.takes(130),
]

NODES = "farlet.io/v1alpha1/virtualnodes"
OWNED = (
    "deployments",
    "serviceaccounts",
    "policy/v1/poddisruptionbudgets",
    "networking.k8s.io/v1/networkpolicies",
)
SYSTEM = "farlet"
SERVER = "server"
ACCOUNT = f"system:serviceaccount:{SYSTEM}:farlet-manager"
SECONDS = 120.0


@dataclasses.dataclass(frozen=True)
class ManagerEnvironment:
    """A manager in the home cluster."""

    clusters: pair.Clusters
    home: rest.Api
    foreign: rest.Api
    space: Workspace
    folder: Path
    mark: auditlog.Mark

    async def apply(self, *objects: Mapping[str, Any]) -> None:
        content = yaml.safe_dump_all([dict(one) for one in objects])
        command = ("apply", "--server-side", "-f", "-")
        await asyncio.to_thread(self.clusters.home.kubectl, *command, content=content)

    async def create(self, name: str, **spec: object) -> None:
        """The Secrets of a VirtualNode, then itself."""
        folder = self.folder / name
        await asyncio.to_thread(incluster.write_credentials, self.clusters, folder, node=name)
        for side in ("home", "foreign"):
            data = base64.b64encode((folder / f"{side}.kubeconfig").read_bytes()).decode()
            secret = {"metadata": {"name": f"farlet-{name}-{side}"}, "data": {"kubeconfig": data}}
            await self.home.create("secrets", secret, namespace=SYSTEM)
        # What an administrator grants beside: the manager creates no binding.
        role = "--role=extension-apiserver-authentication-reader"
        binding = ("create", "rolebinding", f"farlet-{name}", role, "--namespace=kube-system")
        user = f"--user=system:node:{name}"
        await asyncio.to_thread(self.clusters.home.kubectl, *binding, user)
        await self.apply(virtual_node.manifest(name, {**self._defaults(), **spec}))

    def _defaults(self) -> dict[str, object]:
        host, port = self.clusters.home_api_in_foreign
        return {
            "replicas": 1,
            "homeAPIServer": {"host": host, "port": port},
            "capacity": {"cpu": "8", "memory": "16Gi", "pods": "50"},
        }

    async def until_ready(self, name: str) -> rest.Object:
        """The VirtualNode, served by pods of its newest spec."""
        return await self.home.until(NODES, _serving, name=name, namespace=SYSTEM, seconds=SECONDS)

    async def objects_of(self, name: str) -> dict[str, str]:
        """Resource to uid and generation of the objects of a VirtualNode."""
        found = {}
        for resource in OWNED:
            one = await self.home.find(resource, name=f"farlet-{name}", namespace=SYSTEM)
            if one is not None:
                metadata = one["metadata"]
                found[resource] = f"{metadata['uid']} {metadata.get('generation')}"
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def env(
    clusters: pair.Clusters, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ManagerEnvironment]:
    mark = clusters.home.audit_mark()
    await asyncio.to_thread(
        farletimage.load, clusters.instance, clusters.home, progress=progress.Progress()
    )
    async with (
        clusters.home.api() as home,
        clusters.foreign.api() as foreign,
        contextlib.AsyncExitStack() as stack,
    ):
        fakes = [
            one["metadata"]["name"]
            for one in await home.list("nodes", labelSelector=f"{kwok.LABEL}=fake")
        ]
        await cordons.close(home, *fakes)
        stack.push_async_callback(cordons.reopen, home, *fakes)
        space = await workspaces.create(home, foreign)
        stack.push_async_callback(workspaces.delete, home, foreign, space)
        await workspaces.create_farlet_namespace(foreign)
        manifests = ROOT / "manifests" / "foreign"
        for command in (
            ("apply", "-k", str(manifests)),
            (
                *("apply", f"--namespace={space.foreign}", "-f"),
                str(manifests / "offloaded-namespace.yaml"),
            ),
        ):
            await asyncio.to_thread(clusters.foreign.kubectl, *command)
        made = ManagerEnvironment(
            clusters, home, foreign, space, tmp_path_factory.mktemp("manager"), mark
        )
        await made.apply(manager.namespace(), manager.custom_resource_definition())
        stack.push_async_callback(_remove_all, made)
        await asyncio.to_thread(
            clusters.home.kubectl,
            *("wait", "--for=condition=Established", f"crd/{manager.NAME}", "--timeout=60s"),
        )
        await made.apply(*manager.objects(image=farletimage.NAME))
        stack.callback(lambda: print(_diagnostics(clusters)))
        yield made


async def test_a_virtual_node_from_its_creation_to_the_removal_of_the_manager(
    env: ManagerEnvironment,
) -> None:
    home = env.home
    await env.create("far")
    ready = await env.until_ready("far")
    assert ready["status"]["leader"].startswith("farlet-far-")
    assert ready["status"]["foreignServer"].startswith("https://")
    conditions = {one["type"]: one for one in ready["status"]["conditions"]}
    assert conditions["ForeignReachable"]["status"] == "True"
    assert {one["observedGeneration"] for one in conditions.values()} == {1}

    pod = realpods.pod(SERVER, "client-watch", "3600")
    await home.create("pods", realpods.bound(pod, "far"), namespace=env.space.home)
    await home.until("pods", rest.phase("Running"), name=SERVER, namespace=env.space.home)
    mirror = await env.foreign.get("pods", name=SERVER, namespace=env.space.foreign)

    # A change of the spec is rolled out.
    await home.patch(NODES, {"spec": {"labels": {"area": "b"}}}, name="far", namespace=SYSTEM)
    ready = await env.until_ready("far")
    assert ready["status"]["observedGeneration"] == 2
    node = await home.get("nodes", name="far")
    assert node["metadata"]["labels"]["area"] == "b"

    # What another client changes is mended.
    scaled = {"spec": {"replicas": 0}}
    await home.patch("deployments", scaled, name="farlet-far", namespace=SYSTEM)
    await home.until("deployments", _has_one_replica, name="farlet-far", namespace=SYSTEM)

    # Settings that farlet would reject change no pod.
    before = await env.objects_of("far")
    await home.patch(NODES, {"spec": {"capacity": {"pods": None}}}, name="far", namespace=SYSTEM)
    refused = await home.until(NODES, _invalid, name="far", namespace=SYSTEM)
    assert "spec.capacity does not contain pods" in _condition(refused, "Ready")["message"]
    assert await env.objects_of("far") == before
    await home.patch(NODES, {"spec": {"capacity": {"pods": "50"}}}, name="far", namespace=SYSTEM)
    await env.until_ready("far")

    # A second VirtualNode, and its end.
    await env.create("near")
    await env.until_ready("near")
    before = await env.objects_of("far")
    assert len(before) == len(await env.objects_of("near")) == 4
    await home.delete(NODES, name="near", namespace=SYSTEM)
    for resource in OWNED:
        await home.until(resource, rest.gone, name="farlet-near", namespace=SYSTEM)
    assert await env.objects_of("far") == before

    # The manager goes; what it has made stays, and so does the mirror.
    started = time.monotonic()
    content = yaml.safe_dump_all(list(manager.objects(image=farletimage.NAME)))
    command = ("delete", "-f", "-", "--timeout=60s")
    await asyncio.to_thread(env.clusters.home.kubectl, *command, content=content)
    assert time.monotonic() - started < 60
    assert await env.objects_of("far") == before
    after = await env.foreign.get("pods", name=SERVER, namespace=env.space.foreign)
    assert after["metadata"]["uid"] == mirror["metadata"]["uid"]
    assert "deletionTimestamp" not in after["metadata"]
    left = await home.get(NODES, name="far", namespace=SYSTEM)
    assert not left["metadata"].get("finalizers")
    assert not left["metadata"].get("annotations", {}).keys() - {KUBECTL}


KUBECTL = "kubectl.kubernetes.io/last-applied-configuration"


async def test_the_manager_sent_no_request_that_its_table_lacks(env: ManagerEnvironment) -> None:
    beyond: collections.Counter[str] = collections.Counter()
    entries = [
        one
        for one in env.clusters.home.audit_log.by_agents("farlet/", "kopf/", since=env.mark)
        if one.user == ACCOUNT
    ]
    for entry in entries:
        if entry.resource and (entry.code == 403 or not _allowed(entry)):
            beyond[f"{entry.code} {entry.verb} {entry.resource}/{entry.subresource}"] += 1
    assert entries
    assert not beyond


def _allowed(entry: auditlog.Entry) -> bool:
    group = entry.raw.get("objectRef", {}).get("apiGroup", "")
    resource = "/".join(part for part in (entry.resource, entry.subresource) if part)
    return any(
        (row.group, row.resource) == (group, resource)
        and entry.verb in row.verbs
        and (row.scope is Scope.CLUSTER or entry.namespace == SYSTEM)
        for row in permissions.TABLE
    )


def _condition(found: rest.Object, type_: str) -> dict[str, Any]:
    conditions = found.get("status", {}).get("conditions", ())
    return next((one for one in conditions if one["type"] == type_), {})


def _serving(found: rest.Object | None) -> bool:
    if found is None:
        return False
    ready = _condition(found, "Ready")
    current = ready.get("observedGeneration") == found["metadata"]["generation"]
    return current and (ready["status"], ready["reason"]) == ("True", "Serving")


def _invalid(found: rest.Object | None) -> bool:
    return found is not None and _condition(found, "Ready").get("reason") == "InvalidSpec"


def _has_one_replica(found: rest.Object | None) -> bool:
    return found is not None and found["spec"]["replicas"] == 1


async def _remove_all(env: ManagerEnvironment) -> None:
    """Delete what other tests would meet."""
    kubectl = env.clusters.home.kubectl
    content = yaml.safe_dump_all(list(manager.objects(image=farletimage.NAME)))
    await asyncio.to_thread(kubectl, "delete", "--ignore-not-found", "-f", "-", content=content)
    await asyncio.to_thread(kubectl, "delete", "crd", manager.NAME)
    pods = ("wait", "pods", "--for=delete", "--timeout=120s", f"--namespace={SYSTEM}")
    await asyncio.to_thread(kubectl, *pods, "--selector=app.kubernetes.io/name=farlet")
    for name in ("far", "near"):
        await asyncio.to_thread(kubectl, "delete", "node", name, "--ignore-not-found")
        secrets = [f"farlet-{name}-{side}" for side in ("home", "foreign")]
        binding = ("delete", "rolebinding", f"farlet-{name}", "--namespace=kube-system")
        await asyncio.to_thread(kubectl, *binding, "--ignore-not-found")
        where = ("--ignore-not-found", f"--namespace={SYSTEM}")
        await asyncio.to_thread(kubectl, "delete", "secret", *secrets, *where)


def _diagnostics(clusters: pair.Clusters) -> str:
    where = f"--namespace={SYSTEM}"
    commands = (
        ("get", "virtualnodes,deployments,pods", "-o", "wide", where),
        ("get", "virtualnodes", "-o", "yaml", where),
        ("logs", "--selector=app.kubernetes.io/name=farlet", "--prefix", "--tail=30", where),
        ("logs", "--selector=app.kubernetes.io/name=farlet-manager", "--tail=100", where),
    )
    printed = []
    for command in commands:
        try:
            printed.append(clusters.home.kubectl(*command))
        except errors.HarnessError as error:
            printed.append(str(error))
    return "\n".join(printed)
