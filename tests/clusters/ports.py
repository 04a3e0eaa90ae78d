"""Free TCP ports on loopback that stay free while their owner is down; this machine's address.

The kernel gives outgoing connections ports of its ephemeral range, so a server that is killed and
restarted on the same port must use another range. No other server may take its port in the
meantime: each process that requests ports reserves a share of them until it ends, and reuses a port
only after it has used all of its share.
"""

import dataclasses
import fcntl
import functools
import itertools
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from clusters import errors

_RANGE = range(20000, 32000)  # below Linux' and macOS' ephemeral ranges
_SHARES = 16


def own_address() -> str:
    """This machine's address for outgoing connections."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))  # sends nothing: it only asks for the route
        except OSError:  # a machine without any network
            return "198.51.100.1"
        host: str = probe.getsockname()[0]
        return host


def free(count: int) -> list[int]:
    """`count` ports without a listener."""
    ours = _ours()
    found: list[int] = []
    for port in itertools.islice(ours.turn, len(ours.ports)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:  # taken
                continue
            found.append(port)
        if len(found) == count:
            return found
    raise errors.HarnessError(
        f"found no {count} free TCP ports on 127.0.0.1 between {ours.ports.start} and "
        f"{ours.ports.stop}"
    )


@dataclasses.dataclass(frozen=True)
class _Share:
    """The ports of this process; the kernel unlocks `held` when it ends."""

    ports: range
    turn: Iterator[int]
    held: int | None


@functools.cache
def _ours() -> _Share:
    """A share that no other living process has; of all ports when there is none left."""
    size = len(_RANGE) // _SHARES
    for number in range(_SHARES):
        path = Path(tempfile.gettempdir()) / f"farlet-ports-{os.geteuid()}-{number}.lock"
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        ports = _RANGE[number * size : (number + 1) * size]
        return _Share(ports, _in_turn(ports), handle)
    return _Share(_RANGE, _in_turn(_RANGE), None)


def _in_turn(ports: range) -> Iterator[int]:
    """All of them again and again."""
    return itertools.cycle(random.sample(ports, len(ports)))
