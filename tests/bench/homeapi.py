"""The paths to the home API server that `paths.py` compares.

A path is opened on running clusters and returns the address for clients, the network in which the
client must run, and the processes that carry its data. To add a path, add a row to `PATHS`.
"""

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping

from bench.environment import NODE
from clusters import apiproxy, errors, farlet, gateway, pair, ports, processes
from clusters.controlplane import SERVICES
from clusters.netns import BRIDGE, Network

Used = Callable[[], processes.Usage]


@dataclasses.dataclass(frozen=True)
class Open:
    """An open path.

    `parts` are the processes on it except the API server; `carrying` is the farlet on it.
    """

    address: str
    network: Network | None
    parts: Mapping[str, Used]
    carrying: farlet.Farlet | None = None


@dataclasses.dataclass(frozen=True)
class HomeAPIPath:
    """`real_node`: whether the foreign cluster needs one, with its own network."""

    open: Callable[[pair.Clusters], contextlib.AbstractAsyncContextManager[Open]]
    real_node: bool = False


@contextlib.asynccontextmanager
async def _direct(both: pair.Clusters) -> AsyncIterator[Open]:
    yield Open(_home(both), network=None, parts={})


@contextlib.asynccontextmanager
async def _haproxy(both: pair.Clusters) -> AsyncIterator[Open]:
    (port,) = ports.free(1)
    address = f"127.0.0.1:{port}"
    proxy = apiproxy.create(
        both.instance, name=f"bench-{port}", listen=address, backends=[_home(both)], network=None
    )
    proxy.start()
    try:
        yield Open(address, network=None, parts={"haproxy": proxy.process.usage})
    finally:
        proxy.process.stop()


@contextlib.asynccontextmanager
async def _gateway(both: pair.Clusters) -> AsyncIterator[Open]:
    """Use the address of the Service, from the network of the foreign node."""
    foreign = both.foreign.parts
    if foreign is None or foreign.node is None or foreign.plane.forwarder is None:
        raise errors.HarnessError("the path through a gateway requires a real foreign node")
    async with gateway.installed(both) as made:
        settings = {**made.settings, "log-level": "info"}
        carrying = farlet.create(both, node=NODE, settings=settings)
        carrying.start()
        try:
            await carrying.ready()
            await made.linked()
            (pod,) = await made.pods()
            parts = {
                "gateway": pod.usage,
                "containerd": foreign.node.containerd.usage,
                "kubelet": foreign.node.kubelet.usage,
                "foreign API server": both.foreign.apiserver.process.usage,
                # This process simulates the network between the clusters.
                "network": foreign.plane.forwarder.process.usage,
                "farlet": carrying.usage,
            }
            # The node itself has no route to addresses of Services.
            route = ["ip", "route", "replace", SERVICES, "dev", BRIDGE]
            processes.run(both.foreign.network.inside(route), what="add a route to Services")
            address = f"{await made.address()}:443"
            yield Open(address, network=both.foreign.network, parts=parts, carrying=carrying)
        finally:
            await carrying.stop()


def _home(both: pair.Clusters) -> str:
    host, port = both.home.address
    return f"{host}:{port}"


DIRECT, GATEWAY = "direct", "gateway"
PATHS: dict[str, HomeAPIPath] = {
    DIRECT: HomeAPIPath(_direct),
    "haproxy": HomeAPIPath(_haproxy),
    GATEWAY: HomeAPIPath(_gateway, real_node=True),
}
