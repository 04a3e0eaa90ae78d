"""One cluster: its control plane, its nodes, and the operations for tests.

Two kinds. A *plain* cluster (`real_node=False`) has its API server directly on the host's loopback
and fake nodes only: for scale and speed. The other has a real node as well and lives in its own
namespaces. An existing cluster (`existing`) offers what a kubeconfig can provide; operations such
as reading its audit log or killing it fail with an error.
"""

import asyncio
import dataclasses
import enum
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from clusters import (
    auditlog,
    binaries,
    controlplane,
    errors,
    kubeconfig,
    kwok,
    netns,
    packages,
    ports,
    preparation,
    processes,
    realnode,
    rest,
    signing,
    virtualnode,
)
from clusters.instance import Instance

_PATIENCE = 240.0  # a start takes 8 s on an idle machine; tests may share it with much else


class Usual(enum.Enum):
    """The nodes for pods that select none."""

    FAKE = "fake"  # the real one has a soft taint
    REAL = "real"  # fake ones have a taint that pods must tolerate


@dataclasses.dataclass(frozen=True)
class Spec:
    """The specification of a cluster."""

    name: str
    number: int = 1  # its pods live in 10.99.NUMBER.0/24; no two of a pair share one
    real_node: bool = False
    fake_nodes: int = 2
    stages: tuple[Path, ...] = ()  # files with further Stages of the fake nodes
    usual: Usual = Usual.FAKE
    minor: str = binaries.MINOR  # of Kubernetes
    options: controlplane.Options = dataclasses.field(default_factory=controlplane.Options)


