"""Answers one request on the caller's connection.

As a whole, in pieces until the caller disconnects, or with an upgrade (101), after which the
endpoint owns the connection. Until then it reads only what is needed to notice a disconnect, so a
second request behind the first is not processed before the first is answered.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine
from typing import TypeVar

import h11

from farlet.client import tls_stream
from farlet.kubelet.responses import Response
from farlet.kubelet.routes import Request

REFUSAL_SECONDS = 60.0
"""For the caller to read a refusal."""

T = TypeVar("T")

Headers = list[tuple[str, str]]


def _ignore() -> None:
    """For requests that are only refused."""


class Responder:
    """The way to answer `request`. Methods raise `OSError` once the caller has disconnected."""

    def __init__(
        self,
        request: Request,
        channel: tls_stream.TLSStream,
        http: h11.Connection,
        *,
        keep: Callable[[], None] = _ignore,
    ) -> None:
        """`keep` protects the connection from being dropped for newer ones."""
        self.keep = keep
        self.request = request
        self.channel = channel
        self._http = http
        self.status: int | None = None
        """The answer's; `None` until the answer has begun."""

    async def answer(self, response: Response) -> None:
        headers = [*response.headers, ("Content-Type", response.content_type)]
        if isinstance(response.body, bytes):
            headers.append(("Content-Length", str(len(response.body))))
            await self.begin(response.status, headers)
            await self.send(response.body)
        else:
            await self.begin(response.status, headers)
            async for piece in response.body:
                await self.send(piece)
        await self.end()

    async def refuse(self, response: Response) -> None:
        """Send an error instead of the requested content.

        The connection is closed after a 401, and where the next bytes could be a body or belong to
        an upgrade that was not accepted.
        """
        last = response.status == 401 or self._http.their_state is not h11.DONE
        closing = (("Connection", "close"),) if last else ()
        async with asyncio.timeout(REFUSAL_SECONDS):
            await self.answer(dataclasses.replace(response, headers=(*response.headers, *closing)))

    async def begin(self, status: int, headers: Headers) -> None:
        """Send the head of an answer."""
        self.status = status
        await self._send(h11.Response(status_code=status, headers=_wire(headers)))

    async def send(self, data: bytes) -> None:
        """Send a piece of the body; returns when the caller has read most of it."""
        await self._send(h11.Data(data=data))

    async def end(self) -> None:
        """End the body. Callers detect that an answer without this was cut off."""
        await self._send(h11.EndOfMessage())

    async def upgrade(self, headers: Headers) -> bytes:
        """Answer 101, after which the endpoint owns the channel. Returns bytes that came early."""
        self.status = 101
        await self._send(h11.InformationalResponse(status_code=101, headers=_wire(headers)))
        return self._http.trailing_data[0]

    async def cancel_on_disconnect(self, work: Coroutine[None, None, T]) -> T:
        """Do `work`; cancel it and raise `OSError` when the caller disconnects."""
        task, disconnect = asyncio.ensure_future(work), asyncio.ensure_future(self._disconnected())
        try:
            await asyncio.wait((task, disconnect), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ConnectionAbortedError("the caller has disconnected")
            return task.result()
        finally:
            task.cancel()
            disconnect.cancel()
            # Exceptions no longer matter here, but must be retrieved.
            await asyncio.gather(task, disconnect, return_exceptions=True)

    async def _disconnected(self) -> None:
        """Returns when the caller ends its side, as clients do that no longer wait."""
        data = await self.channel.read()
        if data:
            # A second request, or early bytes of an upgrade: keep one chunk, read no more.
            self._http.receive_data(data)
            await self.channel.lost()

    async def _send(self, event: h11.Event) -> None:
        if data := self._http.send(event):
            await self.channel.write(data)


def _wire(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers]
