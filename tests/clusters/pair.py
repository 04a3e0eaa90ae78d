"""The two clusters of every test: home, where pods are created, and foreign, where they run.

Either both are started here, or both exist (FARLET_HOME_KUBECONFIG and
FARLET_FOREIGN_KUBECONFIG): then nothing is built, started or stopped.
"""

import concurrent.futures
import contextlib
import dataclasses
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from clusters import (
    binaries,
    cache,
    cluster,
    errors,
    instance,
    limits,
    netns,
    ports,
    preparation,
    processes,
)
from clusters import progress as progresses
from clusters.cluster import Cluster, Spec

HOME_VARIABLE = "FARLET_HOME_KUBECONFIG"
FOREIGN_VARIABLE = "FARLET_FOREIGN_KUBECONFIG"
HOME_PORT_IN_FOREIGN = 443  # for clients that connect to kubernetes.default.svc
OTHER_HOME_PORT_IN_FOREIGN = 26443
FOREIGN_PORT_IN_HOME = 26444
_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class Clusters:
    """Both clusters, and the folder of this run."""

    home: Cluster
    foreign: Cluster
    instance: instance.Instance
    home_api_in_foreign: tuple[str, int]  # where the foreign cluster's pods reach home's API
    home_api_on_other_port: tuple[str, int]  # the same
    home_door: netns.Forwarder | None  # what leads from the former there, with real nodes
    foreign_api_in_home: tuple[str, int]  # where home's pods reach the foreign API
    doors: tuple[netns.Forwarder, ...] = ()  # all paths from one cluster to the other

    @contextlib.contextmanager
    def without_home_door(self) -> Iterator[None]:
        """Close `home_api_in_foreign`; the caller can open another listener there."""
        if self.home_door is None:
            raise errors.HarnessError(
                "only clusters with real nodes have a path that can be closed"
            )
        door = self.home_door.process
        door.kill()
        try:
            yield
        finally:
            door.start()
            processes.wait_for(
                "the path from foreign pods to home",
                lambda: door.has_printed,
                seconds=60,
                process=door,
            )

    def stop(self) -> None:
        """Stop what was started here; nothing is left behind."""
        for door in self.doors:
            door.process.kill()
        _together(self.home.stop, self.foreign.stop)
        self.instance.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def real(*, progress: progresses.Progress | None = None) -> Clusters:
    """Both clusters with a real node and two fake ones each."""
    return start(
        home=Spec("home", number=1, real_node=True),
        foreign=Spec("foreign", number=2, real_node=True),
        progress=progress,
    )


def demo(*, progress: progresses.Progress | None = None) -> Clusters:
    """Both clusters with a real node each, built from no more than the demo uses."""
    return start(
        home=Spec("home", number=1, real_node=True, fake_nodes=0),
        foreign=Spec("foreign", number=2, real_node=True, fake_nodes=0),
        kit=preparation.DEMO,
        progress=progress,
    )


def plain(*, progress: progresses.Progress | None = None) -> Clusters:
    """Both clusters with fake nodes only, API servers directly on loopback."""
    return start(home=Spec("home"), foreign=Spec("foreign"), progress=progress)


@contextlib.contextmanager
def another(both: Clusters, name: str) -> Iterator[Cluster]:
    """One more cluster with fake nodes only, beside the two that were started here."""
    prepared = preparation.prepare(preparation.PLAIN, progress=progresses.Progress())
    made = cluster.start(Spec(name), both.instance, prepared=prepared)
    try:
        yield made
    finally:
        made.stop()


