"""The environment of a fault test, and the comparison with which every fault test ends.

`differences` compares both clusters as an administrator sees them. Of farlet it uses only the
labels, annotations and reasons that farlet writes to objects.
"""

import asyncio
import collections
import dataclasses
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clusters import auditlog, pair, rest
from clusters.identity import Identity
from clusters.workspace import Workspace
from faults import manifests

CONVERGED_SECONDS = 120.0
STEADY_SECONDS = 1.0

WAITING = frozenset({"InvalidAPIServerSupport", "InvalidRemoteServiceAccount", "UnsupportedPod"})
"""Reasons that remain until a user changes the pod; no end of a fault removes them."""


@dataclasses.dataclass(frozen=True)
class Observation:
    """The objects of both clusters at one moment."""

    pods: list[rest.Object]
    mirrors: list[rest.Object]
    secrets: list[rest.Object]


@dataclasses.dataclass(frozen=True)
class Environment:
    """Both clusters, a namespace in each, a virtual node, and its identity in the home cluster."""

    clusters: pair.Clusters
    home: rest.Api
    foreign: rest.Api
    workspace: Workspace
    node: str
    identity: Identity

    @property
    def user(self) -> str:
        """The user name of this node's farlet in the home cluster."""
        return self.identity.user(self.node)

    def pod(self, name: str, **arguments: Any) -> dict[str, Any]:
        """A manifest for this node; keyword arguments as in `manifests.pod`."""
        return manifests.pod(name, node=self.node, **arguments)

    def ledger(self) -> Path:
        """A new file on the real node, into which containers write what ran."""
        path = self.clusters.foreign.folder / f"ledger-{self.node}" / "lines"
        path.parent.mkdir()
        path.touch()
        return path

    async def create(self, *pods: Mapping[str, Any]) -> list[rest.Object]:
        """Create home pods at the same time."""
        return list(
            await asyncio.gather(
                *(
                    self.home.create("pods", dict(pod), namespace=self.workspace.home)
                    for pod in pods
                )
            )
        )

    async def seen(
        self, name: str, condition: rest.Condition, *, seconds: float = CONVERGED_SECONDS
    ) -> rest.Object:
        """The home pod, once the condition holds."""
        return await self.home.until(
            "pods", condition, name=name, namespace=self.workspace.home, seconds=seconds
        )

    async def mirror(
        self, name: str, condition: rest.Condition, *, seconds: float = CONVERGED_SECONDS
    ) -> rest.Object:
        """The foreign pod, once the condition holds."""
        return await self.foreign.until(
            "pods", condition, name=name, namespace=self.workspace.foreign, seconds=seconds
        )

    async def delete(self, *names: str) -> None:
        """Request the deletion of home pods."""
        namespace = self.workspace.home
        await asyncio.gather(
            *(self.home.delete("pods", name=name, namespace=namespace) for name in names)
        )

    async def finish(self, name: str, phase: str) -> None:
        """End the pod's mirror on a fake node."""
        body = {"metadata": {"annotations": {manifests.FINISH: phase}}}
        await self.foreign.patch("pods", body, name=name, namespace=self.workspace.foreign)

    async def observe(self) -> Observation:
        """Home pods of the node, and foreign objects with farlet's label."""
        pods = await self.home.list(
            "pods", namespace=self.workspace.home, fieldSelector=f"spec.nodeName={self.node}"
        )
        mirrors = await self.foreign.list("pods", namespace=self.workspace.foreign)
        secrets = await self.foreign.list("secrets", namespace=self.workspace.foreign)
        return Observation(pods, manifests.of_node(mirrors), manifests.of_node(secrets))

    async def settled(
        self, *, seconds: float = CONVERGED_SECONDS, steady: float = STEADY_SECONDS
    ) -> Observation:
        """Wait until both clusters agree for `steady` seconds; fail with the differences."""
        deadline = time.monotonic() + seconds
        agreed_since: float | None = None
        while True:
            observation = await self.observe()
            found = differences(observation)
            now = time.monotonic()
            agreed_since = None if found else agreed_since or now
            if agreed_since is not None and now - agreed_since >= steady:
                return observation
            assert now < deadline, (
                f"home and foreign cluster still differ after {seconds:.0f} s: {found[:20]}"
            )
            await asyncio.sleep(0.25)

    def runs(self, since: auditlog.Mark) -> collections.Counter[str]:
        """How often a pod of each name was created in the foreign cluster."""
        return collections.Counter(
            entry.name
            for entry in self.clusters.foreign.audit(
                since=since, verb="create", resource="pods", namespace=self.workspace.foreign
            )
            if entry.code == 201 and not entry.subresource and "dryRun" not in entry.uri
        )


def differences(observation: Observation) -> list[str]:
    """All differences between home pods, mirrors and Secrets; empty if there are none."""
    pods = {manifests.uid(pod): pod for pod in observation.pods}
    mirrors: dict[str, list[rest.Object]] = collections.defaultdict(list)
    for mirror in observation.mirrors:
        mirrors[mirror["metadata"]["annotations"][manifests.HOME_UID]].append(mirror)
    return [
        *(
            word
            for pod in observation.pods
            for word in _pod(pod, mirrors.get(manifests.uid(pod), []))
        ),
        *(word for mirror in observation.mirrors for word in _mirror(mirror, pods)),
        *_secrets(observation),
    ]


def _pod(pod: rest.Object, mirrors: list[rest.Object]) -> Iterable[str]:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if "deletionTimestamp" in pod["metadata"]:
        yield f"home pod {name} is still being deleted"
    if status.get("reason") in WAITING:
        if mirrors:
            yield f"home pod {name} is rejected but has a mirror"
        return
    if ended(pod):
        return
    if len(mirrors) != 1:
        yield f"home pod {name} ({manifests.state(pod)}) has {len(mirrors)} mirrors"
    for mirror in mirrors:
        if mirror.get("status", {}).get("phase") != status.get("phase"):
            yield f"home pod {name} is {manifests.state(pod)}, its mirror {manifests.state(mirror)}"


def _mirror(mirror: rest.Object, pods: Mapping[str, rest.Object]) -> Iterable[str]:
    name, metadata = mirror["metadata"]["name"], mirror["metadata"]
    pod = pods.get(metadata["annotations"][manifests.HOME_UID])
    if pod is None:
        yield f"mirror {name} has no home pod"
    elif ended(pod) and not ended(mirror):
        yield f"home pod {name} has ended and its mirror has not"
    elif ended(pod) and manifests.OBSERVED in metadata.get("finalizers", ()):
        yield f"mirror {name} has ended and home shows it, but the finalizer remains"
    if "deletionTimestamp" in metadata:
        yield f"mirror {name} is still being deleted"


def _secrets(observation: Observation) -> Iterable[str]:
    owners = {manifests.uid(mirror): mirror for mirror in observation.mirrors}
    owned = set()
    for secret in observation.secrets:
        (owner,) = secret["metadata"]["ownerReferences"]
        owned.add(owner["uid"])
        if owner["uid"] not in owners:
            yield f"Secret {secret['metadata']['name']} has no mirror (was {owner['name']})"
    for uid, mirror in owners.items():
        wanted = mirror["metadata"]["annotations"].get("farlet.io/api-access") == "home"
        if wanted and not ended(mirror) and uid not in owned:
            yield f"mirror {mirror['metadata']['name']} has no Secret"


def ended(pod: Mapping[str, Any]) -> bool:
    return pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}
