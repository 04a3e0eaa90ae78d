"""etcd, kube-apiserver, kube-controller-manager and kube-scheduler as child processes.

A *plain* control plane listens on the host's loopback, with nothing in its way. That of a cluster
with a real node runs in the cluster's network namespace and is reached through one forwarder.
"""

import dataclasses
import http.client
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path

from clusters import auditlog, kubeconfig, pki, ports, processes
from clusters.instance import Instance
from clusters.netns import Forwarder, Network, forward

SERVICES = "10.96.0.0/16"
FRONT_PROXY = "front-proxy-client"
FIRST_SERVICE = "10.96.0.1"
NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "127.0.0.1",
    "::1",
    FIRST_SERVICE,
)
_READY_SECONDS = 180.0
# By default a scheduler binds 50 pods per second and a garbage collector removes 20 objects: then a
# bench would measure those.
_UNTHROTTLED = ("--kube-api-qps=1000", "--kube-api-burst=1000")


@dataclasses.dataclass(frozen=True)
class Options:
    """Options that tests can change."""

    hosts: Sequence[str] = ()  # more names and addresses for the serving certificate
    audit: bool = True  # off for benchmarks
    admission: Sequence[str] = ()  # more admission plugins
    features: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    apiserver_flags: Sequence[str] = ()
    # Neither a virtual Node without farlet nor another node on a busy machine may be tainted.
    node_grace: str = "24h"


@dataclasses.dataclass(frozen=True)
class ApiServer:
    """The API server of a running control plane, which tests can kill or pause.

    `start` returns at once; follow it by `wait_ready` (in asyncio: by `asyncio.to_thread`).
    """

    process: processes.Process
    admin: Path

    def kill(self) -> None:
        """SIGKILL: connections break, the port refuses."""
        self.process.kill()

    def stop(self) -> None:
        """SIGTERM."""
        self.process.stop()

    def pause(self) -> None:
        """SIGSTOP: connections stay open without responses."""
        self.process.pause()

    def resume(self) -> None:
        self.process.resume()

    def start(self) -> None:
        """Start it again on the same port."""
        self.process.start()

    def wait_ready(self, *, seconds: float = _READY_SECONDS) -> None:
        """Return once /readyz says ok."""
        access = kubeconfig.read(self.admin)
        processes.wait_for(
            f"the API server at {access.server}",
            lambda: answers(access, "/readyz"),
            seconds=seconds,
            process=self.process,
            interval=0.1,
        )


@dataclasses.dataclass(frozen=True)
class ControlPlane:
    """A running control plane."""

    server: str  # as seen from the host
    authority: pki.Authority
    admin: Path
    internal: str  # as seen by its own processes
    apiserver: ApiServer
    others: Sequence[processes.Process]
    forwarder: Forwarder | None
    audit_log: auditlog.Log | None

    def stop(self) -> None:
        """Kill all processes: the state is discarded anyway."""
        for process in self.others[1:]:
            process.kill()
        self.apiserver.kill()  # before etcd, without which it would hang
        self.others[0].kill()
        if self.forwarder is not None:
            self.forwarder.process.kill()


def start(
    owner: Instance,
    *,
    name: str,
    folder: Path,
    programs: Mapping[str, Path],
    network: Network | None,
    options: Options,
) -> ControlPlane:
    """A control plane whose API server is ready and whose controllers have been started."""
    etcd_port, peer_port, api_port = (2379, 2380, 6443) if network else ports.free(3)
    gateway = [network.gateway] if network else []
    authority = pki.authority(folder / "pki", name=f"{name}-ca")
    internal = f"https://127.0.0.1:{api_port}"

    def spawn(program: str, flags: Sequence[str], *, restarted: bool = False) -> processes.Process:
        command: list[str | Path] = [programs[program], *flags]
        process = processes.Process(
            program,
            network.inside(command) if network else command,
            log=folder / "logs" / f"{program}.log",
            environment=owner.environment,
            restarted=restarted,
        )
        process.start()
        return process

    def login(user: str, *, file: str, server: str, groups: Sequence[str] = ()) -> Path:
        return kubeconfig.write(
            folder / f"{file}.kubeconfig",
            server=server,
            authority=authority.files.certificate.read_bytes(),
            user=authority.client(file, user=user, groups=groups),
            cluster=name,
            name=name,  # so that two clusters' files share no name and can be merged
        )

    etcd = spawn("etcd", _etcd_flags(folder, client=etcd_port, peer=peer_port))
    serving = authority.server(
        "apiserver", user="kube-apiserver", hosts=[*NAMES, *gateway, *options.hosts]
    )
    flags = _apiserver_flags(folder, authority, serving, options, etcd=etcd_port, port=api_port)
    flags += (
        [
            f"--advertise-address={network.gateway}",
            "--bind-address=0.0.0.0",
            *_aggregator_flags(folder),
        ]
        if network
        else ["--endpoint-reconciler-type=none", "--bind-address=127.0.0.1"]
    )
    process = spawn("kube-apiserver", flags)
    forwarder = None
    server = internal
    if network is not None:
        forwarder = forward(
            owner,
            program=programs["forwarder"],
            log=folder / "logs" / "forwarder.log",
            listen=f"127.0.0.1:{ports.free(1)[0]}",
            target=f"127.0.0.1:{api_port}",
            listen_in=None,
            target_in=network,
        )
        server = f"https://{forwarder.address}"
    admin = login("admin", file="admin", server=server, groups=["system:masters"])
    apiserver = ApiServer(process, admin)
    manager = login("system:kube-controller-manager", file="controllers", server=internal)
    scheduler = login("system:kube-scheduler", file="scheduler", server=internal)
    apiserver.wait_ready()
    others = [
        etcd,
        spawn("kube-controller-manager", _manager_flags(folder, manager, options), restarted=True),
        spawn("kube-scheduler", _scheduler_flags(scheduler), restarted=True),
    ]
    return ControlPlane(
        server=server,
        authority=authority,
        admin=admin,
        internal=internal,
        apiserver=apiserver,
        others=others,
        forwarder=forwarder,
        audit_log=auditlog.Log(folder / "audit.log") if options.audit else None,
    )


