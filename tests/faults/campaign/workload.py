"""The pods of a campaign: users create and delete them, and others touch their mirrors."""

import asyncio
import collections
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import aiohttp

from clusters import rest
from faults import manifests
from faults.campaign.judge import Created
from faults.environment import Environment

POLICIES = ("Always", "Never", "Never", "OnFailure")
MODES = (manifests.HOME, manifests.HOME, manifests.REMOTE, manifests.DISABLED)
MOST_ALIVE = 90
"""Above this number, more pods are deleted than created."""
WRITERS = 0.12
"""Share of pods on the real node, which write their name and the time into the ledger."""
MIRRORED = "farlet.io/Mirrored"
PATIENCE_SECONDS = 60.0
_T = TypeVar("_T")


class Workload:
    """No name is used twice."""

    def __init__(self, env: Environment, seed: int, *, writers: float = WRITERS) -> None:
        self._env = env
        self._writers = writers
        self._rng = random.Random(seed)
        self.pods: dict[str, Created] = {}
        self._living: list[str] = []
        self._count = 0
        self.ledger = env.ledger()

    async def change(self) -> None:
        """Users create two to five pods and delete some."""
        await asyncio.gather(*(self._create() for _ in range(self._rng.randint(2, 5))))
        spare = len(self._living) - MOST_ALIVE
        older = len(self._living) // 2 + 1
        for _ in range(max(spare, self._rng.randint(0, 2))):
            await self.delete(self._rng, force=False, among=older)

    async def delete(self, rng: random.Random, *, force: bool, among: int | None = None) -> None:
        """A user deletes a home pod, by force if asked; `among` the oldest if given."""
        if not self._living:
            return
        count = min(among or len(self._living), len(self._living))
        name = self._living.pop(rng.randrange(count))
        pod = self.pods[name]
        pod.deleted, pod.back, pod.deleted_at = True, False, None
        grace = {"gracePeriodSeconds": "0"} if force else {}
        await sent(
            lambda: self._env.home.delete(
                "pods", name=name, namespace=self._env.workspace.home, **grace
            )
        )
        pod.deleted_at = time.monotonic()

    async def relabel(self, rng: random.Random) -> None:
        """A user changes labels of a home pod."""
        if not self._living:
            return
        where = {"name": rng.choice(self._living), "namespace": self._env.workspace.home}
        labels = {"example.org/turn": str(rng.randrange(1 << 16))}
        await sent(lambda: self._env.home.patch("pods", {"metadata": {"labels": labels}}, **where))

    def home_restored(self, found: Iterable[rest.Object], *, backup: float, listed: float) -> None:
        """Note what has changed for each pod: `found` are all of the restored home cluster.

        What was answered before `backup` must be as it was, and `found` says nothing about what was
        answered after `listed`, when the list was requested.
        """
        pods = {pod["metadata"]["name"]: pod for pod in found}
        for name, pod in self.pods.items():
            seen = pods.get(name)
            if seen is None:
                pod.undone = pod.undone or (pod.expected and backup <= pod.created_at < listed)
            else:
                pod.forgotten += not is_recorded(seen)
                if (
                    pod.deleted
                    and "deletionTimestamp" not in seen["metadata"]
                    and pod.deleted_at is not None
                    and backup <= pod.deleted_at < listed
                ):
                    pod.back = True
        self._living = [
            name
            for name, pod in self.pods.items()
            if pod.expected and (name in pods or pod.created_at >= listed)
        ]

    def foreign_restored(self, lost: Collection[str], found: Iterable[rest.Object]) -> None:
        """Note the pods whose mirrors are `lost`; `found` are the home pods at that time."""
        recorded = {pod["metadata"]["name"] for pod in found if is_recorded(pod)}
        for name in set(lost) & self.pods.keys():
            self.pods[name].mirror_gone = True
            self.pods[name].unrecorded += name not in recorded

    async def disturb(self, rng: random.Random) -> None:
        """A user of the foreign cluster deletes or changes a mirror."""
        if not self._living:
            return
        name = rng.choice(self._living)
        where = {"name": name, "namespace": self._env.workspace.foreign}
        act = rng.choice(("delete", "label", "tokens", "owner"))
        if act in ("delete", "owner"):
            self.pods[name].disturbed = True
        changes = {
            "label": {"labels": {manifests.OWNER: None}},
            "tokens": {"annotations": {manifests.TOKENS: '{"token":["-inf","inf"]}'}},
            "owner": {"annotations": {manifests.HOME_UID: "another"}},
        }
        if act == "delete":
            await sent(lambda: self._env.foreign.delete("pods", **where))
        else:
            body = {"metadata": changes[act]}
            await sent(lambda: self._env.foreign.patch("pods", body, **where))

    def written(self) -> Mapping[str, Sequence[float]]:
        """When the container of each pod began to run, from the ledger."""
        found: dict[str, list[float]] = collections.defaultdict(list)
        for line in self.ledger.read_text().splitlines():
            name, seconds = line.split()
            found[name].append(float(seconds))
        return found

    async def _create(self) -> None:
        name = f"pod-{self._count}"
        self._count += 1
        policy = self._rng.choice(POLICIES)
        writes = policy != "Always" and self._rng.random() < self._writers
        rejected = not writes and self._rng.random() < 0.04
        body = self._writer(name, policy) if writes else self._fake(name, policy, rejected)
        await sent(lambda: self._env.home.create("pods", body, namespace=self._env.workspace.home))
        self.pods[name] = Created(
            name, policy, writes=writes, rejected=rejected, created_at=time.monotonic()
        )
        self._living.append(name)

    def _fake(self, name: str, policy: str, rejected: bool) -> dict[str, Any]:
        annotations = manifests.access(self._rng.choice(MODES))
        if policy != "Always" and self._rng.random() < 0.6:
            phase = "Succeeded" if policy == "OnFailure" else self._rng.choice(_ENDS)
            after = f"{self._rng.randint(0, 6000)}ms"
            annotations |= manifests.finishing(phase, after=after)
        if rejected:
            annotations = {manifests.SUPPORT: "nonsense"}
        return self._env.pod(name, restart=policy, annotations=annotations)

    def _writer(self, name: str, policy: str) -> dict[str, Any]:
        return self._env.pod(
            name,
            restart=policy,
            on="real",
            annotations=manifests.access(self._rng.choice(MODES)),
            container={
                "command": ["sh", "-c", f"echo {name} $(date +%s) >> /ledger/lines; sleep 2"],
                "volumeMounts": [{"name": "ledger", "mountPath": "/ledger"}],
            },
            spec={"volumes": [{"name": "ledger", "hostPath": {"path": str(self.ledger.parent)}}]},
        )


def is_recorded(pod: rest.Object) -> bool:
    """Whether a home pod shows that it has, or had, a mirror."""
    conditions = pod.get("status", {}).get("conditions", ())
    return any(one["type"] == MIRRORED and one["status"] == "True" for one in conditions)


_ENDS = ("Succeeded", "Failed")


async def sent(request: Callable[[], Awaitable[_T]]) -> _T | None:
    """The answer to a request, repeated while the API server is down; `None`: it was superfluous.

    404: what it is about is gone. 409: an earlier attempt was processed.
    """
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return await request()
            except rest.ApiError as error:
                if error.code in (404, 409):
                    return None
                if error.code not in (403, 429) and error.code < 500:  # 403: it is starting
                    raise
            except (aiohttp.ClientError, OSError):
                pass  # it was killed
            await asyncio.sleep(0.3)
