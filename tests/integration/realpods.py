"""Pods that run the unchanged real clients, and what those print.

The manifests hold no variables, volumes, host aliases or TLS switches: whatever a client finds, its
cluster gave it. They name no node either. Which of the nodes labelled `real` gets a pod is for the
scheduler, and a test decides it by cordoning the others.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from clusters import images, kwok, rest
from clusters.cluster import Cluster

ACCESS = "liqo.io/api-server-support"
ACCOUNT = "liqo.io/remote-service-account-name"
TOKENS = "farlet.io/tokens"
CLIENTS = (
    *("kubectl", "python", "python-asyncio", "javascript", "go"),
    *("kopf", "kopf-pykube", "kube-rs-env", "kube-rs-dns", "fabric8"),
)
USER_AGENTS = 8  # both ways of Kopf have one, as have those of kube-rs
AS_REAL = {
    "node-labels": f"{kwok.LABEL}=real",
    "foreign-node-labels": kwok.LABEL,
    "node-taints": "none",
}
"""Settings of a farlet whose node the scheduler treats as any other with real containers."""
ENDED = rest.phase("Succeeded", "Failed")

Line = dict[str, Any]
"""What one client printed: client, host, namespace, username, extra, pods, error."""


def pod(
    name: str,
    *command: str,
    annotations: Mapping[str, str] | None = None,
    **spec: object,
) -> rest.Object:
    """A pod of one container for the real nodes; `spec` adds fields or replaces them."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": dict(annotations or {})},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "nodeSelector": {kwok.LABEL: "real"},
            "containers": [container("main", *command)],
            **spec,
        },
    }


def container(name: str, *command: str, **more: object) -> rest.Object:
    """A container of the image that has all clients."""
    return {
        "name": name,
        "image": images.CLIENTS,
        "command": list(command),
        "resources": {"limits": {"memory": "512Mi"}},
        **more,
    }


def bound(wanted: rest.Object, node: str) -> rest.Object:
    """The pod as created for a node by name, for tests that need no scheduler."""
    return {**wanted, "spec": {**wanted["spec"], "nodeName": node}}


async def create(cluster: Cluster, manifest: str, *, namespace: str) -> None:
    """Create what is in a file of these very bytes, as a user does."""
    await asyncio.to_thread(
        cluster.kubectl, "create", f"--namespace={namespace}", "-f", "-", content=manifest
    )


def lines(output: str) -> list[Line]:
    """The JSON lines that a container printed."""
    return [json.loads(line) for line in output.splitlines() if line]


async def outputs(
    api: rest.Api, pods: Sequence[tuple[str, str]], *, seconds: float = 300
) -> list[tuple[rest.Object, str]]:
    """Pods of (namespace, name) as they ended, each with what it printed."""

    async def one(namespace: str, name: str) -> tuple[rest.Object, str]:
        ended = await api.until("pods", ENDED, name=name, namespace=namespace, seconds=seconds)
        return ended, await api.logs(name, namespace=namespace)

    return list(await asyncio.gather(*(one(*each) for each in pods)))


async def event(
    api: rest.Api, name: str, *, namespace: str, reason: str, seconds: float = 90
) -> rest.Object:
    """The first Event of that reason on a pod."""
    chosen = f"involvedObject.name={name},reason={reason}"
    async with asyncio.timeout(seconds):
        async for _, found in api.watch(
            "events", namespace=namespace, fieldSelector=chosen, resourceVersion="0"
        ):
            return found
    raise AssertionError(f"the watch of Events {chosen} ended before there was one")