def _etcd_flags(folder: Path, *, client: int, peer: int) -> list[str]:
    return [
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{client}",
        f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster=default=http://127.0.0.1:{peer}",
        "--unsafe-no-fsync",
        "--quota-backend-bytes=8589934592",
        "--log-level=warn",
    ]


def _apiserver_flags(
    folder: Path,
    authority: pki.Authority,
    serving: pki.Pair,
    options: Options,
    *,
    etcd: int,
    port: int,
) -> list[str]:
    tokens = pki.signing_key(folder / "pki", file="tokens")
    kubelets = authority.client(
        "kubelet-client", user="kube-apiserver-kubelet-client", groups=["system:masters"]
    )
    flags = [
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        f"--secure-port={port}",
        f"--service-cluster-ip-range={SERVICES}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        f"--client-ca-file={authority.files.certificate}",
        f"--kubelet-client-certificate={kubelets.certificate}",
        f"--kubelet-client-key={kubelets.key}",
        f"--kubelet-certificate-authority={authority.files.certificate}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={tokens.certificate}",
        f"--service-account-signing-key-file={tokens.key}",
        "--authorization-mode=Node,RBAC",
        f"--enable-admission-plugins={','.join(['NodeRestriction', *options.admission])}",
        "--allow-privileged=true",
        "--profiling=false",
    ]
    if options.features:
        gates = ",".join(f"{name}={str(on).lower()}" for name, on in options.features.items())
        flags.append(f"--feature-gates={gates}")
    if options.audit:
        policy = folder / "audit-policy.yaml"
        policy.write_text(auditlog.POLICY)
        flags += [f"--audit-policy-file={policy}", f"--audit-log-path={folder / 'audit.log'}"]
        flags.append("--audit-log-maxsize=100000")  # megabytes: never rotated under a reader
    return [*flags, *options.apiserver_flags]


def _aggregator_flags(folder: Path) -> list[str]:
    """Flags for APIs that other servers serve (`metricsserver.py`).

    It has its own CA: these servers trust the user headers of a client with its certificates.
    """
    front = pki.authority(folder / "front-proxy", name="front-proxy-ca")
    proxy = front.client("client", user=FRONT_PROXY)
    return [
        f"--requestheader-client-ca-file={front.files.certificate}",
        f"--requestheader-allowed-names={FRONT_PROXY}",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={proxy.certificate}",
        f"--proxy-client-key-file={proxy.key}",
    ]


def _manager_flags(folder: Path, login: Path, options: Options) -> list[str]:
    keys = folder / "pki"
    return [
        f"--kubeconfig={login}",
        f"--service-account-private-key-file={keys / 'tokens.key'}",
        f"--root-ca-file={keys / 'ca.crt'}",
        f"--cluster-signing-cert-file={keys / 'ca.crt'}",
        f"--cluster-signing-key-file={keys / 'ca.key'}",
        f"--node-monitor-grace-period={options.node_grace}",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--secure-port=0",
        *_UNTHROTTLED,
    ]


def _scheduler_flags(login: Path) -> list[str]:
    return [f"--kubeconfig={login}", "--leader-elect=false", "--secure-port=0", *_UNTHROTTLED]


class _Socket(ssl.SSLSocket):
    """`_create` in the module ssl leaves a socket open that was reset before its handshake."""

    def __del__(self) -> None:
        self.close()


def answers(access: kubeconfig.Access, path: str) -> bool:
    """Whether the API server answers a GET of `path` with 200."""
    address = access.server.removeprefix("https://")
    context = access.ssl_context()
    context.sslsocket_class = _Socket
    connection = http.client.HTTPSConnection(address, timeout=5, context=context)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):  # refused, reset or cut off: not up
        return False
    finally:
        connection.close()
