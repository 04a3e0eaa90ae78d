"""farlet as a process, started the way a user would start it.

Nothing of farlet is imported: what a test sees is what a user gets, crashes included. `Way.RUN` is
`farlet run` with flags, `Way.KOPF` is `kopf run -A operator/main.py` with the same settings in the
environment.
"""

import asyncio
import dataclasses
import enum
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp

from clusters import errors, ports, processes, workspace
from clusters.cluster import Cluster
from clusters.identity import Identity
from clusters.pair import Clusters

ROOT = Path(__file__).parents[2]
CAPACITY = "cpu=100k,memory=100Ti,pods=100k,ephemeral-storage=100Ti"
"""Capacity for all pods of a test."""


class Way(enum.Enum):
    """How farlet is started."""

    RUN = "farlet run"
    KOPF = "kopf run -A operator/main.py"


@dataclasses.dataclass(frozen=True)
class Farlet:
    """One farlet process; it can be started again after it was stopped or killed.

    `kubelet_port` is the port of the kubelet API on 127.0.0.1, to which `forwarder` passes
    connections of the home API server while farlet runs.
    """

    node: str
    process: processes.Process
    forwarder: processes.Process | None
    metrics_address: str
    health_address: str
    kubelet_port: int

    async def ready(self, *, seconds: float = 120.0) -> None:
        """Return once /readyz answers 200; otherwise raise an error with the end of the log.

        It also waits until the home API server reaches the kubelet API.
        """
        deadline = time.monotonic() + seconds
        async with aiohttp.ClientSession() as session:
            while not (
                (self.forwarder is None or self.forwarder.has_printed)
                and await _answers(session, f"http://{self.health_address}/readyz")
            ):
                if not self.process.alive or time.monotonic() > deadline:
                    state = (
                        f"ended with {self.process.exit_code}"
                        if not self.process.alive
                        else f"is not ready after {seconds:.0f} s"
                    )
                    raise errors.HarnessError(f"farlet {state}{self.process.tail()}")
                await asyncio.sleep(0.05)

    async def ended(self, *, seconds: float = 60.0) -> int | None:
        """Return its exit code, once it has ended."""
        async with asyncio.timeout(seconds):
            while self.process.alive:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        return self.process.exit_code

    async def metrics(self) -> str:
        """The text of its metrics."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{self.metrics_address}/metrics") as answer,
        ):
            answer.raise_for_status()
            return await answer.text()

    async def leads(self) -> bool:
        """Whether its metrics show that it leads."""
        line = f'leader_election_master_status{{name="{self.node}"}} 1.0'
        return line in await self.metrics()

    def start(self) -> None:
        """Start or restart it; then await `ready`."""
        if self.forwarder is not None and not self.forwarder.alive:
            self.forwarder.start()
        self.process.start()

    async def stop(self, *, grace: float = 30.0) -> int:
        """SIGTERM; the exit code."""
        await asyncio.to_thread(self.process.stop, grace=grace)
        if self.forwarder is not None:
            self.forwarder.kill()
        return self.process.exit_code or 0

    def kill(self) -> None:
        """SIGKILL, at once."""
        self.process.kill()
        if self.forwarder is not None:
            self.forwarder.kill()

    async def restart(self) -> None:
        """SIGTERM, start, ready."""
        await self.stop()
        self.start()
        await self.ready()

    def usage(self) -> processes.Usage:
        """Its memory and CPU time, children included."""
        return self.process.usage()

    @property
    def log(self) -> str:
        """Its log, over all its starts."""
        return self.process.output()


def create(
    clusters: Clusters,
    *,
    node: str,
    way: Way = Way.RUN,
    identity: Identity = Identity.NODE,
    home_login: Path | None = None,
    foreign_login: Path | None = None,
    settings: Mapping[str, str | None] | None = None,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    name: str | None = None,
    program: Sequence[str | Path] | None = None,
) -> Farlet:
    """A farlet for the virtual node, not started yet.

    Without `home_login` its home identity is `identity`; without `foreign_login` it is the user
    `farlet` of `workspace.py`. `settings` adds flags by name without dashes ("home-name"), or takes
    a default away by None. The default ones lead home-mode pods to home's API server, and that
    server to farlet's kubelet API. `program` replaces the `farlet` of this checkout.
    """
    host, port = clusters.home_api_in_foreign
    kubelet, *others = ports.free(3)
    metrics, health = (f"127.0.0.1:{port}" for port in others)
    home_login = home_login or identity.login(clusters.home, node)
    flags: dict[str, str | None] = {
        "nodename": node,
        "home-kubeconfig": str(home_login),
        "foreign-kubeconfig": str(foreign_login or clusters.foreign.login(workspace.USER)),
        "home-name": workspace.HOME_NAME,
        "foreign-system-namespace": workspace.FARLET_NAMESPACE,
        "home-api-server-host": host,
        "home-api-server-port": str(port),
        "capacity": CAPACITY,
        **_kubelet(clusters.home, node, port=kubelet),
        "metrics-bind-address": metrics,
        "health-probe-bind-address": health,
        "log-level": "debug",
        **(settings or {}),
    }
    given = {flag: value for flag, value in flags.items() if value is not None}
    base = {key: value for key, value in os.environ.items() if not key.startswith("FARLET_")}
    marked = {**base, processes.MARK: clusters.instance.name, "PYTHONUNBUFFERED": "1"}
    scripts = Path(sys.executable).parent
    if way is Way.RUN:
        words = [word for flag, value in given.items() for word in (f"--{flag}", value)]
        command: list[str | Path] = [
            *(program or [scripts / "farlet"]),
            "run",
            *words,
            *arguments,
        ]
    else:
        command = [scripts / "kopf", "run", "-A", *arguments, ROOT / "operator" / "main.py"]
        marked |= {
            f"FARLET_{flag.upper().replace('-', '_')}": value for flag, value in given.items()
        }
    log = clusters.instance.folder / "farlet" / f"{name or node}-{health.rpartition(':')[2]}.log"
    process = processes.Process(
        f"farlet {node}", command, log=log, environment={**marked, **(environment or {})}
    )
    return Farlet(node, process, clusters.home.forwarder(kubelet), metrics, health, kubelet)


def _kubelet(home: Cluster, node: str, *, port: int) -> dict[str, str]:
    """Flags with which a cluster's API server reaches the kubelet API and trusts it."""
    flags = {"node-ip": home.machine, "kubelet-port": str(port)}
    if home.parts is None:  # its API server connects to this machine, and its signer is not used
        return flags
    authority = home.parts.plane.authority
    serving = authority.server(
        f"kubelet-{node}",
        user=f"system:node:{node}",
        groups=["system:nodes"],
        hosts=[home.machine, "127.0.0.1"],
    )
    return flags | {
        "kubelet-bind-address": f"127.0.0.1:{port}",
        "tls-cert-file": str(serving.certificate),
        "tls-private-key-file": str(serving.key),
        "client-ca-file": str(authority.files.certificate),
    }


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=2)) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):  # not listening yet
        return False
