"""Random pods of all kinds, of which each must run exactly once.

Two records that are independent of farlet show what ran: the audit log of the foreign API server
(how often a pod of each name was created) and, for pods on the real node, a file on that node into
which each container writes one line when it starts.
"""

import asyncio
import collections
import random
from collections.abc import Coroutine
from typing import Any

from clusters import auditlog, rest
from faults import manifests
from faults.environment import Environment, Observation

ARGUMENTS = ("--allow-pod-feature", "host-path")
"""What farlet needs: the file on the node is a hostPath."""

CREATED, DELETED = 8, 6
"""Pods that are created and deleted every `PAUSE` seconds during a step."""
PAUSE = 5.0

_POLICIES = ("Always", "Never", "Never", "OnFailure")
_ENDS = ("Succeeded", "Failed")


class Workload:
    """Random pods of all kinds; no name is used twice."""

    def __init__(self, env: Environment, rng: random.Random) -> None:
        self._stage = env
        self._dice = rng
        self._began: auditlog.Mark = env.clusters.foreign.audit_mark()
        self._ledger = env.ledger()
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

    async def accompany(self, step: Coroutine[Any, Any, object]) -> None:
        """Do one step while pods come and go; then both clusters agree, and no pod is lost."""
        done = asyncio.create_task(step)
        try:
            while not done.done():
                await self.create_pods(CREATED)
                await self.delete_pods(DELETED)
                await self.create_real_pods()
                await asyncio.wait([done], timeout=PAUSE)
        finally:
            done.cancel()
        await done
        check_consistency(await self._stage.settled(), self)

    async def check_runs(self) -> None:
        """Wait for the pods on the real node; no pod has run twice, and no rejected one at all."""
        for name in self.real:
            await self._stage.seen(name, rest.phase("Succeeded"))
        runs = self._stage.runs(self._began)
        assert {name: count for name, count in runs.items() if count > 1} == {}
        assert set(runs) & self.refused == set()
        written = collections.Counter(self._ledger.read_text().split())
        assert written == {manifests.uid(made): 1 for made in self.real.values()}

    def _fake(self) -> dict[str, Any]:
        name = f"pod-{len(self.policies)}"
        policy = self._dice.choice(_POLICIES)
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


def check_consistency(observation: Observation, workload: Workload) -> None:
    """No pod is reported lost, and no rejected pod has run."""
    for pod in observation.pods:
        name, status = pod["metadata"]["name"], pod["status"]
        assert status.get("reason") != "MirrorLost", name
        assert (status.get("reason") == "InvalidAPIServerSupport") == (name in workload.refused), (
            name
        )
    assert {one["metadata"]["name"] for one in observation.mirrors} & workload.refused == set()
