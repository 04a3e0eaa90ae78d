"""farlet is killed at random moments while hundreds of pods are created, end and are deleted.

Two records that are independent of farlet show what ran: the audit log of the foreign API server
(how often a pod of each name was created) and, for pods on the real node, a file on that node into
which each container writes one line when it starts.
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
from faults.environment import Environment, Observation

pytestmark = [pytest.mark.clusters, pytest.mark.core, pytest.mark.takes(120)]

SEED = 7_2026
KILLS = 30
FIRST = 80
CREATED, DELETED = 6, 6  # per kill
REAL_EVERY = 2  # kills between two pods on the real node
BUSY_SECONDS = 1.2  # maximum time from the first new pod to the kill

POLICIES = ("Always", "Never", "Never", "OnFailure")


class Workload:
    """Random pods of all kinds; no name is used twice."""

    def __init__(self, env: Environment, rng: random.Random, ledger: Path) -> None:
        self._stage = env
        self._dice = rng
        self._ledger = ledger
        self.policies: dict[str, str] = {}
        self.refused: set[str] = set()
        self.real: dict[str, rest.Object] = {}
        self._living: list[str] = []

    async def create_pods(self, count: int) -> None:
        pods = [self._fake() for _ in range(count)]
        await self._stage.create(*pods)

    async def create_real_pods(self) -> None:
        """Create a pod that writes its uid into the ledger, and one that farlet rejects."""
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

    async def delete_pods(self, count: int) -> None:
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
        line = 'echo "$HOME_UID" >> /ledger/lines; sleep 2'
        uid = {"valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}
        return self._stage.pod(
            name,
            restart=policy,
            on="real",
            annotations=annotations,
            container={
                "command": ["sh", "-c", line],
                "env": [{"name": "HOME_UID", **uid}],
                "volumeMounts": [{"name": "ledger", "mountPath": "/ledger"}],
            },
            spec={
                "volumes": [{"name": "ledger", "hostPath": {"path": str(self._ledger.parent)}}],
            },
        )


_ENDS = ("Succeeded", "Failed")


async def test_thirty_kills_neither_lose_nor_repeat_a_pod(
    env: Environment, start_farlet: StartFarlet
) -> None:
    ledger = env.clusters.foreign.folder / f"ledger-{env.node}" / "lines"
    ledger.parent.mkdir()
    ledger.touch()
    began = env.clusters.foreign.audit_mark()
    rng = random.Random(SEED)
    workload = Workload(env, rng, ledger)
    farlet = await start_farlet(env.node, arguments=["--allow-pod-feature", "host-path"])
    await workload.create_pods(FIRST)
    for number in range(KILLS):
        changing = asyncio.gather(workload.create_pods(CREATED), workload.delete_pods(DELETED))
        if number % REAL_EVERY == 0:
            await workload.create_real_pods()
        await asyncio.sleep(rng.random() * BUSY_SECONDS)
        farlet.kill()
        await changing
        farlet.start()
        await farlet.ready()
        check_consistency(await env.settled(steady=0.5), workload)

    for made in workload.real.values():
        await env.seen(made["metadata"]["name"], rest.phase("Succeeded"))
    runs = env.runs(began)
    assert {name: count for name, count in runs.items() if count > 1} == {}
    assert set(runs) & workload.refused == set()
    assert len(workload.policies) > 200
    assert workload.written() == {manifests.uid(made): 1 for made in workload.real.values()}


def check_consistency(observation: Observation, workload: Workload) -> None:
    """No pod is reported lost, and no rejected pod has run."""
    for pod in observation.pods:
        name, status = pod["metadata"]["name"], pod["status"]
        assert status.get("reason") != "MirrorLost", name
        assert (status.get("reason") == "InvalidAPIServerSupport") == (name in workload.refused), (
            name
        )
    assert {one["metadata"]["name"] for one in observation.mirrors} & workload.refused == set()
