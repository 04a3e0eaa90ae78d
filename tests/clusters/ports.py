"""Free TCP ports on loopback that stay free while their owner is down; this machine's address.

The kernel gives outgoing connections ports of its ephemeral range. A server that is killed and
started again on the same port must therefore not have one of those.
"""

import random
import socket

from clusters import errors

_RANGE = range(20000, 32000)  # below Linux' and macOS' ephemeral ranges


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
    """So many ports that nobody listens on."""
    found: list[int] = []
    for port in random.sample(_RANGE, 1000):
        if len(found) == count:
            return found
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:  # taken
                continue
            found.append(port)
    raise errors.HarnessError(
        f"found no {count} free TCP ports on 127.0.0.1 between {_RANGE.start} and {_RANGE.stop}"
    )
