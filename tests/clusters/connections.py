"""TCP connections of a pod on a real node, as the kernel tells them: nobody in the pod is asked.

A client whose peer has vanished believes in its connection for as long as nobody tells it. So
whether connections hang is read where the client is.
"""

import socket
import struct
from pathlib import Path

from clusters import errors

_ESTABLISHED = "01"


def established(uid: str, *, to: tuple[str, int]) -> set[int]:
    """Own ports of the connections that the pod of that uid has to an IPv4 address and port."""
    host, port = to
    # As the kernel prints them: the address as one number of this machine, the port as it is.
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
