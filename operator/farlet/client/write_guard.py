"""The body of a write, which asks a guard at the last moment whether it may be sent.

Between the decision to write and the bytes on the wire, a request waits for a slot, credentials, a
connection and TLS. The process may be frozen or partitioned in each of these waits, and continue
when another one has taken over. What the guard checks is not known here.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable

import aiohttp
from aiohttp.abc import AbstractStreamWriter

Guard = Callable[[], float]
"""For how many seconds from now a write may still arrive. Raises `NotLeading` or `Refused` if it
must not be sent."""


def unguarded() -> float:
    """The guard that allows every write."""
    return math.inf


class Body(aiohttp.BytesPayload):
    """Bytes of a request. aiohttp sends the head together with the first of them.

    A retry uses the same object, so that the guard is asked again.
    """

    def __init__(self, data: bytes, content_type: str, *, guard: Guard) -> None:
        super().__init__(data, content_type=content_type)
        self._guard = guard

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        """Ask the guard, then send. Raises what the guard raises."""
        seconds = self._guard()
        if seconds < math.inf:
            _forget_after(seconds, writer)
        await super().write_with_length(writer, content_length)


def _forget_after(seconds: float, writer: AbstractStreamWriter) -> None:
    """Have the kernel drop what the peer has not acknowledged by then (RFC 793, USER TIMEOUT).

    Otherwise it would retransmit for minutes, even after the process has ended, and our write could
    arrive after writes of the next leader.
    """
    found = writer.transport.get_extra_info("socket") if writer.transport is not None else None
    if found is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = max(1, int(seconds * 1000))
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
