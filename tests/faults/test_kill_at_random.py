"""farlet is killed at random moments while hundreds of pods come, end and go.

What ran is told by two ledgers that farlet has no part in: the foreign API server's audit log (how
often a pod of each name was made) and, for pods on the real node, a file of that node into which
each container writes one line when it begins.
"""

import asyncio
import collections
import random
from pathlib import Path
from typing import Any

import pytest

from clusters import rest
from conftest import StartFarlet
from faults import manifests
from faults.stage import Sight, Stage

pytestmark = [pytest.mark.clusters, pytest.mark.core]

SEED = 7_2026
KILLS = 30
FIRST = 80
COME, GO = 6, 6  # each time
REAL_EVERY = 2  # kills from one pod on the real node to the next
BUSY_SECONDS = 1.2  # the kill comes within, counted from the first of the new pods

POLICIES = ("Always", "Never", "Never", "OnFailure")


class Crowd:
    """Pods of all kinds, drawn by dice; names are never used twice."""

    def __init__(self, stage: Stage, dice: random.Random, ledger: Path) -> None:
        self._stage = stage
        self._dice = dice
        self._ledger = ledger
        self.policies: dict[str, str] = {}
        self.refused: set[str] = set()
        self.real: dict[str, rest.Object] = {}
        self._living: list[str] = []

    async def come(self, count: int) -> None:
        pods = [self._fake() for _ in range(count)]
        await self._stage.create(*pods)

    async def come_real(self) -> None:
        """One that writes its uid into the ledger, and one like it that is to be refused."""
        number = len(self.real)
        policy = ("Never", "OnFailure")[number % 2]
        name, bad = f"real-{number}", f"real-bad-{number}"
        (made, _) = await self._stage.create(
            self._writer(name, policy, {}),
            self._writer(bad, "Never", {manifests.SUPPORT: "nonsense"}),
        )
        self.policies |= {name: policy, bad: "Never"}
        self.real[name] = made
        self.refused.add(bad)

    async def go(self, count: int) -> None:
        self._dice.shuffle(self._living)
        gone, self._living = self._living[:count], self._living[count:]
        await self._stage.delete(*gone)

    def written(self) -> collections.Counter[str]:
        """Lines in the ledger by uid."""
        return collections.Counter(self._ledger.read_text().split())

    def _fake(self) -> dict[str, Any]:
        name = f"pod-{len(self.policies)}"
        policy = self._dice.choice(POLICIES)
        annotations = manifests.access(self._dice.choice(["home", "home", "remote", "disabled"]))
        if policy != "Always" and self._dice.random() < 0.6:
            phase = "Succeeded" if policy == "OnFailure" else self._dice.choice(_ENDS)
            after = f"{self._dice.randint(0, 4000)}ms"
            annotations |= manifests.finishing(phase, after=after)
        if self._dice.random() < 0.05:
            annotations = {manifests.SUPPORT: "nonsense"}
            self.refused.add(name)
        self.policies[name] = policy
        self._living.append(name)
        return self._stage.pod(name, restart=policy, annotations=annotations)

    def _writer(self, name: str, policy: str, annotations: dict[str, str]) -> dict[str, Any]:
        line = 'echo "$UID_AT_HOME" >> /ledger/lines; sleep 2'
        uid = {"valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}
        return self._stage.pod(
            name,
            restart=policy,
            on="real",
            annotations=annotations,
            container={
                "command": ["sh", "-c", line],
                "env": [{"name": "UID_AT_HOME", **uid}],
                "volumeMounts": [{"name": "ledger", "mountPath": "/ledger"}],
            },
            spec={
                "volumes": [{"name": "ledger", "hostPath": {"path": str(self._ledger.parent)}}],
            },
        )


_ENDS = ("Succeeded", "Failed")


async def test_thirty_kills_lose_double_and_harm_nothing(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    ledger = stage.clusters.foreign.folder / f"ledger-{stage.node}" / "lines"
    ledger.parent.mkdir()
    ledger.touch()
    began = stage.clusters.foreign.audit_mark()
    dice = random.Random(SEED)
    crowd = Crowd(stage, dice, ledger)
    farlet = await start_farlet(stage.node, arguments=["--allow-pod-feature", "host-path"])
    await crowd.come(FIRST)
    for number in range(KILLS):
        changing = asyncio.gather(crowd.come(COME), crowd.go(GO))
        if number % REAL_EVERY == 0:
            await crowd.come_real()
        await asyncio.sleep(dice.random() * BUSY_SECONDS)
        farlet.kill()
        await changing
        farlet.start()
        await farlet.ready()
        judge(await stage.settled(steady=0.5), crowd)

    for made in crowd.real.values():
        await stage.seen(made["metadata"]["name"], rest.phase("Succeeded"))
    runs = stage.runs(began)
    assert {name: count for name, count in runs.items() if count > 1} == {}
    assert set(runs) & crowd.refused == set()
    assert len(crowd.policies) > 200
    assert crowd.written() == {manifests.uid(made): 1 for made in crowd.real.values()}


def judge(sight: Sight, crowd: Crowd) -> None:
    """Beyond that both sides agree: nothing is said to be lost, nothing refused has run."""
    for pod in sight.pods:
        name, status = pod["metadata"]["name"], pod["status"]
        assert status.get("reason") != "MirrorLost", name
        assert (status.get("reason") == "InvalidAPIServerSupport") == (name in crowd.refused), name
    assert {one["metadata"]["name"] for one in sight.mirrors} & crowd.refused == set()
