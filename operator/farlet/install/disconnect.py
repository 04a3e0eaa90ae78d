"""The steps of `farlet disconnect`: one virtual node leaves both clusters as they were.

The home cluster comes first: its pods end while farlet still works. Each step reads what is there
and can be repeated, so that the same command continues after any interruption.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

from farlet import errors
from farlet.client import kinds
from farlet.client.api_client import ApiClient
from farlet.client.resources import Resource
from farlet.constants import (
    FOREIGN_CLUSTER,
    HOME_CLUSTER,
    JSON,
    VIRTUAL_NODE_TAINT,
    ObjectKey,
)
from farlet.draining import stays
from farlet.install import (
    approval,
    checks,
    credentials,
    foreign_search,
    home_data,
    installed_manager,
    requests,
)
from farlet.install.connect import Step, failing
from farlet.install.connection import CONNECT, HOME_SYSTEM
from farlet.install.foreign_removal import Removal
from farlet.install.foreign_search import Found
from farlet.install.home_data import Volumes
from farlet.k8s_types import Pod
from farlet.manager.virtual_node import (
    FARLET,
    INSTANCE_LABEL,
    MANAGED_BY_LABEL,
    NAME_LABEL,
    object_name,
)

STEP_SECONDS = 4 * requests.END_SECONDS
"""The end of a step, whatever it waits for. Each wait in it ends earlier, with a reason."""
LEASES = "kube-node-lease"

_GRANTED = (
    kinds.ROLE_BINDINGS,
    kinds.ROLES,
    kinds.CLUSTER_ROLE_BINDINGS,
    kinds.CLUSTER_ROLES,
)
_OWNED = ("Deployment", "PodDisruptionBudget", "NetworkPolicy", "ServiceAccount", "Secret")


class Disconnect:
    """Removes one virtual node. A cluster that is `None` is gone, and is left as it is."""

    def __init__(
        self,
        node: str,
        home: ApiClient | None,
        foreign: ApiClient | None,
        *,
        system: str | None,
        home_id: str | None,
        volumes: Volumes,
        report: Callable[[str], None],
        seconds: float,
    ) -> None:
        """`system`: the foreign system namespace, by default that of the VirtualNode.

        `seconds` is how long the pods of the node may take to end.
        """
        self._node = node
        self._home = home
        self._foreign = foreign
        self._system = system
        self._home_id = home_id
        self._volumes = volumes
        self._report = report
        self._seconds = seconds
        self._removal: Removal | None = None
        self._is_machine = False
        """The home cluster has a Node of this name that is not one of farlet."""
        self.left: list[str] = []
        """What stays, and why."""

    async def run(self) -> None:
        """Raises `StartError` with the step that failed and what to do."""
        steps = [Step("checks", self._check)]
        if self._home is not None:
            home = self._home
            if self._foreign is not None:
                steps.append(Step("drain", lambda: self._drain(home)))
            steps += [
                Step("farlet", lambda: self._end(home)),
                Step("home objects", lambda: self._clean_home(home)),
            ]
        if self._foreign is not None:
            steps += [
                Step("revocation", lambda: self._removed().revoke()),
                Step("foreign objects", lambda: self._removed().clean()),
                Step("foreign permissions", lambda: self._removed().remove_permissions()),
            ]
        if self._home is not None:
            home = self._home
            steps.append(Step("manager", lambda: self._remove_manager(home)))
        for number, step in enumerate(steps, start=1):
            with failing(step.title):
                async with requests.limit(
                    self._seconds + STEP_SECONDS, lambda: "the API servers did not answer in time"
                ):
                    done = await step.run()
            self._report(f"[{number}/{len(steps)}] {step.title}: {done}")
        if self._removal is not None:
            self.left += self._removal.left
        self.left += self._beyond()

    # --- checks -------------------------------------------------------------------------------

    async def _check(self) -> str:
        node, virtual = None, None
        if self._home is not None:
            node = await requests.find(self._home, kinds.NODES, self._node)
            virtual = await requests.find(
                self._home, kinds.VIRTUAL_NODES, self._node, namespace=HOME_SYSTEM
            )
            self._is_machine = node is not None and not is_ours(node)
            if self._is_machine and virtual is None:
                raise errors.StartError(
                    f"the Node {self._node} of the home cluster is not one of farlet; it is left "
                    "as it is. Set --node to the name of a virtual node"
                )
            if self._home_id is None:
                self._home_id = await checks.home_id(self._home)
        if self._system is None:
            self._system = await self._system_namespace(virtual)
        found = None
        if self._foreign is not None:
            found = await foreign_search.look(
                self._foreign, node=self._node, system=self._system, home_id=self._home_id
            )
            _confirm(None if self._is_machine else node, virtual, found)
            if found.claims and self._volumes is Volumes.REFUSE:
                raise home_data.hold_data(found.claims)
            delete = self._volumes is Volumes.DELETE
            self._removal = Removal(self._foreign, found, delete)
            if found.claims and not delete:
                self.left += [f"the foreign claim {claim}" for claim in found.claims]
        if node is None and virtual is None and (found is None or found.is_empty):
            await self._refuse_unknown_name()
            return f"neither cluster has a virtual node {self._node} any more"
        where = f"in the foreign namespace {self._system}" if found is not None else "at home"
        return f"virtual node {self._node}, {where}"

    async def _refuse_unknown_name(self) -> None:
        """Raises `StartError` if nothing is left of a node of this name, and others exist."""
        if self._home is None or [one async for one in self._granted(self._home)]:
            return
        others = await self._others(self._home)
        if others:
            raise errors.StartError(
                f"the home cluster has no virtual node {self._node}, and nothing is left of "
                f"one. It has: {', '.join(others[: requests.SHOWN])}"
            )

    async def _others(self, home: ApiClient) -> list[str]:
        """Names of all VirtualNodes."""
        try:
            found = await home.list_all(kinds.VIRTUAL_NODES)
        except (errors.NotFound, errors.UnknownPath):  # the definition is gone
            return []
        return sorted(one["metadata"]["name"] for one in found.items)

    async def _system_namespace(self, virtual: JSON | None) -> str:
        if virtual is not None:
            named = (virtual["spec"].get("foreign") or {}).get("systemNamespace")
            return named or object_name(self._node)
        if self._foreign is None:
            return object_name(self._node)
        return await foreign_search.system_namespace(self._foreign, self._node, self._home_id)

    def _removed(self) -> Removal:
        assert self._removal is not None
        return self._removal

    # --- home ---------------------------------------------------------------------------------

    async def _drain(self, home: ApiClient) -> str:
        """Evict the pods, as `kubectl drain` does, while farlet ends their mirrors."""
        if self._is_machine:
            return f"{self._node} is a machine, whose pods stay"
        if await requests.find(home, kinds.NODES, self._node) is None:
            return "the Node is gone"
        await home.patch(kinds.NODES, self._node, {"spec": {"unschedulable": True}})
        evicted: set[str] = set()
        refused: dict[ObjectKey, str] = {}
        deadline = asyncio.get_running_loop().time() + self._seconds
        while pods := [pod for pod in await self._pods(home) if not stays(cast("Pod", pod))]:
            for pod in pods:
                if "deletionTimestamp" not in pod["metadata"]:
                    await self._evict(home, pod, evicted, refused)
            if asyncio.get_running_loop().time() > deadline:
                keys = [_key(pod) for pod in pods]
                words = [f"{key}{_because(refused.get(key))}" for key in keys]
                raise errors.StartError(
                    f"after {self._seconds:g} s the node {self._node} still has {len(pods)} pods: "
                    f"{', '.join(words[:10])}. Delete them (kubectl delete pod; with --force where "
                    "they do not end), or set a longer --timeout"
                )
            await asyncio.sleep(requests.WATCH_SECONDS)
        return f"{len(evicted)} pods evicted"

    async def _pods(self, home: ApiClient) -> list[JSON]:
        found = await home.list_all(kinds.PODS, field_selector=f"spec.nodeName={self._node}")
        return list(found.items)

    async def _evict(
        self, home: ApiClient, pod: JSON, evicted: set[str], refused: dict[ObjectKey, str]
    ) -> None:
        key, uid = _key(pod), pod["metadata"]["uid"]
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"namespace": key.namespace, "name": key.name},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        try:
            await home.create(kinds.POD_EVICTIONS, body, namespace=key.namespace, name=key.name)
        except (errors.NotFound, errors.Conflict):
            return
        except errors.Throttled as err:  # a PodDisruptionBudget
            refused[key] = err.message
            return
        evicted.add(uid)

    async def _end(self, home: ApiClient) -> str:
        """Delete the VirtualNode, and wait until the processes of farlet have ended."""
        await self._note_certificate(home)
        await requests.delete(
            home,
            kinds.VIRTUAL_NODES,
            self._node,
            namespace=HOME_SYSTEM,
            options=requests.FOREGROUND,
        )
        selector = f"{NAME_LABEL}={FARLET},{INSTANCE_LABEL}={self._node}"
        for kind in _OWNED:
            resource = kinds.of(kind)
            owned = await home.list_all(
                resource, namespace=HOME_SYSTEM, label_selector=selector, checked=False
            )
            for one in owned.items:
                await requests.delete(
                    home, resource, one["metadata"]["name"], namespace=HOME_SYSTEM
                )
        for what in ("home", "foreign", "gateway"):
            await requests.delete(
                home,
                kinds.SECRETS,
                f"{object_name(self._node)}-{what}",
                namespace=HOME_SYSTEM,
            )
        await requests.until_gone(home, kinds.VIRTUAL_NODES, self._node, namespace=HOME_SYSTEM)
        await requests.until_none(
            home, kinds.PODS.metadata_only, namespace=HOME_SYSTEM, label_selector=selector
        )
        return f"VirtualNode {HOME_SYSTEM}/{self._node} and its objects are gone"

    async def _note_certificate(self, home: ApiClient) -> None:
        """A client certificate cannot be revoked: say until when it is valid."""
        name = f"{object_name(self._node)}-home"
        secret = await requests.find(home, kinds.SECRETS, name, namespace=HOME_SYSTEM)
        until = certificate_end(secret)
        if until is not None:
            self.left.append(
                f"the client certificate of system:node:{self._node}, valid until {until}: "
                f"Kubernetes cannot revoke it. Its private key was only in the Secret {name}, "
                "which is deleted"
            )

    async def _clean_home(self, home: ApiClient) -> str:
        if not self._is_machine:
            await self._remove_node(home)
        volumes = await self._volumes_at_home(home)
        # Last: what shows a further run that this one was interrupted.
        async for resource, metadata in self._granted(home):
            await requests.delete(
                home, resource, metadata["name"], namespace=metadata.get("namespace", "")
            )
        return f"Node, Lease, certificate requests and bindings are gone{volumes}"

    async def _granted(self, home: ApiClient) -> AsyncIterator[tuple[Resource[JSON], JSON]]:
        """Roles and bindings that `connect` created for this node."""
        selector = f"{MANAGED_BY_LABEL}={CONNECT},{INSTANCE_LABEL}={self._node}"
        for resource in _GRANTED:
            for one in (await home.list_all(resource, label_selector=selector)).items:
                yield resource, one["metadata"]

    async def _remove_node(self, home: ApiClient) -> None:
        """The Node, what is left on it, its Lease, and its certificate requests."""
        for pod in await self._pods(home):  # without farlet, nothing else ends them
            await requests.delete(
                home,
                kinds.PODS,
                pod["metadata"]["name"],
                namespace=pod["metadata"]["namespace"],
                uid=pod["metadata"]["uid"],
                options={"gracePeriodSeconds": 0},
            )
        await requests.delete(home, kinds.NODES, self._node)
        await requests.delete(home, kinds.LEASES, self._node, namespace=LEASES)
        for request in (await home.list_all(kinds.SIGNING_REQUESTS)).items:
            if approval.belongs_to(request, self._node):
                await requests.delete(home, kinds.SIGNING_REQUESTS, request["metadata"]["name"])

    async def _volumes_at_home(self, home: ApiClient) -> str:
        assert self._home_id is not None
        wanted = foreign_search.virtual_node_id(self._home_id, self._node)
        count, left = await home_data.leave(home, wanted, self._volumes)
        self.left += left
        return f", {count} PersistentVolumes deleted" if count else ""

    async def _remove_manager(self, home: ApiClient) -> str:
        names = await self._others(home)
        if names:
            return f"stays for {', '.join(names)}"
        done, left = await installed_manager.remove(home)
        self.left += left
        return done

    def _beyond(self) -> list[str]:
        """What this command cannot see."""
        if self._foreign is None:
            where, once = "foreign", "--foreign-only"
        elif self._home is None:
            where, once = "home", "--home-only"
        else:
            return []
        command = f"farlet disconnect --node {self._node} {once}"
        return [f"all that the {where} cluster has of it, if that still exists: {command}"]


def is_ours(node: Any) -> bool:
    """Whether farlet has created this Node."""
    annotations = node["metadata"].get("annotations") or {}
    taints = (node.get("spec") or {}).get("taints") or ()
    return (
        HOME_CLUSTER in annotations
        or FOREIGN_CLUSTER in annotations
        or any(one.get("key") == VIRTUAL_NODE_TAINT for one in taints)
    )


def certificate_end(secret: JSON | None) -> str | None:
    """When the client certificate in a Secret with a kubeconfig expires."""
    found = credentials.of_secret(secret)
    if found is None or found.pair is None:
        return None
    return str(found.pair.leaf.not_valid_after_utc)


def _confirm(node: JSON | None, virtual: JSON | None, found: Found) -> None:
    """Raises `StartError` where the foreign credentials lead to another cluster."""
    annotations = {} if node is None else node["metadata"].get("annotations") or {}
    status = {} if virtual is None else virtual.get("status") or {}
    recorded = annotations.get(FOREIGN_CLUSTER) or status.get("foreignCluster")
    advice = (
        "Set --foreign-context to the right one, and --foreign-system-namespace if farlet's "
        "namespace there has another name; if that cluster is gone, add --home-only"
    )
    namespace = found.system_namespace
    if recorded is not None and (namespace is None or namespace["metadata"]["uid"] != recorded):
        seen = "does not exist" if namespace is None else f"has {namespace['metadata']['uid']}"
        raise errors.StartError(
            f"this is not the foreign cluster of the node: its namespace {found.system} must have "
            f"the uid {recorded}, but {seen}. {advice}"
        )
    if virtual is not None and found.is_empty:
        raise errors.StartError(
            f"the foreign cluster has nothing of the VirtualNode {found.node}, not even the "
            f"namespace {found.system}. {advice}"
        )


def _key(pod: JSON) -> ObjectKey:
    return ObjectKey(pod["metadata"]["namespace"], pod["metadata"]["name"])


def _because(message: str | None) -> str:
    return f" ({message})" if message else ""