@dataclasses.dataclass(frozen=True)
class Parts:
    """The running parts of a cluster that the harness started, and what they are made with."""

    owner: Instance
    programs: Mapping[str, Path]
    plane: controlplane.ControlPlane
    kwok: processes.Process | None  # where there are fake nodes
    network: netns.Network | None
    node: realnode.RealNode | None


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A cluster in use; `kubeconfig` is its administrator's, as seen from the host."""

    name: str
    folder: Path
    kubeconfig: Path
    found_kubectl: Path | None
    parts: Parts | None

    @property
    def kubectl_program(self) -> Path:
        """kubectl of the same version, which all clusters have but the demo's."""
        if self.found_kubectl is None:
            raise errors.HarnessError(f"cluster {self.name} was started from a kit without kubectl")
        return self.found_kubectl

    @property
    def server(self) -> str:
        """The API server's URL, as seen from the host."""
        return kubeconfig.read(self.kubeconfig).server

    @property
    def address(self) -> tuple[str, int]:
        """The API server's host and port, as seen from the host."""
        host, _, port = self.server.removeprefix("https://").rpartition(":")
        return host, int(port)

    @property
    def ca_file(self) -> Path:
        """The certificate authority of the API server."""
        path = self.folder / "server-ca.crt"
        path.write_bytes(kubeconfig.read(self.kubeconfig).authority)
        return path

    @property
    def apiserver(self) -> controlplane.ApiServer:
        """The API server, which tests can kill, pause and start again."""
        return self._own("killing or pausing its API server").plane.apiserver

    @property
    def network(self) -> netns.Network:
        """The cluster's namespaces."""
        found = self._own("its network namespace").network
        if found is None:
            raise errors.HarnessError(f"cluster {self.name} is plain: it has no network of its own")
        return found

    @property
    def machine(self) -> str:
        """This machine's address for its API server, which virtual nodes use."""
        if self.parts is None:
            return ports.own_address()
        return self.parts.network.gateway if self.parts.network is not None else "127.0.0.1"

    def forwarder(self, port: int) -> processes.Process | None:
        """A forwarder from `machine` and this port to 127.0.0.1 and the same port on the host.

        Not started yet; None if no forwarder is required.
        """
        if self.parts is None or self.parts.network is None:
            return None
        return netns.forwarder(
            self.parts.owner,
            program=self.parts.programs["forwarder"],
            log=self.folder / "logs" / f"forwarder-{port}.log",
            listen=f"{self.machine}:{port}",
            target=f"127.0.0.1:{port}",
            listen_in=self.parts.network,
            target_in=None,
        )

    @property
    def real_node(self) -> str:
        """The name of the real node."""
        if self.parts is None:
            return self._labelled("real")
        if self.parts.node is None:
            raise errors.HarnessError(f"cluster {self.name} is plain: it has no real node")
        return self.parts.node.name

    def api(self, *, login: Path | None = None, user_agent: str = rest.USER_AGENT) -> rest.Api:
        """A client, the administrator's unless another login is given; use `async with`."""
        return rest.Api(login or self.kubeconfig, user_agent=user_agent)

    def kubectl(self, *arguments: str, content: str | None = None) -> str:
        """What kubectl prints, as the administrator."""
        return processes.run(
            [self.kubectl_program, f"--kubeconfig={self.kubeconfig}", *arguments],
            what=f"run kubectl {' '.join(arguments[:2])} on cluster {self.name}",
            content=content,
        )

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Create the objects, in one go."""
        content = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("create", "-f", "-", content=json.dumps(content))

    def remove(self, *objects: Mapping[str, Any]) -> None:
        """Delete the objects, in one go; no error if one is gone."""
        content = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("delete", "--ignore-not-found", "-f", "-", content=json.dumps(content))

    def login(self, user: str, *, groups: Iterable[str] = (), device: str = "") -> Path:
        """The kubeconfig of a user with a client certificate, as seen from the host.

        One for each `device`, so that the audit log tells them apart (`auditlog.Entry.credential`).
        """
        words = f"{user}-{device}" if device else user
        file = "".join(char if char.isalnum() or char in "-." else "-" for char in words)
        path = self.folder / "logins" / f"{file}.kubeconfig"
        if path.exists():
            return path
        path.parent.mkdir(exist_ok=True)
        access = kubeconfig.read(self.kubeconfig)
        if self.parts is not None:
            pair = self.parts.plane.authority.client(f"login-{file}", user=user, groups=groups)
        else:
            pair = signing.requested(self, path.with_suffix(""), user=user, groups=list(groups))
        return kubeconfig.write(
            path, server=access.server, authority=access.authority, user=pair, cluster=self.name
        )

    def audit_mark(self) -> auditlog.Mark:
        """Now, as a place in the audit log."""
        return self.audit_log.mark()

    def audit(
        self, *, since: auditlog.Mark = auditlog.START, **wanted: str
    ) -> Iterator[auditlog.Entry]:
        """Audit entries; `wanted` as in `auditlog.Log.entries`."""
        return self.audit_log.entries(since=since, **wanted)

    def create_virtual_node(self, name: str) -> None:
        """Create the Node that farlet would create, for tests without farlet."""
        self.apply(virtualnode.manifest(name))

    def load_image(self, image: str, archive: Path) -> None:
        """Give the real node an image, from a docker archive."""
        node = self._own(f"loading the image {image} into it").node
        if node is None:
            raise errors.HarnessError(f"cluster {self.name} is plain: it has no node for images")
        node.load(image, archive)

    def stop(self) -> None:
        """Stop it, if the harness started it."""
        if self.parts is None:
            return
        if self.parts.kwok is not None:
            self.parts.kwok.kill()
        if self.parts.node is not None:
            self.parts.node.stop()
        self.parts.plane.stop()
        if self.parts.network is not None:
            self.parts.network.stop()

    @property
    def audit_log(self) -> auditlog.Log:
        """The audit log of its API server."""
        log = self._own("its audit log").plane.audit_log
        if log is None:
            raise errors.HarnessError(f"cluster {self.name} was started with Options(audit=False)")
        return log

    def _own(self, what: str) -> Parts:
        if self.parts is None:
            raise errors.HarnessError(
                f"cluster {self.name} was started outside ({self.kubeconfig}); {what} is possible "
                f"only for clusters that the harness starts: unset FARLET_HOME_KUBECONFIG and "
                f"FARLET_FOREIGN_KUBECONFIG for this test"
            )
        return self.parts

    def _labelled(self, kind: str) -> str:
        found = self.kubectl("get", "nodes", "-l", f"{kwok.LABEL}={kind}", "-o", "name").split()
        if not found:
            raise errors.HarnessError(
                f"no node of cluster {self.name} ({self.kubeconfig}) has label "
                f"{kwok.LABEL}={kind}; put it on one: kubectl label node NAME {kwok.LABEL}={kind}"
            )
        return found[0].removeprefix("node/")


def existing(name: str, *, config: Path, folder: Path, kubectl: Path) -> Cluster:
    """An existing cluster that the harness did not start."""
    folder.mkdir(parents=True, exist_ok=True)
    found = Cluster(name, folder, config, kubectl, parts=None)
    found.kubectl("get", "--raw", "/readyz")
    return found


def start(
    spec: Spec,
    owner: Instance,
    *,
    prepared: preparation.Prepared,
) -> Cluster:
    """A cluster whose nodes are ready."""
    programs = binaries.of_minor(prepared.programs, spec.minor)
    folder = owner.folder / spec.name
    folder.mkdir()
    net = netns.create(owner, folder=folder, number=spec.number) if spec.real_node else None
    plane = controlplane.start(
        owner, name=spec.name, folder=folder, programs=programs, network=net, options=spec.options
    )
    inner = kubeconfig.write(
        folder / "kwok.kubeconfig",
        server=plane.internal,
        authority=plane.authority.files.certificate.read_bytes(),
        user=plane.authority.client("kwok", user="kwok", groups=["system:masters"]),
        cluster=spec.name,
    )
    node = None
    if net is not None and prepared.images is not None:
        node = realnode.start(
            owner,
            name=f"{spec.name}-real",
            folder=folder,
            programs=programs,
            plane=plane,
            network=net,
            prepared=prepared.images,
            taints=[f"{realnode.SOFT_TAINT}=:PreferNoSchedule"] if spec.usual is Usual.FAKE else [],
        )
    fakes = None
    if spec.fake_nodes:
        fakes = kwok.start(
            owner,
            folder=folder,
            programs=programs,
            plane=plane,
            network=net,
            login=inner,
            stages=spec.stages,
        )
    parts = Parts(owner, programs, plane, fakes, net, node)
    made = Cluster(spec.name, folder, plane.admin, programs.get("kubectl"), parts)
    taints = [{"key": kwok.TAINT, "effect": "NoSchedule"}] if spec.usual is Usual.REAL else []
    nodes = [
        kwok.node(f"{spec.name}-fake-{count}", taints=taints)
        for count in range(1, spec.fake_nodes + 1)
    ]
    _wait_registered(made)
    asyncio.run(_wait_ready(made, nodes))
    return made


def require_real_node() -> None:
    """Raise an error with alternatives if a real node is impossible here."""
    if platform.system() != "Linux" or os.geteuid() != 0:
        raise errors.HarnessError(
            f"a real node needs Linux and root; this is {platform.system()} as user "
            f"{os.geteuid()}. {errors.OTHER_WAY}"
        )
    missing = [name for name in ("unshare", "nsenter") if packages.path(name) is None]
    if missing:
        raise errors.HarnessError(f"{missing} of util-linux are missing. {errors.OTHER_WAY}")


def _wait_registered(made: Cluster) -> None:
    """Controllers have made the first accounts, and the real node is there."""
    access = kubeconfig.read(made.kubeconfig)
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    processes.wait_for(
        f"controllers of {made.name} (see {made.folder}/logs)",
        lambda: controlplane.answers(access, account),
        seconds=_PATIENCE,
    )
    node = made.parts.node if made.parts is not None else None
    if node is not None:
        processes.wait_for(
            f"the kubelet to register node {node.name}",
            lambda: controlplane.answers(access, f"/api/v1/nodes/{node.name}"),
            seconds=_PATIENCE,
            process=node.kubelet,
        )


async def _wait_ready(made: Cluster, fakes: list[rest.Object]) -> None:
    """The fake nodes are created, and all nodes are Ready."""
    names = [fake["metadata"]["name"] for fake in fakes]
    if made.parts is not None and made.parts.node is not None:
        names.append(made.parts.node.name)
    async with made.api() as api:
        for fake in fakes:
            await api.create("nodes", fake)
        for name in names:
            try:
                await api.until("nodes", rest.ready, name=name, seconds=_PATIENCE)
            except AssertionError as error:
                raise errors.HarnessError(f"{error}; see {made.folder}/logs") from error
