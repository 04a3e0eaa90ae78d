"""The Linux namespaces of a cluster with a real node, held by one process.

A real node changes interfaces, mounts, sysctls and files under /run, /var/lib/kubelet and /var/log.
It does so in a network, a mount and a PID namespace that exist only while their holder runs: the
end of the holder ends every container and removes all mounts and interfaces, so nothing needs
cleanup after a crash. The network has a loopback and the pods' bridge but no uplink: no traffic
leaves the machine.

The control plane only shares the network namespace: its pids belong to the host, so that tests can
kill and pause it.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from clusters import errors, processes
from clusters.instance import Instance

BRIDGE = "pods0"
HIDDEN = (Path("/run"), Path("/var/lib"))  # replaced inside by empty memory file systems

# The kubelet writes these, and they are the whole machine's. Inside, plain files that already hold
# what it wants stand over them.
_SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
_READY = "namespaces are ready"

_SETUP = """
set -e
mount --make-rshared /
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mount --bind "$1/var-log" /var/log
for name in $(cd "$1/sysctl" && find . -type f); do
  if [ -e "/proc/sys/$name" ]; then mount --bind "$1/sysctl/$name" "/proc/sys/$name"; fi
done
ip link set lo up
# With its own MAC address: otherwise it has that of one of its pods, and when that pod is deleted
# the others send to a wrong address for half a minute. The CNI plugin sets one only on bridges
# that it creates.
ip link add "$2" address 02:00:00:00:00:01 type bridge
ip addr add "$3/24" dev "$2"
ip link set "$2" up
echo "$4"
sleep infinity &
wait
"""


@dataclasses.dataclass(frozen=True)
class Network:
    """The namespaces of one cluster."""

    gateway: str
    subnet: str
    holder: processes.Process
    init: int  # the first process inside, as the host numbers it

    @property
    def namespace(self) -> Path:
        return Path(f"/proc/{self.init}/ns/net")

    def inside(self, command: Sequence[str | Path]) -> list[str | Path]:
        """The command that runs `command` in the network alone, under a pid of the host."""
        return ["nsenter", f"--net={self.namespace}", "--", *command]

    def on_node(self, command: Sequence[str | Path]) -> list[str | Path]:
        """The command that runs `command` as a part of the node: its mounts and pids too."""
        return ["nsenter", f"--target={self.init}", "--net", "--mount", "--pid", "--", *command]

    def stop(self) -> None:
        """End everything inside."""
        self.holder.kill()


def create(owner: Instance, *, folder: Path, number: int) -> Network:
    """Namespaces for a cluster whose pods live in 10.99.NUMBER.0/24."""
    for hidden in HIDDEN:
        if folder.is_relative_to(hidden):
            raise errors.HarnessError(
                f"the temporary folder {folder} lies below {hidden}, which a real node hides; "
                f"set TMPDIR to a folder elsewhere, such as /tmp"
            )
    (folder / "var-log").mkdir(parents=True)
    for name, value in _SYSCTLS.items():
        path = folder / "sysctl" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    address = gateway(number)
    holder = processes.Process(
        "namespaces",
        [
            *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("bash", "-c", _SETUP, "bash", folder, BRIDGE, address, _READY),
        ],
        log=folder / "logs" / "namespaces.log",
        environment=owner.environment,
    )
    holder.start()
    try:
        processes.wait_for(
            "network, mount and PID namespaces",
            lambda: _READY in holder.output(),
            seconds=60,
            process=holder,
        )
    except errors.HarnessError as error:
        raise errors.HarnessError(
            f"{error}\nA real node needs root and the permission to create namespaces. "
            f"{errors.OTHER_WAY}"
        ) from error
    (init,) = processes.children(holder.pid)
    return Network(address, f"10.99.{number}.0/24", holder, init)


def gateway(number: int) -> str:
    """The address of the node, on the bridge of its pods."""
    return f"10.99.{number}.1"


@dataclasses.dataclass(frozen=True)
class Forwarder:
    """Carries TCP connections from `address` to a target, maybe in another network namespace."""

    process: processes.Process
    address: str

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


def forward(
    owner: Instance,
    *,
    program: Path,
    log: Path,
    listen: str,
    target: str,
    listen_in: Network | None,
    target_in: Network | None,
) -> Forwarder:
    """A running forwarder from `listen` in one network to `target` in another; None is the host's.

    Port 0 takes a free one. When the target refuses, the client's connection is reset.
    """
    process = forwarder(
        owner,
        program=program,
        log=log,
        listen=listen,
        target=target,
        listen_in=listen_in,
        target_in=target_in,
    )
    process.start()
    processes.wait_for(
        f"a forwarder on {listen}", lambda: "\n" in process.output(), seconds=60, process=process
    )
    return Forwarder(process, process.output().splitlines()[0])


def forwarder(
    owner: Instance,
    *,
    program: Path,
    log: Path,
    listen: str,
    target: str,
    listen_in: Network | None,
    target_in: Network | None,
) -> processes.Process:
    """As `forward`, to be started by the caller."""
    namespace = listen_in.namespace if listen_in is not None else Path("/proc/self/ns/net")
    if listen_in is None and target_in is not None:
        namespace = _own_namespace()
    command: list[str | Path] = [
        *(program, "-listen-netns", namespace, "-listen", listen, "-target", target)
    ]
    return processes.Process(
        log.stem,
        target_in.inside(command) if target_in is not None else command,
        log=log,
        environment=owner.environment,
    )


def _own_namespace() -> Path:
    """A path to this process's network namespace that another process can open."""
    return Path(f"/proc/{Path('/proc/self').resolve().name}/ns/net")
