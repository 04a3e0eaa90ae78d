"""The ways to home's API server that are measured against each other.

A way is opened on running clusters and says where a client dials, in which network that client must
be, and which processes carry what it sends. One more way is one more row in `WAYS`.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping

from clusters import apiproxy, pair, ports, processes
from clusters.netns import Network


@dataclasses.dataclass(frozen=True)
class Open:
    """A way that can be gone now; `parts` are the processes on it, but for the API server."""

    address: str
    network: Network | None
    parts: Mapping[str, processes.Process]


@dataclasses.dataclass(frozen=True)
class Way:
    """`real_node`: whether the foreign cluster needs one, with a network of its own."""

    open: Callable[[pair.Clusters], contextlib.AbstractContextManager[Open]]
    real_node: bool = False


@contextlib.contextmanager
def _direct(both: pair.Clusters) -> Iterator[Open]:
    yield Open(_home(both), network=None, parts={})


@contextlib.contextmanager
def _haproxy(both: pair.Clusters) -> Iterator[Open]:
    (port,) = ports.free(1)
    address = f"127.0.0.1:{port}"
    proxy = apiproxy.create(
        both.instance, name=f"bench-{port}", listen=address, backends=[_home(both)], network=None
    )
    proxy.start()
    try:
        yield Open(address, network=None, parts={"haproxy": proxy.process})
    finally:
        proxy.process.stop()


def _home(both: pair.Clusters) -> str:
    host, port = both.home.address
    return f"{host}:{port}"


DIRECT = "direct"
WAYS: dict[str, Way] = {DIRECT: Way(_direct), "haproxy": Way(_haproxy)}
