"""WebSockets through the proxy, such as port-forwards: messages pass in both directions."""

import asyncio
from collections.abc import Coroutine
from typing import TypeAlias

import aiohttp
from aiohttp import web

_WebSocket: TypeAlias = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


def is_handshake(header: str) -> bool:
    """Whether a header belongs to one connection, so that a proxy must not pass it on."""
    return header.lower().startswith("sec-websocket-")


async def pass_on(one: web.WebSocketResponse, other: aiohttp.ClientWebSocketResponse) -> None:
    """Return when one side has closed."""
    await first(_one_way(one, other), _one_way(other, one))


async def _one_way(source: _WebSocket, target: _WebSocket) -> None:
    async for message in source:
        if message.type is aiohttp.WSMsgType.TEXT:
            await target.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await target.send_bytes(message.data)


async def first(*waits: Coroutine[None, None, object]) -> None:
    """Return when one of them has ended, however it did; cancel the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
