"""Removes one virtual node from the home cluster: pods, farlet, the Node and its permissions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from farlet import errors, names
from farlet.client import kinds
from farlet.client.api_client import ApiClient
from farlet.client.resources import Resource
from farlet.constants import JSON, ObjectKey
from farlet.draining import stays
from farlet.forge import phases
from farlet.install import approval, credentials, home_data, requests
from farlet.install.connection import CONNECT, HOME_SYSTEM, owned_by
from farlet.install.home_data import Volumes
from farlet.k8s_types import Pod
from farlet.manager.virtual_node import (
    INSTANCE_LABEL,
    MANAGED_BY_LABEL,
    object_name,
)

LEASES = "kube-node-lease"

_GRANTED = (
    kinds.ROLE_BINDINGS,
    kinds.ROLES,
    kinds.CLUSTER_ROLE_BINDINGS,
    kinds.CLUSTER_ROLES,
)
_OWNED = ("Deployment", "PodDisruptionBudget", "NetworkPolicy", "ServiceAccount", "Secret")


@dataclass
class HomeRemoval:
    """Removes a virtual node. Each step can be repeated."""

    cluster: ApiClient
    node: str
    is_machine: bool
    """The cluster has a Node of this name that is not one of farlet."""
    seconds: float
    """How long the pods of the node may take to end."""
    left: list[str] = field(default_factory=list)
    """What stays, and why."""

    async def bare_pods(self) -> Sequence[ObjectKey]:
        """The pods that end with the node and that no controller creates again.

        As `kubectl drain` finds them (`unreplicatedFilter` in `pkg/drain/filters.go`), without
        those that are deleted already.
        """
        pods = () if self.is_machine else await self._pods()
        return sorted(_key(pod) for pod in pods if _is_bare(pod))

    async def drain(self) -> str:
        """Evict the pods, as `kubectl drain` does, while farlet ends their mirrors."""
        if self.is_machine:
            return f"{self.node} is a machine, whose pods stay"
        if await requests.find(self.cluster, kinds.NODES, self.node) is None:
            return "the Node is gone"
        await self.cluster.patch(kinds.NODES, self.node, {"spec": {"unschedulable": True}})
        evicted: set[str] = set()
        refused: dict[ObjectKey, str] = {}
        deadline = asyncio.get_running_loop().time() + self.seconds
        while pods := [pod for pod in await self._pods() if not stays(cast("Pod", pod))]:
            for pod in pods:
                if "deletionTimestamp" not in pod["metadata"]:
                    await self._evict(pod, evicted, refused)
            if asyncio.get_running_loop().time() > deadline:
                count = requests.counted(len(pods), "pod")
                words = [f"{key}{_because(refused.get(key))}" for key in map(_key, pods)]
                raise errors.StartError(
                    f"after {self.seconds:g} s the node {self.node} still has {count}: "
                    f"{requests.listed(words)}. Delete them (kubectl delete pod; with --force if "
                    "they do not end), or set a longer --timeout. The node stays cordoned: kubectl "
                    f"uncordon {self.node} undoes that"
                )
            await asyncio.sleep(requests.WATCH_SECONDS)
        return f"{requests.counted(len(evicted), 'pod')} evicted"

    async def _pods(self) -> list[JSON]:
        found = await self.cluster.list_all(kinds.PODS, field_selector=f"spec.nodeName={self.node}")
        return list(found.items)

    async def _evict(self, pod: JSON, evicted: set[str], refused: dict[ObjectKey, str]) -> None:
        key, uid = _key(pod), pod["metadata"]["uid"]
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"namespace": key.namespace, "name": key.name},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        try:
            await self.cluster.create(
                kinds.POD_EVICTIONS, body, namespace=key.namespace, name=key.name
            )
        except (errors.NotFound, errors.Conflict):
            return
        except errors.Throttled as err:  # a PodDisruptionBudget
            refused[key] = err.message
            return
        evicted.add(uid)

    async def end(self) -> str:
        """Delete the VirtualNode, and wait until the processes of farlet have ended."""
        await self._note_certificate()
        await requests.delete(
            self.cluster,
            kinds.VIRTUAL_NODES,
            self.node,
            namespace=HOME_SYSTEM,
            options=requests.FOREGROUND,
        )
        selector = owned_by(self.node)
        for kind in _OWNED:
            resource = kinds.of(kind)
            owned = await self.cluster.list_all(
                resource, namespace=HOME_SYSTEM, label_selector=selector, checked=False
            )
            for one in owned.items:
                await requests.delete(
                    self.cluster, resource, one["metadata"]["name"], namespace=HOME_SYSTEM
                )
        for what in ("home", "foreign", "gateway"):
            await requests.delete(
                self.cluster,
                kinds.SECRETS,
                f"{object_name(self.node)}-{what}",
                namespace=HOME_SYSTEM,
            )
        await requests.until_gone(
            self.cluster, kinds.VIRTUAL_NODES, self.node, namespace=HOME_SYSTEM
        )
        await requests.until_none(
            self.cluster, kinds.PODS.metadata_only, namespace=HOME_SYSTEM, label_selector=selector
        )
        return f"VirtualNode {HOME_SYSTEM}/{self.node} and its objects are gone"

    async def _note_certificate(self) -> None:
        """A client certificate cannot be revoked: say until when it is valid."""
        name = f"{object_name(self.node)}-home"
        secret = await requests.find(self.cluster, kinds.SECRETS, name, namespace=HOME_SYSTEM)
        until = certificate_end(secret)
        if until is not None:
            self.left.append(
                f"the client certificate of {names.node_user(self.node)}, valid until {until}: "
                f"Kubernetes cannot revoke it. Its private key was only in the Secret {name}, "
                "which is deleted"
            )

    async def clean(self, virtual_node_id: str, volumes: Volumes) -> str:
        """The Node and what refers to it, permissions, and the placeholders of volumes."""
        if not self.is_machine:
            await self._remove_node()
        count, left = await home_data.leave(self.cluster, virtual_node_id, volumes)
        self.left += left
        # Last: what shows a further run that this one was interrupted.
        async for resource, metadata in self.granted():
            await requests.delete(
                self.cluster, resource, metadata["name"], namespace=metadata.get("namespace", "")
            )
        deleted = f", {requests.counted(count, 'PersistentVolume')} deleted" if count else ""
        return f"Node, Lease, certificate requests and bindings are gone{deleted}"

    async def granted(self) -> AsyncIterator[tuple[Resource[JSON], JSON]]:
        """Roles and bindings that `connect` created for this node."""
        selector = f"{MANAGED_BY_LABEL}={CONNECT},{INSTANCE_LABEL}={self.node}"
        for resource in _GRANTED:
            for one in (await self.cluster.list_all(resource, label_selector=selector)).items:
                yield resource, one["metadata"]

    async def _remove_node(self) -> None:
        """The Node, what is left on it, its Lease, and its certificate requests."""
        for pod in await self._pods():  # without farlet, nothing else ends them
            await requests.delete(
                self.cluster,
                kinds.PODS,
                pod["metadata"]["name"],
                namespace=pod["metadata"]["namespace"],
                uid=pod["metadata"]["uid"],
                options={"gracePeriodSeconds": 0},
            )
        await requests.delete(self.cluster, kinds.NODES, self.node)
        await requests.delete(self.cluster, kinds.LEASES, self.node, namespace=LEASES)
        for request in (await self.cluster.list_all(kinds.SIGNING_REQUESTS)).items:
            if approval.belongs_to(request, self.node):
                await requests.delete(
                    self.cluster, kinds.SIGNING_REQUESTS, request["metadata"]["name"]
                )


def _is_bare(pod: JSON) -> bool:
    metadata = pod["metadata"]
    ended = (pod.get("status") or {}).get("phase") in phases.TERMINAL
    controlled = any(one.get("controller") for one in metadata.get("ownerReferences") or ())
    return not (controlled or ended or "deletionTimestamp" in metadata or stays(cast("Pod", pod)))


def certificate_end(secret: JSON | None) -> str | None:
    """When the client certificate in a Secret with a kubeconfig expires."""
    found = credentials.of_secret(secret)
    if found is None or found.pair is None:
        return None
    return str(found.pair.leaf.not_valid_after_utc)


def _key(pod: JSON) -> ObjectKey:
    return ObjectKey(pod["metadata"]["namespace"], pod["metadata"]["name"])


def _because(message: str | None) -> str:
    return f" ({message})" if message else ""
