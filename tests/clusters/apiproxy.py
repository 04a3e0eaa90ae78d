"""HAProxy in front of the home API server, with the shipped configuration file.

It runs on this machine, with Debian's HAProxy: in the foreign cluster's network, where it replaces
the direct path to the home cluster, or on loopback. The shipped manifests run the same file in
pods.
"""

import contextlib
import dataclasses
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from clusters import errors, packages, pair, processes
from clusters import progress as progresses
from clusters.instance import Instance
from clusters.netns import Network

MANIFESTS = Path(__file__).parents[2] / "manifests" / "api-proxy"
CONFIGURATION = MANIFESTS / "base" / "haproxy.cfg"
USER_AGENT = "farlet-api-proxy"  # of its checks, which need no credentials


@dataclasses.dataclass(frozen=True)
class Proxy:
    """An HAProxy that can be stopped, killed and started again."""

    process: processes.Process
    status: Path  # the socket of its status frontend

    def start(self) -> None:
        """Start it, and return once it serves."""
        self.status.unlink(missing_ok=True)
        self.process.start()
        processes.wait_for("HAProxy to serve", self._serves, seconds=60, process=self.process)

    def _serves(self) -> bool:
        """Whether it answers; then it listens at all its addresses."""
        try:
            return self.ask("/livez")[0] == 200
        except OSError:  # not yet
            return False

    def ask(self, path: str) -> tuple[int, str]:
        """Code and body of a response of the status frontend."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.status))
            connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        head, _, body = answer.partition("\r\n\r\n")
        return int(head.split()[1]), body


def program() -> Path:
    """Debian's HAProxy, installed if missing."""
    packages.ensure(packages.PROXY, progress=progresses.Progress())
    found = packages.path("haproxy")
    if found is None:
        raise errors.HarnessError("the package haproxy was installed, but there is no such program")
    return found


def environment(backends: Sequence[str]) -> dict[str, str]:
    """What the configuration reads: addresses of one API server each, HOST:PORT."""
    return {f"HOME_API_{number}": address for number, address in enumerate(backends, 1)}


def create(
    owner: Instance, *, name: str, listen: str, backends: Sequence[str], network: Network | None
) -> Proxy:
    """A proxy in a network, not started yet; None is this machine's own."""
    folder = owner.folder / "proxies"
    folder.mkdir(exist_ok=True)
    status = folder / f"{name}.sock"
    command: list[str | Path] = [program(), "-db", "-f", CONFIGURATION]
    process = processes.Process(
        f"HAProxy {name}",
        network.inside(command) if network is not None else command,
        log=folder / f"{name}.log",
        environment={
            **owner.environment,
            **environment(backends),
            "API_PROXY_BIND": listen,
            "API_PROXY_STATUS_BIND": f"unix@{status}",
        },
    )
    return Proxy(process, status)


@contextlib.contextmanager
def before_home(clusters: pair.Clusters) -> Iterator[Proxy]:
    """A running proxy that replaces the direct path from foreign pods to the home API server."""
    (host, port), (_, other) = clusters.home_api_in_foreign, clusters.home_api_on_other_port
    proxy = create(
        clusters.instance,
        name="before-home",
        listen=f"{host}:{port}",
        backends=[f"{host}:{other}"],
        network=clusters.foreign.network,
    )
    with clusters.without_home_door():
        try:
            proxy.start()
            yield proxy
        finally:
            proxy.process.kill()
