"""TCP connections: an attempt that is cancelled leaves none open."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from farlet.client import tcp
from unit import listening


@pytest.mark.parametrize("turns", range(16))
async def test_a_connection_that_is_not_awaited_any_more_is_closed(turns: int) -> None:
    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with listening.listening(served) as port:
        connecting = asyncio.create_task(tcp.connect(asyncio.Protocol, "127.0.0.1", port))
        for _ in range(turns):
            await asyncio.sleep(0)
        connecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            transport, _ = await connecting
            transport.abort()
        await asyncio.sleep(0)  # the fixtures of all unit tests fail for an open socket


async def test_an_address_that_refuses_is_an_os_error() -> None:
    with pytest.raises(OSError, match="Connect call failed"):
        await tcp.connect(asyncio.Protocol, "127.0.0.1", 1)
