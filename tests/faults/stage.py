"""What a test of faults plays on, and the one question that all of them end with.

`Stage.differences` compares both clusters as an administrator sees them, and knows nothing of
farlet but the words that it writes on objects.
"""

import asyncio
import collections
import dataclasses
import time
from collections.abc import Iterable, Mapping
from typing import Any

from clusters import auditlog, pair, rest
from clusters.identity import Identity
from clusters.workspace import Workspace
from faults import manifests

CONVERGED_SECONDS = 120.0
STEADY_SECONDS = 1.0

WAITING = frozenset({"InvalidAPIServerSupport", "InvalidRemoteServiceAccount", "UnsupportedPod"})
"""Reasons that no passing of time and no end of a fault will cure."""


@dataclasses.dataclass(frozen=True)
class Sight:
    """Both sides at one moment."""

    pods: list[rest.Object]
    mirrors: list[rest.Object]
    secrets: list[rest.Object]


@dataclasses.dataclass(frozen=True)
class Stage:
    """Both clusters, a namespace on each side, a virtual node, and who its farlet is at home."""

    clusters: pair.Clusters
    home: rest.Api
    foreign: rest.Api
    workspace: Workspace
    node: str
    identity: Identity

    @property
    def user(self) -> str:
        """What home calls the farlet of this node."""
        return self.identity.user(self.node)

    def pod(self, name: str, **wanted: Any) -> dict[str, Any]:
        """A manifest for this stage's node; `wanted` as in `manifests.pod`."""
        return manifests.pod(name, node=self.node, **wanted)

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
        """Ask for the deletion of home pods."""
        namespace = self.workspace.home
        await asyncio.gather(
            *(self.home.delete("pods", name=name, namespace=namespace) for name in names)
        )

    async def finish(self, name: str, phase: str) -> None:
        """Let the pod's mirror, on a fake node, end."""
        body = {"metadata": {"annotations": {manifests.FINISH: phase}}}
        await self.foreign.patch("pods", body, name=name, namespace=self.workspace.foreign)

    async def sight(self) -> Sight:
        """Home pods of the node; what carries farlet's label abroad."""
        pods = await self.home.list(
            "pods", namespace=self.workspace.home, fieldSelector=f"spec.nodeName={self.node}"
        )
        mirrors = await self.foreign.list("pods", namespace=self.workspace.foreign)
        secrets = await self.foreign.list("secrets", namespace=self.workspace.foreign)
        return Sight(pods, manifests.of_node(mirrors), manifests.of_node(secrets))

    async def settled(
        self, *, seconds: float = CONVERGED_SECONDS, steady: float = STEADY_SECONDS
    ) -> Sight:
        """Both sides, once they agree and have agreed for a while; else what differs is told."""
        deadline = time.monotonic() + seconds
        agreed_since: float | None = None
        while True:
            sight = await self.sight()
            found = differences(sight)
            now = time.monotonic()
            agreed_since = None if found else agreed_since or now
            if agreed_since is not None and now - agreed_since >= steady:
                return sight
            assert now < deadline, f"both sides differ after {seconds:.0f} s: {found[:20]}"
            await asyncio.sleep(0.25)

    def runs(self, since: auditlog.Mark) -> collections.Counter[str]:
        """How often the foreign API server has taken a pod of each name."""
        return collections.Counter(
            entry.name
            for entry in self.clusters.foreign.audit(
                since=since, verb="create", resource="pods", namespace=self.workspace.foreign
            )
            if entry.code == 201 and not entry.subresource and "dryRun" not in entry.uri
        )


def differences(sight: Sight) -> list[str]:
    """What is not as it has to be once everything is quiet; empty when all is well."""
    pods = {manifests.uid(pod): pod for pod in sight.pods}
    mirrors: dict[str, list[rest.Object]] = collections.defaultdict(list)
    for mirror in sight.mirrors:
        mirrors[mirror["metadata"]["annotations"][manifests.HOME_UID]].append(mirror)
    return [
        *(word for pod in sight.pods for word in _pod(pod, mirrors.get(manifests.uid(pod), []))),
        *(word for mirror in sight.mirrors for word in _mirror(mirror, pods)),
        *_secrets(sight),
    ]


def _pod(pod: rest.Object, mirrors: list[rest.Object]) -> Iterable[str]:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if "deletionTimestamp" in pod["metadata"]:
        yield f"home pod {name} is being deleted still"
    if status.get("reason") in WAITING:
        if mirrors:
            yield f"home pod {name} is refused and has a mirror"
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
        yield f"mirror {name} has ended, home knows, and the finalizer stands still"
    if "deletionTimestamp" in metadata:
        yield f"mirror {name} is being deleted still"


def _secrets(sight: Sight) -> Iterable[str]:
    owners = {manifests.uid(mirror): mirror for mirror in sight.mirrors}
    owned = set()
    for secret in sight.secrets:
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