def start(
    *,
    home: Spec,
    foreign: Spec,
    kit: preparation.Kit | None = None,
    progress: progresses.Progress | None = None,
) -> Clusters:
    """Both clusters as specified, or the ones that the environment names.

    Without a `kit` they have all that such clusters can use.
    """
    progress = progress or progresses.Progress()
    named = given()
    if named is not None:
        return _existing(*named, progress=progress)
    with_nodes = home.real_node or foreign.real_node
    if with_nodes:
        cluster.require_real_node()
        limits.allow_inotify(progress=progress)
    kit = kit or (preparation.ALL if with_nodes else preparation.PLAIN)
    kit = kit.of_minors((home.minor, home.real_node), (foreign.minor, foreign.real_node))
    prepared = preparation.prepare(kit, progress=progress)
    programs = prepared.programs
    owner = instance.create()
    try:
        # The address at which pods reach the other cluster must be in its serving certificate.
        # farlet itself connects to that address from the machine, and is rejected at once: it
        # exists only in the foreign network. A transparent proxy might answer another address.
        outside = [ports.own_address()] if foreign.real_node else []
        bridge = [netns.gateway(home.number)] if home.real_node else []
        home, foreign = _with_hosts(home, outside), _with_hosts(foreign, bridge)
        # One pair after another: a start uses all cores, and what it waits for must come in time.
        with (
            cache.lock("start", progress=progress),
            progress.step("starting clusters home and foreign"),
        ):
            made_home, made_foreign = _together(
                lambda: cluster.start(home, owner, prepared=prepared),
                lambda: cluster.start(foreign, owner, prepared=prepared),
            )
            home_address, foreign_address = made_home.address, made_foreign.address
            other_home_address = home_address
            home_doors: list[netns.Forwarder] = []
            foreign_doors: list[netns.Forwarder] = []
            if foreign.real_node:
                # This machine's address, which the foreign network then holds a second time.
                processes.run(
                    made_foreign.network.inside(
                        ["ip", "addr", "add", f"{outside[0]}/32", "dev", "lo"]
                    ),
                    what=f"give the foreign network the address {outside[0]}",
                )
                home_address = (outside[0], HOME_PORT_IN_FOREIGN)
                other_home_address = (outside[0], OTHER_HOME_PORT_IN_FOREIGN)
                home_doors = [
                    _open(owner, programs, made_home, inside=made_foreign, address=address)
                    for address in (home_address, other_home_address)
                ]
            if home.real_node:
                foreign_address = (bridge[0], FOREIGN_PORT_IN_HOME)
                foreign_doors = [
                    _open(owner, programs, made_foreign, inside=made_home, address=foreign_address)
                ]
    except BaseException:
        owner.remove()
        raise
    return Clusters(
        made_home,
        made_foreign,
        owner,
        home_api_in_foreign=home_address,
        home_api_on_other_port=other_home_address,
        home_door=home_doors[0] if home_doors else None,
        foreign_api_in_home=foreign_address,
        doors=(*home_doors, *foreign_doors),
    )


def _with_hosts(spec: Spec, hosts: list[str]) -> Spec:
    """The same cluster, with more names in its API server's certificate."""
    options = dataclasses.replace(spec.options, hosts=[*spec.options.hosts, *hosts])
    return dataclasses.replace(spec, options=options)


def _open(
    owner: instance.Instance,
    programs: Mapping[str, Path],
    target: Cluster,
    *,
    inside: Cluster,
    address: tuple[str, int],
) -> netns.Forwarder:
    """Make the API server of `target` reachable at an address in the network of another."""
    own = target.parts.network if target.parts is not None else None
    host, port = ("127.0.0.1", 6443) if own is not None else target.address
    return netns.forward(
        owner,
        program=programs["forwarder"],
        log=inside.folder / "logs" / f"forwarder-{address[1]}-to-{target.name}.log",
        listen=f"{address[0]}:{address[1]}",
        target=f"{host}:{port}",
        listen_in=inside.network,
        target_in=own,
    )


def given() -> tuple[Path, Path] | None:
    """The two kubeconfigs that the environment names, if it does."""
    values = [os.environ.get(name, "") for name in (HOME_VARIABLE, FOREIGN_VARIABLE)]
    if not any(values):
        return None
    if not all(values):
        raise errors.HarnessError(
            f"only one of {HOME_VARIABLE} and {FOREIGN_VARIABLE} is set; set both to existing "
            f"clusters, or none to have them started here"
        )
    return Path(values[0]), Path(values[1])


def _existing(home: Path, foreign: Path, *, progress: progresses.Progress) -> Clusters:
    found = shutil.which("kubectl")
    kubectl = Path(found) if found else binaries.find(["kubectl"], progress=progress)["kubectl"]
    owner = instance.create()
    both = [
        cluster.existing(name, config=config, folder=owner.folder / name, kubectl=kubectl)
        for name, config in (("home", home), ("foreign", foreign))
    ]
    home_address, foreign_address = (
        (socket.gethostbyname(host), port) for host, port in (one.address for one in both)
    )
    return Clusters(
        both[0],
        both[1],
        owner,
        home_api_in_foreign=home_address,
        home_api_on_other_port=home_address,
        home_door=None,
        foreign_api_in_home=foreign_address,
    )


def _together(*calls: Callable[[], _Result]) -> list[_Result]:
    """The results of all calls, made at the same time; the first error once all have ended."""
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
    return [future.result() for future in futures]
