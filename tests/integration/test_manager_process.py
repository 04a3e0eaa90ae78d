"""`farlet manager` as a process: the objects and the status of one VirtualNode.

Its permissions are those of its Role and ClusterRole. The pods of the Deployment run on fake nodes,
without farlet: `test_manager.py` runs real ones.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from clusters import ports, processes, rest
from integration.managersite import NODES, SECONDS, Site

pytestmark = [pytest.mark.clusters, pytest.mark.takes(20)]

OWNED = (
    "serviceaccounts",
    "deployments",
    "policy/v1/poddisruptionbudgets",
    "networking.k8s.io/v1/networkpolicies",
)
COMPLETE = {
    "homeAPIServer": {"host": "192.0.2.1", "port": 6443},
    "capacity": {"cpu": "8", "memory": "16Gi", "pods": "50"},
}


async def test_a_virtual_node_gets_its_objects_and_a_status(site: Site) -> None:
    home = site.env.home
    where: dict[str, Any] = {"namespace": site.node.namespace}
    await site.give_token()
    await home.patch(NODES, {"spec": COMPLETE}, name=site.node.name, **where)
    async with managing(site):
        await _approve(site)
        for resource in OWNED:
            await home.until(resource, rest.exists, name=site.node.object_name, **where)
        shown = await home.until(NODES, _has_valid_credentials, name=site.node.name, **where)
        assert _conditions(shown)["Ready"]["status"] != "True", "no farlet runs"
        scaled = {"spec": {"replicas": 0}}
        await home.patch("deployments", scaled, name=site.node.object_name, **where)
        await home.until("deployments", _has_replicas, name=site.node.object_name, **where)


@contextlib.asynccontextmanager
async def managing(site: Site) -> AsyncIterator[processes.Process]:
    """A manager for the namespace of the VirtualNode, until the end."""
    (port,) = ports.free(1)
    instance = site.env.clusters.instance
    flags = {
        "home-kubeconfig": str(site.login),
        "namespace": site.node.namespace,
        "image": "none",
        "health-probe-bind-address": f"127.0.0.1:{port}",
    }
    words = [word for flag, value in flags.items() for word in (f"--{flag}", value)]
    own = {key: value for key, value in os.environ.items() if not key.startswith("FARLET_")}
    process = processes.Process(
        f"manager of {site.node.name}",
        [Path(sys.executable).parent / "farlet", "manager", *words],
        log=instance.folder / "farlet" / f"manager-{site.node.name}.log",
        environment={**own, processes.MARK: instance.name},
    )
    process.start()
    try:
        yield process
    finally:
        await asyncio.to_thread(process.stop)
        print(process.tail())


async def _approve(site: Site) -> None:
    """Approve the request for the certificate of the node, once it exists."""
    selector = f"app.kubernetes.io/instance={site.node.name}"
    name = ""
    async with asyncio.timeout(SECONDS):
        async for _, request in site.env.home.watch(
            "certificatesigningrequests", labelSelector=selector, resourceVersion="0"
        ):
            name = request["metadata"]["name"]
            break
    approve = ("certificate", "approve", name)
    await asyncio.to_thread(site.env.clusters.home.kubectl, *approve)


def _conditions(found: rest.Object | None) -> dict[str, dict[str, Any]]:
    conditions = (found or {}).get("status", {}).get("conditions", ())
    return {one["type"]: one for one in conditions}


def _has_valid_credentials(found: rest.Object | None) -> bool:
    return _conditions(found).get("CredentialsValid", {}).get("status") == "True"


def _has_replicas(found: rest.Object | None) -> bool:
    return found is not None and found["spec"]["replicas"] > 0
