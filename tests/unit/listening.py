"""A server of a test that leaves no connection behind.

An unclosed transport is reported when the garbage collector finds it, during another
test as a rule; with warnings as errors that one would fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(
    serve: Serve,
    *,
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
    patience: float = 0.0,
) -> AsyncIterator[int]:
    """The port of a server. At its end it waits for running requests, and cuts off long ones."""
    running: set[asyncio.Task[None]] = set()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await serve(reader, writer)
        finally:
            if not writer.is_closing():
                writer.transport.abort()

    server = await asyncio.start_server(served, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if running:
            await asyncio.wait(running, timeout=patience)
        await cut_off(running)


async def cut_off(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel them, and let the loop close the connections that they served."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    await turns()


async def turns() -> None:
    """Let the loop end connections that are being closed: of TLS, then of TCP."""
    for _ in range(3):
        await asyncio.sleep(0)
