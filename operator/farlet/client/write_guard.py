"""The body of a write, which asks a guard at the last moment whether it may go.

Between a decision to write and its bytes on the wire lie a wait for a slot, for credentials, for a
connection and its TLS; a process may be frozen or cut off in any of them, and wake up when
another one has taken its place. Nothing here knows what the guard rests on.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable

import aiohttp
from aiohttp.abc import AbstractStreamWriter

Guard = Callable[[], float]
"""For how many seconds from now a write may still arrive. Raises `NotLeading` for none."""


def anybody() -> float:
    """The guard that holds up nothing."""
    return math.inf


class Body(aiohttp.BytesPayload):
    """Bytes of a request. The first of them take its head with them (aiohttp keeps it back).

    Used again as it is, guard and all, where a request is sent again.
    """

    def __init__(self, data: bytes, content_type: str, *, guard: Guard) -> None:
        super().__init__(data, content_type=content_type)
        self._guard = guard

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        """Ask, then send. Raises what the guard raises."""
        seconds = self._guard()
        if seconds < math.inf:
            _forget_after(seconds, writer)
        await super().write_with_length(writer, content_length)


def _forget_after(seconds: float, writer: AbstractStreamWriter) -> None:
    """Have the kernel drop what the peer has not acknowledged by then (RFC 793, USER TIMEOUT).

    It would go on sending for minutes, also for a process that has ended, and a write of ours
    would arrive after those of another.
    """
    found = writer.transport.get_extra_info("socket") if writer.transport is not None else None
    if found is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = max(1, int(seconds * 1000))
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
