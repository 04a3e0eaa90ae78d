"""Pods that run unmodified clients, and the output of these clients.

The manifests contain no variables, volumes, host aliases or TLS options: a client only finds what
its cluster provides. They name no node either. The scheduler selects a node labelled `real`, and a
test controls the selection by cordoning the others.
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
USER_AGENTS = 8  # Kopf uses two, and kube-rs too
AS_REAL = {
    "node-labels": f"{kwok.LABEL}=real",
    "foreign-node-labels": kwok.LABEL,
    "node-taints": "none",
}
"""Settings with which the scheduler treats the virtual node like other real nodes."""
ENDED = rest.phase("Succeeded", "Failed")

OutputLine = dict[str, Any]
"""One line of output of a client: client, host, namespace, username, extra, pods, error."""


def pod(
    name: str,
    *command: str,
    annotations: Mapping[str, str] | None = None,
    **spec: object,
) -> rest.Object:
    """A pod with one container for real nodes; `spec` adds or replaces fields."""
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
    """A container with the image that contains all clients."""
    return {
        "name": name,
        "image": images.CLIENTS,
        "command": list(command),
        "resources": {"limits": {"memory": "512Mi"}},
        **more,
    }


def bound(wanted: rest.Object, node: str) -> rest.Object:
    """The pod bound to a node, for tests without a scheduler."""
    return {**wanted, "spec": {**wanted["spec"], "nodeName": node}}


async def create(cluster: Cluster, manifest: str, *, namespace: str) -> None:
    """Create objects from a file with exactly these bytes, as a user does."""
    await asyncio.to_thread(
        cluster.kubectl, "create", f"--namespace={namespace}", "-f", "-", content=manifest
    )


def lines(output: str) -> list[OutputLine]:
    """The JSON lines that a container printed."""
    return [json.loads(line) for line in output.splitlines() if line]


async def outputs(
    api: rest.Api, pods: Sequence[tuple[str, str]], *, seconds: float = 300
) -> list[tuple[rest.Object, str]]:
    """Finished pods by (namespace, name), each with its output."""

    async def one(namespace: str, name: str) -> tuple[rest.Object, str]:
        ended = await api.until("pods", ENDED, name=name, namespace=namespace, seconds=seconds)
        return ended, await api.logs(name, namespace=namespace)

    return list(await asyncio.gather(*(one(*each) for each in pods)))


async def event(
    api: rest.Api, name: str, *, namespace: str, reason: str, seconds: float = 90
) -> rest.Object:
    """The first Event with this reason for a pod."""
    chosen = f"involvedObject.name={name},reason={reason}"
    async with asyncio.timeout(seconds):
        async for _, found in api.watch(
            "events", namespace=namespace, fieldSelector=chosen, resourceVersion="0"
        ):
            return found
    raise AssertionError(f"the watch of Events {chosen} ended without an Event")
