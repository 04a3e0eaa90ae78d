"""Credentials that the manager keeps valid, with real API servers, signers and approvers.

The manager runs in this process, with the permissions of its Role and ClusterRole, so that its
clock can be ahead: no test waits for the end of a life.
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

from clusters import kubeconfig, kwok, rest
from clusters.cluster import Cluster
from farlet import retrying
from farlet.certs import key_pairs, signing_requests
from farlet.client.cluster import Cluster as Client
from farlet.client.credential_sources import ClusterSource
from farlet.constants import Signer
from farlet.install import foreign as foreign_objects
from farlet.install import manager as manager_objects
from farlet.install.connection import Connection
from farlet.manager import client_credentials, foreign_token, kubeconfigs, permissions
from farlet.manager.conditions import Condition
from farlet.manager.credentials import Credentials
from farlet.manager.foreign_token import Bound
from farlet.manager.kubeconfig_client import KubeconfigClients
from farlet.manager.kubeconfigs import Kubeconfig
from farlet.manager.serving_approval import Approver
from farlet.manager.virtual_node import VirtualNode, manifest
from farlet.telemetry.metrics import Metrics
from faults.environment import Environment

pytestmark = [pytest.mark.clusters, pytest.mark.takes(110)]

SECONDS = 60.0
RBAC = "rbac.authorization.k8s.io"
DEFINITION = "crd/virtualnodes.farlet.io"
SELF_NODE_CLIENT = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"
FIRST_LIFE = datetime.timedelta(hours=1)
LATER = datetime.timedelta(minutes=45)
"""After two thirds of the life of the first certificate."""


@dataclasses.dataclass(frozen=True)
class Site:
    """A VirtualNode in the namespace of the test, and the manager's client."""

    env: Environment
    node: VirtualNode
    manager: Client
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
        yield Site(env, VirtualNode.parse(created), client, connection.system)
    home.remove(manifest(name, {}, namespace=namespace), *home_objects)
    foreign.remove(*namespaces)
    if not had_definition:
        home.kubectl("delete", DEFINITION)


