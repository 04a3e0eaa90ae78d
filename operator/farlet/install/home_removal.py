"""Removes one virtual node from the home cluster: pods, farlet, the Node and its permissions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
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
from farlet.planning.api_refusals import AT_HOME

LEASES = "kube-node-lease"

_GRANTED = (
    kinds.ROLE_BINDINGS,
    kinds.ROLES,
    kinds.CLUSTER_ROLE_BINDINGS,
    kinds.CLUSTER_ROLES,
)
_OWNED = ("Deployment", "PodDisruptionBudget", "NetworkPolicy", "ServiceAccount", "Secret")


class _Kind(StrEnum):
    """What becomes of a pod that a drain evicts, as `pkg/drain/filters.go` of kubectl decides.

    The text is shown after a count.
    """

    CONTROLLED = "with a controller"
    BARE = "without a controller"
    FINISHED = "finished"


@dataclass
class HomeRemoval:
    """Removes a virtual node. Each step can be repeated."""

    cluster: ApiClient
    node: str
    is_machine: bool
    """The cluster has a Node of this name that is not one of farlet."""
    seconds: float
    """How long the pods of the node may take to end."""
    force: bool = False
    """Delete pods without a controller, too."""
    left: list[str] = field(default_factory=list)
    """What stays, and why."""

    async def bare_pods(self) -> Sequence[ObjectKey]:
        """The pods that end with the node and that no controller creates again.

        Raises `StartError` if there are some, unless that is wanted.
        """
        return self._verified(() if self.is_machine else await self._pods())

    def _verified(self, pods: Iterable[JSON]) -> Sequence[ObjectKey]:
        bare = sorted(_key(pod) for pod in pods if _kind(pod) is _Kind.BARE)
        if bare and not self.force:
            raise errors.StartError(
                f"the node {self.node} has {requests.counted(len(bare), 'pod')} without a "
                f"controller: {requests.listed(bare)}. Once deleted, they do not come back, so "
                f"they were not deleted. Delete them ({AT_HOME} delete pod -n NAMESPACE NAME), or "
                "add --force to delete them with the node"
            )
        return bare

    async def drain(self) -> str:
        """Evict the pods, as `kubectl drain` does, while farlet ends their mirrors."""
        if self.is_machine:
            return f"{self.node} is a machine, whose pods stay"
        if await requests.find(self.cluster, kinds.NODES, self.node) is None:
            return "the Node is gone"
        await self.cluster.patch(kinds.NODES, self.node, {"spec": {"unschedulable": True}})
        evicted: dict[str, _Kind] = {}
        refused: dict[ObjectKey, str] = {}
        deadline = asyncio.get_running_loop().time() + self.seconds
        while pods := [pod for pod in await self._pods() if not stays(cast("Pod", pod))]:
            self._verified(pods)  # some may be new
            for pod in pods:
                if (kind := _kind(pod)) is not None and await self._evict(pod, refused):
                    evicted[pod["metadata"]["uid"]] = kind
            if asyncio.get_running_loop().time() > deadline:
                count = requests.counted(len(pods), "pod")
                words = [f"{key}{_because(refused.get(key))}" for key in map(_key, pods)]
                raise errors.StartError(
                    f"after {self.seconds:g} s the node {self.node} still has {count}: "
                    f"{requests.listed(words)}. Delete them ({AT_HOME} delete pod -n NAMESPACE "
                    "NAME; with --force if they do not end), or set a longer --timeout. The node "
                    f"stays cordoned: {AT_HOME} uncordon {self.node} undoes that"
                )
            await asyncio.sleep(requests.WATCH_SECONDS)
        counts = Counter(evicted.values())
        kinds_of_pods = ", ".join(f"{counts[kind]} {kind}" for kind in _Kind if counts[kind])
        shown = f" ({kinds_of_pods})" if evicted else ""
        return f"{requests.counted(len(evicted), 'pod')} evicted{shown}"

    async def _pods(self) -> list[JSON]:
        found = await self.cluster.list_all(kinds.PODS, field_selector=f"spec.nodeName={self.node}")
        return list(found.items)

    async def _evict(self, pod: JSON, refused: dict[ObjectKey, str]) -> bool:
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
            return False
        except errors.Throttled as err:  # a PodDisruptionBudget
            refused[key] = err.message
            return False
        return True

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


def _kind(pod: JSON) -> _Kind | None:
    """`None`: a drain leaves the pod, or it is deleted already."""
    metadata = pod["metadata"]
    if "deletionTimestamp" in metadata or stays(cast("Pod", pod)):
        return None
    if (pod.get("status") or {}).get("phase") in phases.TERMINAL:
        return _Kind.FINISHED
    controlled = any(one.get("controller") for one in metadata.get("ownerReferences") or ())
    return _Kind.CONTROLLED if controlled else _Kind.BARE


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
