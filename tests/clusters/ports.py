"""Free TCP ports on loopback that stay free while their owner is down; this machine's address.

The kernel gives outgoing connections ports of its ephemeral range. A server that is killed and
started again on the same port must therefore not have one of those. Nor may another process that
runs tests at the same time take the port meanwhile: each process has a block of ports of its own,
held by a file lock until the process ends, and takes them in turn.
"""

import dataclasses
import fcntl
import functools
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from clusters import errors

_RANGE = range(20000, 32000)  # below Linux' and macOS' ephemeral ranges
_BLOCK = 500


@dataclasses.dataclass(frozen=True)
class _Block:
    """The ports of this process, each in turn, and the locked file that makes them its own."""

    file: TextIO
    turn: Iterator[int]


def own_address() -> str:
    """An address of this machine towards the rest of the world."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))  # sends nothing: it only asks for the route
        except OSError:  # a machine without any network
            return "198.51.100.1"
        host: str = probe.getsockname()[0]
        return host


def free(count: int) -> list[int]:
    """So many ports that have no listener, and that `free` returned long ago or never."""
    turn = _block().turn
    found: list[int] = []
    for port in itertools.islice(turn, _BLOCK):
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
        f"found only {len(found)} of {count} free TCP ports on 127.0.0.1 between {_RANGE.start} "
        f"and {_RANGE.stop}"
    )


@functools.cache
def _block() -> _Block:
    """A block that no other living process of this user has."""
    folder = Path(tempfile.gettempdir()) / f"clusters-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for start in range(_RANGE.start, _RANGE.stop, _BLOCK):
        file = (folder / str(start)).open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another process has it
            file.close()
            continue
        return _Block(file, itertools.cycle(range(start, start + _BLOCK)))
    raise errors.HarnessError(
        f"all blocks of ports are in use: end some of the processes that hold files in {folder}"
    )
