"""One request of a caller, and the ways in which it can be answered on the caller's connection.

Whole, piece by piece for as long as the caller stays, or by handing the connection over (101).
Reads no more of what the caller sends than tells whether he is still there, so that a second
request behind the first one goes nowhere until the first is answered.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Coroutine
from typing import TypeVar

import h11

from farlet.client import tls_stream
from farlet.kubelet.responses import Response
from farlet.kubelet.routes import Request

REFUSAL_SECONDS = 60.0
"""For the caller to take a refusal."""

T = TypeVar("T")

Headers = list[tuple[str, str]]


class Responder:
    """Who asked for `request`. Methods raise `OSError` once he has left."""

    def __init__(
        self, request: Request, channel: tls_stream.TLSStream, http: h11.Connection
    ) -> None:
        self.request = request
        self.channel = channel
        self._http = http
        self.status: int | None = None
        """Of the answer; `None` before it has begun."""

    async def answer(self, response: Response) -> None:
        """A whole answer."""
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
        """An answer in place of what was asked for.

        The last one where what follows cannot be told from a body or from the bytes of an upgrade
        that did not come about, and to those who are not known.
        """
        last = response.status == 401 or self._http.their_state is not h11.DONE
        closing = (("Connection", "close"),) if last else ()
        async with asyncio.timeout(REFUSAL_SECONDS):
            await self.answer(dataclasses.replace(response, headers=(*response.headers, *closing)))

    async def begin(self, status: int, headers: Headers) -> None:
        """The head of an answer."""
        self.status = status
        await self._send(h11.Response(status_code=status, headers=_wire(headers)))

    async def send(self, data: bytes) -> None:
        """A piece of the body; returns when the caller has taken most of it."""
        await self._send(h11.Data(data=data))

    async def end(self) -> None:
        """No more of the body. An answer that lacks this is seen to be cut off."""
        await self._send(h11.EndOfMessage())

    async def switch(self, headers: Headers) -> bytes:
        """Answer 101. The channel is the handler's then, and so is what came early: returned."""
        self.status = 101
        await self._send(h11.InformationalResponse(status_code=101, headers=_wire(headers)))
        return self._http.trailing_data[0]

    async def cancel_on_disconnect(self, work: Coroutine[None, None, T]) -> T:
        """Do `work` while the caller is there; cancel it and raise `OSError` when he leaves."""
        task, leaving = asyncio.ensure_future(work), asyncio.ensure_future(self._leaves())
        try:
            await asyncio.wait((task, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ConnectionAbortedError("the caller has left")
            return task.result()
        finally:
            task.cancel()
            leaving.cancel()
            # What they raise now is of no interest any more, but has to be looked at.
            await asyncio.gather(task, leaving, return_exceptions=True)

    async def _leaves(self) -> None:
        """Returns when the caller has ended his side, as clients do that wait no longer."""
        data = await self.channel.read()
        if data:
            # A second request, or early bytes of an upgrade: one chunk is kept, no more is read.
            self._http.receive_data(data)
            await self.channel.lost()

    async def _send(self, event: h11.Event) -> None:
        if data := self._http.send(event):
            await self.channel.write(data)


def _wire(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers]
