"""TCP connections to a name that can have several addresses (Happy Eyeballs, RFC 8305).

`loop.create_connection` with `happy_eyeballs_delay` loses the open socket if it is cancelled while
that is handed over, so the race is left to the library that aiohttp uses.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TypeVar

import aiohappyeyeballs

NEXT_SECONDS = 0.25
"""After this time, the next address is tried beside the one that does not answer."""

P = TypeVar("P", bound=asyncio.BaseProtocol)


async def connect(factory: Callable[[], P], host: str, port: int) -> tuple[asyncio.Transport, P]:
    """A connection with the protocol that `factory` returns. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    sock = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=NEXT_SECONDS)
    try:
        return await loop.create_connection(factory, sock=sock)
    except BaseException:
        sock.close()
        raise
