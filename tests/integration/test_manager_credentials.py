"""Credentials that the manager keeps valid, with real API servers, signers and approvers.

The manager runs in this process, with the permissions of its Role and ClusterRole, so that its
clock can be ahead: no test waits for the end of a life.
"""

import asyncio
import dataclasses
import datetime
from typing import Any

import pytest

from clusters import kwok, rest
from clusters.cluster import Cluster
from farlet.certs import key_pairs, signing_requests
from farlet.constants import Signer
from farlet.manager import client_certificate, foreign_token
from farlet.manager.conditions import Condition
from farlet.manager.kubeconfigs import Kubeconfig
from farlet.manager.serving_approval import Approver
from integration.managersite import SECONDS, Site

pytestmark = [pytest.mark.clusters, pytest.mark.takes(110)]

FIRST_LIFE = datetime.timedelta(hours=1)
LATER = datetime.timedelta(minutes=45)
"""After two thirds of the life of the first certificate."""


async def test_credentials_are_created_renewed_and_revoked(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = site.env.clusters.home
    await site.give_token()

    # The first certificate waits for a person.
    monkeypatch.setattr(client_certificate, "LIFETIME", FIRST_LIFE)
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