async def test_credentials_are_created_renewed_and_revoked(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = site.env.clusters.home
    await _give_token(site)

    # The first certificate waits for a person.
    monkeypatch.setattr(client_credentials, "LIFETIME", FIRST_LIFE)
    manager = site.credentials()
    found = await manager.reconcile(site.node)
    assert (found.status, found.reason) == ("False", "ApprovalRequired")
    _, _, name = found.message.partition("kubectl certificate approve ")
    await asyncio.to_thread(home.kubectl, "certificate", "approve", name.partition(";")[0])
    await site.until(lambda: manager.reconcile(site.node), "Valid", "True")
    first = await site.secret(site.node.home_secret)
    assert _user(home, first) == f"system:node:{site.node.name}"

    # Another process renews both later; kube-controller-manager approves what the node requests.
    monkeypatch.undo()
    token = (await site.secret(site.node.foreign_secret)).token
    later = site.credentials(ahead=LATER)

    async def renewed() -> Condition:
        condition = await later.reconcile(site.node)
        present = await site.secret(site.node.home_secret)
        assert present.pair is not None
        assert first.pair is not None
        same = present.pair.chain == first.pair.chain
        return dataclasses.replace(condition, reason="Old") if same else condition

    await site.until(renewed, "Valid", "True")
    second = await site.secret(site.node.home_secret)
    assert second.pair is not None
    life = second.pair.leaf.not_valid_after_utc - second.pair.leaf.not_valid_before_utc
    assert life > datetime.timedelta(days=6)
    requests = await site.env.home.list(
        "certificatesigningrequests",
        labelSelector=f"app.kubernetes.io/instance={site.node.name}",
    )
    by_node = [r for r in requests if r["spec"]["username"] == f"system:node:{site.node.name}"]
    assert [r["status"]["conditions"][0]["reason"] for r in by_node] == ["AutoApproved"]
    new = (await site.secret(site.node.foreign_secret)).token
    assert new is not None
    assert new != token
    read = foreign_token.read(new)
    assert read.bound is not None
    assert read.bound.name == "farlet-token"

    # Deleting the Secret that tokens are bound to revokes them.
    foreign = site.env.clusters.foreign
    await asyncio.to_thread(
        foreign.kubectl, "delete", "secret", "farlet-token", f"--namespace={site.system}"
    )
    await site.until(
        lambda: site.credentials().reconcile(site.node), "ForeignCredentialsRejected", "False"
    )


async def test_serving_certificates_are_approved_for_addresses_of_its_pods_only(
    site: Site,
) -> None:
    env, node = site.env, site.node
    await env.home.create(
        "serviceaccounts", {"metadata": {"name": node.object_name}}, namespace=node.namespace
    )
    pod = {
        "metadata": {"name": "standby", "labels": node.labels},
        "spec": {
            "serviceAccountName": node.object_name,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "nodeSelector": {kwok.LABEL: "fake"},
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "farlet", "image": "none"}],
        },
    }
    await env.home.create("pods", pod, namespace=node.namespace)
    running = await env.home.until(
        "pods", rest.phase("Running"), name="standby", namespace=node.namespace
    )
    address = running["status"]["podIP"]
    approver = Approver(site.manager, namespace=node.namespace, nodes=lambda: [node])
    login = await asyncio.to_thread(
        lambda: env.clusters.home.login(f"system:node:{node.name}", groups=["system:nodes"])
    )
    async with rest.Api(login) as as_node:
        right, wrong = [
            await as_node.create("certificatesigningrequests", _serving(node.name, [one]))
            for one in (address, "192.0.2.7")
        ]
    for request in (right, wrong):
        approver.changed(request, deleted=False)
    await approver.review()
    issued = await env.home.until(
        "certificatesigningrequests",
        lambda seen: seen is not None and "certificate" in seen.get("status", {}),
        name=right["metadata"]["name"],
        seconds=SECONDS,
    )
    assert issued["status"]["conditions"][0]["reason"] == "FarletServingCertificate"
    refused = await env.home.get("certificatesigningrequests", name=wrong["metadata"]["name"])
    assert refused["status"] == {}
    await env.home.delete("certificatesigningrequests", name=wrong["metadata"]["name"])


# --- helpers -------------------------------------------------------------------------------------


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


async def _give_token(site: Site) -> None:
    """As `farlet connect` does, but for ten minutes."""
    foreign = site.env.foreign
    binding = await foreign.get("secrets", name="farlet-token", namespace=site.system)
    request = foreign_token.request(
        Bound("farlet-token", binding["metadata"]["uid"]),
        lifetime=datetime.timedelta(minutes=10),
    )
    answer = await foreign.create(
        "serviceaccounts", request, name="farlet", namespace=site.system, subresource="token"
    )
    access = kubeconfig.read(site.env.clusters.foreign.kubeconfig)
    config = Kubeconfig(
        access.server, authority=access.authority.decode(), token=answer["status"]["token"]
    )
    await site.env.home.create(
        "secrets",
        {
            "metadata": {"name": site.node.foreign_secret},
            "stringData": {"kubeconfig": config.text()},
        },
        namespace=site.node.namespace,
    )


def _write(path: Path, cluster: Cluster, token: str) -> None:
    access = kubeconfig.read(cluster.kubeconfig)
    kubeconfig.write(
        path, server=access.server, authority=access.authority, user=token, cluster=cluster.name
    )


def _user(home: Cluster, config: Kubeconfig) -> str:
    """Who kubectl is with the kubeconfig that the manager has written."""
    path = home.folder / "of-the-manager.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(config.text())
    shown = home.kubectl(
        f"--kubeconfig={path}", "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"
    )
    path.unlink()
    return shown


def _serving(node: str, addresses: list[str]) -> dict[str, Any]:
    pem = key_pairs.request(key_pairs.new_key(), node=node, addresses=addresses)
    return signing_requests.body({"generateName": "csr-"}, signer=Signer.SERVING, request=pem)
