"""The pods of a campaign: users create and delete them, and others touch their mirrors."""

import asyncio
import collections
import random
from collections.abc import Awaitable, Callable
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
"""Share of pods on the real node, which write their name into the ledger."""
PATIENCE_SECONDS = 60.0
_T = TypeVar("_T")


class Workload:
    """No name is used twice."""

    def __init__(self, env: Environment, seed: int) -> None:
        self._env = env
        self._rng = random.Random(seed)
        self.pods: dict[str, Created] = {}
        self._living: list[str] = []
        self._count = 0
        self.ledger = env.clusters.foreign.folder / f"ledger-{env.node}" / "lines"
        self.ledger.parent.mkdir()
        self.ledger.touch()

    async def change(self) -> None:
        """Users create two to five pods and delete some."""
        await asyncio.gather(*(self._create() for _ in range(self._rng.randint(2, 5))))
        spare = len(self._living) - MOST_ALIVE
        for _ in range(max(spare, self._rng.randint(0, 2))):
            await self.delete(self._rng, force=False)

    async def delete(self, rng: random.Random, *, force: bool) -> None:
        """A user deletes a home pod, by force if asked."""
        if not self._living:
            return
        name = self._living.pop(rng.randrange(len(self._living)))
        self.pods[name].deleted = True
        grace = {"gracePeriodSeconds": "0"} if force else {}
        await sent(
            lambda: self._env.home.delete(
                "pods", name=name, namespace=self._env.workspace.home, **grace
            )
        )

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

    def written(self) -> collections.Counter[str]:
        """Lines in the ledger by pod."""
        return collections.Counter(self.ledger.read_text().split())

    async def _create(self) -> None:
        name = f"pod-{self._count}"
        self._count += 1
        policy = self._rng.choice(POLICIES)
        writes = policy != "Always" and self._rng.random() < WRITERS
        rejected = not writes and self._rng.random() < 0.04
        body = self._writer(name, policy) if writes else self._fake(name, policy, rejected)
        await sent(lambda: self._env.home.create("pods", body, namespace=self._env.workspace.home))
        self.pods[name] = Created(name, policy, writes=writes, rejected=rejected)
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
                "command": ["sh", "-c", f"echo {name} >> /ledger/lines; sleep 2"],
                "volumeMounts": [{"name": "ledger", "mountPath": "/ledger"}],
            },
            spec={"volumes": [{"name": "ledger", "hostPath": {"path": str(self.ledger.parent)}}]},
        )


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
