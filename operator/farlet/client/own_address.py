"""The address of this machine at which an API server can call back."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import urlsplit


async def towards(server: str) -> str | None:
    """The source IP address of connections from this machine to the URL `server`.

    From the routing table: no packet is sent, but a name is resolved. `None`: no route exists.
    """
    url = urlsplit(server)
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            url.hostname, port, type=socket.SOCK_DGRAM
        )
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0]).partition("%")[0]
    except OSError:  # which includes a name that does not resolve
        return None
