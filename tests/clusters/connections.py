"""TCP connections of a pod on a real node, read from the kernel without a command in the pod.

A client does not notice that its peer has vanished. So hanging connections are detected on the side
of the client.
"""

import socket
import struct
from pathlib import Path

from clusters import errors

_ESTABLISHED = "01"


def established(uid: str, *, to: tuple[str, int]) -> set[int]:
    """Local ports of the connections from the pod with this uid to an IPv4 address and port."""
    host, port = to
    # In the kernel's format: the address in host byte order, the port in network byte order.
    (number,) = struct.unpack("=I", socket.inet_aton(host))
    peer = f"{number:08X}:{port:04X}"
    lines = [line.split() for line in table(uid).splitlines()[1:]]
    ours = [fields[1] for fields in lines if fields[2:4] == [peer, _ESTABLISHED]]
    return {int(own.rpartition(":")[2], 16) for own in ours}


def table(uid: str) -> str:
    """/proc/net/tcp of the pod, by any process whose control group names it."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"pod{uid}" in (entry / "cgroup").read_text():
                    return (entry / "net" / "tcp").read_text()
            except OSError:  # gone meanwhile
                continue
    raise errors.HarnessError(f"no process of the pod with uid {uid} runs on this machine")
