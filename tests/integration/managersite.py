"""A VirtualNode in the namespace of a test, and the permissions of the manager for it.

The manager's ServiceAccount has exactly the rules of `farlet.manager.permissions`.
"""

import asyncio
import base64
import dataclasses
import datetime
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clusters import kubeconfig
from clusters.cluster import Cluster
from farlet import retrying
from farlet.client.cluster import Cluster as Client
from farlet.client.credential_sources import ClusterSource
from farlet.install import foreign as foreign_objects
from farlet.install import manager as manager_objects
from farlet.install.connection import Connection
from farlet.manager import foreign_token, kubeconfigs, permissions
from farlet.manager.conditions import Condition
from farlet.manager.credentials import Credentials
from farlet.manager.foreign_token import Bound
from farlet.manager.kubeconfig_client import KubeconfigClients
from farlet.manager.kubeconfigs import Kubeconfig
from farlet.manager.virtual_node import VirtualNode, manifest
from farlet.telemetry.metrics import Metrics
from faults.environment import Environment

SECONDS = 60.0
NODES = "farlet.io/v1alpha1/virtualnodes"
RBAC = "rbac.authorization.k8s.io"
DEFINITION = "crd/virtualnodes.farlet.io"
SELF_NODE_CLIENT = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"


@dataclasses.dataclass(frozen=True)
class Site:
    """A VirtualNode in the namespace of the test, and the manager's client and kubeconfig."""

    env: Environment
    node: VirtualNode
    manager: Client
    login: Path
    system: str

    def credentials(self, *, ahead: datetime.timedelta = datetime.timedelta(0)) -> Credentials:
        """A new process of the manager, whose clock is ahead."""
        return Credentials(
            self.manager,
            now=lambda: retrying.utc_now() + ahead,
            connect=KubeconfigClients(Metrics()),
        )

    async def secret(self, name: str) -> Kubeconfig:
        found = await self.env.home.get("secrets", name=name, namespace=self.node.namespace)
        return kubeconfigs.parse(base64.b64decode(found["data"]["kubeconfig"]))

    async def give_token(self) -> None:
        """Create the Secret with the foreign token as `farlet connect` does, for ten minutes."""
        foreign = self.env.foreign
        binding = await foreign.get("secrets", name="farlet-token", namespace=self.system)
        request = foreign_token.request(
            Bound("farlet-token", binding["metadata"]["uid"]),
            lifetime=datetime.timedelta(minutes=10),
        )
        answer = await foreign.create(
            "serviceaccounts", request, name="farlet", namespace=self.system, subresource="token"
        )
        access = kubeconfig.read(self.env.clusters.foreign.kubeconfig)
        config = Kubeconfig(
            access.server, authority=access.authority.decode(), token=answer["status"]["token"]
        )
        await self.env.home.create(
            "secrets",
            {
                "metadata": {"name": self.node.foreign_secret},
                "stringData": {"kubeconfig": config.text()},
            },
            namespace=self.node.namespace,
        )

    async def until(
        self, step: Callable[[], Awaitable[Condition]], reason: str, status: str
    ) -> Condition:
        """Reconcile until the condition is this."""
        deadline = time.monotonic() + SECONDS
        while True:
            found = await step()
            if (found.reason, found.status) == (reason, status):
                return found
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.5)


@pytest.fixture
async def site(env: Environment, tmp_path: Path) -> AsyncIterator[Site]:
    home, foreign = env.clusters.home, env.clusters.foreign
    namespace, name = env.workspace.home, env.node
    had_definition = home.kubectl("get", DEFINITION, "--ignore-not-found", "-o", "name")
    home_objects = [*_permissions(namespace), _renewal(name)]
    connection = Connection(name, image="none", capacity=(("cpu", "1"),), home_api_host="192.0.2.1")
    namespaces = foreign_objects.namespaces(connection)
    if not had_definition:
        home.apply(manager_objects.custom_resource_definition())
    home.kubectl("wait", DEFINITION, "--for=condition=Established", f"--timeout={SECONDS:.0f}s")
    home.apply(*home_objects)
    foreign.apply(*namespaces, *foreign_objects.objects(connection))
    home.apply(manifest(name, {"foreign": {}}, namespace=namespace))
    created = await env.home.request(
        "GET", f"/apis/farlet.io/v1alpha1/namespaces/{namespace}/virtualnodes/{name}"
    )
    login = tmp_path / "manager.kubeconfig"
    token = home.kubectl("create", "token", "farlet-manager", f"--namespace={namespace}")
    _write(login, home, token.strip())
    source = ClusterSource(kubeconfig=str(login), context=None)
    async with Client("home", source, metrics=Metrics().client("home")) as client:
        yield Site(env, VirtualNode.parse(created), client, login, connection.system)
    home.remove(manifest(name, {}, namespace=namespace), *home_objects)
    foreign.remove(*namespaces)
    if not had_definition:
        home.kubectl("delete", DEFINITION)


def _permissions(namespace: str) -> Iterator[dict[str, Any]]:
    """The manager's account with exactly the rules of its table, in the test's namespace."""
    account = {"name": "farlet-manager", "namespace": namespace}
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account}
    for scope, kind, metadata in (
        (permissions.Scope.NAMESPACE, "Role", account),
        (permissions.Scope.CLUSTER, "ClusterRole", {"name": f"{namespace}-manager"}),
    ):
        rules = [one.rule() for one in permissions.TABLE if one.scope is scope]
        yield {
            "apiVersion": f"{RBAC}/v1",
            "kind": kind,
            "metadata": metadata,
            "rules": rules,
        }
        yield _binding(kind, metadata, str(metadata["name"]), {"kind": "ServiceAccount", **account})


def _renewal(node: str) -> dict[str, Any]:
    """As kubeadm grants it to all nodes."""
    user = {"kind": "User", "name": f"system:node:{node}", "apiGroup": RBAC}
    return _binding("ClusterRole", {"name": f"{node}-renewal"}, SELF_NODE_CLIENT, user)


def _binding(
    kind: str, metadata: dict[str, str], role: str, subject: dict[str, str]
) -> dict[str, Any]:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": f"{kind}Binding",
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role},
        "subjects": [subject],
    }


def _write(path: Path, cluster: Cluster, token: str) -> None:
    access = kubeconfig.read(cluster.kubeconfig)
    kubeconfig.write(
        path, server=access.server, authority=access.authority, user=token, cluster=cluster.name
    )
